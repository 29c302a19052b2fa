"""Numbers of a map's values against closed forms, a literal count of neighbours, and scikit-image."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import kurtosis, skew
from skimage.feature import graycoprops

from lib.errors.texture import TEXTURE, first_order, texture


def row(*values):
    values = np.reshape(values, (-1, 1, 1)).astype(float)
    return values, np.ones(values.shape, bool)


def test_two_neighbours_of_two_levels():
    found = texture(*row(0.5, 1.5), 1.0)
    expected = {"contrast": 1, "dissimilarity": 1, "homogeneity": 0.5, "correlation": -1, "energy": 0.5, "entropy": 1}
    assert found == pytest.approx(expected)


def test_three_neighbours_in_a_row():
    found = texture(*row(0.5, 0.5, 1.5), 1.0)  # pairs 00 twice, 01 and 10
    expected = {"contrast": 0.5, "dissimilarity": 0.5, "homogeneity": 0.75, "correlation": -1 / 3, "energy": 0.375,
                "entropy": 1.5}  # fmt: skip
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("given", [(*row(2.0, 2.0), 1.0), (*row(2.0, -2.0), 0.0), (*row(2.0), 1.0)])
def test_one_level_has_no_texture(given):
    expected = {"contrast": 0, "dissimilarity": 0, "homogeneity": 1, "correlation": 1, "energy": 1, "entropy": 0}
    assert texture(*given) == pytest.approx(expected)


def test_values_of_either_sign_are_never_of_one_level_and_a_wide_level_leaves_only_the_sign():
    values = np.random.default_rng(0).normal(size=(5, 5, 5)) / 100
    everywhere = np.ones(values.shape, bool)
    assert texture(values, everywhere, 25.0) == texture(np.sign(values), everywhere, 1.5)
    assert texture(values, everywhere, 25.0)["contrast"] > 0


def literal_matrix(levels, region):
    """Co-occurrence matrix by a loop over voxels and their 26 neighbours."""
    matrix, steps = np.zeros((levels.max() + 1,) * 2), set(product((-1, 0, 1), repeat=3)) - {(0, 0, 0)}
    for voxel, step in product(np.argwhere(region), steps):
        other = tuple(voxel + step)
        if min(other) >= 0 and all(np.less(other, region.shape)) and region[other]:
            matrix[levels[tuple(voxel)], levels[other]] += 1
    return matrix


def test_texture_is_that_of_a_literal_cooccurrence_matrix():
    generator = np.random.default_rng(1)
    values, region = generator.uniform(0, 6, size=(5, 4, 6)), generator.random((5, 4, 6)) < 0.6
    matrix = literal_matrix(np.floor(values).astype(int), region)
    found = texture(values, region, 1.0)
    for name in set(TEXTURE) - {"energy", "entropy"}:
        assert found[name] == pytest.approx(graycoprops(matrix[..., None, None], name)[0, 0]), name
    share = matrix[matrix > 0] / matrix.sum()
    assert found["energy"] == pytest.approx((share**2).sum())
    assert found["entropy"] == pytest.approx(-(share * np.log2(share)).sum())


def test_first_order_is_that_of_scipy():
    values = np.random.default_rng(2).gamma(2, size=50)
    found = first_order(values.astype(np.float32))
    assert found["skewness"] == pytest.approx(skew(values), rel=1e-5)
    assert found["kurtosis"] == pytest.approx(kurtosis(values, fisher=False), rel=1e-5)
    assert (found["minimum"], found["median"]) == pytest.approx((values.min(), np.median(values)))


def test_equal_values_have_no_spread():
    found = first_order([3.0, 3.0])
    assert (found["mean"], found["p90"], found["SD"], found["skewness"], found["kurtosis"]) == (3, 3, 0, 0, 0)
