"""Every file of a scans table checked before anything is computed."""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, voxel_sizes

from lib.lesions import brain_depth, label_instances, voxel_mm3, voxel_sides
from lib.scans.images import FILES, open_image

LABELS = dict(zip(FILES, ("FLAIR", "T1w", "lesion mask"), strict=True))
POINTERS = (b"/annex/objects/", b"version https://git-lfs")  # how files begin whose content git-annex or git-lfs keeps
VOXEL_MM = (0.1, 20)  # sides of a voxel; a header in metres or micrometres lies outside
SHEAR = 0.01  # largest cosine between two axes; distances along axes are wrong by up to half of it
# Of the shortest side of a voxel: more than headers are rounded by, less than the half from which on the nearest voxel of
# the other image has another index.
APART = 0.25
# Share of one value among voxels that are not 0: up to 0.05 in MR images, 0.3 and more in masks, images of few classes
# and images with a background.
COMMONEST = 0.2
SPREAD = 2  # SD of all voxels, which z-scores divide by, over that of the middle 98 %: 1.0 to 1.2 in MR images
ROUNDING = 1e-3  # of the values of a mask
LESION_SHARE = 0.5  # of the brain; the largest loads reach 0.15
CORTEX_MM, DEEP_MM = (2, 8), 20  # below the surface of the brain; deeper, most is white matter
COARSE_MM = 2  # voxels in which these are compared
HEAD_ML = 2500  # brains with their fluid are smaller, heads larger


def check_scans(table):
    """Read every scan once. Returns one row a scan (lesions, lesion_volume_ml, brain_volume_ml, voxel_mm: its longest side) and a list of warnings.

    The first two are NaN where there is no annotation (an empty path).

    Raises ValueError with all problems together, each with its file and cure: files that are missing, not fetched,
    unreadable or used for two scans; images that are not 3D, not finite, masks or segmentations, or ruled by outliers;
    voxels of impossible size or not at right angles; FLAIR, T1w and mask that lie apart; masks that are not binary or
    hold most of the brain.
    """
    with ThreadPoolExecutor(4) as pool:
        facts, problems, warnings = zip(*pool.map(_check_scan, table.to_dict("records")), strict=True)
    files = table.melt(id_vars="scan", value_vars=FILES, value_name="file").sort_values("scan")
    files = files[files["file"] != ""]
    files["file"] = files["file"].map(os.path.abspath)
    shared = files[files["file"].duplicated(keep=False)].groupby("file")["scan"].agg(", ".join)
    shared = shared.index + ": used more than once (" + shared + "); every scan needs its own files"
    if problems := [*chain(*problems), *shared]:
        raise ValueError(f"{len(problems)} problem(s) in the scans:\n" + "\n".join(problems))
    return table[["scan", "subject", "session"]].join(pd.DataFrame(facts)), [*chain(*warnings)]


def _check_scan(row):
    """Facts of one scan, its problems (errors) and its warnings."""
    images, problems, given = {}, [], [name for name in FILES if row[name]]
    for name in given:
        try:
            images[name] = image, data = _read(row[name])
            problem = _geometry_problem(image.affine) or (_mask_problem if name == "lesions" else _image_problem)(data)
        except ValueError as error:
            problem = str(error)
        if problem:
            problems.append(f"{row[name]} {problem}")
    if not problems:
        problems = [_apart(name, row, images) for name in given[1:]]
    if not any(problems):
        facts, problems, warnings = _describe(row, images["flair"][0], *(images[name][1] for name in given))
    found = [f"scan {row['scan']}: {problem}" for problem in problems if problem]
    return ({}, found, []) if found else (facts, [], [f"scan {row['scan']}: {text}" for text in warnings])


