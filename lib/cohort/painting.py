"""Lesions and what resembles them, painted into an anatomy as one map of soft blobs, and which of them can be seen.

Volumes are RAS with axes (X, Y, Z). Numbers and their sources are listed in data/README.md.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lib.cohort.noise import smooth_noise
from lib.lesions import label_instances

EDGE = 1.4  # voxels over which a blob fades out
BORDER = 0.4  # fraction of a voxel that is lesion where annotators draw its border
INFRATENTORIAL_GROWTH = 2.5  # their lesions are larger than other focal ones
FARTHEST_MM = 38  # from the ventricles, that confluent lesions reach
LEAST_CONFLUENT_MM3 = 150  # who would have less has no periventricular lesions but focal ones
LEAST_CONTRAST = 0.3  # of annotated lesions, in SD of FLAIR in the brain; measured on real ones: data/README.md
SURROUNDINGS = 2.5  # voxels, standard deviation of the Gaussian that weighs the brain around a lesion
LESION = 1  # family of the blobs that are lesions
# The others: mean number a brain, log-volume mean and SD (mm3), elongation; added (FLAIR, MPRAGE), lowest and highest.
LOOKALIKES = {
    2: (14, 1.6, 0.5, 0.6, (0.15, 0.0), (0.50, 0.30)),  # vessels
    3: (10, 2.8, 0.8, 0.25, (0.08, -0.03), (0.28, 0.05)),  # spots that FLAIR alone shows
    4: (10, 1.5, 0.4, 0.6, (-0.20, -0.35), (0.0, -0.10)),  # perivascular spaces
    5: (2, 2.6, 0.6, 0.25, (0.10, -0.15), (0.28, -0.03)),  # spots that only an annotator would tell from a lesion
    6: (3, 3.6, 0.7, 0.4, (0.05, -0.12), (0.45, 0.03)),  # caps of the frontal and occipital horns
}
CAPS = 6


@dataclass(frozen=True)
class Blobs:
    """Lesions and look-alikes of one scan."""

    alpha: np.ndarray  # (X, Y, Z) float32, the fraction of a voxel that is blob
    label: np.ndarray  # (X, Y, Z) int16, 0 where there is none
    volume_mm3: np.ndarray  # (n + 1,), of each label; row 0 stands for none
    family: np.ndarray  # (n + 1,), LESION or a key of LOOKALIKES

    @property
    def lesions(self):
        """Lesions, (X, Y, Z) bool: voxels that are lesion to BORDER or more."""
        return (self.alpha >= BORDER) & (self.family == LESION)[self.label]


def site_probability(anatomy):
    """Relative probability of a focal lesion's centre, (X, Y, Z): white matter, falling from the ventricles outwards,
    raised next to the cortex, 8 % infratentorial."""
    below = anatomy.infratentorial
    cortex = ndimage.gaussian_filter(anatomy.grey, 2 / anatomy.spacing_mm)
    weight = (3.3 + 8 * np.exp(-np.maximum(anatomy.ventricle_mm, 0) / 9)) * (anatomy.white > 0.7)
    weight *= 1 + 2 * np.clip(cortex - 0.15, 0, 0.3)
    weight[below] *= 0.08 / 0.92 * weight[~below].sum() / weight[below].sum()
    return weight


def cap_probability(anatomy):
    """Relative probability of the centre of a normal periventricular cap, (X, Y, Z): white matter within 3 mm of the
    lateral ventricles, at most 6 mm behind their foremost or before their hindmost voxel."""
    wall = (anatomy.ventricle_mm > 0) & (anatomy.ventricle_mm < 3) & (anatomy.white > 0.5)
    along_mm = np.arange(wall.shape[1])[:, None] * anatomy.spacing_mm
    reached_mm = along_mm[wall.any(axis=(0, 2))]
    return wall & ((along_mm > reached_mm.max() - 6) | (along_mm < reached_mm.min() + 6))


def draw_ellipsoids(weight, n, elongation, rng):
    """Draw n voxels (n, 3) with replacement in proportion to weight (X, Y, Z), and orthogonal axes (n, 3, 3) stretched
    log-normally by `elongation`, volume kept."""
    cumulative = np.cumsum(weight, dtype=np.float64)
    flat = np.searchsorted(cumulative, rng.uniform(0, cumulative[-1], n), side="right")
    rotation, _ = np.linalg.qr(rng.standard_normal((n, 3, 3)))
    stretch = elongation * rng.standard_normal((n, 3))
    axes = np.exp(stretch - stretch.mean(axis=1, keepdims=True))[:, :, None] * rotation
    return np.stack(np.unravel_index(flat, weight.shape), axis=1), axes


def paint(anatomy, alpha, label, first, sites, voxels, axes, irregularity):
    """Paint soft, dented ellipsoids with labels from `first` on into alpha and label (in place), confined to tissue.

    sites (n, 3) in voxels; voxels (n,) is each volume within BORDER, 0 for none; axes (n, 3, 3) of `draw_ellipsoids`;
    irregularity (X, Y, Z), a unit-variance field that dents the borders.
    """
    for k, radius in enumerate(np.cbrt(np.asarray(voxels) * 3 / (4 * np.pi))):
        if radius == 0:
            continue
        reach = int(np.ceil(2.2 * radius + EDGE))
        box = tuple(slice(max(c - reach, 0), min(c + reach + 1, n)) for c, n in zip(sites[k], alpha.shape, strict=True))
        offset = np.moveaxis(np.mgrid[box], 0, -1) - sites[k]
        distance = np.linalg.norm(offset @ axes[k].T, axis=-1) * (1 + 0.22 * irregularity[box]).clip(0.4)
        solid = np.clip(BORDER + (radius - distance) / EDGE, 0, 1)
        solid *= np.clip(1.3 * anatomy.white[box] + 0.6 * anatomy.grey[box], 0, 1) * (anatomy.coverage[box] > 0.5)
        label[box] = np.where(solid > alpha[box], first + k, label[box])
        alpha[box] = np.maximum(alpha[box], solid)


def confluent(anatomy, voxels, patches, spread_mm):
    """Paint periventricular lesions of a total volume: alpha (X, Y, Z) of bands and caps along the ventricle wall.

    patches: (X, Y, Z) unit-variance field; lesions are where it is high and, over spread_mm, the ventricle near.
    """
    from_middle_mm = np.abs(anatomy.ventricle_mm - FARTHEST_MM / 2)
    score = patches - np.maximum(anatomy.ventricle_mm, 0) / spread_mm
    inside = score[(anatomy.white > 0.5) & (from_middle_mm < FARTHEST_MM / 2 + 1) & ~anatomy.infratentorial]
    n = min(int(voxels), inside.size - 1)
    if n == 0:
        return np.zeros_like(score)
    threshold = np.partition(inside, -n)[-n]
    slope = 0.25 * anatomy.spacing_mm  # typical gradient of the score, per voxel
    alpha = np.clip(BORDER + (score - threshold) / (slope * EDGE), 0, 1) * np.clip(1.5 * anatomy.white, 0, 1)
    return (alpha * (from_middle_mm < FARTHEST_MM / 2 + 3) * ~anatomy.infratentorial).astype(np.float32)


def draw_blobs(anatomy, rng, session=0):
    """Draw `Blobs` of one subject at session 0, or at session 1 (same generator state), some lesions grown, some new.

    On grids coarser than 1 mm blobs keep their size in voxels and are fewer.
    """
    shape, spacing = anatomy.white.shape, anatomy.spacing_mm
    irregularity = smooth_noise(shape, 1.8, rng)
    near_cortex = anatomy.brain * (anatomy.white > 0.3) * (0.3 + anatomy.grey)
    groups = []  # of one family each: weight of the sites, voxels now, volume, elongation
    for family, (mean, size, spread, elongation, *_) in LOOKALIKES.items():
        voxels = np.exp(size + spread * rng.standard_normal(rng.poisson(mean / spacing**2)))
        weight = cap_probability(anatomy) if family == CAPS else near_cortex
        groups.append((family, weight, voxels, voxels, elongation))

    load, number = rng.standard_normal(2) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    n = int(np.clip(70 * np.exp(0.85 * number) / spacing**2, 3, 300))
    voxels = np.exp(2.8 + 1.25 * rng.standard_normal(n)).clip(3, 5000)
    growth = np.where(rng.random(n) < 0.15, rng.uniform(1.3, 2.2, n), 1.0)
    new = rng.random(n) < 0.12
    now = voxels * growth if session else np.where(new, 0, voxels)
    groups.append((LESION, site_probability(anatomy), now, voxels, 0.25))

    periventricular = min(6000 * np.exp(1.8 * load), 60000)
    periventricular *= (periventricular >= LEAST_CONFLUENT_MM3) / spacing**1.5
    coarse, fine = (smooth_noise(shape, length / spacing, rng) for length in (10, 4))
    share, spread_mm = rng.uniform(0.1, 0.5), np.exp(rng.uniform(np.log(4), np.log(25)))
    patches = np.sqrt(1 - share) * coarse + np.sqrt(share) * fine
    grown = confluent(anatomy, periventricular * (1 + rng.uniform(0, 0.15)), patches, spread_mm)
    alpha = grown if session else confluent(anatomy, periventricular, patches, spread_mm)
    label, _ = ndimage.label(grown > 0.01, output=np.int16)  # of the later session in both, so that they share numbers
    volumes = 0.6 * np.bincount(label.ravel())
    families = np.full(len(volumes), LESION)
    volumes[0] = families[0] = 0
    for family, weight, now, drawn, elongation in groups:
        sites, axes = draw_ellipsoids(weight, len(now), elongation, rng)
        larger = np.where((family == LESION) & anatomy.infratentorial[tuple(sites.T)], INFRATENTORIAL_GROWTH, 1)
        paint(anatomy, alpha, label, len(volumes), sites, now * larger, axes, irregularity)
        volumes, families = np.append(volumes, drawn * larger), np.append(families, np.full(len(now), family))
    return Blobs(alpha, label, volumes, families)


def local_contrasts(flair, lesions, brain):
    """Instances of a mask (`label_instances`), and how much brighter than its surroundings each is, by label: (n + 1,).

    flair: (X, Y, Z), in units of its SD in the brain, such as z-scores.  lesions, brain: (X, Y, Z) bool.  It is the
    mean over the instance of FLAIR less that of the brain around without lesions, a Gaussian-weighted mean (SD 2.5
    voxels, to 8 voxels); -inf for label 0, which is none.
    """
    labels = label_instances(lesions)
    healthy = (brain & ~lesions).astype(np.float32)
    parts = flair * healthy, healthy
    total, weight = (ndimage.gaussian_filter(part, SURROUNDINGS, truncate=3, mode="constant") for part in parts)
    around = total / np.maximum(weight, 1e-3)
    return labels, np.r_[-np.inf, ndimage.mean(flair - around, labels, np.arange(1, labels.max() + 1))]


def visible(flair, lesions, brain):
    """Instances, (X, Y, Z) bool, of a `local_contrasts` of 0.3 or more: those are annotated. Arguments as there."""
    labels, contrasts = local_contrasts(flair, lesions, brain)
    return (contrasts >= LEAST_CONTRAST)[labels]
