"""Anatomy of synthetic subjects, on a 3 mm grid."""

import numpy as np
import pytest

from lib.cohort.anatomy import infratentorial, make_anatomy, template_regions

SPACING_MM = 3.0


@pytest.fixture(scope="module")
def anatomies():
    return [make_anatomy(SPACING_MM, np.random.default_rng([5, i])) for i in range(6)]


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


def test_regions_lie_where_they_are_in_the_template():
    x, y, z = (np.arange(n) + start for n, start in zip((121, 141, 141), (-60, -90, -60), strict=True))
    x, y, z = x[:, None, None], y[:, None], z
    deep, limbic, brainstem, below, choroid = template_regions((121, 141, 141), (-60, -90, -60))
    inside = {
        "thalamus": ((12, -20, 8), deep), "insula": ((38, 0, 2), limbic), "pons": ((0, -24, -35), brainstem),
        "cerebellum": ((25, -60, -40), below), "glomus": ((-25, -40, 7), choroid),
    }  # fmt: skip
    for (right, front, up), region in inside.values():
        assert region[right + 60, front + 90, up + 60] > 0.9
    assert not (deep * limbic > 0.3).any() and not choroid[(x == 0) & (y == 20) & (z == 50)].any()
    np.testing.assert_array_equal(below, infratentorial(x, y, z))
    for region in (deep, limbic, below, choroid):
        np.testing.assert_array_equal(region, region[::-1])  # both sides alike


def test_brainstem_and_cerebellum_lie_below(anatomies):
    for anatomy in anatomies:
        up_mm = anatomy.affine[2, 3] + SPACING_MM * np.argwhere(anatomy.infratentorial)[:, 2]
        assert 0.05 < len(up_mm) / anatomy.brain.sum() < 0.25
        assert up_mm.max() < 0
        assert anatomy.grey[anatomy.choroid > 0.5].mean() < anatomy.grey[anatomy.deep > 0.9].mean()


def test_anatomy_depends_on_the_generator_alone():
    first, again, other = (make_anatomy(SPACING_MM, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.white, again.white)
    assert not np.array_equal(first.white, other.white)
