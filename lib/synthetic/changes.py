"""Lesions removed from a scan, moved within it, and exchanged between its sequences.

Images are (2, X, Y, Z): FLAIR and MPRAGE, z-scored, background exactly 0. No function changes its input or the
background, and whatever lies away from the lesion stays bit-identical.
"""

import numpy as np
from scipy import ndimage, signal

from lib.lesions import STRUCTURE, bounding_box, widened

RIM_MM = 1.0  # how far a lesion's blurred border reaches beyond its annotation: a tenth of the contrast is left there
BLEND_MM = 3.0  # from here on the scan is left as it is
LEVEL_SD_MM = 4.0  # kernel of the local white-matter level


def remove_lesion(image, lesion, healthy, channels, spacing_mm, generator):
    """Replace a lesion by healthy white matter in some channels: local level, and noise like that around it.

    lesion, healthy: (X, Y, Z) bool.  channels: indices of the sequences to change, e.g. (0,) for FLAIR.
    The lesion and its blurred border are replaced altogether; the white matter around them, and what lies between both,
    less and less up to BLEND_MM, at constant variance. Other tissue beyond the border keeps its values.
    Level and noise come from healthy voxels (those inside, not at the border of healthy tissue) beyond BLEND_MM. The
    noise is Gaussian, with the standard deviation of their residual and its correlation between neighbours.
    Raises ValueError if the lesion is empty or no healthy voxel is near.
    """
    box, keep, reference = _surroundings(lesion, healthy, spacing_mm)
    result = image.copy()
    for channel in channels:
        values = image[channel][box].astype(float)
        level = _level(values, reference, spacing_mm)
        noise = _noise(values - level, reference, spacing_mm, generator)
        result[channel][box] = _blend(values, level, keep, noise)
    return result


def swap_sequences(image, lesion, healthy, spacing_mm):
    """Exchange the contrasts of a lesion: what FLAIR shows of it is put in MPRAGE, and the reverse.

    What is exchanged is the difference from each sequence's local white-matter level, the lesion's own texture
    included; it fades out around the lesion as in `remove_lesion`, of which arguments and errors are.
    """
    box, keep, reference = _surroundings(lesion, healthy, spacing_mm)
    values, result = image[(slice(None), *box)].astype(float), image.copy()
    level = np.stack([_level(channel, reference, spacing_mm) for channel in values])
    result[(slice(None), *box)] = _blend(values, level, keep, (values - level)[::-1])
    return result


def move_lesion(image, lesion, offset, healthy, spacing_mm, generator):
    """Cut a lesion out (`remove_lesion`, both channels) and put it `offset` voxels away.

    What is moved is the difference from the local white-matter level, the lesion's own texture included; it replaces
    that difference at the new place. There, only the lesion's voxels and healthy white matter around them change.
    Returns the image and the moved mask.  Raises ValueError if the moved lesion leaves the brain.
    """
    box, keep, reference = _surroundings(lesion, healthy, spacing_mm)
    target = np.argwhere(lesion) + np.asarray(offset)
    inside = ((target >= 0) & (target < lesion.shape)).all()
    if not inside or (image[(slice(None), *target.T)] == 0).any():
        raise ValueError(f"offset {tuple(offset)} moves the lesion out of the brain: choose another one")
    moved = np.zeros_like(lesion)
    moved[tuple(target.T)] = True

    result = remove_lesion(image, lesion, healthy, range(len(image)), spacing_mm, generator)
    weight = _shifted(keep, lesion.shape, box, offset, 1.0)
    weight[~(moved | healthy)] = 1
    new_box, _, new_reference = _surroundings(moved, healthy, spacing_mm)
    for before, after in zip(image, result, strict=True):
        own = before[box] - _level(before[box].astype(float), reference, spacing_mm)
        own = _shifted(own, lesion.shape, box, offset, 0.0)[new_box]
        values = after[new_box].astype(float)
        after[new_box] = _blend(values, _level(values, new_reference, spacing_mm), weight[new_box], own)
    return result, moved


