"""Ten scans as scanners give them, made from a synthetic subject in a skull, through `lib.prepare`: what passes, what is refused, and why.

python benchmarks/prepare_cases.py [FOLDER]    voxels of 2 mm in place of 1, some seconds a scan; prints a table
"""

import sys
import tempfile
from pathlib import Path

import lib  # noqa: F401  before numpy: it chooses the kernels

# isort: split
import nibabel as nib
import numpy as np
from scipy import ndimage

from lib.cohort import make_cohort
from lib.prepare import prepare_all

SIDE_MM = 2.0
BONE_MM, SCALP_MM = 7, 13  # from the brain to the end of bone and of scalp
LEVELS = {"flair": (0.1, 0.5), "t1w": (0.1, 1.8)}  # of bone and scalp, white matter = 1


def head(folder):
    """FLAIR and T1w of a synthetic subject at 2 mm with bone and scalp around its brain, its brain, and affine."""
    make_cohort(folder, n_subjects=1, n_two_sessions=0, seed=0, spacing_mm=SIDE_MM, workers=1)
    files = {
        name: folder / f"sub-001/anat/sub-001_{suffix}.nii.gz" for name, suffix in (("flair", "FLAIR"), ("t1w", "T1w"))
    }
    affine = nib.load(files["flair"]).affine.copy()
    margin = round(20 / SIDE_MM)
    images = {name: np.pad(nib.load(file).get_fdata(), margin) / 1000 for name, file in files.items()}
    affine[:3, 3] -= margin * SIDE_MM
    brain = images["flair"] != 0
    away = ndimage.distance_transform_edt(~brain) * SIDE_MM
    rng = np.random.default_rng(0)
    for name, (bone, scalp) in LEVELS.items():
        shell = np.where(away < BONE_MM, bone, np.where(away < SCALP_MM, scalp, 0.0))
        images[name] = np.where(brain, images[name], np.abs(shell + rng.normal(0, 0.02, brain.shape)))
    return images, brain, affine


def turned(degrees):
    angle = np.radians(degrees)
    return np.array(
        [[1, 0, 0, 0], [0, np.cos(angle), -np.sin(angle), 0], [0, np.sin(angle), np.cos(angle), 0], [0, 0, 0, 1]]
    )


def sampled(array, sides, shift=(0, 0, 0)):
    """An array on voxels of other sides, as multiples of its own, and the affine from them to its own."""
    smoothed = ndimage.gaussian_filter(array, [0.4 * (side - 1) if side > 1 else 0 for side in sides])
    shape = [int(n / side) for n, side in zip(array.shape, sides, strict=True)]
    return ndimage.affine_transform(smoothed, sides, shift, output_shape=shape, order=1), nib.affines.from_matvec(
        np.diag(sides), shift
    )


def cases(images, brain, affine):
    """{name: (FLAIR and its affine, T1w and its affine)}."""
    flair, t1w = images["flair"], images["t1w"]
    thin = [sampled(image, (0.5,) * 3) for image in (flair, t1w)]
    thick, of_thick = sampled(t1w, (1, 1, 2.5), (0.6, -0.4, 0.5))
    low, high = flair.shape[2] // 4, 7 * flair.shape[2] // 8
    cropped = affine @ nib.affines.from_matvec(np.eye(3), (0, 0, low))
    mirror = np.diag([-1, 1, 1, 1.0])
    mirror[0, 3] = flair.shape[0] - 1
    tissue = np.where(brain, 1.5 * flair.max() - flair, flair)  # fluid bright, as in a T2w
    return {
        "plain": ((flair, affine), (t1w, affine)),
        "oblique": ((flair, turned(20) @ affine), (t1w, turned(20) @ affine)),
        "left-handed": ((flair[::-1], affine @ mirror), (t1w, affine)),
        "T1w of 5 mm slices": ((flair, affine), (thick, affine @ of_thick)),
        "cropped": ((flair[:, :, low:high], cropped), (t1w, affine)),
        "stripped, one grid": ((flair * brain, affine), (t1w * brain, affine)),
        "T1w moved": ((flair, affine), (t1w, nib.affines.from_matvec(np.eye(3), (5, -4, 3)) @ turned(6) @ affine)),
        "0.5 of the side": ((thin[0][0], affine @ thin[0][1]), (thin[1][0], affine @ thin[1][1])),
        "swapped": ((t1w, affine), (flair, affine)),
        "T2w as FLAIR": ((tissue, affine), (t1w, affine)),
        "one slice": ((flair[:, :, low : low + 1], cropped), (t1w, affine)),
    }


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    rows = ["subject\tflair\tt1w"]
    for number, (name, pair) in enumerate(cases(*head(folder / "cohort")).items()):
        files = [folder / f"{number}_{kind}.nii.gz" for kind in ("flair", "t1w")]
        for file, (array, affine) in zip(files, pair, strict=True):
            nib.save(nib.Nifti1Image(array.astype(np.float32), affine), file)
        rows.append("\t".join(["".join(c if c.isalnum() else "." for c in name), *(file.name for file in files)]))
    (folder / "raw.tsv").write_text("\n".join(rows) + "\n")
    prepared = prepare_all(folder / "raw.tsv", folder / "prepared", SIDE_MM)
    print(prepared.drop(columns=["scan", "session"]).to_string(float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
