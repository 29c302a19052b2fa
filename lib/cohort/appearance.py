"""How a subject looks in FLAIR and MPRAGE: drawn at random, for a whole scan or for one training patch.

White matter is 1. What is drawn varies around the figures measured on real scans (data/README.md), and beyond them: a
network that has to segment under any of these appearances does not depend on one of them.
"""

from dataclasses import dataclass

import numpy as np

from lib.cohort.acquisition import acquire
from lib.cohort.noise import SmoothNoise, smooth_noise
from lib.cohort.painting import LESION

INGREDIENTS = ("tissue", "lesions", "distractors", "acquisition")
BIAS_MM = 30.0, 70.0  # length of the bias field, shortest and longest
FAINT_IN_MPRAGE = 0.2  # share of lesions of which the MPRAGE shows less than half of what it would
DARKEST = 0.55  # the most that a lesion takes from the MPRAGE: it stays brighter than fluid
COARSE_MM = 4.0  # grid on which mean and standard deviation of a whole scan are taken for a patch of it
# Added (FLAIR, MPRAGE) of the families of lib/cohort/painting.py that are not lesions, lowest and highest.
LOOKALIKE_CONTRAST = {
    2: ((0.15, 0.0), (0.50, 0.30)),
    3: ((0.08, -0.03), (0.28, 0.05)),
    4: ((-0.20, -0.35), (0.0, -0.10)),
    5: ((0.10, -0.15), (0.28, -0.03)),
    6: ((0.05, -0.12), (0.45, 0.03)),
}


@dataclass(frozen=True)
class Appearance:
    """One way in which a subject looks; pairs are (FLAIR, MPRAGE), lengths mm, the rest in units of white matter.

    grey, deep, fluid, outside: level of cortex, deep grey matter, fluid, and of what is left outside the brain.
    limbic: what FLAIR shows cingulate, insular and medial temporal cortex brighter.
    texture: standard deviation inside white matter.  patches, spots: variation of the cortex, and its bright places.
    regional: standard deviation of grey matter in FLAIR over centimetres.
    below: added to brainstem and cerebellum, in FLAIR unevenly.  haze: of white matter near the ventricles.  lining, lining_mm: of the
    ventricle wall.  choroid: level of the plexus.  pulsation, vessels: bright places, added to the fluid.
    contrast: (n + 1, 2), added by each blob where it fills a voxel.
    lesion_contrast, t1_ratio: of FLAIR at a lesion's core, and size of the MPRAGE's contrast relative to it for one of 22 mm3.
    gamma, bias, noise: of the intensities.  bias_mm, noise_mm, blur_mm: Gaussian.  slice_mm, slice_axis: thickness, 0 for 3D.
    shift_mm: of FLAIR against MPRAGE.  cut, ragged, residue: border of the skull stripping, its roughness, leftovers.
    """

    grey: np.ndarray
    deep: np.ndarray
    limbic: float
    fluid: np.ndarray
    outside: np.ndarray
    texture: np.ndarray
    patches: np.ndarray
    regional: float
    spots: float
    haze: float
    lining: float
    lining_mm: float
    choroid: np.ndarray
    below: np.ndarray
    pulsation: float
    vessels: np.ndarray
    contrast: np.ndarray
    lesion_contrast: float
    t1_ratio: float
    gamma: np.ndarray
    bias: np.ndarray
    bias_mm: float
    noise: np.ndarray
    noise_mm: np.ndarray
    blur_mm: np.ndarray
    slice_mm: np.ndarray
    slice_axis: int
    shift_mm: np.ndarray
    cut: float
    ragged: float
    residue: bool


