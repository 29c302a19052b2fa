"""Anatomy of a synthetic subject: tissue maps warped out of the ICBM-152 2009a template, and a cortex folded at random.

Volumes are RAS (X, Y, Z), coordinates in mm those of the template (MNI). data/README.md has sources of the numbers.
"""

from dataclasses import dataclass
from functools import cache, reduce

import numpy as np
import torch
from nibabel.affines import from_matvec
from nilearn import datasets
from scipy import ndimage

from lib.cohort.noise import smooth_noise
from lib.lesions import largest_instance

MARGIN_MM = 5
VENTRICLE_BOX_MM = ((-37, 38), (-60, 32), (-5, 31))  # holds the lateral ventricles and not the cisterns
# Boxes of the right half of the template: middle and half sides.
DEEP_MM = (0, -6, 5), (33, 30, 17)
BRAINSTEM_MM = (0, -24, -38), (11, 11, 26)
LIMBIC_MM = (
    ((0, 5, 22), (14, 45, 26)), ((0, 30, -8), (12, 18, 14)), ((38, 2, 2), (8, 24, 15)), ((24, -18, -20), (13, 22, 12)),
)  # fmt: skip
# Choroid plexus, tela choroidea and pineal region, from the atria along the floor of the lateral ventricles to the
# foramina, into the temporal horns, the roofs of the third and fourth ventricles: middle and radius of balls.
CHOROID_MM = (
    ((25, -40, 7), 8), ((27, -37, 0), 7), ((21, -36, 12), 6), ((15, -29, 16), 5), ((10, -18, 18), 4), ((7, -7, 17), 4),
    ((4, 2, 13), 4), ((29, -30, -6), 5), ((31, -20, -15), 4), ((0, -8, 9), 4), ((0, -20, 8), 5), ((0, -29, 3), 7),
    ((0, -38, 7), 6), ((8, -30, 6), 5), ((14, -33, 4), 5), ((0, -44, -32), 5), ((9, -40, -38), 4),
)  # fmt: skip
VENTRICLE_REACH_MM = 15  # over which an enlarged ventricle pushes the tissue around it
GYRUS_MM = 9.5, 12.5  # mean distance between neighbouring sulci, least and most
THICKNESS_MM = 2.3, 3.1  # of the cortex
SULCUS_MM = -0.3, 0.5  # half the width of a sulcus, negative where its banks touch
DEPTH_MM, DEPTH_SD_MM = 16.0, 6.0  # of a sulcus
SURE = 0.5  # share of brains in which a place is white matter, above which it becomes the less likely cortex


@dataclass(frozen=True)
class Anatomy:
    """Tissue of one subject: maps (X, Y, Z) float32, and where they are."""

    white: np.ndarray  # fraction of a voxel; all three sum to 1 in the brain and close to it, to 0 farther out
    grey: np.ndarray
    fluid: np.ndarray
    deep: np.ndarray  # share of grey matter that is deep: thalamus, basal ganglia
    limbic: np.ndarray  # share that is cingulate, insular or medial temporal cortex, which FLAIR shows brighter
    below: np.ndarray  # share that is brainstem or cerebellum
    choroid: np.ndarray  # where choroid plexus, tela choroidea and pineal region may be, 1 in the middle of it
    coverage: np.ndarray  # 1 inside, falling through 0.5 at the border of the brain to 0 some mm outside
    ventricle_mm: np.ndarray  # distance to the lateral ventricles, negative inside
    affine: np.ndarray  # (4, 4) voxel to world, RAS

    @property
    def brain(self):
        return self.coverage > 0.5

    @property
    def infratentorial(self):
        """Brainstem and cerebellum, (X, Y, Z) bool."""
        return (self.below > 0.5) & self.brain

    @property
    def spacing_mm(self):
        return float(self.affine[0, 0])


@cache
def template_maps():
    """White matter, grey matter, fluid, brain fraction, ventricle distance at 1 mm: (5, X, Y, Z); origin in mm."""
    image = datasets.load_mni152_template(resolution=1)
    inside = np.asarray(image.dataobj) > 0
    box = tuple(slice(max(i.min() - MARGIN_MM, 0), i.max() + MARGIN_MM + 1) for i in np.nonzero(inside))
    load = (datasets.load_mni152_wm_template, datasets.load_mni152_gm_template)
    white, grey = (np.asarray(f(resolution=1).dataobj, dtype=np.float32)[box] for f in load)
    inside, origin = inside[box], image.affine[:3, 3] + [side.start for side in box]
    fluid = np.clip(1 - white - grey, 0, 1)

    ventricle = np.zeros_like(inside)
    box = tuple(slice(*side) for side in np.subtract(VENTRICLE_BOX_MM, origin[:, None]).astype(int))
    ventricle[box] = largest_instance(ndimage.label(fluid[box] > 0.5)[0])
    distance = ndimage.distance_transform_edt(~ventricle).astype(np.float32)
    distance[box] -= ndimage.distance_transform_edt(ventricle[box])

    # Partial volume of white matter and fluid reads as a rim of grey matter along the ventricles: divide it up.
    rim = np.clip(1.5 - distance / 2, 0, 1) * np.clip(5 * (0.55 - ndimage.gaussian_filter(grey, 3)), 0, 1) * grey
    rim[np.abs(distance) > 4] = 0
    share = np.clip(0.3 + 0.4 * distance, 0, 1)
    white, grey, fluid = white + rim * share, grey - rim, fluid + rim * (1 - share)
    brain = ndimage.gaussian_filter(inside.astype(np.float32), 2)
    return np.stack([white, grey, fluid, brain, distance]), origin


