"""Describing a cohort: the volumes of its lesions and where they lie."""

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, voxel_sizes

from lib.lesions import label_instances


def instance_volumes(lesions, affine):
    """Volume of every annotated instance: table label, volume_mm3. lesions: (X, Y, Z) bool."""
    voxels = np.bincount(label_instances(lesions).ravel())[1:]
    return pd.DataFrame({"label": np.arange(1, len(voxels) + 1), "volume_mm3": voxels * np.prod(voxel_sizes(affine))})


def frequency_map(masks, grid_mm):
    """Number of scans with a lesion in each cell of a common grid in world coordinates.

    masks: iterable of (lesions, brain, affine) of each scan. Returns frequency (X, Y, Z) int, brain (X, Y, Z) bool (the cells
    that are brain in at least half of the scans) and the affine (4, 4) of both. Scans are not registered here.
    """
    cells = [[_cells(mask, affine, grid_mm) for mask in (lesions, brain)] for lesions, brain, affine in masks]
    everywhere = np.concatenate([brain for _, brain in cells])
    low = everywhere.min(0)
    counts = np.zeros((2, *(everywhere.max(0) - low + 1)), int)
    for scan in cells:
        for count, places in zip(counts, scan, strict=True):
            inside = ((places >= low) & (places - low < count.shape)).all(1)
            count[tuple((places[inside] - low).T)] += 1
    affine = np.diag([grid_mm, grid_mm, grid_mm, 1.0])
    affine[:3, 3] = (low + 0.5) * grid_mm
    return counts[0], counts[1] * 2 >= len(cells), affine


def _cells(mask, affine, grid_mm):
    """Distinct cells (n, 3) of the world grid that the voxels of a mask lie in."""
    places = np.floor(apply_affine(affine, np.argwhere(mask)) / grid_mm).astype(np.int64)
    if not len(places):
        return places
    low, size = places.min(0), np.ptp(places, axis=0) + 1
    flat = np.unique(np.ravel_multi_index((places - low).T, size))
    return np.stack(np.unravel_index(flat, size), axis=1) + low
