"""Maps written as NIfTI and read back: orientation, place and values are kept exactly."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec

from lib.scans.maps import load_cut, load_labels, load_map, save_cut, save_map

AFFINES = {
    "RAS": np.diag([1.0, 1, 1, 1]),
    "LAS": np.array([[-1.0, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]]),
    "PSR": np.array([[0, 0, 1.0, 3], [-1, 0, 0, 4], [0, 1, 0, 5], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 1)])
@pytest.mark.parametrize("orientation", AFFINES)
def test_a_map_lies_on_the_input_scan_whatever_its_orientation(tmp_path, orientation, shape):
    data = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    nib.save(nib.Nifti1Image(data.reshape(shape), AFFINES[orientation]), tmp_path / "scan.nii.gz")
    canonical = nib.as_closest_canonical(nib.Nifti1Image(data, AFFINES[orientation])).get_fdata(dtype=np.float32)
    save_map(canonical, tmp_path / "scan.nii.gz", tmp_path / "map.nii.gz")
    written = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(written.get_fdata(dtype=np.float32), data)
    np.testing.assert_array_equal(written.affine, AFFINES[orientation])
    np.testing.assert_array_equal(load_map(tmp_path / "map.nii.gz"), canonical)


@pytest.mark.parametrize("channels", [(), (2,)])
@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 1), (1, 1), (1, 4)])  # of qform and sform
def test_a_map_has_the_qform_and_sform_of_the_scan(tmp_path, codes, channels):
    """An oblique one, 1 mm off the sform; affines to the last digit, although a qform is stored as a quaternion."""
    generator = np.random.default_rng(0)
    data, turn = generator.random((5, 6, 7)).astype(np.float32), np.linalg.qr(generator.normal(size=(3, 3)))[0]
    oblique = from_matvec(turn @ np.diag([0.7, 0.8, 3]), (10, -12, 3))
    scan = nib.Nifti1Image(data, oblique)
    scan.set_sform(oblique, codes[1])
    scan.set_qform(from_matvec(oblique[:3, :3], (11, -12, 3)), codes[0])
    nib.save(scan, tmp_path / "scan.nii.gz")
    like = nib.load(tmp_path / "scan.nii.gz")
    canonical = nib.as_closest_canonical(like).get_fdata(dtype=np.float32)
    save_map(
        np.stack([canonical] * 2, -1) if channels else canonical, tmp_path / "scan.nii.gz", tmp_path / "map.nii.gz"
    )
    written = nib.load(tmp_path / "map.nii.gz")
    assert (written.header["qform_code"], written.header["sform_code"]) == codes
    np.testing.assert_array_equal(written.affine, like.affine)
    np.testing.assert_array_equal(written.get_qform(), like.get_qform())
    np.testing.assert_array_equal(written.get_sform(), like.get_sform())
    assert written.header.get_zooms()[:3] == like.header.get_zooms()
    stored = written.get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(stored[..., 1] if channels else stored, data)
    loaded = load_map(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(loaded[..., 1] if channels else loaded, canonical)


def test_a_map_on_a_scan_that_is_not_nifti_has_its_affine(tmp_path):
    data = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    nib.save(nib.MGHImage(data, AFFINES["LAS"].astype(np.float32)), tmp_path / "scan.mgz")
    save_map(data[::-1], tmp_path / "scan.mgz", tmp_path / "map.nii.gz")
    written = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(written.affine, AFFINES["LAS"])
    np.testing.assert_array_equal(written.get_fdata(dtype=np.float32), data)


def test_labels_of_a_scan_without_annotation_are_those_that_are_predicted(tmp_path):
    labels, like = np.arange(8, dtype=np.int32).reshape(2, 2, 2), tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(labels, np.eye(4)), like)
    path = lambda scan, description: tmp_path / f"{scan}_{description}.nii.gz"  # noqa: E731
    for source, values in (("pred", labels), ("manual", 2 * labels)):
        save_map(values, like, path("sub-1", f"desc-{source}_dseg"))
    for lesions, expected in (("mask.nii.gz", 2 * labels), ("", 0 * labels)):
        predicted, annotated = load_labels({"scan": "sub-1", "lesions": lesions}, path)
        np.testing.assert_array_equal(predicted, labels)
        np.testing.assert_array_equal(annotated, expected)


def test_a_cut_map_comes_back_whole_and_its_affine_points_to_its_place(tmp_path):
    whole = np.zeros((2, 9, 8, 7), np.float32)
    whole[0, 3, 4, 5], whole[1, 5, 6, 2] = 1.5, -2.5
    affine = np.array([[2.0, 0, 0, -10], [0, 1, 0, 7], [0, 0, 3, 1], [0, 0, 0, 1]])
    save_cut(whole, affine, tmp_path / "cut.nii.gz")
    stored = nib.load(tmp_path / "cut.nii.gz")
    assert stored.shape == (3, 3, 4, 2)
    np.testing.assert_allclose(apply_affine(stored.affine, (0, 0, 3)), apply_affine(affine, (3, 4, 5)))
    np.testing.assert_array_equal(load_cut(tmp_path / "cut.nii.gz", affine, whole.shape[1:]), whole)


def test_a_cut_map_of_zeros_comes_back(tmp_path):
    save_cut(np.zeros((1, 4, 4, 4), np.float32), np.eye(4), tmp_path / "cut.nii.gz")
    assert not load_cut(tmp_path / "cut.nii.gz", np.eye(4), (4, 4, 4)).any()