def template_regions(shape, origin):
    """Regions of the template, with soft borders, (5, X, Y, Z) float32: deep and limbic grey matter, brainstem, all
    that is infratentorial, choroid plexus; shape and origin (mm) are those of `template_maps`."""
    x, y, z = (np.float32(i + start) for i, start in zip(np.ogrid[tuple(map(slice, shape))], origin, strict=True))
    deep = _inside_box(x, y, z, *DEEP_MM)
    limbic = (1 - deep) * reduce(np.maximum, (_inside_box(x, y, z, *box) for box in LIMBIC_MM))
    below = np.broadcast_to(infratentorial(x, y, z), shape).astype(np.float32)
    choroid = np.zeros(shape, np.float32)
    for (right, front, up), radius in CHOROID_MM:
        squared = (np.abs(x) - right) ** 2 + (y - front) ** 2 + (z - up) ** 2
        choroid = np.maximum(choroid, np.exp(-0.7 * (squared / radius**2) ** 2))
    return np.stack([deep, limbic, _inside_box(x, y, z, *BRAINSTEM_MM), below, choroid])


@cache
def _grid(spacing_mm):
    """Maps to sample from, (12, X, Y, Z): `template_maps`, `template_regions`, `outer_distance`, the share of cortex
    and the white matter among it; affine and points (3, X, Y, Z) in template voxels of the target grid; there, the push
    of a growing ventricle and how far gyri may move, (4, X, Y, Z)."""
    maps, origin = template_maps()
    white, _, fluid, coverage, ventricle_mm = maps
    regions = template_regions(white.shape, origin)
    core = np.clip(10 * ndimage.gaussian_filter(white, 2.5) - 8.5, 0, 1)  # the white matter of all brains
    mantle = (1 - core) * (1 - regions[0]) * (1 - ndimage.gaussian_filter(regions[3], 2))
    mantle *= np.clip(ventricle_mm / 3 - 1, 0, 1)
    maps = np.stack([*maps, *regions, outer_distance(fluid, coverage, ventricle_mm), mantle])
    if spacing_mm > 1:  # average over the coarser voxel
        maps = np.stack([ndimage.gaussian_filter(m, 0.35 * spacing_mm) for m in maps])
    shape = tuple(int(n / spacing_mm) for n in maps.shape[1:])
    affine = from_matvec(spacing_mm * np.eye(3), origin)
    distance = ndimage.gaussian_filter(maps[4], 2)
    push = np.stack(np.gradient(distance)) * np.exp(-np.maximum(distance, 0) / VENTRICLE_REACH_MM)
    push *= np.clip(1 + distance / 4, 0, 1)  # the middle of the ventricle stays
    points = torch.from_numpy(spacing_mm * np.indices(shape, np.float32))
    still = torch.from_numpy(np.stack([*push, np.clip(maps[4] / 25, 0.2, 1)])).float()
    maps = torch.from_numpy(maps)[None].contiguous(memory_format=torch.channels_last_3d)[0]  # sampled twice as fast
    return maps, affine, points, _sample(still, points)


def _sample(maps, points):
    """Trilinear values of maps (C, X, Y, Z) at points (3, x, y, z) in voxels: (C, x, y, z), zero outside."""
    sizes = torch.tensor(maps.shape[1:]).view(3, 1, 1, 1)
    grid = (2 * points / (sizes - 1) - 1).flip(0).movedim(0, -1)
    return torch.nn.functional.grid_sample(maps[None], grid[None], align_corners=True)[0]