def _read(file):
    """Image and its values, (X, Y, Z) float32. Raises ValueError that says what is wrong with the file."""
    path = Path(file)
    there = path.is_file()
    pointer = there and path.stat().st_size < 1000 and path.read_bytes().startswith(POINTERS)
    if pointer or path.is_symlink() and not there:
        raise ValueError(
            "is a link or pointer without its content; fetch it (datalad get, git lfs pull) or mend the link"
        )
    try:
        image = open_image(file)
        numbers = image.get_data_dtype().kind in "biuf"
        data = image.get_fdata(dtype=np.float32) if numbers else None
    except FileNotFoundError:
        raise ValueError("is missing; correct its path") from None
    except Exception as error:  # nibabel, gzip and zlib each raise their own kinds for a damaged file
        raise ValueError(f"cannot be read ({' '.join(str(error).split())}); copy or convert it again") from None
    if not numbers:
        raise ValueError(f"holds {image.get_data_dtype()}; give an image of one number a voxel")
    if data.ndim != 3:
        raise ValueError(f"has {data.ndim} dimensions; give a single 3D volume")
    if infinite := int((~np.isfinite(data)).sum()):
        raise ValueError(f"has {infinite} values that are not finite (NaN, infinite); set them to 0")
    return image, data


def _geometry_problem(affine):
    """What is wrong with an affine (4, 4), or None."""
    sides = voxel_sizes(affine)
    if not (np.isfinite(affine).all() and ((sides > VOXEL_MM[0]) & (sides < VOXEL_MM[1])).all()):
        return f"has voxels of {_sides(sides)} and the affine {affine.tolist()}; correct its header"
    axes = affine[:3, :3] / sides
    if (cosine := np.abs(axes.T @ axes - np.eye(3)).max()) > SHEAR:
        off = np.degrees(np.arcsin(min(cosine, 1)))
        return f"has axes {off:.1f} degrees off right angles, distances in mm would be wrong; resample it without shear"
    return None


def _image_problem(data):
    """What is wrong with the values of a FLAIR or T1w image, or None."""
    values = np.sort(data[data != 0])
    if not values.size:
        return "is 0 everywhere; give the image itself"
    first = np.flatnonzero(np.diff(values, prepend=-np.inf))  # of each level
    counts = np.diff(first, append=values.size)
    if (share := counts.max() / values.size) > COMMONEST:
        return (
            f"has the value {values[first[counts.argmax()]]:g} in {share:.0%} of the voxels that are not 0; "
            "give the image itself (no mask, no segmentation), with its background set to exactly 0"
        )
    tail, reach = values.size // 100, f"from {values[0]:g} to {values[-1]:g}"
    middle = values[tail : values.size - tail]
    if (sd := values.std(dtype=float)) > SPREAD * middle.std(dtype=float):
        return f"reaches {reach} but 98 % of it lies in {middle[0]:g} to {middle[-1]:g}; clip its outliers"
    return None if 1e-12 < sd < 1e12 else f"has values {reach}; rescale it"  # squares have to fit single precision


def _mask_problem(data):
    """What is wrong with the values of a lesion mask, or None."""
    others = np.unique(data[(np.abs(data) > ROUNDING) & (np.abs(data - 1) > ROUNDING)])
    some = ", ".join(f"{value:g}" for value in others[:5]) + (", ..." if others.size > 5 else "")
    return f"is not a binary mask (it holds {some}); set lesions to 1, the rest to 0" if others.size else None


def _apart(name, row, images):
    """How another image of the scan lies off the FLAIR's grid, or None."""
    flair, other = images["flair"][0], images[name][0]
    both = f"{LABELS[name]} {row[name]} and FLAIR {row['flair']}"
    if other.shape != flair.shape:
        sizes = ["x".join(map(str, image.shape)) for image in (other, flair)]
        return f"{both} differ in size, {sizes[0]} and {sizes[1]}; resample one to the grid of the other"
    apart_mm = _largest_distance(other.affine, flair.affine, flair.shape)
    if apart_mm > APART * voxel_sizes(flair.affine).min():
        return f"{both} lie up to {apart_mm:.2f} mm apart, by their affines; resample one to the grid of the other"
    return None


def _largest_distance(affine, other, shape):
    """Largest distance in mm between a voxel of one grid and that of the same index in another: it is at a corner."""
    corners = np.array([*product(*((0, size - 1) for size in shape))])
    return np.linalg.norm(apply_affine(affine, corners) - apply_affine(other, corners), axis=1).max()


