"""Numbers taken from the maps of lesions."""

import numpy as np
import pytest

from lib.lesions.instances import signed_distance
from lib.saliency.measures import measure_maps, reach_mm


def test_numbers_of_a_map_by_hand():
    lesion, brain = np.zeros((2, 15, 15, 15), bool)
    brain[:, :, 1:] = True
    lesion[7, 7, 7] = True
    flair, mprage = np.zeros((2, 15, 15, 15), np.float32)
    flair[7, 7, 7], flair[7, 7, 8], flair[0, 0, 0] = 2.0, -0.5, -3.0  # the last one lies far away and outside the brain
    mprage[7, 7, 9] = -1.0
    maps = {"smoothgrad_max": np.stack([flair, mprage])}
    edges = [-1, 0, 1, 2, 3]
    numbers, profile = measure_maps(maps, lesion, brain, (1.0, 1.0, 1.0), edges)
    first, second = numbers.to_dict("records")
    assert (first["method"], first["sequence"], second["sequence"]) == ("smoothgrad_max", "FLAIR", "MPRAGE")
    assert (first["peak"], first["peak_positive"], first["peak_negative"]) == (-3.0, 2.0, -3.0)
    assert (second["peak"], second["peak_positive"], second["peak_negative"]) == (-1.0, 0.0, -1.0)
    assert first["mean_inside"] == 2.0
    distance = np.linalg.norm(np.argwhere(np.ones_like(lesion)) - 7, axis=1)
    offsets = np.abs(np.argwhere(np.ones_like(lesion)) - 7)
    with np.errstate(invalid="ignore"):
        border = distance - 0.5 * distance / np.maximum(distance, 1)  # half a voxel towards the single lesion voxel
    around = (distance > 0) & (border <= 3)
    assert first["mean_perilesional"] == pytest.approx(-0.5 / around.sum())
    assert offsets.max() == 7
    flair_profile = profile[profile["sequence"] == "FLAIR"].set_index("distance_mm")["value"]
    assert flair_profile[-0.5] == 2.0
    shell = (border >= 0) & (border < 1) & (distance > 0)
    assert flair_profile[0.5] == pytest.approx(-0.5 / shell.sum())


def test_contrast_is_inside_less_perilesional_and_the_profile_lies_within_its_edges():
    lesion = np.zeros((15, 15, 15), bool)
    lesion[6:9, 6:9, 6:9] = True
    values = np.where(lesion, 0.7, -0.2).astype(np.float32)
    numbers, profile = measure_maps({"grad_cam": values[None]}, lesion, np.ones_like(lesion), (1, 1, 1), [-2, 0, 3])
    assert numbers["contrast"].tolist() == pytest.approx([0.9])
    assert profile["distance_mm"].tolist() == [-1, 1.5]
    assert profile["value"].tolist() == pytest.approx([0.7, -0.2])


@pytest.mark.parametrize(("decay_mm", "spacing_mm"), [(1.0, (1, 1, 1)), (2.0, (1, 1, 1)), (2.0, (1, 0.8, 2))])
def test_the_reach_of_an_exponential_is_three_decay_lengths(decay_mm, spacing_mm):
    """exp(-r / d) falls to 5 % at r = 3.0 d; shells are 1 mm wide and the largest one begins at 0."""
    lesion = np.zeros((41, 41, 33), bool)
    lesion[20, 20, 16] = True
    distance = signed_distance(lesion, spacing_mm)
    values = (np.exp(-distance.clip(0) / decay_mm) * (-1) ** np.indices(lesion.shape)[0]).astype(np.float32)
    numbers, _ = measure_maps({"grad_cam": values[None]}, lesion, np.ones_like(lesion), spacing_mm, range(-2, 13))
    assert numbers["reach5_mm"][0] == pytest.approx(3 * decay_mm, abs=1)


@pytest.mark.parametrize(
    ("magnitude", "expected"),
    [
        ([1, 0.5, 0.04, 0.06, 0.01], 3),  # below 5 % once, but not from there on
        ([1, 0.04, 0.04, 0.01, 0.01], 0),  # within the lesion
        ([0.01, 0.02, 1, 0.05, 0.049], 3),
        ([1, 0.5, 0.3, 0.2, 0.1], np.nan),  # beyond the last shell
        ([0, 0, 0, 0, 0], np.nan),
    ],
)
def test_the_reach_is_where_the_magnitude_stays_below(magnitude, expected):
    found = reach_mm(np.array([0, 1, 2, 3, 4]), np.array(magnitude, float))
    assert found == pytest.approx(expected, nan_ok=True)
