"""Intensities as a network was trained on them, from those that are stored."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from lib.scans import normalise

NORMALISATION = "z-score over the non-zero voxels of each channel; background 0"
HEAD = "z-score of each channel over the voxels that are not 0 in some channel, and those they enclose"
BOX = "z-score of each channel over the box of the voxels that are not 0 in some channel"
RANGE = "0 to 1 between the percentiles 0.5 and 99.5 of the non-zero voxels of each channel"


class Levels(NamedTuple):
    """Of each channel of an image as a network wants it, (2,): air, stored as 0; mean and standard deviation of the brain;
    and where it is not air, (2, X, Y, Z) bool."""

    air: np.ndarray
    mean: np.ndarray
    z_score: np.ndarray
    tissue: np.ndarray


def own_image(stored, normalisation, used=(0, 1)):
    """Image (2, X, Y, Z) float32 of a scan as a network wants it.  stored: (2, X, Y, Z), as in its files.

    normalisation: NORMALISATION, HEAD, BOX or RANGE. With BOX, air is no longer 0.  used: the channels that the network
    takes, whose voxels make head and box.
    """
    if normalisation == NORMALISATION:
        return normalise(stored)
    image, inside = np.zeros_like(stored, np.float32), _inside(stored, normalisation, used)
    for channel, values, where in zip(image, stored, inside, strict=True):
        start, size = _scale(values[where], normalisation)
        channel[where] = (values[where] - start) / size
    return image.clip(0, 1) if normalisation == RANGE else image


def own_levels(stored, normalisation, used=(0, 1)):
    """`Levels` of `own_image`."""
    found = []
    for values, where in zip(stored, _inside(stored, normalisation, used), strict=True):
        start, size = _scale(values[where], normalisation)
        brain = values[values != 0]
        found.append(((0 - start) / size, (brain.mean() - start) / size, brain.std() / size))
    air, mean, z_score = np.array(found).T
    return Levels(air.clip(0) if normalisation == RANGE else air, mean, z_score, stored != 0)


def nonzero_box(image):
    """Slices (X, Y, Z) of the box of the voxels that are not 0 in some channel of (C, X, Y, Z)."""
    return ndimage.find_objects((image != 0).any(0).astype(np.uint8))[0]


def _inside(stored, normalisation, used):
    """The voxels of each channel that are normalised, and over which: (2, X, Y, Z) bool."""
    if normalisation == RANGE:
        return stored != 0
    inside, some = np.zeros(stored.shape[1:], bool), stored[list(used)]
    if normalisation == BOX:
        inside[nonzero_box(some)] = True  # air included (nnU-Net without use_mask_for_norm)
    else:
        inside = ndimage.binary_fill_holes((some != 0).any(0))  # nnU-Net with use_mask_for_norm
    return np.stack([inside, inside])


def _scale(values, normalisation):
    """What becomes 0 of the values that are normalised, and what is 1 above it."""
    if normalisation == RANGE:  # as LST-AI does (Wiltgen et al. 2024)
        low, high = np.percentile(values, (0.5, 99.5))
        return low, high - low
    return values.mean(), max(values.std(), 1e-8)
