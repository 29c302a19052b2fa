"""Healthy tissue of one scan: white and grey matter estimated from the MPRAGE, and true-negative volumes in it."""

import numpy as np
from scipy import ndimage, signal
from skimage.filters import threshold_multiotsu

from lib.lesions.instances import STRUCTURE, bounding_box, largest_part

NEIGHBOURHOOD = 51  # voxels a side, over which the local white-matter level is taken
RIM = 2  # voxels below the brain's surface that are never white matter: dura, vessels, partial volume
PASSES = 8  # each takes less grey matter for white where the first classes were poor
DARKER, BRIGHTER = 1 / 3, 2 / 3  # limits of white matter around its local level, in units of its contrast to grey
GREY, FLUID = 1 / 2, 3 / 2  # limits of grey matter below that level


def white_matter(image, brain, lesions_any):
    """The first of `white_and_grey_matter`."""
    return white_and_grey_matter(image, brain, lesions_any)[0]


def white_and_grey_matter(image, brain, lesions_any):
    """Healthy white and healthy grey matter, cortical and deep, estimated from the MPRAGE of one scan.

    image: (2, X, Y, Z) z-scored FLAIR and MPRAGE.  brain, lesions_any: (X, Y, Z) bool, the latter annotated or
    predicted.  Returns two of (X, Y, Z) bool without a common voxel: the brightest of three Otsu classes gives the
    local white-matter level. What is neither lesion nor next to one is white near that level and away from the brain's
    rim, and grey where it is darker; of each, opened, the largest connected part; neither, where lesions leave nothing to
    classify, as those of a network do that takes all of the brain for one. Deep grey matter is kept out of the
    white where the MPRAGE shows it darker, which is not so in much of the thalamus; opening removes from the grey most
    of the thin partial-volume layer around the ventricles. All sizes are in voxels, for about 1 mm.  Raises ValueError
    if the shapes differ or the brain has fewer than three intensities.
    """
    if not np.shape(image)[1:] == np.shape(brain) == np.shape(lesions_any):
        raise ValueError(f"image is {np.shape(image)}, brain {np.shape(brain)}, lesions_any {np.shape(lesions_any)}")
    if np.unique(image[1][brain]).size < 3:
        raise ValueError("the brain holds fewer than three MPRAGE intensities: check mask and image")
    white, grey, box = np.zeros_like(brain), np.zeros_like(brain), bounding_box(brain)
    healthy = brain[box] & ~ndimage.binary_dilation(lesions_any[box], STRUCTURE)
    if np.unique(image[1][box][healthy]).size < 3:
        return white, grey
    level = _relative_level(image[1][box], brain[box], healthy)
    inner = ndimage.binary_erosion(ndimage.binary_fill_holes(brain[box]), iterations=RIM)
    white[box] = largest_part(ndimage.binary_opening(healthy & inner & (level > -DARKER) & (level < BRIGHTER)))
    grey[box] = largest_part(ndimage.binary_opening(healthy & (level <= -GREY) & (level > -FLUID)))
    return white, grey


def healthy_volumes(lesion, tissues, generator):
    """One volume of `sample_healthy` in each tissue that has room for it; tissues, result: {name: (X, Y, Z) bool}."""
    sampled = {name: sample_healthy(lesion, allowed, generator) for name, allowed in tissues.items()}
    return {name: volume for name, volume in sampled.items() if volume is not None}


def sample_healthy(lesion, allowed, generator):
    """Volume of healthy tissue (TN): the lesion's shape moved to where all its voxels are allowed.

    lesion, allowed: (X, Y, Z) bool.  Returns (X, Y, Z) bool, uniform over all valid translations, or None without any.
    Raises ValueError if the lesion is empty or shapes differ.
    """
    if np.shape(lesion) != np.shape(allowed):
        raise ValueError(f"lesion is {np.shape(lesion)} but allowed is {np.shape(allowed)}")
    if not np.any(lesion):
        raise ValueError("lesion has no voxel: give the mask of one instance")
    shape, box = lesion[bounding_box(lesion)], bounding_box(allowed)
    if any(side.stop - side.start < size for side, size in zip(box, shape.shape, strict=True)):
        return None
    covered = signal.correlate(allowed[box].astype(np.float32), shape.astype(np.float32), mode="valid", method="fft")
    corners = np.argwhere(covered > shape.sum() - 0.5)
    if len(corners) == 0:
        return None
    corner = corners[generator.integers(len(corners))] + [side.start for side in box]
    healthy = np.zeros(np.shape(allowed), bool)
    healthy[tuple(slice(c, c + n) for c, n in zip(corner, shape.shape, strict=True))] = shape
    return healthy


def _relative_level(mprage, brain, healthy):
    """The MPRAGE relative to the local white matter, 0 there, about -1 in grey matter; healthy: voxels to classify."""
    low, high = np.percentile(mprage[brain], (1, 99)).astype(np.float32)
    mprage = ndimage.median_filter(np.where(brain, mprage, low).astype(np.float32), 3)

    csf_grey, grey_white = threshold_multiotsu(np.clip(mprage[healthy], low, high), 3)
    white = healthy & (mprage > grey_white) & (mprage <= high)
    for _ in range(PASSES):
        share = ndimage.uniform_filter(white.astype(np.float32), NEIGHBOURHOOD, mode="constant")
        total = ndimage.uniform_filter(np.where(white, mprage, 0), NEIGHBOURHOOD, mode="constant")
        level = np.where(share > 1e-3, mprage - total / np.maximum(share, 1e-3), -np.inf)
        level /= -np.median(level[healthy & ~white & (mprage > csf_grey) & (level < 0)])
        white = healthy & (level > -DARKER) & (level < BRIGHTER)
    return level
