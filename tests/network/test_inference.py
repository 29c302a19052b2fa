"""Sliding-window probabilities."""

import numpy as np
import pytest
import torch

from lib.exact.contract import check_network
from lib.network.inference import blended_lesion, lesion_patches, patch_slices, predict


class Pointwise(torch.nn.Module):
    """Logits (0, FLAIR + 2 MPRAGE): blending patches of equal probabilities changes nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, x):
        lesion = torch.einsum("bcxyz,c->bxyz", x, self.weight)
        return torch.stack([torch.zeros_like(lesion), lesion], 1)


def test_a_pointwise_network_gives_its_probability_at_every_voxel_of_any_size():
    image = np.random.default_rng(0).normal(size=(2, 19, 11, 23)).astype(np.float32)
    probability = predict(Pointwise().eval(), image, window=16)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-image[0] - 2 * image[1])), atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16, 16), (20, 16, 33), (40, 17, 23)])
def test_the_patches_are_those_that_the_network_is_given(shape):
    model, given = Pointwise().eval(), []
    image = np.arange(2 * np.prod(shape), dtype=np.float32).reshape(2, *shape)
    check_network(model, (16, 16, 16))
    model.register_forward_hook(lambda module, patches, logits: given.extend(patches[0][:, 0].numpy()))
    predict(model, image, window=16)
    slices = patch_slices(shape, 16)
    assert len(given) == len(slices)
    for patch, part in zip(given, slices, strict=True):
        np.testing.assert_array_equal(patch, image[(0, *part)])


def test_mirrored_averages_over_both_hands_of_each_patch():
    """A network that looks to one side only: mirrored, it sees as much to the left as to the right."""

    class Shifted(Pointwise):
        def forward(self, x):
            return super().forward(torch.nn.functional.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1])

    image = np.random.default_rng(0).normal(size=(2, 16, 16, 16)).astype(np.float32)
    padded = np.pad(image, ((0, 0), (1, 1), (0, 0), (0, 0)))
    below, above = (1 / (1 + np.exp(-part[0] - 2 * part[1])) for part in (padded[:, :-2], padded[:, 2:]))
    np.testing.assert_allclose(predict(Shifted().eval(), image, window=16), below, atol=1e-6)
    np.testing.assert_allclose(
        predict(Shifted().eval(), image, window=16, mirrored=True), (below + above) / 2, atol=1e-6
    )


def test_a_network_that_computes_in_place_sees_each_patch_as_it_is_and_leaves_the_image():
    convolution = torch.nn.Conv3d(2, 2, 3, padding=1)
    image = np.random.default_rng(0).normal(size=(2, 16, 16, 16)).astype(np.float32)
    before = image.copy()
    apart, in_place = (
        predict(torch.nn.Sequential(act, convolution).eval(), image, window=16, mirrored=True)
        for act in (torch.nn.ELU(), torch.nn.ELU(inplace=True))
    )
    np.testing.assert_array_equal(in_place, apart)
    np.testing.assert_array_equal(image, before)


def test_probabilities_not_logits_are_blended():
    """With a network that sees the whole patch, the result stays between the patches' probabilities."""

    class PatchMean(Pointwise):
        def forward(self, x):
            return super().forward(x.mean((2, 3, 4), keepdim=True).expand_as(x))

    image = np.zeros((2, 32, 16, 16), np.float32)
    image[0, 20:] = 40.0
    probability = predict(PatchMean().eval(), image, window=16)
    assert probability.min() >= 0
    assert probability[0, 0, 0] == np.float32(0.5)
    middle = probability[14, 8, 8]
    assert 0.5 < middle < 1


@pytest.mark.parametrize("shape", [(20, 16, 33), (16, 16, 16), (40, 17, 23)])
def test_a_lesion_blended_from_its_patches_has_the_probability_of_the_whole_scan(shape):
    torch.manual_seed(0)
    model = torch.nn.Conv3d(2, 2, 7, padding=3).eval()  # sees beyond the borders of patches
    image = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    lesion = np.zeros(shape, bool)
    lesion[10:15, 9:14, 8:15] = lesion[0, 0, 0] = True
    patches = lesion_patches(lesion, 16)
    blended = blended_lesion(model, lambda part: [image[(slice(None), *part)]], lesion, patches)
    np.testing.assert_allclose(blended[0], predict(model, image.numpy(), window=16)[lesion], atol=1e-6)


def test_a_volume_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="smaller than the window of 16"):
        lesion_patches(np.ones((16, 16, 15), bool), 16)


class Kept(Pointwise):
    """Adds what it has kept of its input, as a network that stores its skip connections: another call replaces it."""

    def __init__(self, by_hook):
        super().__init__()
        self.first, self.by_hook, self.features = torch.nn.Identity(), by_hook, []
        if by_hook:
            self.first.register_forward_hook(lambda module, given, found: self.features.append(found))

    def forward(self, x):
        self.features.clear()
        found = self.first(x)
        if not self.by_hook:
            self.skip = found
        for _ in range(20):
            found = torch.nn.functional.avg_pool3d(found, 3, 1, 1)
        return super().forward(self.features[-1] if self.by_hook else self.skip)


@pytest.mark.parametrize("by_hook", [False, True])
def test_patches_of_a_network_that_keeps_something_do_not_run_at_the_same_time(by_hook, monkeypatch):
    monkeypatch.setattr("lib.network.inference.processors", lambda: 4)
    model, image = Kept(by_hook).eval(), np.random.default_rng(0).normal(size=(2, 64, 64, 32)).astype(np.float32)
    assert not check_network(model, (32,) * 3)
    probability = predict(model, image, window=32)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-image[0] - 2 * image[1])), atol=1e-6)


def test_patches_of_other_networks_do():
    assert check_network(Pointwise().eval(), (16, 16, 16))
