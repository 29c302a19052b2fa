"""How a subject looks in FLAIR and MPRAGE: drawn at random, for a whole scan or for one training patch.

White matter is 1. What is drawn varies around the figures measured on real scans (data/README.md), and beyond them: a
network that has to segment under any of these appearances does not depend on one of them.
"""

from types import SimpleNamespace

import numpy as np
from scipy import ndimage

from lib.cohort.noise import SmoothNoise, smooth_noise
from lib.cohort.painting import LESION, LOOKALIKES

INGREDIENTS = ("tissue", "lesions", "distractors", "acquisition")
FAINT_IN_MPRAGE = 0.2  # share of lesions of which the MPRAGE shows less than half of what it would
DARKEST = 0.55  # the most that a lesion takes from the MPRAGE: it stays brighter than fluid
RIM = 0.98  # least share of brain in a voxel that does not count to the brain's rim
COARSE_MM = 4.0  # grid on which mean and standard deviation of a whole scan are taken for a patch of it


def draw_appearance(blobs, rng, without=()):
    """Draw how a subject with these blobs looks: a namespace of the names below, for `render` and `render_patch`.

    Pairs are (FLAIR, MPRAGE).  without: ingredients (INGREDIENTS) that are not varied: the middle of their range, no
    distractor at all. Raises ValueError if one of them is unknown.
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
    volumes_mm3 = blobs.volume_mm3[blobs.family == LESION]
    contrast[blobs.family == LESION] = lesion_contrasts(volumes_mm3, lesion_contrast, t1_ratio, rng, enhancing)
    for family, (*_, low, high) in LOOKALIKES.items():
        drawn = rng.uniform(low, high, (int((blobs.family == family).sum()), 2))
        contrast[blobs.family == family] = drawn * ("distractors" not in without)
    return SimpleNamespace(
        grey=grey,  # level of the cortex
        deep=1 + (grey - 1) * span("tissue", (-0.4, 0.3), (1.15, 1.0)),  # level of deep grey matter
        limbic=maybe("distractors", 0.9, 0.0, 0.32),  # FLAIR, brighter cingulate, insular and medial temporal cortex
        fluid=span("tissue", (0.02, 0.03), (0.45, 0.38)),  # level
        outside=span("tissue", (0.1, 0.1), (1.0, 1.2)),  # level of what is left outside the brain
        texture=span("tissue", (0.01, 0.005), (0.06, 0.03)),  # standard deviation inside white matter
        patches=span("tissue", (0.02, 0.01), (0.07, 0.03)),  # variation of the cortex
        regional=float(span("tissue", 0.0, 0.10)),  # standard deviation of grey matter in FLAIR over centimetres
        spots=maybe("distractors", 0.9, 0.05, 0.35),  # bright places of the cortex in FLAIR
        haze=maybe("distractors", 0.8, 0.0, 0.35),  # added to white matter near the ventricles
        lining=maybe("distractors", 0.95, 0.05, 0.80),  # added at the wall of the ventricles
        lining_mm=span("distractors", 0.6, 1.6),
        choroid=maybe("distractors", 0.95, (0.6, 0.5), (1.9, 1.3)),  # level of the plexus
        below=span("tissue", (-0.1, -0.1), (0.4, 0.1)),  # added to brainstem and cerebellum, in FLAIR unevenly
        pulsation=maybe("distractors", 0.5, 0.1, 0.8),  # bright places, added to the fluid in FLAIR
        vessels=vessels,  # bright places, added to the fluid
        contrast=contrast.astype(np.float32),  # (n + 1, 2), added by each blob where it fills a voxel
        lesion_contrast=float(lesion_contrast),  # FLAIR at a lesion's core
        t1_ratio=float(t1_ratio),  # the MPRAGE's contrast relative to it, for a lesion of 22 mm3
        gamma=span("acquisition", (0.8, 0.8), (1.25, 1.25)),
        bias=span("acquisition", (0.0, 0.0), (0.09, 0.09)),  # standard deviation of the bias field's logarithm
        bias_mm=float(span("acquisition", 30.0, 70.0)),  # length of that field
        noise=span("acquisition", (0.01, 0.006), (0.08, 0.05)),  # standard deviation
        noise_mm=maybe("acquisition", 0.5, (0.3, 0.3), (0.8, 0.8)),  # standard deviation of the Gaussian, as blur_mm
        blur_mm=maybe("acquisition", 0.7, (0.2, 0.2), (0.8, 0.6)),
        slice_mm=np.array([maybe("acquisition", 0.4, 2.0, 5.0), maybe("acquisition", 0.1, 1.5, 3.0)]),  # 0 for 3D
        slice_axis=int(rng.choice(3, p=[0.2, 0.05, 0.75])),
        shift_mm=maybe("acquisition", 0.5, (-0.7,) * 3, (0.7,) * 3),  # of FLAIR against MPRAGE
        cut=float(span("acquisition", 0.25, 0.6)),  # share of brain down to which the skull stripping leaves a voxel
        ragged=0.06,  # roughness of that border
        residue=bool(maybe("distractors", 0.5, 1, 1)),  # leftovers outside it
    )


def lesion_contrasts(volumes_mm3, flair, t1_ratio, rng, enhancing=0.0):
    """Draw added FLAIR and MPRAGE (n, 2) of lesions: negatively correlated, the MPRAGE stronger in large ones.

    flair: at the core, on average.  t1_ratio: the MPRAGE's part of that for a lesion of 22 mm3; one lesion in five has
    less than half of it.  enhancing: share of lesions that a contrast agent makes bright in MPRAGE. Small lesions have
    no less of both here: in the image they do, by their partial volume.
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
    deviation are those of the whole scan under the same appearance: of its signal, on a grid of 4 mm, and what the
    acquisition changes in them (`_changes`).
    """
    bias = [SmoothNoise(subject.shape, appearance.bias_mm / subject.spacing_mm, rng) for _ in range(2)]
    step = max(1, round(COARSE_MM / subject.spacing_mm))
    everywhere, coarse = [np.arange(0, n, step) for n in subject.shape], subject.maps(step=step)
    signal, inside = _signals(coarse, appearance, bias, everywhere, rng)
    signal, rim = signal[:, inside], (coarse.coverage < RIM)[inside].mean()
    here = [np.arange(first, first + n) for first, n in zip(start, size, strict=True)]
    maps = subject.maps(start, size)
    before, support = _signals(maps, appearance, bias, here, rng)
    image = acquire(before.copy(), subject.spacing_mm, appearance, rng)
    changes = _changes(before, image, np.stack([support & (maps.coverage < RIM), support & (maps.coverage >= RIM)]))
    of_values, of_squares = changes @ [rim, 1 - rim]
    mean = signal.mean(1) + of_values
    variance = (signal**2).mean(1) + of_squares - mean**2
    variance = np.maximum(variance, signal.var(1) / 4)  # a small patch may be all edges
    return (((image.T - mean) / np.sqrt(variance)).T * support).astype(np.float32)  # .T: channels last


def _changes(before, after, parts):
    """Mean change of the values and of their squares in each part of a patch, (2, channels, parts), 0 in an empty one.

    before, after: (channels, x, y, z).  parts: (parts, x, y, z) bool.  Blur and slices change the brain's rim most, of
    which a patch has less than a scan, so the two are taken apart and put together by their shares of the scan.
    """
    weights = parts.reshape(len(parts), -1).astype(np.float32)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1)
    return np.stack([(after**power - before**power).reshape(len(after), -1) @ weights.T for power in (1, 2)])


def _signals(maps, look, bias, axes, rng):
    """Images (2, X, Y, Z) with bias field, without noise, and where the skull stripping leaves them, (X, Y, Z) bool."""
    shape = maps.label.shape

    def noise(length_mm):
        return smooth_noise(shape, max(length_mm / maps.spacing_mm, 0.8), rng)

    patch, rough = noise(5), noise(12)
    cortex = look.spots * np.clip(patch - 1, 0, 1) + look.limbic * maps.limbic + look.regional * rough  # in FLAIR alone
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
    for channel, sign in enumerate((1, 0)):
        level = look.grey[channel] + (look.deep[channel] - look.grey[channel]) * maps.deep
        level = level + look.patches[channel] * patch + sign * cortex
        fluid = look.fluid[channel] + sign * pulsation + look.vessels[channel] * vessels
        value = maps.white * white_factors[channel] + maps.grey * level + maps.fluid * fluid
        value += look.below[channel] * (1 + 0.4 * sign * rough) * maps.below * (maps.white + maps.grey)
        value += (look.choroid[channel] - value) * plexus
        value += (look.outside[channel] * (1 + 0.5 * patch) + look.vessels[channel] * vessels - value) * outside
        value += bulk * look.contrast[maps.label, channel]
        log = np.log(np.maximum(value, 0.02)) * np.float32(look.gamma[channel])
        image[channel] = np.exp(log + np.float32(look.bias[channel]) * bias[channel].at(axes))
    support = maps.coverage + look.ragged * rough > look.cut
    support |= look.residue & (maps.coverage > 0.05) & (patch > 1.3)
    return image, support


def acquire(image, spacing_mm, look, rng):
    """Images (2, X, Y, Z) as acquired, and put on one grid: shifted, blurred, in slices, with Rician noise, in place.

    look: shift_mm, blur_mm, slice_mm, slice_axis, noise and noise_mm of `draw_appearance`. All but noise is linear and
    separable: one matrix along each axis.
    """
    for channel, values in enumerate(image):
        shift = look.shift_mm / spacing_mm if channel == 0 else np.zeros(3)
        blur = look.blur_mm[channel] / spacing_mm
        scanner = [_blurring(n, blur) @ _shifting(n, by) for n, by in zip(values.shape, shift, strict=True)]
        thickness = look.slice_mm[channel] / spacing_mm
        sliced = thickness > 1
        if sliced:
            average, interpolate = _slices(values.shape[look.slice_axis], thickness)
            scanner[look.slice_axis] = average @ scanner[look.slice_axis]
        values = _separable(values, scanner) if sliced or blur or shift.any() else values
        noise = look.noise[channel] * rng.standard_normal((2, *values.shape), dtype=np.float32)
        length = look.noise_mm[channel] / spacing_mm
        if length and not sliced:
            gain = np.linalg.norm(_blurring(31, length)[15])  # of the SD of white noise, along one axis
            correlation = [_blurring(n, length) / gain for n in values.shape]
            noise = [_separable(part, correlation) for part in noise]
        values = np.sqrt((values + noise[0]) ** 2 + noise[1] ** 2)
        if sliced:
            values = np.moveaxis(np.tensordot(values, interpolate, axes=(look.slice_axis, 1)), -1, look.slice_axis)
        image[channel] = values
    return image


def _separable(volume, matrices):
    """Volume (X, Y, Z) with a matrix applied along each of its axes."""
    for matrix in matrices:
        volume = np.tensordot(volume, matrix, axes=(0, 1))  # the axis returns as the last one
    return volume


def _blurring(n, length):
    """Matrix (n, n) that blurs n voxels by a Gaussian of `length` voxels, which may be 0."""
    identity = np.eye(n, dtype=np.float32)
    return ndimage.gaussian_filter1d(identity, length, axis=0, truncate=3) if length else identity


def _shifting(n, by):
    """Matrix (n, n) that moves n voxels by a fraction of voxels, interpolating linearly."""
    return ndimage.shift(np.eye(n, dtype=np.float32), (by, 0), order=1, mode="nearest")


def _slices(n, thickness):
    """Matrices that average n voxels into slices of a thickness (voxels), (S, n), and interpolate back, (n, S)."""
    distance = np.abs(np.arange(n)[:, None] - np.arange(0, n + thickness, thickness))  # from the middles of slices
    profile = np.clip((thickness + 1) / 2 - distance, 0, 1)
    average = (profile / profile.sum(axis=0).clip(1e-6)).T
    return average.astype(np.float32), np.clip(1 - distance / thickness, 0, 1).astype(np.float32)
