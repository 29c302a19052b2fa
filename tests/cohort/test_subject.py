"""Maps of a synthetic scan: what is stored is what was drawn, within a 255th."""

from dataclasses import replace

import numpy as np
import pytest

from lib.cohort.anatomy import make_anatomy
from lib.cohort.painting import draw_blobs
from lib.cohort.subject import Subject, crop


@pytest.fixture(scope="module")
def drawn():
    anatomy = make_anatomy(3.0, np.random.default_rng(0))
    return anatomy, draw_blobs(anatomy, np.random.default_rng(1))


def test_maps_are_those_that_were_drawn(drawn, tmp_path):
    anatomy, blobs = drawn
    Subject.compose(anatomy, blobs).save(tmp_path / "maps.npz")
    subject = Subject.load(tmp_path / "maps.npz")
    maps = subject.maps()
    for name in ("white", "grey", "fluid", "deep", "coverage"):
        np.testing.assert_allclose(
            getattr(maps, name), getattr(anatomy, name).clip(0, 1), atol=0.06 if name == "fluid" else 0.003
        )
    near = np.abs(anatomy.ventricle_mm) < 10
    np.testing.assert_allclose(maps.ventricle_mm[near], anatomy.ventricle_mm[near], atol=0.126)
    np.testing.assert_allclose(maps.alpha, blobs.alpha, atol=0.003)
    np.testing.assert_array_equal(maps.label, blobs.label)
    stored = replace(blobs, alpha=np.rint(255 * blobs.alpha) / np.float32(255))
    np.testing.assert_array_equal(subject.lesions, stored.lesions & subject.brain)


def test_a_part_of_the_maps_is_that_part_and_every_nth_voxel(drawn):
    subject = Subject.compose(*drawn)
    whole, part, coarse = subject.maps(), subject.maps((4, 5, 6), (7, 8, 9)), subject.maps(step=4)
    np.testing.assert_array_equal(part.white, whole.white[4:11, 5:13, 6:15])
    np.testing.assert_array_equal(coarse.grey, whole.grey[::4, ::4, ::4])
    assert (part.spacing_mm, coarse.spacing_mm) == (3.0, 12.0)


def test_crop_reaches_beyond_the_volume_with_zeros():
    volume = np.arange(1, 25).reshape(2, 3, 4)
    part = crop(volume, (-1, 1, 2), (3, 2, 3))
    assert part.shape == (3, 2, 3)
    assert not part[0].any() and not part[..., 2].any()
    np.testing.assert_array_equal(part[1:, :, :2], volume[0:2, 1:3, 2:4])
