import numpy as np
import pytest

from lib.lesions.places import CORTEX_MM, brain_depth, cortex, depth, distance_to, place_distances, ventricles
from lib.synthetic.sites import DEEP, GAP_MM, healthy_sites, sites_by_surroundings, structures

ISOTROPIC = (1.0, 1.0, 1.0)


def ball(shape, centre, radius):
    return sum((g - c) ** 2 for g, c in zip(np.indices(shape), centre, strict=True)) <= radius**2


def nearest(points, targets, spacing):
    """Literal distance of each point to the nearest target."""
    return np.array([np.linalg.norm((targets - point) * spacing, axis=1).min() for point in points])


COARSE = (2.0, 2.0, 2.0)


def brain():
    """Grey matter (radius 68 mm) around white matter with two ventricles, and fluid in a sulcus; voxels of 2 mm."""
    shape = (36, 36, 36)
    inside, white = ball(shape, (18, 18, 18), 17), ball(shape, (18, 18, 18), 14)
    lateral = ball(shape, (15, 18, 18), 3) | ball(shape, (20, 18, 18), 2)  # they touch: one part
    image = np.zeros((2, *shape), np.float32)
    for part, values in (
        (inside, (0.5, -0.6)),
        (white, (0.1, 1.0)),
        (lateral | ball(shape, (18, 18, 33), 2), (-3, -3)),
    ):
        image[:, part & inside] = np.array(values)[:, None]
    noise = np.random.default_rng(0).normal(0, 0.05, image.shape)
    return np.where(image != 0, image + noise, 0).astype(np.float32), inside, white & ~lateral, lateral


def test_healthy_sites_are_deep_and_apart():
    spacing = (1.0, 1.0, 2.0)
    white = np.zeros((30, 40, 20), bool)
    white[4:, 5:35, 3:18] = True  # reaches the edge of the volume
    sites = healthy_sites(depth(white, spacing), 12, 4.0, spacing, np.random.default_rng(0))
    assert len(sites) == 12
    outside = np.argwhere(np.pad(~white, 1, constant_values=True)) - 1
    assert nearest(sites, outside, spacing).min() >= 4.0
    gaps = np.linalg.norm((sites[:, None] - sites) * spacing, axis=2)[~np.eye(12, dtype=bool)]
    assert gaps.min() >= 8.0


def test_healthy_sites_draws_fewer_where_there_is_no_room():
    white = ball((20, 20, 20), (10, 10, 10), 6)
    inside_mm = depth(white, ISOTROPIC)
    assert healthy_sites(inside_mm, 5, 5.0, ISOTROPIC, np.random.default_rng(0)).shape == (1, 3)
    assert healthy_sites(inside_mm, 5, 9.0, ISOTROPIC, np.random.default_rng(0)).shape == (0, 3)


def test_sites_beside_a_structure_are_in_white_matter_and_nearly_touch_it():
    spacing = (1.0, 0.8, 1.5)
    white = np.zeros((40, 40, 30), bool)
    white[3:30, 3:-3, 3:-3] = True
    structure = np.zeros_like(white)
    structure[31:] = True  # one voxel of partial volume between both
    inside_mm, options = depth(white, spacing), (10, 2.5, spacing, np.random.default_rng(0))
    sites = healthy_sites(inside_mm, *options, distance_to(structure, spacing))
    assert len(sites) == 10
    assert nearest(sites, np.argwhere(~white), spacing).min() >= 2.5
    assert nearest(sites, np.argwhere(structure), spacing).max() <= 2.5 + GAP_MM
    away = np.zeros_like(white)
    away[-1] = True
    assert len(healthy_sites(inside_mm, *options, distance_to(away, spacing))) == 0


