"""Maps of lesions, the noise they are drawn with, and the files they are kept in."""

from itertools import combinations

import numpy as np
import pytest
import torch

from lib.exact import find_window
from lib.network.architectures import build_network
from lib.saliency import maps
from lib.saliency.gradients import smoothgrad
from lib.saliency.maps import (
    METHODS,
    are_saved,
    lesion_generator,
    lesion_maps,
    map_name,
    peak_saliency,
    save_maps,
    saved_maps,
    scan_maps,
)  # fmt: skip

SHAPE = (24, 24, 24)
SETTINGS = {"n_samples": 2, "noise_fraction": 0.05, "layer": "model.1.submodule.2.conv", "peak_voxels": 2, "seed": 3}


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


def test_few_voxels_give_the_signed_maximum_over_as_many_of_the_lesion(model, image, lesion):
    found = lesion_maps(model, image, lesion, **SETTINGS, identity=["a"])["smoothgrad_few"]
    candidates, voxels = [], np.argwhere(lesion)
    for pair in combinations(voxels, 2):
        few = np.zeros_like(lesion)
        few[tuple(np.transpose(pair))] = True
        generator = lesion_generator(SETTINGS["seed"], "a")
        volume = torch.as_tensor(image)[None]
        candidates.append(smoothgrad(model, volume, few, n_samples=2, generator=generator).numpy())
    assert sum(np.array_equal(found, one) for one in candidates) == 1
    all_of_them = lesion_maps(model, image, lesion, **SETTINGS | {"peak_voxels": 9}, identity=["a"])
    np.testing.assert_array_equal(all_of_them["smoothgrad_few"], all_of_them["smoothgrad_max"])


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


def test_maps_are_read_as_they_were_saved_and_missed_if_one_is_damaged(tmp_path):
    maps = {method: np.zeros((2, *SHAPE), np.float32) for method in METHODS}
    maps["smoothgrad_max"][0, 3, 4, 5] = 1.5
    place = tmp_path, "sub-1_label-TP004"
    assert not are_saved(*place)
    save_maps(maps, *place, np.eye(4))
    found = saved_maps(*place, np.eye(4), SHAPE)
    for method in METHODS:
        np.testing.assert_array_equal(found[method], maps[method])
    assert are_saved(*place)
    file = tmp_path / "sub-1_label-TP004_desc-gradcam.nii.gz"
    file.write_bytes(file.read_bytes()[:-20])  # damaged
    assert not are_saved(*place)
    save_maps(maps, *place, np.eye(4))
    assert are_saved(*place)
    file.unlink()
    assert not are_saved(*place)


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


def test_the_time_of_a_voxel_tells_that_of_a_lesion(model, image, monkeypatch):
    """A clock that counts the voxels that are explained: 2 s each, and 5 s a map."""
    now, explain = [0.0], maps.smoothgrad

    def timed(model, volume, lesion, **noise):
        now[0] += 5 + 2 * lesion.sum()
        return explain(model, volume, lesion, **noise)

    monkeypatch.setattr(maps, "smoothgrad", timed)
    monkeypatch.setattr(maps.time, "perf_counter", lambda: now[0])
    for voxels in (30, 3):
        lesion = np.zeros(SHAPE, bool)
        lesion[10, 10, :].flat[np.arange(voxels) % SHAPE[2]] = True
        lesion[11, 10, : max(voxels - SHAPE[2], 0)] = True
        assert maps.seconds_a_voxel(model, image, lesion, n_samples=1, noise_fraction=0.05) == 2


@pytest.fixture(scope="module")
def normalised():
    torch.manual_seed(0)
    return build_network("dynunet", channels=(4, 6, 8), strides=(1, 2, 2)).eval()


def test_maps_of_a_network_with_instance_normalisation_may_have_an_error(normalised, image, lesion):
    exact, near = (
        lesion_maps(normalised, image, lesion, **SETTINGS | {"layer": ""}, identity=["a"], statistics=statistics)
        for statistics in ("exact", "1e-2")
    )
    for method in METHODS:
        error = np.abs(exact[method] - near[method]).max() / np.abs(exact[method]).max()
        assert error < 2e-2
        assert (error > 0) == (method != "grad_cam")
    with pytest.raises(ValueError, match="statistics is 'fast'"):
        lesion_maps(normalised, image, lesion, **SETTINGS | {"layer": ""}, identity=["a"], statistics="fast")


def passes(network):
    """Numbers of the calls of a network with values, and the function that no longer counts them."""
    calls = []
    counting = network.register_forward_pre_hook(lambda _, given: None if given[0].is_meta else calls.append(1))
    return calls, counting.remove


@pytest.mark.parametrize("statistics", ["exact", 1e-2])
@pytest.mark.parametrize("of", ["model", "normalised"])
def test_lesions_together_have_the_maps_of_each_alone(of, statistics, request, image, lesion):
    network, other = request.getfixturevalue(of), np.roll(lesion, (3, -4, 5), (0, 1, 2))
    options = SETTINGS | {"layer": "" if of == "normalised" else SETTINGS["layer"], "statistics": statistics}
    lesions, identities = [lesion, other], [["sub-1", "TP", 1], ["sub-1", "TP", 2]]
    together = list(scan_maps(network, image, lesions, identities=identities, **options))
    for found, one, identity in zip(together, lesions, identities, strict=True):
        alone = lesion_maps(network, image, one, identity=identity, **options)
        for method in METHODS:
            np.testing.assert_array_equal(found[method], alone[method])
    assert list(scan_maps(network, image, [], identities=[], **options)) == []


def test_lesions_of_a_network_without_windows_share_noise_and_passes(normalised, image, lesion, monkeypatch):
    options = SETTINGS | {"layer": ""}
    lesions = [np.roll(lesion, step, 0) for step in range(3)]
    identities = [["sub-1", "TP", number] for number in range(3)]
    find_window(normalised, lesion, SHAPE)  # tries the network once
    calls, stop = passes(normalised)
    list(scan_maps(normalised, image, lesions, identities=identities, **options))
    n_together = len(calls)
    monkeypatch.setattr(maps, "TOGETHER", 1)
    apart = list(scan_maps(normalised, image, lesions, identities=identities, **options))
    stop()
    assert len(calls) - 2 * n_together == 2 * options["n_samples"]
    again = smoothgrad(
        normalised, torch.as_tensor(image)[None], lesions[1], n_samples=2, noise_fraction=0.05,
        generator=lesion_generator(SETTINGS["seed"], "sub-1"),
    )  # fmt: skip
    np.testing.assert_array_equal(apart[1]["smoothgrad_max"], again.numpy())
