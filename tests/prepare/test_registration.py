"""Rigid registration and mutual information."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from heads import blobs, rotation
from nibabel.affines import from_matvec

from lib.prepare.registration import mutual_information, register_rigid
from lib.prepare.volumes import from_array


def test_a_turned_and_shifted_head_is_brought_back_with_the_same_digits():
    array, affine = blobs()
    motion = from_matvec(rotation(8), (6, -4, 5))
    other = np.where(array > 0, 3 - array, 0)  # of another contrast
    fixed, moving = from_array(array, affine), from_array(other, motion @ affine)
    found, again = register_rigid(fixed, moving), register_rigid(fixed, moving)
    assert found.GetParameters() == again.GetParameters()
    for point in ((20.0, -30.0, 10.0), (-25.0, 15.0, -20.0)):
        true = nib.affines.apply_affine(motion, np.multiply(point, (-1, -1, 1))) * (-1, -1, 1)
        assert np.linalg.norm(np.subtract(found.TransformPoint(point), true)) < 1.0  # mm, of voxels of 3 mm


def test_mutual_information_of_halves():
    """An image tells all of itself (5 bits of 32 equal bins), nothing of an independent one."""
    values = np.tile(np.arange(32.0), 1024).reshape(32, 32, 32)
    other = np.repeat(np.arange(32.0), 1024).reshape(32, 32, 32)
    image, independent = from_array(values, np.eye(4)), from_array(other, np.eye(4))
    inside = sitk.Cast(image >= 0, sitk.sitkUInt8)
    assert mutual_information(image, image, inside) == pytest.approx(5, abs=0.02)
    assert mutual_information(image, independent, inside) == pytest.approx(0, abs=1e-6)