def place_next_to_grey_matter(lesion, white, grey, generator):
    """Offset (3 voxels) that brings a lesion to the border of the cortex or of a deep nucleus, or None.

    Drawn uniformly from all offsets at which every voxel of the lesion is white matter, one at least has a grey-matter
    neighbour (18-connectivity), and the place it was cut from is at least 4 voxels away.
    """
    place, white = bounding_box(lesion), white.copy()
    near = widened(place, 4)
    white[near] &= ~ndimage.binary_dilation(lesion[near], STRUCTURE, iterations=4)
    shape = np.pad(lesion[place], 1)
    ring = ndimage.binary_dilation(shape, STRUCTURE) & ~shape

    in_white, in_grey = (
        signal.correlate(tissue.astype(np.float32), pattern.astype(np.float32), mode="valid", method="fft")
        for tissue, pattern in ((white, shape), (grey, ring))
    )
    starts = np.argwhere((in_white > shape.sum() - 0.5) & (in_grey > 0.5))
    if not len(starts):
        return None
    start = starts[generator.integers(len(starts))] + 1
    return tuple(int(new - old.start) for new, old in zip(start, place, strict=True))


def has_healthy_surroundings(lesion, healthy, spacing_mm):
    """Whether there is healthy white matter near enough to a lesion to change it."""
    return bool(_reference(lesion, healthy, spacing_mm)[2].any())


def _reference(lesion, healthy, spacing_mm):
    """Box around a lesion and, in it, the distance from it and the healthy voxels that tell what it replaced."""
    if not lesion.any():
        raise ValueError("the lesion has no voxel: give a mask with at least one")
    margin = np.ceil((BLEND_MM + 3 * LEVEL_SD_MM) / np.asarray(spacing_mm)).astype(int)
    box = widened(bounding_box(lesion), margin)
    distance = ndimage.distance_transform_edt(~lesion[box], sampling=spacing_mm)
    return box, distance, ndimage.binary_erosion(healthy[box]) & (distance > BLEND_MM)


def _surroundings(lesion, healthy, spacing_mm):
    """Box around a lesion and, in it, the share of itself that each voxel keeps and the healthy voxels of reference."""
    box, distance, reference = _reference(lesion, healthy, spacing_mm)
    if not reference.any():
        raise ValueError(f"no healthy voxel within {BLEND_MM + 3 * LEVEL_SD_MM:g} mm of the lesion: check the mask")
    keep = np.clip((distance - RIM_MM) / (BLEND_MM - RIM_MM), 0, 1)
    white = ndimage.binary_closing(lesion[box] | healthy[box], iterations=2)
    keep[(distance > RIM_MM) & ~white] = 1
    return box, keep, reference


def _blend(values, level, keep, other):
    """Values of which each voxel keeps a share; the rest of their variance around the level is that of others."""
    blended = level + keep * (values - level) + np.sqrt(1 - keep**2) * other
    return np.where((keep < 1) & (values != 0), blended, values)


def _level(values, healthy, spacing_mm):
    """Local mean of healthy voxels (normalised convolution, Knutsson and Westin 1993); far from any, that of all."""
    sd = LEVEL_SD_MM / np.asarray(spacing_mm)
    total = ndimage.gaussian_filter(np.where(healthy, values, 0), sd, mode="constant")
    weight = ndimage.gaussian_filter(healthy.astype(float), sd, mode="constant")
    return (total + 1e-3 * values[healthy].mean()) / (weight + 1e-3)


def _noise(residual, healthy, spacing_mm, generator):
    """Gaussian noise with the local standard deviation of the healthy residual and its smoothness along each axis."""
    residual = np.where(healthy, residual, 0)
    variance = max(np.mean(residual[healthy] ** 2), np.finfo(float).tiny)
    widths = []
    for axis in range(3):
        values, valid = np.moveaxis(residual, axis, 0), np.moveaxis(healthy, axis, 0)
        correlation = (values[1:] * values[:-1]).sum() / max((valid[1:] & valid[:-1]).sum(), 1) / variance
        widths.append(0.5 / np.sqrt(-np.log(np.clip(correlation, 1e-6, 0.95))))  # of a Gaussian: exp(-1 / 4 sd^2)
    noise = ndimage.gaussian_filter(generator.standard_normal(residual.shape), widths)
    return noise / noise.std() * np.sqrt(_level(residual**2, healthy, spacing_mm))


def _shifted(values, shape, box, offset, fill):
    """A box of values in a volume of that shape, moved by an offset; what leaves the volume is lost."""
    places = [np.arange(size)[side] + step for size, side, step in zip(shape, box, offset, strict=True)]
    inside = [(place >= 0) & (place < size) for place, size in zip(places, shape, strict=True)]
    volume = np.full(shape, fill)
    volume[np.ix_(*map(np.compress, inside, places))] = values[np.ix_(*inside)]
    return volume