def draw_appearance(blobs, rng, without=()):
    """Draw an Appearance of a subject with these blobs.

    without: ingredients (INGREDIENTS) that are not varied: the middle of their range, no distractor at all.
    Raises ValueError if one of them is unknown.
    """
    if unknown := set(without) - set(INGREDIENTS):
        raise ValueError(f"ingredients {sorted(unknown)} are unknown: choose of {INGREDIENTS}")

    def span(group, low, high):
        share = rng.random(np.shape(low))
        drawn = np.add(low, np.subtract(high, low) * (0.5 if group in without else share))
        return np.float32(drawn)  # wider numbers would make the images so, and slow

    def maybe(group, chance, low, high):
        value, there = span(group, low, high), rng.random() < chance
        return value * (there and group not in without)

    grey = span("tissue", (1.04, 0.62), (1.35, 0.92))
    contrast = np.zeros((len(blobs.family), 2))
    lesion_contrast, t1_ratio = span("lesions", 0.38, 0.90), span("lesions", 0.0, 0.8)
    vessels = maybe("distractors", 0.35, (0.0, 0.1), (0.6, 1.3))
    enhancing = span("lesions", 0.0, 0.4) if vessels.any() else 0.0
    contrast[blobs.family == LESION] = lesion_contrasts(
        blobs.volume_mm3[blobs.family == LESION], lesion_contrast, t1_ratio, rng, enhancing
    )
    for family, (low, high) in LOOKALIKE_CONTRAST.items():
        drawn = rng.uniform(low, high, (int((blobs.family == family).sum()), 2))
        contrast[blobs.family == family] = drawn * ("distractors" not in without)
    return Appearance(
        grey=grey,
        deep=1 + (grey - 1) * span("tissue", (-0.4, 0.3), (1.15, 1.0)),
        limbic=maybe("distractors", 0.9, 0.0, 0.32),
        fluid=span("tissue", (0.02, 0.03), (0.45, 0.38)),
        outside=span("tissue", (0.1, 0.1), (1.0, 1.2)),
        texture=span("tissue", (0.01, 0.005), (0.06, 0.03)),
        patches=span("tissue", (0.02, 0.01), (0.07, 0.03)),
        regional=float(span("tissue", 0.0, 0.10)),
        spots=maybe("distractors", 0.9, 0.05, 0.35),
        haze=maybe("distractors", 0.8, 0.0, 0.35),
        lining=maybe("distractors", 0.95, 0.05, 0.80),
        lining_mm=span("distractors", 0.6, 1.6),
        choroid=maybe("distractors", 0.95, (0.6, 0.5), (1.9, 1.3)),
        below=span("tissue", (-0.1, -0.1), (0.4, 0.1)),
        pulsation=maybe("distractors", 0.5, 0.1, 0.8),
        vessels=vessels,
        contrast=contrast.astype(np.float32),
        lesion_contrast=float(lesion_contrast),
        t1_ratio=float(t1_ratio),
        gamma=span("acquisition", (0.8, 0.8), (1.25, 1.25)),
        bias=span("acquisition", (0.0, 0.0), (0.09, 0.09)),
        bias_mm=float(span("acquisition", *BIAS_MM)),
        noise=span("acquisition", (0.01, 0.006), (0.08, 0.05)),
        noise_mm=maybe("acquisition", 0.5, (0.3, 0.3), (0.8, 0.8)),
        blur_mm=maybe("acquisition", 0.7, (0.2, 0.2), (0.8, 0.6)),
        slice_mm=np.array([maybe("acquisition", 0.4, 2.0, 5.0), maybe("acquisition", 0.1, 1.5, 3.0)]),
        slice_axis=int(rng.choice(3, p=[0.2, 0.05, 0.75])),
        shift_mm=maybe("acquisition", 0.5, (-0.7,) * 3, (0.7,) * 3),
        cut=float(span("acquisition", 0.25, 0.6)),
        ragged=0.06,
        residue=bool(maybe("distractors", 0.5, 1, 1)),
    )


def lesion_contrasts(volumes_mm3, flair, t1_ratio, rng, enhancing=0.0):
    """Draw added FLAIR and MPRAGE (n, 2) of lesions: negatively correlated, the MPRAGE stronger in large ones.

    flair: at the core, on average.  t1_ratio: the MPRAGE's part of that for a lesion of 22 mm3; one lesion in five has less than half
    of it.  enhancing: share of lesions that a contrast agent makes bright in MPRAGE. What an image shows of a small lesion is less, in
    both: its partial volume does that.
    """
    size = np.log(np.maximum(volumes_mm3, 1) / 22).clip(-1.5, 4)
    bright, dark = rng.standard_normal((2, len(size)))
    added = flair * (1 + 0.22 * bright).clip(0.4)
    ratio = t1_ratio * ((1 + 0.35 * size) * (1 + 0.5 * dark)).clip(0, 2)
    ratio *= np.where(rng.random(len(size)) < FAINT_IN_MPRAGE, rng.uniform(0, 0.4, len(size)), 1)
    mprage = np.where(rng.random(len(size)) < enhancing, 0.3 * rng.random(len(size)), -(added * ratio).clip(0, DARKEST))
    return np.stack([added, mprage], axis=1)


