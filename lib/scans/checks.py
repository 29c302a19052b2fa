"""Every file of a scans table checked before anything is computed."""

from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import nibabel as nib
import numpy as np
import pandas as pd

from lib.lesions import label_instances
from lib.scans.images import FILES


def check_scans(table):
    """Read every scan once. Returns one row a scan (lesions, lesion_volume_ml, brain_volume_ml, voxel_mm: its longest side) and a list of warnings.

    Raises ValueError with all problems together, each with its file and cure: files that are missing, unreadable or used
    for two scans, images that are not 3D, not finite, constant or differ in grid or affine, masks that are not binary.
    """
    with ThreadPoolExecutor(4) as pool:
        facts, problems, warnings = zip(*pool.map(_check_scan, table.to_dict("records")), strict=True)
    files = table.melt(id_vars="scan", value_vars=FILES, value_name="file").sort_values("scan")
    shared = files[files["file"].duplicated(keep=False)].groupby("file")["scan"].agg(", ".join)
    shared = shared.index + ": used more than once (" + shared + "); every scan needs its own files"
    if problems := [*chain(*problems), *shared]:
        raise ValueError(f"{len(problems)} problem(s) in the scans:\n" + "\n".join(problems))
    return table[["scan", "subject", "session"]].join(pd.DataFrame(facts)), [*chain(*warnings)]


def _check_scan(row):
    """Facts of one scan, its problems (errors) and its warnings."""
    scan, images, problems = f"scan {row['scan']}:", {}, []
    for name in FILES:
        if text := _read(name, row[name], images):
            problems.append(f"{scan} {row[name]} {text}")
    if problems:
        return {}, problems, []
    flair = images["flair"][0]
    for name, label in (("t1w", "T1w"), ("lesions", "lesion mask")):
        other = images[name][0]
        if other.shape != flair.shape:
            sizes = ["x".join(map(str, image.shape)) for image in (flair, other)]
            problems.append(f"{scan} FLAIR is {sizes[0]} but {label} is {sizes[1]}; resample {row[name]} to the FLAIR")
        elif not np.allclose(other.affine, flair.affine, atol=1e-2):
            problems.append(f"{scan} {label} has another affine than FLAIR; register {row[name]} to the FLAIR")
    return ({}, problems, []) if problems else _describe(row, scan, flair.affine, *(images[name][1] for name in FILES))


def _read(name, file, images):
    """Add the image and its values to `images`; says what is wrong with the file, or "" if nothing is."""
    try:
        image = nib.load(file)
        data = np.asanyarray(image.dataobj)
    except FileNotFoundError:
        return "is missing; correct its path"
    except Exception as error:  # nibabel, gzip and zlib each raise their own kinds for a damaged file
        return f"cannot be read ({error}); copy or convert it again"
    images[name] = image, data
    if data.ndim != 3:
        return f"has {data.ndim} dimensions; give a single 3D volume"
    if infinite := int((~np.isfinite(data)).sum()):
        return f"has {infinite} values that are not finite; replace them"
    if name == "lesions" and not set(values := np.unique(data)) <= {0, 1}:
        return f"is not a binary mask (values {values[:5]}...); set lesions to 1, the rest to 0"
    constant = name != "lesions" and data.min() == data.max()
    return f"is constant ({data.flat[0]}); give the image itself" if constant else ""


def _describe(row, scan, affine, flair, t1w, mask):
    """As `_check_scan`, of a scan without problems."""
    brain, mask, spacing = (flair != 0) | (t1w != 0), mask != 0, nib.affines.voxel_sizes(affine)
    voxel_ml = float(np.prod(spacing)) / 1000
    facts = {
        "lesions": int(label_instances(mask).max()),
        "lesion_volume_ml": float(mask.sum() * voxel_ml),
        "brain_volume_ml": float(brain.sum() * voxel_ml),
        "voxel_mm": float(spacing.max()),
    }
    outside, share, off_mm = (mask & ~brain).sum(), brain.mean(), np.abs(spacing - 1).max()
    size = "{:.2f} x {:.2f} x {:.2f} mm".format(*spacing)
    warnings = [
        (outside > 0, f"{outside} of {mask.sum()} lesion voxels lie outside the brain; check {row['lesions']}"),
        (share > 0.95, f"{share:.0%} of {row['flair']} is not 0; strip the skull and set the background to 0"),
        (off_mm > 0.1, f"voxels of {size}; the published network expects 1 mm, resample {row['flair']}"),
    ]
    return facts, [], [f"{scan} {text}" for doubtful, text in warnings if doubtful]
