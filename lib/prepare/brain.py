"""The brain in a head: given, from a tool that is installed, or from intensities and the ICBM-152 template; bias correction."""

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nilearn import datasets

from lib.prepare.registration import register_affine
from lib.prepare.volumes import (
    from_array,
    isotropic_grid,
    mask_on_grid,
    on_grid,
    read_volume,
    to_array,
    volume_ml,
    write_volume,
)

TOOLS = {  # of HD-BET 2, and SynthStrip; both are asked for the mask, as the latter may fill what it strips with negative values
    "hd-bet": "-i image.nii.gz -o brain.nii.gz -device cpu --disable_tta --save_bet_mask --no_bet_image",
    "mri_synthstrip": "-i image.nii.gz -m brain_bet.nii.gz",
}
BIAS_MM = 4.0  # voxels in which the bias field is fitted
MIDDLE_MM = 45  # radius of a ball in the middle of the head, whose median is the level of brain
LEVELS = {"T1w": (0.5, 1.6), "FLAIR": (0.5, 2.5)}  # of brain, as parts of that median: above fluid and bone, below fat
PEEL_MM, CLOSE_MM = 3.0, 6.0  # bridges to the scalp and gaps of sulci are narrower
AROUND_MM, SURE_MM = 6.0, 8.0  # how far outside the template's mask brain may lie, and how far inside it is certain
RIM_MM = 4  # around the template's brain, in which its fit sees that there is none
STRIPPED_ML = 2000  # largest brain with its fluid
ON_FACES = 0.02  # share of the outer faces that a stripped scan may touch


def is_stripped(image):
    """Whether the voxels that are not 0 are a brain: no more than one, and off the faces of the image."""
    inside = to_array(image) != 0
    faces = np.concatenate([inside.take(end, axis).ravel() for axis in range(3) for end in (0, -1)])
    return volume_ml(image) <= STRIPPED_ML and faces.mean() <= ON_FACES


def correct_bias(image):
    """An image divided by its bias field (N4, Tustison et al. 2010), fitted in the head in voxels of BIAS_MM."""
    grid = isotropic_grid(image, BIAS_MM)
    small = on_grid(image, grid, interpolator=sitk.sitkLinear)
    least = 1e-3 * float(to_array(small).max())  # above 0, as the logarithm is taken
    small = sitk.Clamp(small, sitk.sitkFloat32, least, float("inf"))
    fit = sitk.N4BiasFieldCorrectionImageFilter()
    fit.SetMaximumNumberOfIterations([50, 50, 50, 50])
    corrected = fit.Execute(small, sitk.OtsuThreshold(small, 0, 1, 200))
    field = sitk.Resample(small / corrected, image, sitk.Transform(), sitk.sitkLinear, 1.0, sitk.sitkFloat32, True)
    return sitk.Cast(image / field, sitk.sitkFloat32)


def find_brain(images, given=None):
    """Brain mask (0, 1) of {"FLAIR", "T1w"} on one grid; where it is from; and the template fitted to it (`fit_template`).

    given: a mask on that grid. Otherwise an installed tool of TOOLS is called, and otherwise intensities decide within the
    template; the template is fitted to the brain by intensities then, so that the mask can be judged by it.
    Raises ValueError if no brain is found, RuntimeError if a tool fails.
    """
    if given is not None:
        return given, "given", fit_template(images["T1w"], given)
    if all(map(is_stripped, images.values())):
        brain = sitk.Cast((images["FLAIR"] != 0) | (images["T1w"] != 0), sitk.sitkUInt8)
        return brain, "non-zero voxels", fit_template(images["T1w"], brain)
    part = brain_by_intensity(images)
    template = fit_template(images["T1w"], part)
    for tool in TOOLS:
        if shutil.which(tool):
            return brain_by_tool(images["T1w"], tool), tool, template
    around, sure = _grown(template["brain"], AROUND_MM), _grown(template["brain"], -SURE_MM)
    brain = _largest(_grown(_grown((part & around) | sure, CLOSE_MM), -CLOSE_MM))
    return sitk.BinaryFillhole(brain), "intensities within the template", template


