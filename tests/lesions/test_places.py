"""Depths and distances against the literal search, and places of a brain whose tissues are known."""

import numpy as np
from brains import COARSE, ball, brain, nearest

from lib.lesions.places import (
    CORTEX_MM,
    brain_depth,
    cortex,
    depth,
    distance_to,
    lesion_places,
    place_distances,
    ventricles,
)


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


def test_place_distances_count_from_the_surface_and_the_ventricles():
    image, inside, _, _ = brain()
    found = place_distances(image, inside, np.zeros_like(inside), COARSE)
    voxels = np.array([(18, 18, 8), (18, 18, 18), (9, 20, 21)])
    surface = nearest(voxels, np.argwhere(~inside), COARSE)
    np.testing.assert_allclose(found["surface_mm"][tuple(voxels.T)], surface)
    fluid = nearest(voxels, np.argwhere(ventricles(image, inside, brain_depth(inside, COARSE))), COARSE)
    np.testing.assert_allclose(found["ventricle_mm"][tuple(voxels.T)], fluid)


def test_juxtacortical_is_a_matter_of_voxels_along_every_axis():
    image, inside, _, _ = brain()
    labels, cortical = np.zeros(inside.shape, np.int32), np.zeros_like(inside)
    labels[2, 2, 2], labels[2, 8, 2], cortical[2, 2, 4], cortical[5, 8, 2] = 1, 2, True, True  # 2 and 3 voxels away
    places = lesion_places(labels, image, inside, cortical, inside & False, (1.0, 1.0, 5.0))
    assert places.tolist() == ["juxtacortical", "deep or infratentorial"]


def test_places_go_by_the_nearest_voxel_and_the_first_rule_that_holds():
    image, inside, _, _ = brain()
    x, y, z = np.argwhere(ventricles(image, inside, brain_depth(inside, COARSE)))[-1]
    labels, cortical = np.zeros(inside.shape, np.int32), np.zeros_like(inside)
    labels[x + 1, y, z], labels[2, 2, 2], labels[2, 8, 2] = 1, 2, 3
    cortical[2, 2, 4] = cortical[x + 1, y, z] = True  # two voxels from the second lesion, and on the first
    places = lesion_places(labels, image, inside, cortical, inside & False, COARSE)
    assert places.tolist() == ["periventricular", "juxtacortical", "deep or infratentorial"]
    assert places.index.tolist() == [1, 2, 3]
