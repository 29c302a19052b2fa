"""Intensities as a network was trained on them, from those that are stored."""

import numpy as np
from scipy import ndimage

from lib.scans import normalise

NORMALISATION = "z-score over the non-zero voxels of each channel; background 0"
HEAD = "z-score of each channel over the voxels that are not 0 in some channel, and those they enclose"
BOX = "z-score of each channel over the box of the voxels that are not 0 in some channel"
RANGE = "0 to 1 between the percentiles 0.5 and 99.5 of the non-zero voxels of each channel"


def own_image(stored, normalisation):
    """Image (2, X, Y, Z) float32 of a scan as a network wants it.  stored: (2, X, Y, Z), as in its files.

    normalisation: NORMALISATION, HEAD, BOX or RANGE. With BOX, air is no longer 0.
    """
    if normalisation == NORMALISATION:
        return normalise(stored)
    return {HEAD: _over_head, BOX: _over_box, RANGE: _range}[normalisation](np.asarray(stored, np.float32))


def _over_head(stored):
    """Over the voxels that are not 0 in some sequence, and what they enclose (nnU-Net with use_mask_for_norm)."""
    return _z_scored(stored, ndimage.binary_fill_holes((stored != 0).any(0)))


def _over_box(stored):
    """Over the box of the voxels that are not 0 in some sequence, air included (nnU-Net without use_mask_for_norm)."""
    inside = np.zeros(stored.shape[1:], bool)
    inside[nonzero_box(stored)] = True
    return _z_scored(stored, inside)


def nonzero_box(image):
    """Slices (X, Y, Z) of the box of the voxels that are not 0 in some channel of (C, X, Y, Z)."""
    return ndimage.find_objects((image != 0).any(0).astype(np.uint8))[0]


def _z_scored(stored, inside):
    image = np.zeros_like(stored)
    for channel, values in zip(image, stored, strict=True):
        channel[inside] = (values[inside] - values[inside].mean()) / max(values[inside].std(), 1e-8)
    return image


def _range(stored):
    """As LST-AI does (Wiltgen et al. 2024)."""
    image = np.zeros_like(stored)
    for channel, values in zip(image, stored, strict=True):
        inside = values != 0
        low, high = np.percentile(values[inside], (0.5, 99.5))
        channel[inside] = (np.clip(values[inside], low, high) - low) / (high - low)
    return image
