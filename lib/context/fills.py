"""What is put in place of the tissue that a context experiment hides, as images (2, X, Y, Z) like that of the scan.

Only tissue is replaced: air stays what it is, 0 in a z-scored scan.
"""

import numpy as np
from scipy import ndimage

from lib.lesions import bounding_box

FILLS = ("mean", "air", "blurred")
BLUR_MM = 8.0  # standard deviation of the blur: no lesion of a few millimetres and no gyrus is left
MOST_BELOW = 0.01  # share of intensities below that of air: ringing of interpolation


def check_names(names):
    """Raise ValueError if a fill is unknown."""
    if unknown := set(names) - set(FILLS):
        raise ValueError(f"fill {', '.join(sorted(unknown))}: choose from {', '.join(FILLS)}")


def fill_images(names, scan, stored, lesions_any):
    """What replaces hidden tissue, by name: images (2, X, Y, Z), "mean" as in Spagnolo et al. 2024.

    names: of FILLS.  scan: z-scored, or as a network wants it.  stored: its image, as stored.  lesions_any: (X, Y, Z) bool.
    """
    made = {
        "mean": lambda: mean_image(scan),
        "air": lambda: _level_image(scan, scan.levels.air if scan.levels else air_level(scan.image, stored)),
        "blurred": lambda: blurred_tissue(scan, lesions_any),
    }
    return {name: made[name]() for name in names}


def mean_image(scan):
    """The mean of the brain in its place, (2, X, Y, Z): 0 of a scan that is z-scored."""
    return _level_image(scan, scan.levels.mean if scan.levels else np.zeros(2))


def _level_image(scan, levels):
    return np.where(scan.tissue, np.reshape(levels, (2, 1, 1, 1)), scan.image).astype(scan.image.dtype)


def air_level(image, stored):
    """z-score of air in FLAIR and MPRAGE, (2,): that of the stored intensity 0, (0 - mean) / SD over the brain.

    Where more than MOST_BELOW of the brain is darker than that, 0 is not air (the scan was stored with its mean taken
    off), and the lowest z-score of the brain is taken.
    """
    levels = []
    for scores, values in zip(image, stored, strict=True):
        scores, values = scores[values != 0], values[values != 0]
        air = -values.mean() / values.std()
        levels.append(air if (scores < air).mean() <= MOST_BELOW else scores.min())
    return np.array(levels)


def blurred_tissue(scan, lesions_any):
    """The scan without anything small: its healthy tissue, without lesions_any (X, Y, Z) bool, blurred by BLUR_MM
    (normalised convolution over the brain): (2, X, Y, Z)."""
    result = scan.image.copy()
    for blurred, tissue in zip(result, scan.tissue, strict=True):
        box = bounding_box(tissue)
        values, inside = blurred[box], tissue[box]
        healthy = inside & ~lesions_any[box]
        sums, weights = (
            ndimage.gaussian_filter(part, BLUR_MM / np.asarray(scan.spacing_mm), mode="constant", truncate=3)
            for part in (np.where(healthy, values, 0), healthy.astype(values.dtype))
        )
        blurred[box] = np.where(inside, sums / np.maximum(weights, 1e-3), values)
    return result
