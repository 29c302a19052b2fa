"""What a scanner, and putting its images on one grid, do to them: slices, blur, shift, Rician noise.

All but the noise is linear and separable: one matrix along each axis.
"""

import functools

import numpy as np
from scipy import ndimage


def acquire(image, spacing_mm, look, rng):
    """Images (2, X, Y, Z) as acquired: shifted, blurred, in slices, with Rician noise. Changes `image`.

    look: `appearance.Appearance`, of which shift_mm, blur_mm, slice_mm, slice_axis, noise and noise_mm are used.
    """
    for channel, values in enumerate(image):
        shift = look.shift_mm / spacing_mm if channel == 0 else np.zeros(3)
        blur = look.blur_mm[channel] / spacing_mm
        scanner = [_blurring(n, blur) @ _shifting(n, along) for n, along in zip(values.shape, shift, strict=True)]
        thickness = look.slice_mm[channel] / spacing_mm
        sliced = thickness > 1
        if sliced:
            average, interpolate = _slices(values.shape[look.slice_axis], thickness)
            scanner[look.slice_axis] = average @ scanner[look.slice_axis]
        values = _separable(values, scanner) if sliced or blur or shift.any() else values
        noise = look.noise[channel] * rng.standard_normal((2, *values.shape), dtype=np.float32)
        if look.noise_mm[channel] and not sliced:
            length = look.noise_mm[channel] / spacing_mm
            correlation = [_blurring(n, length) / _blur_gain(length) for n in values.shape]
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


@functools.lru_cache
def _blur_gain(length):
    """Cube root of what that blur leaves of the standard deviation of unit white noise."""
    return float(np.linalg.norm(_blurring(31, length)[15]))


def _slices(n, thickness):
    """Matrices that average n voxels into slices of a thickness (voxels), (S, n), and interpolate back, (n, S)."""
    voxels = np.arange(n)[:, None]
    middles = np.arange(0, n + thickness, thickness)
    profile = np.clip((thickness + 1) / 2 - np.abs(voxels - middles), 0, 1)
    average = (profile / profile.sum(axis=0).clip(1e-6)).T
    interpolate = np.clip(1 - np.abs(voxels - middles) / thickness, 0, 1)
    return average.astype(np.float32), interpolate.astype(np.float32)
