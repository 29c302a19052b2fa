"""Rigid registration of one sequence with the other, affine registration of the template, and their mutual information."""

import numpy as np
import SimpleITK as sitk

from lib.prepare.volumes import isotropic_grid, on_grid, to_array

BINS = 32  # of a histogram, along each image
SEED = 1
COARSE, MIDDLE, FINE = 8.0, 4.0, 2.0  # mm
PITCHES = (-0.3, 0.0, 0.3)  # in radians, where the template's registration starts


def register_rigid(fixed, moving):
    """Rigid transform from points of `fixed` to points of `moving`; starts from the headers and from the middles of the heads."""
    centre = _middle(fixed)
    starts = [
        sitk.Euler3DTransform(centre, 0, 0, 0, move) for move in ((0, 0, 0), np.subtract(_middle(moving), centre))
    ]
    best = _best(fixed, moving, starts)
    for level_mm, share in ((MIDDLE, 0.5), (FINE, 0.2)):
        _fit(_coarser(fixed, level_mm), _coarser(moving, level_mm), best, level_mm, share)
    return best


def register_affine(template, brain_image, template_brain, brain, rim):
    """Affine transform from points of a template to points of a stripped image; starts from centres and volumes of the brains.

    template_brain, brain: masks of both. Compared are the template's brain and `rim` voxels around it.
    """
    masks = template_brain, brain
    volumes = [sitk.GetArrayViewFromImage(mask).sum() * np.prod(mask.GetSpacing()) for mask in masks]
    centre, target = map(_middle, masks)
    scale, move = float(np.cbrt(volumes[1] / volumes[0])), np.subtract(target, centre).tolist()
    starts = [sitk.Similarity3DTransform(scale, (1, 0, 0), pitch, move, centre) for pitch in PITCHES]
    compared = sitk.BinaryDilate(template_brain, [rim] * 3)
    best = _best(template, brain_image, starts, compared)
    affine = sitk.AffineTransform(best.GetMatrix(), best.GetTranslation(), best.GetCenter())
    for level_mm, share in ((MIDDLE, 1.0), (FINE, 0.3)):
        _fit(_coarser(template, level_mm), _coarser(brain_image, level_mm), affine, level_mm, share, compared)
    return affine


def _best(fixed, moving, starts, mask=None):
    """Of transforms that are fitted on coarse images the one with most mutual information."""
    images = _coarser(fixed, COARSE), _coarser(moving, COARSE)
    return min(starts, key=lambda start: _fit(*images, start, COARSE, 1.0, mask))


def mutual_information(first, second, inside):
    """Mutual information in bits of two images over the voxels of a mask, from a histogram of BINS x BINS between their 0.5 and 99.5 percentiles."""
    values = [to_array(image)[to_array(inside) > 0] for image in (first, second)]
    clipped = [np.clip(one, *np.percentile(one, (0.5, 99.5))) for one in values]
    joint = np.histogram2d(*clipped, bins=BINS)[0] / max(len(values[0]), 1)
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    return float((joint[joint > 0] * np.log2(joint[joint > 0] / apart[joint > 0])).sum())


def _fit(fixed, moving, transform, level_mm, share, mask=None):
    """Move a transform, in place, to more mutual information; both images in voxels of level_mm. Returns the metric, lower is better.

    share: of the voxels, drawn with a fixed seed.
    """
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM if share < 1 else method.NONE)
    method.SetMetricSamplingPercentage(share, SEED)
    if mask is not None:
        method.SetMetricFixedMask(mask)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(level_mm / 2, level_mm / 400, 100, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, True)
    method.Execute(fixed, moving)
    return method.GetMetricValue()


def _coarser(image, level_mm):
    """An image smoothed to voxels of level_mm and sampled there, along its axes."""
    return on_grid(image, isotropic_grid(image, level_mm), interpolator=sitk.sitkLinear)


def _middle(image):
    """Centre of mass of the head or mask."""
    inside = sitk.OtsuThreshold(image, 0, 1) if image.GetPixelID() == sitk.sitkFloat32 else image
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(sitk.Cast(inside, sitk.sitkUInt8))
    return shape.GetCentroid(1)
