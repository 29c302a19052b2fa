"""Leakage against closed forms and the literal computation on whole volumes."""

import numpy as np
import pytest
import torch
from literal import SHAPE, block, random_unet, scan
from torch import nn

from lib.exact.windows import find_window, whole_logits
from lib.sanity.leakage import leakage

NEAR, FAR = (10, 11, 12), (34, 30, 28)


def instances(*places, shape=SHAPE):
    """Label image of blocks at these places, numbered from 1."""
    return sum(number * block(shape, place).astype(np.int32) for number, place in enumerate(places, 1))


def window_of(model, labels, label):
    lesion = labels == label
    return find_window(model, lesion, lesion.shape).within(lesion.shape)


def values(found, name):
    return found[found["map"] == name].set_index("of")["value"].to_dict()


def test_a_pointwise_network_leaks_exactly_nothing():
    torch.manual_seed(0)
    model, labels = nn.Conv3d(2, 2, 1), instances((8, 8, 8), (11, 8, 8), (8, 10, 8))  # they touch the first
    image, window = scan()[0].numpy(), window_of(model, labels, 1)
    maps = {"lesion mask": (labels == 1)[window].astype(float), "nowhere": np.zeros(labels[window].shape)}
    found = leakage(model, image, labels, 1, 0 * image, maps)
    change = -(model.weight[1, :, 0, 0, 0].detach().numpy() @ image[:, labels == 1]).mean()
    assert values(found, "lesion mask") == pytest.approx(
        {"own": change, "others": 0, "share": 0, "reached": 0}, rel=1e-5
    )
    assert values(found, "lesion mask")["share"] == 0
    nowhere = values(found, "nowhere")
    assert (nowhere["own"], nowhere["others"], nowhere["reached"]) == (0, 0, 0) and np.isnan(nowhere["share"])


def test_two_voxels_in_one_kernel_share_the_change_as_its_weights():
    """The lesion logit is 3 at a voxel, -1 two voxels away along X, of the FLAIR: a quarter of the change is the other's."""
    model, labels = nn.Conv3d(2, 2, 5, padding=2), np.zeros((12, 11, 10), np.int32)
    nn.init.zeros_(model.weight)
    model.weight.data[1, 0, 2, 2, 2], model.weight.data[1, 0, 0, 2, 2] = 3.0, -1.0
    labels[5, 5, 5], labels[7, 5, 5], labels[5, 5, 8] = 1, 2, 3  # the third is out of reach
    image, window = scan(labels.shape)[0].numpy(), window_of(model, labels, 1)
    mask = (labels == 1)[window].astype(float)
    beside = np.roll(mask, 1, 0)  # strongest next to the lesion: replaced although it is not in it
    found = leakage(model, image, labels, 1, 0 * image, {"lesion mask": mask, "beside": beside})
    at, near = image[0, 5, 5, 5], values(found, "lesion mask")
    assert near == pytest.approx({"own": -3 * at, "others": abs(at), "share": 0.25, "reached": 1}, rel=1e-5)
    assert values(found, "beside") == pytest.approx({"own": 0, "others": 0, "share": np.nan, "reached": 1}, nan_ok=True)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_lesions_in_one_receptive_field_leak_what_a_literal_computation_says(norm):
    model, labels = random_unet(norm=norm).eval(), instances(NEAR, (14, 13, 12), (10, 16, 12), FAR)
    image, random = scan()[0], np.random.default_rng(0)
    window, lesion = window_of(model, labels, 1), labels == 1
    maps = {"random": random.random(labels[window].shape), "lesion mask": lesion[window].astype(float)}
    baseline = torch.full_like(image, 2.0)  # of images that are not z-scored
    baseline[..., :3] = image[..., :3] = -1  # air
    found = leakage(model, image.numpy(), labels, 1, baseline.numpy(), maps)

    def means(volume):
        with torch.no_grad():
            logits = whole_logits(model, volume[None])[0, 1].double().numpy()
        return np.array([logits[labels == number].mean() for number in (1, 2, 3, 4)])

    for name, ranking in maps.items():
        deleted, tissue = image.clone(), (image[0] != -1).numpy()[window]
        least = np.sort(ranking[tissue])[-lesion.sum()]
        deleted[:, *window][:, torch.as_tensor(tissue & (ranking >= least))] = 2.0
        own, *others = means(deleted) - means(image)
        others = np.abs(others).sum()
        expected = {
            "own": own,
            "others": others,
            "share": others / (others + abs(own)),
            "reached": 3 - (norm == "batch"),
        }
        assert others > 0
        assert values(found, name) == pytest.approx(expected, rel=1e-4), name