def render(subject, appearance, rng):
    """FLAIR and MPRAGE of a whole `Subject`, (2, X, Y, Z) float32: white matter near 1, background 0."""
    bias = [SmoothNoise(subject.shape, appearance.bias_mm / subject.spacing_mm, rng) for _ in range(2)]
    image, support = _signals(subject.maps(), appearance, bias, [np.arange(n) for n in subject.shape], rng)
    return acquire(image, subject.spacing_mm, appearance, rng).clip(1e-3) * support


def render_patch(subject, start, size, appearance, rng):
    """Z-scored FLAIR and MPRAGE of a patch of a `Subject`, (2, x, y, z) float32, background 0.

    start, size: first voxel and number of voxels along X, Y, Z; a patch may reach beyond the scan. Mean and standard
    deviation are those of the whole scan under the same appearance, taken on a grid of 4 mm.
    """
    bias = [SmoothNoise(subject.shape, appearance.bias_mm / subject.spacing_mm, rng) for _ in range(2)]
    step = max(1, round(COARSE_MM / subject.spacing_mm))
    everywhere = [np.arange(0, n, step) for n in subject.shape]
    coarse, inside = _signals(subject.maps(step=step), appearance, bias, everywhere, rng)
    mean, variance = coarse[:, inside].mean(1), coarse[:, inside].var(1) + appearance.noise**2
    here = [np.arange(first, first + n) for first, n in zip(start, size, strict=True)]
    image, support = _signals(subject.maps(start, size), appearance, bias, here, rng)
    image = acquire(image, subject.spacing_mm, appearance, rng)
    channels = (slice(None), None, None, None)
    return (((image - mean[channels]) / np.sqrt(variance)[channels]) * support).astype(np.float32)


def _signals(maps, look, bias, axes, rng):
    """Images without noise (2, X, Y, Z) with their bias field, and where the skull stripping leaves them, (X, Y, Z) bool."""

    shape = maps.label.shape

    def noise(length_mm):
        return smooth_noise(shape, max(length_mm / maps.spacing_mm, 0.8), rng)

    patch, rough = noise(5), noise(12)
    spots = look.spots * np.clip(patch - 1, 0, 1)
    lining = look.lining * np.exp(-((maps.ventricle_mm / look.lining_mm) ** 2)) * np.clip(noise(7) + 0.5, 0, 2)
    lining += look.haze * np.exp(-np.maximum(maps.ventricle_mm, 0) / 6) * np.clip(rough + 0.7, 0, 2)
    small = noise(2)
    plexus = maps.choroid * (1 - maps.white) * np.clip(0.6 + 0.7 * small, 0, 1) * look.choroid.any()
    pulsation = look.pulsation * np.clip(noise(4) - 1, 0, 1)
    vessels = np.clip(2 * noise(1.5) - 2.6, 0, 1) if look.vessels.any() else 0.0
    outside = np.clip((0.5 - maps.coverage) / 0.3, 0, 1)
    bulk = maps.alpha * (1 + 0.12 * small + 0.18 * patch).clip(0.3)  # a lesion is not even inside

    image = np.empty((2, *shape), np.float32)
    white_factors = (1 + look.texture[0] * rough + lining, 1 + look.texture[1] * rough - 0.3 * lining)
    fluid_extra = (pulsation, 0.0)
    for channel, sign in enumerate((1, 0)):
        level = look.grey[channel] + (look.deep[channel] - look.grey[channel]) * maps.deep
        level = (
            level + look.patches[channel] * patch + sign * (spots + look.limbic * maps.limbic + look.regional * rough)
        )
        fluid = look.fluid[channel] + fluid_extra[channel] + look.vessels[channel] * vessels
        value = maps.white * white_factors[channel] + maps.grey * level + maps.fluid * fluid
        value += look.below[channel] * (1 + 0.4 * sign * rough) * maps.below * (maps.white + maps.grey)
        value += (look.choroid[channel] - value) * plexus
        value += (look.outside[channel] * (1 + 0.5 * patch) + look.vessels[channel] * vessels - value) * outside
        value += bulk * look.contrast[maps.label, channel]
        log = np.log(np.maximum(value, 0.02)) * np.float32(look.gamma[channel])
        image[channel] = np.exp(log + np.float32(look.bias[channel]) * bias[channel].at(axes))
    support = maps.coverage + look.ragged * rough > look.cut
    if look.residue:
        support |= (maps.coverage > 0.05) & (patch > 1.3)
    return image, support
