"""Maps of lesions, kept in files, and the numbers taken from them."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.lesions.instances import signed_distance
from lib.network.architectures import build_network
from lib.saliency.gradients import smoothgrad
from lib.saliency.maps import METHODS, lesion_generator, lesion_maps, map_name, peak_saliency, saved_maps
from lib.saliency.measures import measure_maps, reach_mm
from lib.saliency.work import scan_instances
from lib.scans.images import Scan

SHAPE = (24, 24, 24)
SETTINGS = {"n_samples": 2, "noise_fraction": 0.05, "layer": "model.1.submodule.2.conv", "seed": 3}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_network("unet", channels=(4, 8, 16), strides=(2, 2)).eval()


@pytest.fixture
def lesion():
    mask = np.zeros(SHAPE, bool)
    mask[11:13, 12, 12:14] = True
    return mask


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)


def test_the_noise_depends_on_seed_and_lesion_alone(model, image, lesion):
    first = lesion_maps(model, image, lesion, **SETTINGS, identity=["sub-1", "TP", 4])
    lesion_maps(model, image, lesion, **SETTINGS, identity=["sub-1", "TP", 5])
    again = lesion_maps(model, image, lesion, **SETTINGS, identity=["sub-1", "TP", 4])
    other = lesion_maps(model, image, lesion, **SETTINGS, identity=["sub-1", "TP", 5])
    assert list(first) == METHODS
    for method in METHODS:
        np.testing.assert_array_equal(first[method], again[method])
    assert not np.array_equal(first["smoothgrad_max"], other["smoothgrad_max"])


class Flipped(torch.nn.Module):
    """A network with its two classes exchanged."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, volume):
        return self.model(volume).flip(1)


def test_the_mean_gradient_of_the_difference_is_that_of_lesion_less_background(model, image, lesion):
    options = SETTINGS | {"layer": "model.0.conv", "identity": ["sub-1", "TP", 4]}
    found = lesion_maps(model, image, lesion, **options, score="difference")["smoothgrad_mean"]
    of_lesion = lesion_maps(model, image, lesion, **options)["smoothgrad_mean"]
    options["layer"] = "model.model.0.conv"
    of_background = lesion_maps(Flipped(model), image, lesion, **options)["smoothgrad_mean"]
    np.testing.assert_allclose(found, of_lesion - of_background, atol=1e-5 * np.abs(found).max())
    with pytest.raises(ValueError, match="score is 'difference of logits': choose one of logit, difference"):
        lesion_maps(model, image, lesion, **options, score="difference of logits")


def test_maps_are_computed_once_and_read_afterwards(tmp_path):
    maps = {method: np.zeros((2, *SHAPE), np.float32) for method in METHODS}
    maps["smoothgrad_max"][0, 3, 4, 5] = 1.5
    calls = []

    def compute():
        calls.append(1)
        return maps

    for _ in range(2):
        found = saved_maps(tmp_path, "sub-1_label-TP004", np.eye(4), SHAPE, compute)
        for method in METHODS:
            np.testing.assert_array_equal(found[method], maps[method])
    assert len(calls) == 1
    (tmp_path / "sub-1_label-TP004_desc-gradcam.nii.gz").unlink()
    saved_maps(tmp_path, "sub-1_label-TP004", np.eye(4), SHAPE, compute)
    assert len(calls) == 2


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


def test_healthy_volumes_of_a_true_positive_have_its_shape_and_lie_apart_in_their_tissue():
    centre = np.linalg.norm(np.indices((64, 64, 64)) - 31.5, axis=0)
    brain, white = centre < 28, centre < 17
    mprage = np.select([white, centre < 24], [1.0, 0.0], -2.0) + np.random.default_rng(0).normal(0, 0.1, brain.shape)
    image = np.where(brain, np.stack([mprage, mprage]), 0).astype(np.float32)
    predicted, annotated = np.zeros((2, 64, 64, 64), np.int32)
    predicted[30:33, 30, 30:32], annotated[30:32, 30, 30:32], annotated[40, 40, 40:42] = 1, 1, 2
    scan = Scan("sub-1", image, brain, annotated > 0, np.eye(4))
    rows = pd.DataFrame({"scan": "sub-1", "label": [1, 2], "kind": ["TP", "FN"]})
    probability = np.where(predicted, 0.9, 0.1)
    found = scan_instances(rows, scan, probability, predicted, annotated, apart_mm=4, seed=0)
    assert [one["kind"] for one in found] == ["TP", "TN", "TN grey", "FN"]
    assert [one["label"] for one in found] == [1, 1, 1, 2]
    assert [one["mean_probability"] for one in found] == pytest.approx([0.9, 0.1, 0.1, 0.1])
    places = [np.argwhere(np.isin(np.arange(brain.size), one["where"]).reshape(brain.shape)) for one in found]
    marked = np.argwhere((predicted > 0) | (annotated > 0))
    for place, tissue in zip(places[1:3], (white, brain & ~white), strict=True):
        np.testing.assert_array_equal(place - place[0], places[0] - places[0][0])
        assert tissue[tuple(place.T)].all()
        assert np.linalg.norm(place[:, None] - marked, axis=2).min() > 4


def test_maps_are_named_without_blanks():
    assert map_name({"scan": "sub-1_ses-2", "kind": "TN grey", "label": 7}) == "sub-1_ses-2_label-TNgrey007"


def test_the_peak_is_the_value_of_largest_magnitude_of_the_signed_maximum(model, image, lesion):
    peaks = peak_saliency(model, image, lesion, n_samples=2, noise_fraction=0.05, seed=[1, "a"])
    expected = smoothgrad(
        model, torch.as_tensor(image)[None], lesion, n_samples=2, noise_fraction=0.05,
        generator=lesion_generator(1, "a"),
    ).numpy()  # fmt: skip
    for name, channel in zip(("peak_flair", "peak_mprage"), expected, strict=True):
        assert peaks[name] == channel.flat[np.abs(channel).argmax()]
