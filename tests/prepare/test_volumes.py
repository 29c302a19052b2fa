"""Files read and refused, grids, and images brought onto them."""

import nibabel as nib
import numpy as np
import pytest
from heads import blobs, rotation, save
from nibabel.affines import from_matvec

from lib.prepare import raw_scans
from lib.prepare.volumes import (
    affine_of,
    from_array,
    isotropic_grid,
    mask_on_grid,
    on_grid,
    one_grid,
    read_mask,
    read_volume,
    to_array,
)


@pytest.mark.parametrize("turn", [np.diag([-1, 1, 1]), rotation(25), rotation(100) @ np.diag([1, -1, 2.5])])
def test_points_of_the_world_keep_their_values(turn, tmp_path):
    """Left-handed, oblique and both with thick slices."""
    array = np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32)
    affine = from_matvec(turn, (5, -6, 7))
    image = read_volume(save(tmp_path / "a.nii.gz", array, affine))
    index = (3, 4, 5)
    world = nib.affines.apply_affine(affine, index)
    own = np.rint(nib.affines.apply_affine(np.linalg.inv(affine_of(image)), world)).astype(int)
    assert to_array(image)[tuple(own)] == array[index]
    assert image.TransformPhysicalPointToIndex((world * [-1, -1, 1]).tolist()) == tuple(own)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.ones((20, 20, 1), np.float32), "20x20x1"),
        (np.full((9, 9, 9), np.nan, np.float32), "not finite"),
        (np.ones((9, 9, 9), np.float32), "1 everywhere"),
    ],
)
def test_what_is_no_volume_is_refused_by_name(array, says, tmp_path):
    with pytest.raises(ValueError, match=f"a.nii.gz.*{says}"):
        read_volume(save(tmp_path / "a.nii.gz", array))


def test_a_mask_without_lesions_is_read(tmp_path):
    file = save(tmp_path / "a.nii.gz", np.zeros((9, 9, 9), np.uint8))
    assert not to_array(read_mask(file)).any() and not to_array(read_mask(file, 1)).any()
    with pytest.raises(ValueError, match="a.nii.gz is 0 everywhere"):
        read_volume(file)
    with pytest.raises(ValueError, match="b.nii.gz is 1 everywhere"):
        read_mask(save(tmp_path / "b.nii.gz", np.ones((9, 9, 9), np.uint8)))


def test_dicom_is_sent_to_dcm2niix(tmp_path):
    (tmp_path / "one.dcm").touch()
    for source in (read_volume, raw_scans):
        with pytest.raises(ValueError, match="dcm2niix"):
            source(tmp_path)


def test_a_grid_of_1_mm_is_kept_and_another_covers_the_image():
    array, affine = blobs(spacing=1.0)
    image = from_array(array, affine)
    grid = isotropic_grid(image)
    assert one_grid(grid, image)
    assert np.array_equal(to_array(on_grid(image, grid)), array)
    thick = from_array(array, from_matvec(rotation(20) @ np.diag([0.7, 0.7, 3]), (1, 2, 3)))
    grid = isotropic_grid(thick)
    assert grid.GetSpacing() == (1, 1, 1)
    assert grid.GetSize() == (28, 31, 108)
    middles = [
        one.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in one.GetSize()]) for one in (grid, thick)
    ]
    assert np.allclose(*middles)


def test_finer_voxels_are_averaged_over_a_coarser_one():
    noise = np.random.default_rng(0).normal(10, 1, (40, 40, 40)).astype(np.float32)
    image = from_array(noise, np.diag([0.5, 0.5, 0.5, 1]))
    coarse = to_array(on_grid(image, isotropic_grid(image)))[3:-3, 3:-3, 3:-3]
    assert coarse.std() < 0.5 * noise.std()
    assert abs(coarse.mean() - 10) < 0.1


@pytest.mark.parametrize(("label", "expected"), [("", [0, 1, 1, 1]), (1, [0, 1, 0, 0]), (2, [0, 0, 1, 0])])
def test_a_label_of_a_mask_is_told_from_the_others_also_on_a_grid(label, expected, tmp_path):
    array = np.zeros((9, 9, 9), np.float32)
    array[4, 4, :4] = [0, 1, 2, 3]
    mask = read_mask(save(tmp_path / "wmh.nii.gz", array), label)
    for image in (mask, mask_on_grid(mask, mask)):
        assert to_array(image)[4, 4, :4].tolist() == expected
        assert to_array(image).sum() == sum(expected)
