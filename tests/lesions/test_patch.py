"""Patches around a lesion, by their slices and values."""

import numpy as np
import pytest

from lib.lesions.patch import cut_labels, cut_patch, patch_around


def test_a_patch_is_around_the_middle_of_a_lesion_and_inside_the_volume():
    lesion = np.zeros((20, 20, 6), bool)
    lesion[9:12, 0:3, 2] = True
    assert patch_around(lesion, 8) == (slice(6, 14), slice(0, 8), slice(0, 6))
    assert patch_around(lesion[:, ::-1], 8)[1] == slice(12, 20)
    assert patch_around(lesion, 0) == (slice(0, 20), slice(0, 20), slice(0, 6))
    image = np.random.default_rng(0).random((2, 20, 20, 6))
    part, inside = cut_patch(image, lesion, 8)
    assert part.shape == (2, 8, 8, 6) and (part[:, inside] == image[:, lesion]).all()
    labels = 2 * lesion.astype(int)
    labels[:, 18:, 0], labels[7, 7, 5] = 1, 1  # others: one far off, one in the patch
    here, cut = cut_labels(image, labels, 2, 8)
    assert (here == part).all() and (cut == labels[6:14, :8]).all() and set(np.unique(cut)) == {0, 1, 2}
    with pytest.raises(ValueError, match="larger than the patch of 2 voxels"):
        patch_around(lesion, 2)
