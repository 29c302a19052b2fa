"""Smooth random fields."""

import numpy as np
import pytest

from lib.cohort.noise import SmoothNoise, smooth_noise


def test_smooth_noise_has_unit_variance_and_the_length_asked_for():
    length = 4.0
    field = smooth_noise((80, 80, 80), length, np.random.default_rng(0))
    assert field.std() == pytest.approx(1, abs=0.1)
    lag = 4  # bumps of SD L correlate as exp(-lag² / 4 L²)
    measured = np.corrcoef(field[:-lag].ravel(), field[lag:].ravel())[0, 1]
    assert measured == pytest.approx(np.exp(-(lag**2) / (4 * length**2)), abs=0.05)


def test_smooth_noise_is_the_same_field_at_any_part_of_it():
    field = SmoothNoise((40, 30, 20), 5.0, np.random.default_rng(0))
    whole = field.at([np.arange(n) for n in (40, 30, 20)])
    part = field.at([np.arange(10, 20), np.arange(0, 30, 3), np.arange(5, 8)])
    np.testing.assert_allclose(part, whole[10:20, ::3, 5:8], atol=1e-5)


def test_smooth_noise_is_the_literal_sum_of_its_bumps():
    field = SmoothNoise((40, 30, 20), 1.5, np.random.default_rng(0))
    point, bumps = np.array([31, 7, 12]), field.values.astype(float)
    for place, knots in zip(point, field.knots, strict=True):
        weights = np.exp(-0.5 * ((place - knots.astype(float)) / 1.5) ** 2)
        bumps = np.tensordot(weights / np.linalg.norm(weights), bumps, axes=1)
    assert field.at(point[:, None])[0, 0, 0] == pytest.approx(bumps, abs=1e-5)
