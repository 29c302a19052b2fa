import numpy as np
import pytest
from brains import COARSE, ball, brain, nearest

from lib.lesions import brain_depth, cortex, depth, distance_to, ventricles
from lib.synthetic.sites import DEEP, GAP_MM, healthy_sites, sites_by_surroundings, structure_distances

ISOTROPIC = (1.0, 1.0, 1.0)


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
    found = sites_by_surroundings(white, {DEEP: None, "beside cortex": distance_to(structure, ISOTROPIC)}, 3, **options)
    assert nearest(found[DEEP], np.argwhere(~white), 1.0).min() >= 8
    near = nearest(found["beside cortex"], np.argwhere(structure), 1.0)
    assert len(near) == 3 and near.max() <= 4 and nearest(found["beside cortex"], np.argwhere(~white), 1.0).min() >= 2


def test_distances_from_structures_by_surroundings():
    image, inside, white, lateral = brain()
    lesion, grey, below = ball(inside.shape, (18, 10, 18), 2), inside & ~white & ~lateral, brain_depth(inside, COARSE)
    given = structure_distances(["beside ventricle", "beside cortex"], image, inside, lesion, grey, COARSE)
    assert list(given) == [DEEP, "beside ventricle", "beside cortex"] and given[DEEP] is None
    fluid = ventricles(image, inside & ~lesion, below)
    np.testing.assert_array_equal(given["beside ventricle"], distance_to(fluid, COARSE))
    np.testing.assert_array_equal(given["beside cortex"], distance_to(cortex(grey, below), COARSE))
    with pytest.raises(ValueError, match="beside thalamus: choose from beside cortex, beside ventricle"):
        structure_distances(["beside thalamus"], image, inside, lesion, grey, COARSE)
