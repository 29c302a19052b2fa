"""One scan prepared: raw FLAIR and T1w to stripped images on one grid of 1 mm, with their masks, transforms and numbers."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from lib.prepare.brain import correct_bias, find_brain, is_stripped
from lib.prepare.quality import scan_numbers, scan_problems
from lib.prepare.registration import mutual_information, register_rigid
from lib.prepare.volumes import (
    VOXEL_MM,
    isotropic_grid,
    mask_on_grid,
    on_grid,
    one_grid,
    read_mask,
    read_volume,
    to_array,
    volume_ml,
    write_volume,
)
from lib.provenance import write_json

FINER = 0.95  # the T1w's longest side over the FLAIR's, below which the T1w is the reference


def prepare_scan(row, folder, side_mm=VOXEL_MM):
    """Prepare one scan and write it to a folder; returns images, brain, template and record for its page.

    row: scan, flair, t1w, and lesions, mask and label (`raw_scans`), which may be "". The FLAIR is the reference, or the T1w if its voxels are
    shorter; the other is registered to it rigidly, unless the headers alone give as much mutual information. Scans that are stripped already keep their intensities; those on one grid
    of 1 mm keep that too. Written are `<scan>_space-<reference>_desc-preproc_FLAIR.nii.gz`, `..._T1w.nii.gz`,
    `..._desc-brain_mask.nii.gz`, `..._label-lesion_mask.nii.gz`, the transform, and a JSON beside each image.
    Raises ValueError that names the file.
    """
    folder, sources = Path(folder), {"FLAIR": row["flair"], "T1w": row["t1w"]}
    raw = {name: read_volume(file) for name, file in sources.items()}
    longest = {name: max(image.GetSpacing()) for name, image in raw.items()}
    reference, moved = ("T1w", "FLAIR") if longest["T1w"] < FINER * longest["FLAIR"] else ("FLAIR", "T1w")
    stripped = all(map(is_stripped, raw.values()))
    grid = isotropic_grid(raw[reference], side_mm)
    same = stripped and one_grid(*raw.values())
    transform = sitk.Euler3DTransform() if same else register_rigid(raw[reference], raw[moved])
    before, fixed = on_grid(raw[moved], grid), on_grid(raw[reference], grid)
    after, head = before if same else on_grid(raw[moved], grid, transform), sitk.OtsuThreshold(fixed, 0, 1)
    if not same and mutual_information(before, fixed, head) >= mutual_information(after, fixed, head):
        after, transform = before, sitk.Euler3DTransform()  # the headers say it better
    images = {reference: fixed, moved: after}
    if not stripped:
        images = {name: correct_bias(image) for name, image in images.items()}
    labels = {"lesions": row.get("label"), "mask": ""}
    masks = {name: _mask_of(row.get(name), label, raw, moved, grid, transform) for name, label in labels.items()}
    if masks["mask"] and not to_array(masks["mask"][0]).any():
        raise ValueError(f"{row['mask']} is 0 everywhere in the {reference}; give a mask of the brain, or none")
    brain, source, template = find_brain(images, masks["mask"] and masks["mask"][0])
    numbers = scan_numbers(images, (moved, before), brain, template)
    if masks["lesions"]:
        lesions, raw_ml = masks["lesions"]
        numbers |= {"lesions_raw_ml": raw_ml, "lesions_ml": volume_ml(lesions)}
    record = {
        "Sources": list(sources.values()), "SkullStripped": True, "Reference": reference, "RawFLAIR": str(Path(row["flair"]).absolute()),
        "BrainMask": source, "BiasCorrection": "none, stripped before" if stripped else "N4", "Resampled": not (same and one_grid(grid, raw[reference])),
        "Rotation": [float(angle) for angle in np.degrees(transform.GetParameters()[:3])], "Shift": list(transform.GetParameters()[3:]),
        "Numbers": numbers, "Problems": scan_problems(numbers),
    }  # fmt: skip
    stem = folder / f"{row['scan']}_space-{reference}"
    for name, image in images.items():
        write_volume(sitk.Mask(image, brain), f"{stem}_desc-preproc_{name}.nii.gz")
        write_json(f"{stem}_desc-preproc_{name}.json", record)
    write_volume(brain, f"{stem}_desc-brain_mask.nii.gz", np.uint8)
    write_json(f"{stem}_desc-brain_mask.json", {"Type": "Brain", "Sources": record["Sources"], "BrainMask": source})
    if masks["lesions"]:
        write_volume(lesions, f"{stem}_label-lesion_mask.nii.gz", np.uint8)
    for space, one in {moved: transform, "MNI152": template["transform"]}.items():
        sitk.WriteTransform(one, str(folder / f"{row['scan']}_from-{space}_to-{reference}_mode-image_xfm.tfm"))
    return {"images": images, "before": before, "moved": moved, "brain": brain, "template": template, "record": record}


def _mask_of(file, label, raw, moved, grid, transform):
    """A mask, or one label of it, on the grid, and its volume before in ml; it lies on the grid of the image that it was
    drawn on, else in FLAIR's world."""
    if not file:
        return None
    mask = read_mask(file, label)
    drawn_on = next((name for name, image in raw.items() if one_grid(mask, image)), "FLAIR")
    return mask_on_grid(mask, grid, transform if drawn_on == moved else None), volume_ml(mask)
