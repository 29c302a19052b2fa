"""A small head that no turn maps onto itself, and files of images."""

import nibabel as nib
import numpy as np
from nibabel.affines import from_matvec


def blobs(shape=(40, 44, 36), seed=0, spacing=3.0):
    """A smooth head without symmetry, about the world's origin."""
    points = (np.indices(shape).T - (np.array(shape) - 1) / 2).T * spacing
    image = np.exp(-(((points / np.array([45, 55, 40]).reshape(3, 1, 1, 1)) ** 2).sum(0) ** 2))
    for centre in np.random.default_rng(seed).uniform(-30, 30, (12, 3)):
        image += 0.5 * np.exp(-((points - centre.reshape(3, 1, 1, 1)) ** 2).sum(0) / 150)
    affine = from_matvec(spacing * np.eye(3), -spacing * (np.array(shape) - 1) / 2)
    return (image * (image > 0.05)).astype(np.float32), affine


def rotation(degrees):
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def save(path, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path
