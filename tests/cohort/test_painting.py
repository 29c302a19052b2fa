"""Lesions and look-alikes, painted on a 3 mm grid."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lib.cohort.anatomy import make_anatomy
from lib.cohort.painting import BORDER, CAPS, LESION, cap_probability, draw_blobs, paint, site_probability

SPACING_MM = 3.0


@pytest.fixture(scope="module")
def anatomies():
    return [make_anatomy(SPACING_MM, np.random.default_rng([5, i])) for i in range(6)]


def test_painted_ball_has_its_volume_and_stays_in_tissue(anatomies):
    anatomy = anatomies[0]
    depth = ndimage.distance_transform_edt(anatomy.white > 0.95)
    site = np.array([np.unravel_index(depth.argmax(), depth.shape)])
    alpha, label = np.zeros(depth.shape, np.float32), np.zeros(depth.shape, np.int16)
    paint(anatomy, alpha, label, 1, site, [60.0], np.eye(3)[None], np.zeros(depth.shape))
    assert alpha.sum() == pytest.approx(60, rel=0.25)
    assert (alpha >= BORDER).sum() == pytest.approx(60, rel=0.25)
    assert set(np.unique(label)) == {0, 1} and alpha[tuple(site[0])] == 1
    edge = np.argwhere(anatomy.brain)[:1]  # a voxel at the rim of the brain
    paint(anatomy, alpha, label, 2, edge, [200.0], np.eye(3)[None], np.zeros(depth.shape))
    assert not alpha[~anatomy.brain].any()


def test_partial_volume_makes_small_lesions_fainter(anatomies):
    depth = ndimage.distance_transform_edt(anatomies[0].white > 0.95)
    site = np.array([np.unravel_index(depth.argmax(), depth.shape)])
    seen = []
    for voxels in (5.0, 20.0, 100.0):
        alpha, label = np.zeros(depth.shape, np.float32), np.zeros(depth.shape, np.int16)
        paint(anatomies[0], alpha, label, 1, site, [voxels], np.eye(3)[None], np.zeros(depth.shape))
        seen.append(alpha[alpha >= BORDER].mean())
    assert seen == sorted(seen) and seen[0] < 0.9 * seen[2]


def test_focal_lesions_favour_the_ventricles_and_keep_eight_percent_below_the_tentorium(anatomies):
    for anatomy in anatomies[:2]:
        weight, below = site_probability(anatomy), anatomy.infratentorial
        assert weight[below].sum() / weight.sum() == pytest.approx(0.08, abs=1e-3)
        near, far = ((anatomy.ventricle_mm > low) & (anatomy.ventricle_mm < low + 5) & ~below for low in (2, 25))
        assert weight[near & (weight > 0)].mean() > 1.5 * weight[far & (weight > 0)].mean()


def test_lesions_lie_in_the_brain_and_mostly_in_white_matter(anatomies):
    for i, anatomy in enumerate(anatomies):
        lesions = draw_blobs(anatomy, np.random.default_rng(i)).lesions
        assert lesions.any()
        assert not lesions[~anatomy.brain].any()
        assert anatomy.white[lesions].mean() > 0.6
        assert anatomy.fluid[lesions].mean() < 0.15


def test_lookalikes_are_painted_but_not_annotated(anatomies):
    blobs = draw_blobs(anatomies[0], np.random.default_rng(2))
    false = (blobs.alpha >= BORDER) & (blobs.family[blobs.label] != LESION)
    assert false.sum() > 3
    assert not blobs.lesions[false].any()
    np.testing.assert_array_equal(blobs.lesions | false, blobs.alpha >= BORDER)


def test_caps_lie_at_both_ends_of_the_lateral_ventricles(anatomies):
    for anatomy in anatomies:
        there = cap_probability(anatomy) > 0
        assert (anatomy.ventricle_mm[there] < 3).all() and (anatomy.white[there] > 0.5).all()
        y_mm = nib.affines.apply_affine(anatomy.affine, np.argwhere(there))[:, 1]
        ends = np.argwhere(anatomy.ventricle_mm < 0)[:, 1] * SPACING_MM + anatomy.affine[1, 3]
        assert (np.minimum(np.abs(y_mm - ends.min()), np.abs(y_mm - ends.max())) < 12).all()
        assert y_mm.min() < ends.mean() < y_mm.max()
    blobs = [draw_blobs(anatomies[0], np.random.default_rng(i)) for i in range(20)]
    assert any((one.family == CAPS).any() for one in blobs)


def test_every_blob_has_a_volume_and_a_family(anatomies):
    for seed, anatomy in enumerate(anatomies):
        blobs = draw_blobs(anatomy, np.random.default_rng(seed))
        assert len(blobs.volume_mm3) == len(blobs.family) > blobs.label.max()
        assert blobs.family[0] == blobs.volume_mm3[0] == 0
        assert (blobs.volume_mm3[1:] > 0).all()
        assert (blobs.label[blobs.alpha > 0.5] > 0).all()


def test_sessions_share_most_lesions_and_the_numbers_of_all(anatomies):
    grown = 0
    for anatomy in anatomies[:3]:
        early, late = (draw_blobs(anatomy, np.random.default_rng(9), session) for session in (0, 1))
        np.testing.assert_array_equal(early.volume_mm3, late.volume_mm3)
        np.testing.assert_array_equal(early.family, late.family)
        assert (early.lesions & late.lesions).sum() > 0.9 * early.lesions.sum()
        grown += late.lesions.sum() - early.lesions.sum()
    assert grown > 0
