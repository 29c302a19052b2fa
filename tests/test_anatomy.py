"""Anatomy of synthetic subjects, on a 3 mm grid."""

import numpy as np
import pytest

from lib.anatomy import SmoothNoise, infratentorial, make_anatomy, smooth_noise

SPACING_MM = 3.0


@pytest.fixture(scope="module")
def anatomies():
    return [make_anatomy(SPACING_MM, np.random.default_rng([5, i])) for i in range(6)]


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


def test_tissue_fractions_sum_to_one_in_the_brain_and_to_zero_outside(anatomies):
    for anatomy in anatomies:
        total = anatomy.white + anatomy.grey + anatomy.fluid
        np.testing.assert_allclose(total[anatomy.brain], 1, atol=1e-5)
        assert not total[anatomy.coverage < 0.05].any()
        assert 1000 < anatomy.brain.sum() * SPACING_MM**3 / 1000 < 2300  # ml


def test_ventricles_hold_fluid_and_differ_between_subjects(anatomies):
    inside = [a.fluid[a.ventricle_mm < -2].mean() for a in anatomies]
    assert min(inside) > 0.8
    sizes = [int((a.ventricle_mm < 0).sum()) for a in anatomies]
    assert max(sizes) > 1.2 * min(sizes)


def test_deep_grey_matter_lies_in_the_middle_and_brainstem_below(anatomies):
    for anatomy in anatomies:
        x, y, z = np.broadcast_arrays(*anatomy.world_mm())
        deep = anatomy.deep > 0.5
        assert np.abs(x[deep]).max() < 40 and np.abs(z[deep] - 5).max() < 25
        below = infratentorial(anatomy)
        assert 0.05 < below.sum() / anatomy.brain.sum() < 0.2
        assert z[below].max() < 0 and not below[~anatomy.brain].any()


def test_anatomy_depends_on_the_generator_alone():
    first, again, other = (make_anatomy(SPACING_MM, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.white, again.white)
    assert not np.array_equal(first.white, other.white)
