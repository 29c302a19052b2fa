"""Lesions and look-alikes, painted on a 3 mm grid; those that can be seen against the literal weighted mean around them."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lib.cohort.painting import (
    BORDER,
    CAPS,
    LEAST_CONTRAST,
    LESION,
    SURROUNDINGS,
    cap_probability,
    draw_blobs,
    local_contrasts,
    paint,
    site_probability,
    visible,
)

SPACING_MM = 3.0


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


def scene(seed=0, shape=(24, 22, 20)):
    rng = np.random.default_rng(seed)
    brain, lesions = np.ones(shape, bool), np.zeros(shape, bool)
    brain[:4] = False
    lesions[8:10, 8:10, 8] = lesions[16, 14:18, 12] = lesions[5, 4, 4] = True
    return rng.standard_normal(shape).astype(np.float32) * brain, lesions, brain


def test_local_contrast_is_the_mean_over_the_instance_less_the_weighted_mean_around():
    flair, lesions, brain = scene()
    labels, contrasts = local_contrasts(flair, lesions, brain)
    healthy = np.argwhere(brain & ~lesions)
    for label in (1, 2, 3):
        differences = []
        for voxel in np.argwhere(labels == label):
            offset = healthy - voxel
            near = (np.abs(offset) <= round(3 * SURROUNDINGS)).all(1)
            weight = np.exp(-((offset[near] / SURROUNDINGS) ** 2).sum(1) / 2)
            differences.append(flair[tuple(voxel)] - np.average(flair[tuple(healthy[near].T)], weights=weight))
        np.testing.assert_allclose(contrasts[label], np.mean(differences), rtol=1e-4)


def test_visible_lesions_are_those_that_stand_out_by_the_least_contrast_or_more():
    flair, lesions, brain = scene()
    labels, _ = local_contrasts(flair, lesions, brain)
    flair = 0.0 * flair
    for label, contrast in ((1, 0.9), (2, 1.1), (3, -1)):
        flair[labels == label] = contrast * LEAST_CONTRAST
    np.testing.assert_array_equal(visible(flair, lesions, brain), labels == 2)
    assert not visible(flair, np.zeros_like(lesions), brain).any()