def _describe(row, image, flair, t1w, mask=None):
    """Facts, problems and warnings of a scan whose files are in order each; mask: None without annotation."""
    annotated, brain, spacing = mask is not None, (flair != 0) | (t1w != 0), voxel_sides(image.affine)
    mask = mask > 0.5 if annotated else np.zeros(brain.shape, bool)
    voxel_ml = voxel_mm3(image.affine) / 1000
    facts = {
        "lesions": int(label_instances(mask).max()) if annotated else np.nan,
        "lesion_volume_ml": float(mask.sum() * voxel_ml) if annotated else np.nan,
        "brain_volume_ml": float(brain.sum() * voxel_ml),
        "voxel_mm": float(spacing.max()),
    }
    share, files = mask.sum() / brain.sum(), f"{row['flair']} and {row['t1w']}"
    common = ((flair != 0) & (t1w != 0)).sum() / min((flair != 0).sum(), (t1w != 0).sum())
    problems = [
        (share > LESION_SHARE, f"{row['lesions']} covers {share:.0%} of the brain; mark lesions alone"),
        (np.array_equal(flair, t1w), f"{files} are the same image; give FLAIR and T1w"),
        (common < 0.5, f"{files} have {common:.0%} of the brain in common; register them"),
    ]
    outside, off_mm = (mask & ~brain).sum(), np.abs(spacing - 1).max()
    warnings = [
        (outside > 0, f"{outside} of {mask.sum()} lesion voxels lie outside the brain; check {row['lesions']}"),
        (
            _looks_swapped(flair, t1w, brain & ~mask, spacing),
            f"white matter is brighter against cortex in {row['flair']} than in {row['t1w']}: are FLAIR and T1w swapped?",
        ),
        (off_mm > 0.1, f"voxels of {_sides(spacing)}; the published network expects 1 mm, resample {row['flair']}"),
        *((flag, f"{row['flair']} {text}") for flag, text in _header_doubts(image)),
    ]
    for name, data in (("flair", flair), ("t1w", t1w)):
        whole, volume_ml = (data != 0).mean(), (data != 0).sum() * voxel_ml
        text = f"{whole:.0%} of {row[name]} ({volume_ml:.0f} ml) is not 0; strip the skull and set the background to 0"
        warnings.append((whole > 0.95 or volume_ml > HEAD_ML, text))
    return facts, *([text for doubtful, text in doubts if doubtful] for doubts in (problems, warnings))


def _looks_swapped(flair, t1w, tissue, spacing_mm):
    """Whether white matter is brighter against cortex in the FLAIR than in the T1w, where it is bright.

    flair, t1w: (X, Y, Z).  tissue: (X, Y, Z) bool, the brain without lesions, which are bright in FLAIR.
    """
    steps = np.maximum(np.round(COARSE_MM / spacing_mm), 1).astype(int)
    coarse = tuple(slice(None, None, step) for step in steps)
    below_mm = brain_depth((flair != 0)[coarse] | (t1w != 0)[coarse], steps * spacing_mm)
    cortex, deep = (below_mm > CORTEX_MM[0]) & (below_mm <= CORTEX_MM[1]), below_mm > DEEP_MM
    contrasts = []
    for image in (flair[coarse], t1w[coarse]):
        there = tissue[coarse] & (image != 0)
        if not (there & cortex).any() or not (there & deep).any():
            return False
        contrasts.append((np.median(image[there & deep]) - np.median(image[there & cortex])) / image[there].std())
    return contrasts[0] > contrasts[1]


def _header_doubts(image):
    """What a NIfTI header leaves open about the place of an image, as (whether it does, text)."""
    if not isinstance(image.header, nib.Nifti1Header):
        return []
    try:
        qform, sform = image.get_qform(coded=True)[0], image.get_sform(coded=True)[0]
    except ValueError as error:
        return [(True, f"has a qform that is none ({error}); sform is used")]
    both = qform is not None and sform is not None
    apart_mm = _largest_distance(qform, sform, image.shape) if both else 0.0
    apart = apart_mm > APART * voxel_sizes(image.affine).min()
    return [
        (qform is None and sform is None, "says nothing about its orientation; left and right are a guess"),
        (apart, f"has a qform {apart_mm:.1f} mm off its sform; sform is used"),
    ]


def _sides(spacing):
    return "{:.3g} x {:.3g} x {:.3g} mm".format(*spacing)
