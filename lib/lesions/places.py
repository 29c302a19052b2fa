"""Places in one brain: depth below its surface, cortex, ventricles, and the distance from them."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from lib.lesions.instances import bounding_box, largest_part

VENTRICLE_MM = 20.0  # fluid deeper than this in the brain is ventricle; sulci are nearer to the surface
CORTEX_MM = 15.0  # grey matter nearer than this to the brain's surface is cortex; basal ganglia are deeper


def place_distances(image, brain, lesions_any, spacing_mm):
    """Distance in mm of each voxel (X, Y, Z) from the surface of the brain and the ventricles (infinite without any):
    {"surface_mm", "ventricle_mm"}. image: (2, X, Y, Z) z-scored.  brain, lesions_any: (X, Y, Z) bool."""
    below_mm = brain_depth(brain, spacing_mm)
    found = ventricles(image, brain & ~lesions_any, below_mm)
    return {"surface_mm": below_mm, "ventricle_mm": distance_to(found, spacing_mm)}


def cortex(grey, below_mm):
    """Grey matter, (X, Y, Z) bool, at most CORTEX_MM below the surface of the brain (`brain_depth`)."""
    return grey & (below_mm <= CORTEX_MM)


def ventricles(image, tissue, below_mm):
    """The lateral ventricles and what is connected with them, (X, Y, Z) bool: fluid deep in the brain.

    image: (2, X, Y, Z) z-scored.  tissue: (X, Y, Z) bool, the brain without lesions.  below_mm: `brain_depth`.  Fluid
    is the darkest of three Otsu classes of the MPRAGE, and darker in FLAIR than half of the tissue; of what is more
    than VENTRICLE_MM below the surface, opened, the largest face-connected part. Empty where there is none.
    """
    flair, mprage = image
    dark = (mprage < threshold_multiotsu(mprage[tissue], 3)[0]) & (flair < np.median(flair[tissue]))
    return largest_part(ndimage.binary_opening(tissue & dark & (below_mm > VENTRICLE_MM)))


def brain_depth(brain, spacing_mm):
    """`depth` in mm of each voxel of the brain (X, Y, Z) bool, its holes filled."""
    return depth(ndimage.binary_fill_holes(brain), spacing_mm)


def depth(mask, spacing_mm):
    """Distance in mm from each voxel of a mask (X, Y, Z) bool to the nearest centre outside, which what lies beyond the
    volume is; 0 outside."""
    found, box = np.zeros(mask.shape), bounding_box(mask)
    found[box] = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    return found


def distance_to(structure, spacing_mm):
    """Distance in mm from each voxel centre to the nearest of a structure (X, Y, Z) bool; infinite if it is empty."""
    if not structure.any():
        return np.full(structure.shape, np.inf)
    return ndimage.distance_transform_edt(~structure, sampling=spacing_mm)