def make_anatomy(spacing_mm, rng):
    """Anatomy of a random subject on an isotropic grid.

    Smooth warps (about 3 mm over the brain, 1.7 mm over a gyrus), brain size (scans registered rigidly are smaller than
    the template), ventricle size, width of the sulci and the folding of the cortex vary. The template is an average of
    many brains and its cortex is blurred: that is folded anew (`folded_cortex`), as are the folia of the cerebellum.
    """
    maps, affine, points, still = _grid(spacing_mm)
    size = torch.from_numpy((rng.uniform(0.98, 1.22) * rng.uniform(0.97, 1.03, (3, 1, 1, 1))).astype(np.float32))
    middle = torch.tensor(maps.shape[1:]).view(3, 1, 1, 1) / 2
    kept = [min(n, round(n / factor)) for n, factor in zip(points.shape[1:], size.ravel().tolist(), strict=True)]
    field = [slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(points.shape[1:], kept, strict=True)]
    points, (*push, free) = points[:, *field], still[:, *field]
    affine = affine @ from_matvec(np.eye(3), [side.start for side in field])
    shape = tuple(points.shape[1:])
    warp = np.stack([3 * smooth_noise(shape, 32 / spacing_mm, rng) for _ in range(3)])
    warp -= warp.mean(axis=(1, 2, 3), keepdims=True)
    warp += [1.7 * free.numpy() * smooth_noise(shape, 9 / spacing_mm, rng) for _ in range(3)]
    where = middle + (points - middle) * size + torch.from_numpy(warp) - rng.gamma(2.0, 0.9) * torch.stack(push)
    white, grey, fluid, coverage, distance, *regions, outer_mm, mantle = _sample(maps, where).numpy()
    deep, limbic, brainstem, below, choroid = regions
    cortex = folded_cortex(outer_mm / float(size.mean()), white, spacing_mm, rng)
    white, grey = white + 0.6 * grey * brainstem, grey * (1 - 0.6 * brainstem)
    fluid = rng.uniform(1.5, 3.5) * np.maximum(fluid, 1 - white - grey)  # the template's maps are averages
    folia = rng.uniform(0.5, 1.0) * below * (1 - brainstem) * _folia(shape, spacing_mm, rng)
    sharp = np.stack([white * np.exp(folia), grey, fluid * np.exp(-0.6 * folia)]).clip(0) ** 1.75
    sharp[2] += sharp.sum(axis=0) < 1e-6
    tissue = mantle * cortex + (1 - mantle) * sharp / sharp.sum(axis=0)
    white, grey, fluid = (tissue * np.clip(20 * coverage - 1, 0, 1)).astype(np.float32)
    return Anatomy(white, grey, fluid, deep, limbic, below, choroid, coverage, distance, affine)


def outer_distance(fluid, coverage, ventricle_mm):
    """Distance in mm from the fluid around the brain, negative in it: (X, Y, Z) float32.

    All (X, Y, Z), of voxels of 1 mm.  ventricle_mm: distance to the ventricles, whose fluid does not count.
    """
    labels, _ = ndimage.label(((fluid > 0.35) | (coverage < 0.5)) & (ventricle_mm > 2))
    outer = labels == labels[0, 0, 0]
    inside, outside = ndimage.distance_transform_edt(~outer), ndimage.distance_transform_edt(outer)
    return (np.where(outer, 0.5 - outside, inside - 0.5)).astype(np.float32)


def folded_cortex(outer_mm, white, spacing_mm, rng):
    """White matter, grey matter and fluid, (3, X, Y, Z) float32 with sum 1, of a cortex folded at random.

    outer_mm: (X, Y, Z), distance from the fluid around the brain.  white: (X, Y, Z), share of brains with white matter.
    Sulci are the sheets on which a smooth random field is 0, down to a depth that varies; the field over its slope is
    the distance from them. Cortex lies on both sides of a sulcus and below the surface, white matter between.
    """
    shape = white.shape
    length_mm = rng.uniform(*GYRUS_MM) / (np.pi * np.sqrt(2))  # of the field, whose zeros are that far apart (Rice)
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


def _folia(shape, spacing_mm, rng):
    """Waves along z, of the sheets of the cerebellum: (X, Y, Z) float32 around 0."""
    fine, coarse = (smooth_noise(shape, max(length / spacing_mm, 0.8), rng) for length in (2.2, 12))
    up_mm = spacing_mm * np.arange(shape[2], dtype=np.float32) + 4 * coarse
    return fine + np.sin(2 * np.pi * up_mm / max(4.5, 3 * spacing_mm))


def infratentorial(x, y, z):
    """Whether points of the template (mm, broadcast) lie in the part that holds brainstem and cerebellum."""
    cerebellum = (y < -36) & (z < -16 - 0.25 * np.abs(x))
    return cerebellum | (np.abs(x) < 22) & (y < -6) & (z < -14)


def _inside_box(x, y, z, middle_mm, half_mm):
    """1 inside a box of the template and its mirror image, 0 outside, with soft sides: (X, Y, Z)."""
    sides = zip((np.abs(x), y, z), middle_mm, half_mm, strict=True)
    outside_mm = reduce(np.maximum, (np.abs(along - centre) - half for along, centre, half in sides))
    return np.clip(0.5 - outside_mm / 6, 0, 1).astype(np.float32)
