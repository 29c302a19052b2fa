"""Visible lesions against the literal weighted mean of their surroundings."""

import numpy as np

from lib.cohort.visibility import LEAST_CONTRAST, SURROUNDINGS, local_contrasts, visible


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
