"""What a scanner, and putting its images on one grid, do to them: slices, blur, shift, Rician noise."""

import functools

import numpy as np
from scipy import ndimage


def acquire(image, spacing_mm, look, rng):
    """Images (2, X, Y, Z) as acquired: shifted, blurred, in slices, with Rician noise. Changes `image`.

    look: `appearance.Appearance`, of which shift_mm, blur_mm, slice_mm, slice_axis, noise and noise_mm are used.
    """
    if look.shift_mm.any():
        image[0] = ndimage.shift(image[0], look.shift_mm / spacing_mm, order=1, mode="nearest")
    for channel, values in enumerate(image):
        if look.blur_mm[channel]:
            values = ndimage.gaussian_filter(values, look.blur_mm[channel] / spacing_mm, truncate=3)
        thickness = look.slice_mm[channel] / spacing_mm
        sliced = thickness > 1
        if sliced:
            average, interpolate = _slices(values.shape[look.slice_axis], thickness)
            values = np.moveaxis(values, look.slice_axis, -1) @ average
        noise = look.noise[channel] * rng.standard_normal((2, *values.shape), dtype=np.float32)
        if look.noise_mm[channel] and not sliced:
            noise = np.stack([_smoothed(part, look.noise_mm[channel] / spacing_mm) for part in noise])
        values = np.sqrt((values + noise[0]) ** 2 + noise[1] ** 2)
        image[channel] = np.moveaxis(values @ interpolate, -1, look.slice_axis) if sliced else values
    return image


def _smoothed(noise, length):
    """White noise (X, Y, Z) blurred by a Gaussian of `length` voxels, with its standard deviation kept."""
    return ndimage.gaussian_filter(noise, length, truncate=3) / _blur_gain(length)


@functools.lru_cache
def _blur_gain(length):
    """Standard deviation of unit white noise after that blur."""
    impulse = np.zeros(31)
    impulse[15] = 1
    return float((ndimage.gaussian_filter(impulse, length, truncate=3) ** 2).sum() ** 1.5)


def _slices(n, thickness):
    """Matrices that average n voxels into slices of a thickness (voxels), (n, S), and interpolate back, (S, n)."""
    voxels = np.arange(n)[:, None]
    middles = np.arange(0, n + thickness, thickness)
    profile = np.clip((thickness + 1) / 2 - np.abs(voxels - middles), 0, 1)
    average = profile / profile.sum(axis=0).clip(1e-6)
    interpolate = np.clip(1 - np.abs(voxels - middles) / thickness, 0, 1).T
    return average.astype(np.float32), interpolate.astype(np.float32)