def test_sites_by_surroundings_have_the_margin_of_their_kind():
    white = np.zeros((40, 30, 30), bool)
    white[3:33, 3:-3, 3:-3] = True
    structure = np.zeros_like(white)
    structure[34:] = True
    options = {
        "margin_mm": 8.0,
        "beside_margin_mm": 2.0,
        "spacing_mm": ISOTROPIC,
        "generator": np.random.default_rng(0),
    }
    found = sites_by_surroundings(white, {DEEP: None, "beside cortex": structure}, 3, **options)
    assert nearest(found[DEEP], np.argwhere(~white), 1.0).min() >= 8
    near = nearest(found["beside cortex"], np.argwhere(structure), 1.0)
    assert len(near) == 3 and near.max() <= 4 and nearest(found["beside cortex"], np.argwhere(~white), 1.0).min() >= 2


def test_depth_and_distance_are_those_of_the_literal_search():
    generator, spacing = np.random.default_rng(0), (1.0, 2.0, 0.5)
    mask = generator.random((7, 6, 8)) < 0.8
    outside = np.argwhere(np.pad(~mask, 1, constant_values=True)) - 1
    np.testing.assert_allclose(depth(mask, spacing)[mask], nearest(np.argwhere(mask), outside, spacing))
    assert (depth(mask, spacing)[~mask] == 0).all() and (depth(mask & False, spacing) == 0).all()
    everywhere = np.argwhere(np.ones_like(mask))
    found = distance_to(mask, spacing)
    np.testing.assert_allclose(found.ravel(), nearest(everywhere, np.argwhere(mask), spacing))
    assert np.isinf(distance_to(mask & False, spacing)).all()


def test_ventricles_are_the_deep_fluid_and_not_the_sulcus_nor_a_lesion():
    image, inside, _, lateral = brain()
    below = brain_depth(inside, COARSE)
    found = ventricles(image, inside, below)
    assert found.sum() > 0.7 * lateral.sum() and not (found & ~lateral).any()  # opening rounds it
    black_hole = image.copy()
    black_hole[1, ball(inside.shape, (18, 10, 18), 3)] = -3  # larger, dark in MPRAGE alone
    np.testing.assert_array_equal(ventricles(black_hole, inside, below), found)
    assert not ventricles(image, inside & ~lateral, below).any()


def test_cortex_is_the_outer_grey_matter():
    _, inside, white, lateral = brain()
    nucleus, outer = ball(inside.shape, (18, 18, 12), 2), inside & ~white & ~lateral
    np.testing.assert_array_equal(cortex(outer | nucleus, brain_depth(inside, COARSE)), outer)
    assert (brain_depth(inside, COARSE)[outer] <= CORTEX_MM).all()


def test_depth_of_a_brain_does_not_count_its_holes():
    _, inside, _, lateral = brain()
    np.testing.assert_array_equal(brain_depth(inside & ~lateral, COARSE), depth(inside, COARSE))


def test_structures_by_surroundings():
    image, inside, white, lateral = brain()
    lesion, grey, below = ball(inside.shape, (18, 10, 18), 2), inside & ~white & ~lateral, brain_depth(inside, COARSE)
    given = structures(["beside ventricle", "beside cortex"], image, inside, lesion, grey, COARSE)
    assert list(given) == [DEEP, "beside ventricle", "beside cortex"] and given[DEEP] is None
    np.testing.assert_array_equal(given["beside ventricle"], ventricles(image, inside & ~lesion, below))
    np.testing.assert_array_equal(given["beside cortex"], cortex(grey, below))
    with pytest.raises(ValueError, match="beside thalamus: choose from beside cortex, beside ventricle"):
        structures(["beside thalamus"], image, inside, lesion, grey, COARSE)


def test_place_distances_count_from_the_surface_and_the_ventricles():
    image, inside, _, _ = brain()
    found = place_distances(image, inside, np.zeros_like(inside), COARSE)
    voxels = np.array([(18, 18, 8), (18, 18, 18), (9, 20, 21)])
    surface = nearest(voxels, np.argwhere(~inside), COARSE)
    np.testing.assert_allclose(found["surface_mm"][tuple(voxels.T)], surface)
    fluid = nearest(voxels, np.argwhere(ventricles(image, inside, brain_depth(inside, COARSE))), COARSE)
    np.testing.assert_allclose(found["ventricle_mm"][tuple(voxels.T)], fluid)
