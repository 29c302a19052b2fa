"""Anatomy of a synthetic subject: tissue maps warped out of the ICBM-152 2009a template.

Volumes are RAS with axes (X, Y, Z); coordinates in mm are those of the template (MNI).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from nilearn import datasets
from scipy import ndimage

MARGIN_MM = 5
VENTRICLE_BOX_MM = ((-37, 38), (-60, 32), (-5, 31))  # holds the lateral ventricles and not the cisterns
VENTRICLE_REACH_MM = 15  # over which an enlarged ventricle pushes the tissue around it


@dataclass(frozen=True)
class Anatomy:
    """Tissue of one subject.

    white, grey, fluid: (X, Y, Z) float32 fractions, their sum is 1 inside the brain and 0 outside.
    brain: (X, Y, Z) bool.  ventricle_mm: (X, Y, Z) float32, distance to the lateral ventricles, negative inside.
    affine: (4, 4) voxel to world, RAS.
    """

    white: np.ndarray
    grey: np.ndarray
    fluid: np.ndarray
    brain: np.ndarray
    ventricle_mm: np.ndarray
    affine: np.ndarray

    @property
    def spacing_mm(self):
        return float(self.affine[0, 0])

    def world_mm(self):
        """World coordinates (x, y, z), each shaped so that the three broadcast to (X, Y, Z)."""
        index = np.ogrid[tuple(slice(n) for n in self.brain.shape)]
        return tuple(i * self.spacing_mm + start for i, start in zip(index, self.affine[:3, 3], strict=True))


def smooth_noise(shape, length, rng):
    """Smooth Gaussian random field of unit variance, (X, Y, Z) float32.

    White noise weights Gaussian bumps of standard deviation `length` (voxels), one every `length`.
    """
    knots = [np.arange(-3 * length, n + 3 * length, length, dtype=np.float32) for n in shape]
    field = rng.standard_normal([len(k) for k in knots], dtype=np.float32)
    for n, knot in zip(shape, knots, strict=True):
        weights = np.exp(-0.5 * ((np.arange(n, dtype=np.float32)[:, None] - knot) / length) ** 2)
        weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
        field = np.tensordot(field, weights, axes=(0, 1))  # the contracted axis returns as the last one
    return field


@cache
def _template():
    """White matter, grey matter, fluid, brain fraction and ventricle distance at 1 mm: (5, X, Y, Z), and the origin in mm."""
    image = datasets.load_mni152_template(resolution=1)
    inside = np.asarray(image.dataobj) > 0
    box = tuple(slice(max(i.min() - MARGIN_MM, 0), i.max() + MARGIN_MM + 1) for i in np.nonzero(inside))
    load = (datasets.load_mni152_wm_template, datasets.load_mni152_gm_template)
    white, grey = (np.asarray(f(resolution=1).dataobj, dtype=np.float32)[box] for f in load)
    inside = inside[box]
    origin = image.affine[:3, 3] + [s.start for s in box]
    fluid = np.clip(1 - white - grey, 0, 1)

    ventricle = np.zeros_like(inside)
    box = tuple(
        slice(*(np.array(side) - start).astype(int)) for side, start in zip(VENTRICLE_BOX_MM, origin, strict=True)
    )
    labels, _ = ndimage.label(fluid[box] > 0.5)
    ventricle[box] = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    distance = ndimage.distance_transform_edt(~ventricle).astype(np.float32)
    distance[box] -= ndimage.distance_transform_edt(ventricle[box])

    # Partial volume of white matter and fluid reads as a rim of grey matter along the ventricles: divide it between the two.
    rim = np.clip(1.5 - distance / 2, 0, 1) * np.clip(5 * (0.55 - ndimage.gaussian_filter(grey, 3)), 0, 1) * grey
    rim[np.abs(distance) > 4] = 0
    share = np.clip(0.3 + 0.4 * distance, 0, 1)
    white, grey, fluid = white + rim * share, grey - rim, fluid + rim * (1 - share)
    brain = ndimage.gaussian_filter(inside.astype(np.float32), 2)
    return np.stack([white, grey, fluid, brain, distance]), origin


@cache
def _grid(spacing_mm):
    """Template maps to sample from; affine and points (3, X, Y, Z) in template voxels of the target grid; there, the
    push of a growing ventricle (3, X, Y, Z) and how far gyri may move (1, X, Y, Z), both in one (4, X, Y, Z)."""
    maps, origin = _template()
    if spacing_mm > 1:  # average over the coarser voxel
        maps = np.stack([ndimage.gaussian_filter(m, 0.35 * spacing_mm) for m in maps])
    shape = tuple(int(n / spacing_mm) for n in maps.shape[1:])
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = origin
    distance = ndimage.gaussian_filter(maps[4], 2)
    push = np.stack(np.gradient(distance)) * np.exp(-np.maximum(distance, 0) / VENTRICLE_REACH_MM)
    push *= np.clip(1 + distance / 4, 0, 1)  # the middle of the ventricle stays
    points = torch.stack(
        torch.meshgrid(*(torch.arange(n, dtype=torch.float32) * spacing_mm for n in shape), indexing="ij")
    )
    still = np.stack([*push, np.clip(maps[4] / 25, 0.2, 1)])
    return torch.from_numpy(maps), affine, points, _sample(torch.from_numpy(still).float(), points)


def _sample(maps, points):
    """Trilinear values of maps (C, X, Y, Z) at points (3, x, y, z) in voxels: (C, x, y, z), zero outside."""
    sizes = torch.tensor(maps.shape[1:]).view(3, 1, 1, 1)
    grid = (2 * points / (sizes - 1) - 1).flip(0).movedim(0, -1)
    return torch.nn.functional.grid_sample(maps[None], grid[None], align_corners=True)[0]


def make_anatomy(spacing_mm, rng):
    """Anatomy of a random subject on an isotropic grid.

    Smooth warps (about 3 mm over the brain, 1.7 mm over a gyrus), brain size, ventricle size, width of the
    sulci and tightness of the skull stripping vary.
    """
    maps, affine, points, still = _grid(spacing_mm)
    push, free = still[:3], still[3].numpy()
    shape = tuple(points.shape[1:])
    middle = torch.tensor(maps.shape[1:]).view(3, 1, 1, 1) / 2
    size = torch.from_numpy(rng.uniform(1.0, 1.07, (3, 1, 1, 1)).astype(np.float32))
    warp = np.stack([3 * smooth_noise(shape, 32 / spacing_mm, rng) for _ in range(3)])
    warp -= warp.mean(axis=(1, 2, 3), keepdims=True)
    warp += [1.7 * free * smooth_noise(shape, 9 / spacing_mm, rng) for _ in range(3)]
    ventricle_growth_mm = rng.gamma(2.0, 0.9)
    where = middle + (points - middle) * size + torch.from_numpy(warp) - ventricle_growth_mm * push
    white, grey, fluid, brain, distance = _sample(maps, where).numpy()

    tightness = rng.uniform(0.45, 0.6) + 0.06 * smooth_noise(shape, 12 / spacing_mm, rng)
    brain = brain > tightness
    sulci = rng.uniform(1.5, 3.5)  # weight of the fluid when the template's averaged maps are sharpened
    fluid = np.maximum(fluid, 1 - white - grey)
    sharp = np.stack([white, grey, sulci * fluid]).clip(0)
    sharp *= np.sqrt(sharp)
    white, grey, fluid = sharp / sharp.sum(axis=0).clip(1e-6) * brain
    return Anatomy(white, grey, fluid, brain, distance, affine)
