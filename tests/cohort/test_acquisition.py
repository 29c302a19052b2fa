"""Acquisition: each step alone against what it must do."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from lib.cohort.acquisition import acquire

PLAIN = {
    "shift_mm": np.zeros(3), "blur_mm": np.zeros(2), "slice_mm": np.zeros(2), "slice_axis": 2, "noise": np.zeros(2),
    "noise_mm": np.zeros(2),
}  # fmt: skip


def acquired(image, **changes):
    return acquire(image.copy(), 1.0, SimpleNamespace(**PLAIN | changes), np.random.default_rng(0))


@pytest.fixture
def image():
    return np.random.default_rng(1).uniform(1, 2, (2, 24, 24, 24)).astype(np.float32)


def test_without_anything_the_image_stays(image):
    np.testing.assert_allclose(acquired(image), image, rtol=1e-6)


def test_rician_noise_has_its_mean_and_deviation():
    sd, flat = 0.2, np.full((2, 40, 40, 40), 2.0, np.float32)
    for length in (0.0, 0.7):
        noisy = acquired(flat, noise=np.array([sd, 0.0]), noise_mm=np.array([length, 0.0]))
        assert noisy[0].mean() == pytest.approx(np.sqrt(4 + sd**2), rel=2e-3)  # for a signal far above the noise
        assert noisy[0].std() == pytest.approx(sd, rel=0.05)
        np.testing.assert_array_equal(noisy[1], flat[1])
    background = acquired(np.zeros_like(flat), noise=np.array([sd, 0.0]))
    assert background[0].mean() == pytest.approx(sd * np.sqrt(np.pi / 2), rel=0.02)  # Rayleigh


@pytest.mark.parametrize("axis", [0, 2])
def test_thick_slices_keep_what_is_constant_along_them_and_blur_along_their_axis_alone(axis):
    ramp = np.moveaxis(np.broadcast_to(np.arange(24.0)[:, None, None], (24, 24, 24)), 0, axis)
    across = np.moveaxis(np.broadcast_to(np.arange(24.0)[:, None, None], (24, 24, 24)), 0, 1)
    image = np.stack([ramp, across]).astype(np.float32)
    sliced = acquired(image, slice_mm=np.array([4.0, 4.0]), slice_axis=axis)
    inside = np.moveaxis(sliced[0], axis, 0)[5:19]
    np.testing.assert_allclose(inside, np.broadcast_to(np.arange(5.0, 19.0)[:, None, None], inside.shape), atol=1e-3)
    np.testing.assert_allclose(sliced[1], across, rtol=1e-5)


def test_shift_and_blur_are_those_of_scipy(image):
    shift, blur = np.array([0.4, -0.6, 0.2]), np.array([0.7, 0.3])
    expected = ndimage.shift(image[0], shift, order=1, mode="nearest"), image[1]
    expected = [ndimage.gaussian_filter(part, sd, truncate=3) for part, sd in zip(expected, blur, strict=True)]
    np.testing.assert_allclose(acquired(image, shift_mm=shift, blur_mm=blur), expected, rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_averages_of_their_voxels_interpolated_between_their_middles(axis, image):
    thickness, n = 3, image.shape[1]
    sliced = acquired(image, slice_mm=np.array([thickness, 0.0]), slice_axis=axis)
    volume = np.moveaxis(image[0], axis, 0)
    middles = range(0, n + thickness, thickness)
    slices = [volume[max(m - 1, 0) : m + 2].mean(axis=0) if m <= n else np.zeros_like(volume[0]) for m in middles]
    for voxel in range(n):
        first, share = divmod(voxel, thickness)
        share /= thickness
        expected = (1 - share) * slices[first] + share * slices[first + 1]
        np.testing.assert_allclose(np.moveaxis(sliced[0], axis, 0)[voxel], expected, rtol=1e-5)
    np.testing.assert_array_equal(sliced[1], image[1])


def test_a_shift_moves_flair_alone(image):
    shifted = acquired(image, shift_mm=np.array([0.5, 0.0, 0.0]))
    np.testing.assert_allclose(shifted[0, 1:], (image[0, 1:] + image[0, :-1]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(shifted[1], image[1])
