"""Cohort descriptions: lesion volumes and where lesions lie."""

import numpy as np
import pytest

from lib import cohort


def test_volumes_are_those_of_18_connected_instances():
    lesions = np.zeros((6, 6, 6), bool)
    lesions[0, 0, 0] = lesions[1, 1, 0] = True  # touch along an edge: one instance
    lesions[4, 4, 4] = lesions[5, 5, 5] = True  # touch at a corner: two
    volumes = cohort.instance_volumes(lesions, np.diag([1, 2, 1.5, 1]))
    assert volumes["volume_mm3"].tolist() == pytest.approx([6.0, 3.0, 3.0])


def test_frequency_counts_scans_in_world_coordinates():
    lesions, brain = np.zeros((2, 8, 8, 8), bool)
    brain[2:8, 2:8, 2:8] = True
    lesions[2:4, 2, 2] = True
    shift = np.eye(4)
    shift[0, 3] = 2.0
    moved = np.roll(lesions, -2, axis=0), np.roll(brain, -2, axis=0), shift  # the same places in the world
    frequency, everywhere, affine = cohort.frequency_map([(lesions, brain, np.eye(4)), moved], grid_mm=2.0)
    assert frequency.sum() == 2
    (cell,) = np.argwhere(frequency == 2)
    centre = affine[:3, :3] @ cell + affine[:3, 3]
    assert np.abs(centre - [2.5, 2, 2]).max() <= 1
    assert everywhere.sum() == everywhere.size == 3**3  # voxels 2 to 7 lie in cells 1 to 3


def test_a_scan_without_lesions_counts_for_the_brain_alone():
    brain = np.ones((4, 4, 4), bool)
    frequency, everywhere, _ = cohort.frequency_map([(~brain, brain, np.eye(4))], grid_mm=2.0)
    assert frequency.sum() == 0
    assert everywhere.all()
