"""Lesions and look-alikes painted into an anatomy, and the FLAIR and MPRAGE images that show them.

Volumes are RAS with axes (X, Y, Z). Numbers and their sources are listed in data/README.md.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lib.anatomy import smooth_noise

EDGE = 1.6  # voxels over which a lesion fades out


@dataclass(frozen=True)
class Spots:
    """Blobs painted into a scan.

    alpha: (X, Y, Z) float32, the fraction of a voxel that is blob.  label: (X, Y, Z) int16, 0 where there is none.
    contrast: (n + 1, 2), added FLAIR and MPRAGE of each label at alpha 1, in units of the white matter; row 0 is 0.
    """

    alpha: np.ndarray
    label: np.ndarray
    contrast: np.ndarray


def infratentorial(anatomy):
    """Brainstem and cerebellum, (X, Y, Z) bool, by their place in the template."""
    x, y, z = anatomy.world_mm()
    cerebellum = (y < -36) & (z < -16 - 0.25 * np.abs(x))
    brainstem = (np.abs(x) < 22) & (y < -6) & (z < -14)
    return (cerebellum | brainstem) & anatomy.brain


def site_probability(anatomy):
    """Relative probability of a focal lesion's centre, (X, Y, Z): white matter, falling from the ventricles outwards,
    raised next to the cortex, 8 % infratentorial."""
    below = infratentorial(anatomy)
    cortex = ndimage.gaussian_filter(anatomy.grey, 2 / anatomy.spacing_mm)
    weight = (3.3 + 8 * np.exp(-np.maximum(anatomy.ventricle_mm, 0) / 9)) * (anatomy.white > 0.7)
    weight *= 1 + 2 * np.clip(cortex - 0.15, 0, 0.3)
    weight[below] *= 0.08 / 0.92 * weight[~below].sum() / weight[below].sum()
    return weight


def draw_sites(weight, n, rng):
    """Draw n voxels (n, 3) with replacement in proportion to weight (X, Y, Z)."""
    cumulative = np.cumsum(weight, dtype=np.float64)
    flat = np.searchsorted(cumulative, rng.uniform(0, cumulative[-1], n), side="right")
    return np.stack(np.unravel_index(flat, weight.shape), axis=1)


def draw_axes(n, elongation, rng):
    """Draw n ellipsoids (n, 3, 3): orthogonal axes stretched log-normally by `elongation`, volume kept."""
    rotation, _ = np.linalg.qr(rng.standard_normal((n, 3, 3)))
    stretch = elongation * rng.standard_normal((n, 3))
    return np.exp(stretch - stretch.mean(axis=1, keepdims=True))[:, :, None] * rotation


def paint(anatomy, alpha, label, sites, voxels, axes, irregularity):
    """Paint soft, dented ellipsoids into alpha and label (in place; see Spots), confined to tissue.

    sites (n, 3) in voxels; voxels (n,) is each volume, 0 for none; axes (n, 3, 3) as from draw_axes;
    irregularity (X, Y, Z), a unit-variance field that dents the borders.
    """
    first = int(label.max()) + 1
    for k, radius in enumerate(np.cbrt(np.asarray(voxels) * 3 / (4 * np.pi))):
        if radius == 0:
            continue
        reach = int(np.ceil(2.2 * radius + EDGE))
        box = tuple(slice(max(c - reach, 0), min(c + reach + 1, n)) for c, n in zip(sites[k], alpha.shape, strict=True))
        offset = np.moveaxis(np.mgrid[box], 0, -1) - sites[k]
        distance = np.linalg.norm(offset @ axes[k].T, axis=-1) * (1 + 0.22 * irregularity[box]).clip(0.4)
        solid = np.clip(0.5 + (radius - distance) / EDGE, 0, 1)
        solid *= np.clip(1.3 * anatomy.white[box] + 0.6 * anatomy.grey[box], 0, 1)
        label[box] = np.where(solid > alpha[box], first + k, label[box])
        alpha[box] = np.maximum(alpha[box], solid)


def confluent(anatomy, voxels, patches):
    """Paint periventricular lesions of a total volume: alpha (X, Y, Z) of bands and caps along the ventricle wall.

    patches: (X, Y, Z) unit-variance field; lesions are where it is high, the nearer to the ventricle the likelier.
    """
    allowed = (anatomy.white > 0.5) & (np.abs(anatomy.ventricle_mm - 12) < 13) & ~infratentorial(anatomy)
    score = patches - np.maximum(anatomy.ventricle_mm, 0) / 4.5
    inside = score[allowed]
    n = min(int(voxels), inside.size - 1)
    threshold = np.partition(inside, -n)[-n]
    slope = 0.25 * anatomy.spacing_mm  # typical gradient of the score, per voxel
    alpha = np.clip(0.5 + (score - threshold) / (slope * EDGE), 0, 1) * np.clip(1.5 * anatomy.white, 0, 1)
    return (alpha * (np.abs(anatomy.ventricle_mm - 12) < 15) * ~infratentorial(anatomy)).astype(np.float32)


def lesion_contrast(volumes_mm3, rng):
    """Draw added FLAIR and MPRAGE (n, 2) of lesions: stronger in large ones, negatively correlated, some faint."""
    size = np.log(np.maximum(volumes_mm3, 1) / 22).clip(-1.5, 4)
    shared, flair, t1w = rng.standard_normal((3, len(size)))
    faint = np.where(rng.random(len(size)) < 0.12, 0.45, 1.0)
    flair = (0.42 + 0.03 * size + 0.10 * (0.8 * shared + 0.6 * flair)).clip(0.12)
    t1w = -(0.14 + 0.04 * size + 0.08 * (0.8 * shared + 0.6 * t1w)).clip(0.0, 0.5)
    return np.stack([flair, t1w], axis=1) * faint[:, None]


def draw_lesions(anatomy, rng, session=0):
    """Draw the lesions of one subject at session 0, or at session 1 with some grown and some new (same generator state).

    On grids coarser than 1 mm lesions keep their size in voxels and are fewer.
    """
    shape, spacing = anatomy.brain.shape, anatomy.spacing_mm
    load, number = rng.standard_normal(2) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    n = int(np.clip(30 * np.exp(0.7 * number) / spacing**2, 3, 150))
    periventricular = np.clip(4800 * np.exp(1.5 * load), 150, 40000) / spacing**1.5
    irregularity = smooth_noise(shape, 1.8, rng)
    patches = 0.88 * smooth_noise(shape, 10 / spacing, rng) + 0.48 * smooth_noise(shape, 4 / spacing, rng)
    grown = confluent(anatomy, periventricular * (1 + rng.uniform(0, 0.15)), patches)
    alpha = grown if session else confluent(anatomy, periventricular, patches)
    label, _ = ndimage.label(grown > 0.01)  # of the later session in both, so that they share numbers and contrasts
    label = label.astype(np.int16)
    voxels = np.exp(2.7 + 1.15 * rng.standard_normal(n)).clip(3, 3000)
    volumes_mm3 = np.concatenate([0.6 * np.bincount(label.ravel())[1:], voxels])
    growth = np.where(rng.random(n) < 0.15, rng.uniform(1.3, 2.2, n), 1.0)
    new = rng.random(n) < 0.12
    now = voxels * growth if session else np.where(new, 0, voxels)
    sites = draw_sites(site_probability(anatomy), n, rng)
    paint(anatomy, alpha, label, sites, now, draw_axes(n, 0.25, rng), irregularity)
    return Spots(alpha, label, np.vstack([np.zeros((1, 2)), lesion_contrast(volumes_mm3, rng)]))


def draw_lookalikes(anatomy, rng):
    """Draw what resembles a lesion in one sequence and is none: vessels, bright spots that MPRAGE does not show,
    perivascular spaces, and a few that only the annotator would tell from a lesion."""
    # per family: mean number, log-volume mean and SD, elongation, FLAIR range, MPRAGE range
    families = (
        (14, 1.6, 0.5, 0.6, (0.15, 0.45), (0.0, 0.25)),
        (7, 2.8, 0.8, 0.25, (0.15, 0.40), (-0.03, 0.05)),
        (10, 1.5, 0.4, 0.6, (-0.20, 0.0), (-0.35, -0.10)),
        (2, 2.6, 0.6, 0.25, (0.15, 0.35), (-0.20, -0.08)),
    )
    alpha, label = np.zeros(anatomy.brain.shape, np.float32), np.zeros(anatomy.brain.shape, np.int16)
    weight = (anatomy.white > 0.3) * (0.3 + anatomy.grey)
    voxels, axes, contrast = [], [], [np.zeros((1, 2))]
    for mean, size, spread, elongation, flair, t1w in families:
        n = rng.poisson(mean / anatomy.spacing_mm**2)
        voxels.append(np.exp(size + spread * rng.standard_normal(n)))
        axes.append(draw_axes(n, elongation, rng))
        contrast.append(np.stack([rng.uniform(*flair, n), rng.uniform(*t1w, n)], axis=1))
    voxels, axes = np.concatenate(voxels), np.concatenate(axes)
    sites = draw_sites(weight, len(voxels), rng)
    paint(anatomy, alpha, label, sites, voxels, axes, smooth_noise(alpha.shape, 1.8, rng))
    return Spots(alpha, label, np.concatenate(contrast))


def render(anatomy, lesions, lookalikes, rng):
    """Render FLAIR and MPRAGE of one scan, (2, X, Y, Z) float32: white matter near 1, background 0.

    Tissue and lesion contrast, texture, ventricle lining, choroid plexus, bright cortex, bias field, slice
    thickness, gamma and noise are drawn anew at each call.
    """
    shape, spacing = anatomy.brain.shape, anatomy.spacing_mm

    def noise(length_mm):
        return smooth_noise(shape, max(length_mm / spacing, 0.8), rng)

    white, grey, fluid = anatomy.white, anatomy.grey, anatomy.fluid + ~anatomy.brain
    distance = anatomy.ventricle_mm
    _, y, _ = anatomy.world_mm()
    choroid = np.clip(2 * noise(2) - 3, 0, 1) * (distance < -1) * (np.abs(y + 30) < 14)
    patch = noise(5)
    deep = np.exp(-np.maximum(distance, 0) / 12)
    lining = rng.uniform(0.1, 0.4) * np.exp(-((distance / rng.uniform(1.0, 1.8)) ** 2)) * np.clip(noise(7) + 0.5, 0, 2)
    texture = noise(12)

    flair = white * (1 + 0.03 * texture + lining)
    flair += grey * (rng.uniform(1.12, 1.27) + 0.03 * patch + 0.15 * np.clip(patch - 1, 0, 1) - 0.1 * deep)
    flair += fluid * (rng.uniform(0.15, 0.45) + 0.7 * choroid)
    t1w = white * (1 + 0.015 * texture - 0.3 * lining)
    t1w += grey * (rng.uniform(0.70, 0.80) + 0.015 * patch + 0.06 * deep)
    t1w += fluid * (rng.uniform(0.12, 0.38) + 0.4 * choroid)
    bulk = lesions.alpha * (1 + 0.15 * noise(3))  # a lesion is not even inside
    of_lesion = (lesions.contrast * rng.uniform((0.85, 0.75), (1.15, 1.25))).astype(np.float32)
    of_lookalike = lookalikes.contrast.astype(np.float32)
    for channel, image in enumerate((flair, t1w)):
        image += lookalikes.alpha * of_lookalike[lookalikes.label, channel]
        image += bulk * of_lesion[lesions.label, channel]
    thickness = max(rng.uniform(2, 5) / spacing, 1.0) if rng.random() < 0.4 else 1.0
    flair = acquire(flair, thickness, rng.uniform(0.025, 0.055), noise(60), rng)
    t1w = acquire(t1w, 1.0, rng.uniform(0.012, 0.03), noise(60), rng)
    return np.stack([flair, t1w]) * anatomy.brain


def acquire(image, thickness, noise_sd, field, rng):
    """Image (X, Y, Z) as acquired: bias field, axial slices of a thickness (voxels) with Rician noise, interpolated
    back to the grid, gamma."""
    image = np.exp(np.log(np.maximum(image, 0.02)) * np.float32(rng.uniform(0.92, 1.08)) + 0.07 * field)
    z = np.arange(image.shape[2])  # (Z,) voxels, against (S,) slice centres
    middles = np.arange(0, image.shape[2] + thickness, thickness)
    if thickness > 1:
        profile = np.clip((thickness + 1) / 2 - np.abs(z[:, None] - middles), 0, 1).astype(np.float32)
        image = image @ (profile / profile.sum(axis=0).clip(1e-6))
    real, imaginary = noise_sd * rng.standard_normal((2, *image.shape), dtype=np.float32)
    image = np.sqrt((image + real) ** 2 + imaginary**2)
    if thickness > 1:
        image = image @ np.clip(1 - np.abs(z - middles[:, None]) / thickness, 0, 1).astype(np.float32)
    return image