def brain_by_tool(image, tool):
    """Brain mask by a command of TOOLS that is installed."""
    with tempfile.TemporaryDirectory() as folder:
        write_volume(image, Path(folder, "image.nii.gz"))
        command = [tool, *TOOLS[tool].split()]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        mask = Path(folder, "brain_bet.nii.gz")
        if done.returncode or not mask.exists():
            raise RuntimeError(f"{tool} ended with {done.returncode} and wrote no brain: {done.stderr.strip()[-300:]}")
        try:
            brain = read_volume(mask)
        except ValueError as error:  # the same value everywhere
            raise RuntimeError(f"{tool} found no brain: {error}") from error
    if brain.GetSize() != image.GetSize():
        raise RuntimeError(f"{tool} wrote {brain.GetSize()} voxels for {image.GetSize()}")
    return mask_on_grid(sitk.Cast(brain != 0, sitk.sitkFloat32), image)


def brain_by_intensity(images):
    """The largest part of a head that is as bright as its middle in both images, once thin bridges are cut."""
    head = to_array(sitk.OtsuThreshold(images["T1w"], 0, 1, 200)) > 0
    middle, spacing = np.argwhere(head).mean(0), np.array(images["T1w"].GetSpacing())
    away = sum(
        ((axis - m) * s) ** 2
        for axis, m, s in zip(np.ogrid[tuple(map(slice, head.shape))], middle, spacing, strict=True)
    )
    part = np.ones_like(head)
    for name, (low, high) in LEVELS.items():
        values = to_array(images[name])
        inner = values[(away < MIDDLE_MM**2) & (values > 0)]
        level = np.median(inner[inner > 0.3 * np.median(inner)]) if inner.size else 1.0
        part &= (values > low * level) & (values < high * level)
    part = _mask(part, images["T1w"])
    core = _largest(_grown(part, -PEEL_MM))
    if not to_array(core).any():
        raise ValueError("no brain is found: nothing in the head has the intensity of its middle in both images")
    brain = _grown(_grown(_grown(core, PEEL_MM + 1) & part, CLOSE_MM), -CLOSE_MM)
    return sitk.BinaryFillhole(_largest(brain))


@cache
def _template():
    """T1w, white and grey matter (0 to 100) and brain of the ICBM-152 template, at 1 mm with a margin for its rim."""
    load = {
        "T1w": datasets.load_mni152_template,
        "white": datasets.load_mni152_wm_template,
        "grey": datasets.load_mni152_gm_template,
    }
    images = {name: one(resolution=1) for name, one in load.items()}
    affine = images["T1w"].affine.copy()
    affine[:3, 3] -= RIM_MM
    maps = {name: from_array(100 * np.pad(one.get_fdata(), RIM_MM), affine) for name, one in images.items()}
    return maps | {"brain": sitk.BinaryFillhole(sitk.Cast(maps["T1w"] > 0, sitk.sitkUInt8))}


def fit_template(t1w, brain):
    """The template registered affinely to the brain of a T1w: its maps on that grid, its transform (template to scan), and
    the share of its brain that lies in the image (`in_field`)."""
    template = _template()
    affine = register_affine(template["T1w"], sitk.Mask(t1w, brain), template["brain"], brain, RIM_MM)
    back = affine.GetInverse()
    maps = {name: on_grid(template[name], t1w, back, sitk.sitkLinear) for name in ("white", "grey")}
    fitted = mask_on_grid(sitk.Cast(template["brain"], sitk.sitkFloat32), t1w, back)
    whole_ml = volume_ml(template["brain"]) * abs(np.linalg.det(np.reshape(affine.GetMatrix(), (3, 3))))
    return maps | {"brain": fitted, "transform": affine, "in_field": volume_ml(fitted) / whole_ml}


def _mask(array, like):
    image = sitk.GetImageFromArray(array.T.astype(np.uint8))
    image.CopyInformation(like)
    return image


def _grown(mask, by_mm):
    """A mask grown, or with a negative number shrunk, by so many mm."""
    distance = sitk.SignedMaurerDistanceMap(mask, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return sitk.Cast(distance <= by_mm, sitk.sitkUInt8)


def _largest(mask):
    return sitk.Cast(sitk.RelabelComponent(sitk.ConnectedComponent(mask)) == 1, sitk.sitkUInt8)
