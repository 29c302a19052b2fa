"""Places in one brain: depth below its surface, cortex, ventricles, and the distance from them."""

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from lib.lesions.instances import bounding_box, largest_part

VENTRICLE_MM = 20.0  # fluid deeper than this in the brain is ventricle; sulci are nearer to the surface
PLACES = ("periventricular", "juxtacortical", "deep or infratentorial")
PERIVENTRICULAR_MM = 3.0  # as the synthetic cohort's lesions are described
JUXTACORTICAL = 2.5  # voxels: no grey matter is looked for next to a lesion, so one that touches it lies 2 away
VOXELS = (1, 1, 1)  # sides, for distances in voxels
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


def lesion_places(labels, image, brain, cortical, marked, spacing_mm):
    """Place (`place_names`) of each instance of a label image (X, Y, Z) as the scan itself shows it: a Series of texts by
    label. cortical: (X, Y, Z) bool, of `cortex`.  image, brain, marked (any lesion): of `place_distances`.
    """
    ventricle_mm = place_distances(image, brain, marked, spacing_mm)["ventricle_mm"]
    numbers, distances = np.arange(1, labels.max() + 1), (ventricle_mm, distance_to(cortical, VOXELS))
    nearest = [ndimage.minimum(distance, labels, numbers) for distance in distances]
    return pd.Series(place_names(*nearest), numbers, dtype=object)


def place_names(ventricle_mm, cortex_voxels):
    """Places of lesions whose nearest voxels are so far, (n,) each, from ventricles and cortex: (n,) of PLACES.

    The first rule that holds: periventricular, a voxel within PERIVENTRICULAR_MM of the ventricles (`ventricles`);
    juxtacortical, a voxel within JUXTACORTICAL voxels of the cortex; the rest is deep or infratentorial, which a scan
    outside a template's space does not tell apart.
    """
    rules = [np.less_equal(ventricle_mm, PERIVENTRICULAR_MM), np.less_equal(cortex_voxels, JUXTACORTICAL)]
    return np.select(rules, PLACES[:2], PLACES[2])
