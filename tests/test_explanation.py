"""Maps of lesions, kept in files, and the numbers taken from them."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib import explanation, saliency, unet

SHAPE = (24, 24, 24)
SETTINGS = {"n_samples": 2, "noise_fraction": 0.05, "layer": "model.1.submodule.2.conv", "seed": 3}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return unet.build("unet", channels=(4, 8, 16), strides=(2, 2)).eval()


@pytest.fixture
def lesion():
    mask = np.zeros(SHAPE, bool)
    mask[11:13, 12, 12:14] = True
    return mask


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)


def test_the_noise_depends_on_seed_and_lesion_alone(model, image, lesion):
    first = explanation.lesion_maps(model, image, lesion, **SETTINGS, identity=["sub-1", "TP", 4])
    explanation.lesion_maps(model, image, lesion, **SETTINGS, identity=["sub-1", "TP", 5])
    again = explanation.lesion_maps(model, image, lesion, **SETTINGS, identity=["sub-1", "TP", 4])
    other = explanation.lesion_maps(model, image, lesion, **SETTINGS, identity=["sub-1", "TP", 5])
    assert list(first) == explanation.METHODS
    for method in explanation.METHODS:
        np.testing.assert_array_equal(first[method], again[method])
    assert not np.array_equal(first["smoothgrad_max"], other["smoothgrad_max"])


def test_maps_are_computed_once_and_read_afterwards(tmp_path):
    maps = {method: np.zeros((2, *SHAPE), np.float32) for method in explanation.METHODS}
    maps["smoothgrad_max"][0, 3, 4, 5] = 1.5
    calls = []

    def compute():
        calls.append(1)
        return maps

    for _ in range(2):
        found = explanation.saved_maps(tmp_path, "sub-1_label-TP004", np.eye(4), SHAPE, compute)
        for method in explanation.METHODS:
            np.testing.assert_array_equal(found[method], maps[method])
    assert len(calls) == 1
    (tmp_path / "sub-1_label-TP004_desc-gradcam.nii.gz").unlink()
    explanation.saved_maps(tmp_path, "sub-1_label-TP004", np.eye(4), SHAPE, compute)
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
    numbers, profile = explanation.measure(maps, lesion, brain, (1.0, 1.0, 1.0), edges)
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


def test_mean_profile_averages_lesions_and_counts_them():
    rows = [
        {"subject": subject, "scan": subject, "label": label, "distance_mm": 0.5, "value": value}
        for subject, label, value in (("a", 1, 1.0), ("a", 2, 2.0), ("b", 1, 6.0))
    ]
    profiles = pd.DataFrame(rows).assign(method="smoothgrad_max", sequence="FLAIR", kind="TP")
    table = explanation.mean_profile(profiles, n_resamples=100, generator=np.random.default_rng(0))
    assert table[["mean", "lesions", "patients"]].to_numpy().tolist() == [[3.0, 3, 2]]
    assert table[["low", "high"]].to_numpy().tolist() == [[1.5, 6.0]]


def test_the_peak_is_the_value_of_largest_magnitude_of_the_signed_maximum(model, image, lesion):
    peaks = explanation.peak_saliency(model, image, lesion, n_samples=2, noise_fraction=0.05, seed=[1, "a"])
    expected = saliency.smoothgrad(
        model, torch.as_tensor(image)[None], lesion, n_samples=2, noise_fraction=0.05,
        generator=explanation.lesion_generator(1, "a"),
    ).numpy()  # fmt: skip
    for name, channel in zip(("peak_flair", "peak_mprage"), expected, strict=True):
        assert peaks[name] == channel.flat[np.abs(channel).argmax()]
