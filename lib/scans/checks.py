"""Every file of a scans table checked before anything is computed."""

from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pandas as pd

from lib.lesions import label_instances
from lib.scans.table import FILES


def check_scans(table, workers=4):
    """Read every scan once. Returns one row a scan (lesions, lesion_volume_ml, brain_volume_ml, voxel_mm: its longest side) and a list of warnings.

    Raises ValueError with all problems together, each with its file and cure: missing or unreadable files, images that
    are not 3D, differ in grid or affine, hold values that are not finite or are constant, masks that are not binary,
    one file used for two scans.
    """
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(_check_scan, table.to_dict("records")))
    problems = [problem for result in results for problem in result[1]] + _shared_files(table)
    if problems:
        raise ValueError(f"{len(problems)} problem(s) in the scans:\n" + "\n".join(problems))
    identity = table[["scan", "subject", "session"]]
    return identity.join(pd.DataFrame([result[0] for result in results])), [
        text for result in results for text in result[2]
    ]


def _shared_files(table):
    files = table.melt(id_vars="scan", value_vars=FILES, value_name="file")
    shared = (
        files[files["file"].duplicated(keep=False)].groupby("file")["scan"].agg(lambda scans: ", ".join(sorted(scans)))
    )
    return [f"{file}: used more than once ({scans}); every scan needs its own files" for file, scans in shared.items()]


def _check_scan(row):
    """Facts of one scan, its problems (errors) and its warnings."""
    images, problems = {}, []
    for name in FILES:
        try:
            images[name] = nib.load(row[name])
            data = np.asanyarray(images[name].dataobj)
        except FileNotFoundError:
            problems.append(f"scan {row['scan']}: {row[name]} is missing; correct its path")
            continue
        except Exception as error:  # nibabel, gzip and zlib each raise their own kinds for a damaged file
            problems.append(f"scan {row['scan']}: {row[name]} cannot be read ({error}); copy or convert it again")
            continue
        problems += [f"scan {row['scan']}: {row[name]} {text}" for text in _image_problems(name, data)]
        images[name] = (images[name], data)
    if problems:
        return {}, problems, []
    (flair, flair_data), (_, t1w_data), (_, mask) = (images[name] for name in FILES)
    for name, label in (("t1w", "T1w"), ("lesions", "lesion mask")):
        other = images[name][0]
        if other.shape != flair.shape:
            sizes = ["x".join(map(str, shape)) for shape in (flair.shape, other.shape)]
            problems.append(
                f"scan {row['scan']}: FLAIR is {sizes[0]} but {label} is {sizes[1]}; resample {row[name]} to the FLAIR"
            )
        elif not np.allclose(other.affine, flair.affine, atol=1e-2):
            problems.append(
                f"scan {row['scan']}: {label} has another affine than FLAIR; register {row[name]} to the FLAIR"
            )
    if problems:
        return {}, problems, []
    brain, mask = (flair_data != 0) | (t1w_data != 0), mask != 0
    spacing = nib.affines.voxel_sizes(flair.affine)
    voxel_ml = float(np.prod(spacing)) / 1000
    facts = {
        "lesions": int(label_instances(mask).max()),
        "lesion_volume_ml": float(mask.sum() * voxel_ml),
        "brain_volume_ml": float(brain.sum() * voxel_ml),
        "voxel_mm": float(spacing.max()),
    }
    warnings = []
    if outside := int((mask & ~brain).sum()):
        warnings.append(
            f"scan {row['scan']}: {outside} of {int(mask.sum())} lesion voxels lie outside the brain; check {row['lesions']}"
        )
    if brain.mean() > 0.95:
        warnings.append(
            f"scan {row['scan']}: {brain.mean():.0%} of {row['flair']} is not 0; strip the skull and set the background to 0"
        )
    if np.abs(spacing - 1).max() > 0.1:
        size = " x ".join(f"{value:.2f}" for value in spacing)
        warnings.append(
            f"scan {row['scan']}: voxels of {size} mm; the published network expects 1 mm, resample {row['flair']}"
        )
    return facts, [], warnings


def _image_problems(name, data):
    if data.ndim != 3:
        return [f"has {data.ndim} dimensions; give a single 3D volume"]
    if not np.isfinite(data).all():
        return [f"has {int((~np.isfinite(data)).sum())} values that are not finite; replace them"]
    if name == "lesions":
        values = np.unique(data)
        return (
            []
            if set(values) <= {0, 1}
            else [f"is not a binary mask (values {values[:5]}...); set lesions to 1, the rest to 0"]
        )
    return [] if data.min() < data.max() else [f"is constant ({data.flat[0]}); give the image itself"]
