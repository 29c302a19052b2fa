"""Anatomy of synthetic subjects, on a 3 mm grid, and its cortex, in a slab 48 mm thick below a flat surface, on a 1 mm grid."""

import numpy as np
import pytest

from lib.cohort.anatomy import folded_cortex, infratentorial, make_anatomy, outer_distance, template_regions

SPACING_MM = 3.0
SHAPE = (64, 64, 48)
DEPTH_MM = np.broadcast_to(np.arange(48) + 0.5, SHAPE).astype(np.float32)  # the surface is the face z = 0
NO_WHITE = np.zeros(SHAPE, np.float32)


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


@pytest.fixture
def without_sulci(monkeypatch):
    monkeypatch.setattr("lib.cohort.anatomy.DEPTH_MM", -1000.0)
    monkeypatch.setattr("lib.cohort.anatomy.SULCUS_MM", (0.0, 0.0))
    monkeypatch.setattr("lib.cohort.anatomy.THICKNESS_MM", (2.7, 2.7))


def fold(white=NO_WHITE, depth_mm=DEPTH_MM, seed=0, spacing_mm=1.0):
    return folded_cortex(depth_mm, white, spacing_mm, np.random.default_rng(seed))


def test_outer_distance_is_that_from_a_flat_surface_and_ventricles_do_not_count():
    fluid, coverage = np.zeros((20, 20, 20), np.float32), np.ones((20, 20, 20), np.float32)
    fluid[:, :, :5] = 1
    ventricle_mm = np.full((20, 20, 20), 10.0)
    fluid[9:12, 9:12, 12:15], ventricle_mm[9:12, 9:12, 12:15] = 1, -1
    distance = outer_distance(fluid, coverage, ventricle_mm)
    np.testing.assert_allclose(distance, np.broadcast_to(np.arange(20) - 4.5, (20, 20, 20)))


def test_fractions_sum_to_one():
    tissue = fold(white=np.random.default_rng(1).random(SHAPE).astype(np.float32))
    np.testing.assert_allclose(tissue.sum(0), 1, atol=1e-6)
    assert tissue.min() >= 0


def test_without_sulci_the_cortex_is_as_thick_as_it_is_asked_for(without_sulci):
    white, grey, fluid = fold()
    np.testing.assert_allclose(grey.sum(2), 2.7, atol=0.01)
    assert not fluid.any()
    assert (white[:, :, 4:] == 1).all()


def test_sulci_are_as_far_apart_as_rices_formula_says(monkeypatch):
    monkeypatch.setattr("lib.cohort.anatomy.GYRUS_MM", (10.0, 10.0))
    monkeypatch.setattr("lib.cohort.anatomy.THICKNESS_MM", (0.0, 0.0))
    monkeypatch.setattr("lib.cohort.anatomy.SULCUS_MM", (0.5, 0.5))
    monkeypatch.setattr("lib.cohort.anatomy.DEPTH_SD_MM", 0.0)
    shape = (120, 120, 40)
    deep, inside = np.full(shape, 1000.0, np.float32), []
    monkeypatch.setattr("lib.cohort.anatomy.DEPTH_MM", 2000.0)  # sulci everywhere, the surface out of reach
    for seed in range(3):
        _, _, fluid = fold(np.zeros(shape, np.float32), deep, seed)
        inside.append((np.diff((fluid > 0.5).astype(int), axis=0) == 1).sum() / (120 * 40 * 119))
    assert 1 / np.mean(inside) == pytest.approx(10, rel=0.2)


def test_sulci_end_at_their_depth_and_cortex_lines_them(monkeypatch):
    monkeypatch.setattr("lib.cohort.anatomy.SULCUS_MM", (1.0, 1.0))
    white, grey, fluid = fold(seed=2)
    assert fluid[:, :, 4:12].mean() > 0.02
    assert grey[:, :, 4:12].mean() > 3 * grey[:, :, 40:].mean()
    banks = np.argwhere(fluid[2:-2, 2:-2, 4:12] > 0.9) + (2, 2, 4)
    beside = [grey[x - 2 : x + 3, y - 2 : y + 3, z].max() for x, y, z in banks]
    assert np.mean(np.array(beside) > 0.5) > 0.95


def test_what_is_white_in_all_brains_stays_white_away_from_the_surface():
    white, _, _ = fold(white=np.ones(SHAPE, np.float32))
    assert (white[:, :, 2:] == 1).all()


def test_the_cortex_depends_on_the_generator_alone():
    np.testing.assert_array_equal(fold(seed=3), fold(seed=3))
    assert not np.array_equal(fold(seed=3), fold(seed=4))
