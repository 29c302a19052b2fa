"""Folded cortex of a synthetic subject: a ribbon of grey matter along the surface and along sulci drawn at random.

Volumes are RAS with axes (X, Y, Z), distances in mm. Numbers and their sources are listed in data/README.md.
"""

import numpy as np
from scipy import ndimage

from lib.cohort.noise import smooth_noise

GYRUS_MM = 9.5, 12.5  # mean distance between neighbouring sulci, least and most
THICKNESS_MM = 2.3, 3.1  # of the cortex
SULCUS_MM = -0.3, 0.5  # half the width of a sulcus, negative where its banks touch
DEPTH_MM, DEPTH_SD_MM = 16.0, 6.0  # of a sulcus
SURE = 0.5  # share of brains in which a place is white matter, above which it becomes the less likely cortex


def outer_distance(fluid, coverage, ventricle_mm):
    """Distance in mm from the fluid around the brain, negative in it: (X, Y, Z) float32.

    fluid, coverage: (X, Y, Z), of voxels of 1 mm.  ventricle_mm: (X, Y, Z), distance to the ventricles, whose fluid does not count.
    """
    labels, _ = ndimage.label(((fluid > 0.35) | (coverage < 0.5)) & (ventricle_mm > 2))
    outer = labels == labels[0, 0, 0]
    inside, outside = ndimage.distance_transform_edt(~outer), ndimage.distance_transform_edt(outer)
    return (np.where(outer, 0.5 - outside, inside - 0.5)).astype(np.float32)


def folded_cortex(outer_mm, white, spacing_mm, rng):
    """White matter, grey matter and fluid, (3, X, Y, Z) float32 with sum 1, of a cortex folded at random.

    outer_mm: (X, Y, Z), distance from the fluid around the brain.  white: (X, Y, Z), share of brains with white matter there.
    Sulci are the sheets on which a smooth random field is 0, down to a depth that varies; the field over its slope is the
    distance from them. Cortex lies on both sides of a sulcus and below the surface, white matter between.
    """
    shape = white.shape
    length_mm = rng.uniform(*GYRUS_MM) / (
        np.pi * np.sqrt(2)
    )  # of the field, whose zeros are as far apart (Rice's formula)
    field = smooth_noise(shape, max(length_mm / spacing_mm, 0.8), rng)
    slope = np.sqrt(sum(along**2 for along in np.gradient(field, spacing_mm)))
    depth_mm = (DEPTH_MM + DEPTH_SD_MM * smooth_noise(shape, 15 / spacing_mm, rng)).clip(0)
    sulcus_mm = np.hypot(field / slope.clip(0.35 / length_mm), (outer_mm - depth_mm).clip(0))
    width_mm = rng.uniform(*SULCUS_MM) * (1 + 0.5 * smooth_noise(shape, 8 / spacing_mm, rng)).clip(0.2)
    core = (white - SURE).clip(0)
    below_mm = np.minimum(sulcus_mm + 10 * core, outer_mm + 5 * core) - width_mm
    fluid = (0.5 - below_mm / spacing_mm).clip(0, 1)
    brain_surface = (0.5 - (below_mm - rng.uniform(*THICKNESS_MM)) / spacing_mm).clip(0, 1)
    return np.stack([1 - brain_surface, brain_surface - fluid, fluid]).astype(np.float32)
