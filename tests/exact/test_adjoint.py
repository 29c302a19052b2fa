"""The adjoint gives the gradients of automatic differentiation, and says which networks it does not know."""

import re

import pytest
import torch
import torch.nn.functional as F
from literal import block, random_unet, relative_error
from monai.networks.nets import UNet
from torch import nn

from lib.exact.adjoint import AdjointGradients, checked_steps, unsupported_reason
from lib.exact.receptive_field import receptive_field
from lib.saliency.gradients import smoothgrad


def unet(**options):
    torch.manual_seed(3)
    return UNet(3, 2, 2, **{"channels": (4, 8, 16), "strides": (2, 2), "num_res_units": 0, "norm": "batch", **options})


SHAPE = (43, 40, 38)


def saliency(model, **options):
    shape = SHAPE
    volume = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(1))
    lesion = block(shape, (20, 0, 34))
    generator = torch.Generator().manual_seed(2)
    return smoothgrad(model, volume, lesion, n_samples=3, generator=generator, **options)


@pytest.mark.parametrize(
    "model",
    [
        unet(num_res_units=2),
        unet(channels=(4, 6, 8, 10), strides=((2, 2, 1), 1, 2), kernel_size=(5, 3, 1), act="RELU", dropout=0.2),
        nn.Sequential(nn.Conv3d(2, 5, 2, 2, bias=False), nn.LeakyReLU(-0.4), nn.ConvTranspose3d(5, 2, 4, 2, 1)),
        unet(act=("prelu", {"num_parameters": 1, "init": -0.7}), norm=None),
    ],
    ids=["residual units", "anisotropic", "even kernels", "no normalisation"],
)
@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_adjoint_equals_automatic_differentiation(model, aggregate, monkeypatch):
    assert unsupported_reason(model, SHAPE) == ""
    actual = saliency(model, aggregate=aggregate)
    monkeypatch.setattr("lib.saliency.gradients.checked_steps", lambda *given: (None, "not wanted"))
    assert relative_error(actual, saliency(model, aggregate=aggregate)) < 1e-5


class Cut(nn.Conv3d):
    def forward(self, x):
        return F.pad(super().forward(x)[..., 1:], (1, 0))


class Exchanged(nn.Conv3d):
    def forward(self, x):
        return super().forward(x)[:, [1, 0]]


class DataDependent(nn.Conv3d):
    def forward(self, x):
        return super().forward(x) if x.sum() < 1e9 else x


@pytest.mark.parametrize(
    "model, named",
    [
        (Cut(2, 2, 3, padding=1), "cut out"),
        (Exchanged(2, 2, 3, padding=1), "index"),
        (nn.Sequential(DataDependent(2, 2, 3, padding=1)), "values"),
    ],
)
def test_network_without_adjoint_is_named_and_explained_on_its_window(model, named):
    assert re.search(named, unsupported_reason(model, SHAPE))
    model.eval()
    shape, voxel = (14, 13, 12), (6, 7, 5)
    volume = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(1))
    x = volume.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(x)[(0, 1, *voxel)], x)
    lesion = block(shape, voxel, (1, 1, 1))
    actual = smoothgrad(model, volume, lesion, n_samples=1, noise_fraction=0, generator=torch.Generator())
    assert relative_error(actual, expected[0]) < 1e-6


@pytest.mark.parametrize(
    ("every", "by", "agree"),
    [(200, 0.02, True), (200, 0.2, False), (20, 5e-4, True), (20, 5e-3, False), (1, 5e-4, True), (1, 5e-3, False)],
)
def test_only_what_a_few_activations_within_rounding_of_their_kink_change_is_let_pass(every, by, agree):
    """Each `every`-th position that gradients reach differs by a fraction of the largest gradient."""

    class Off(AdjointGradients):
        rough = True

        def of_sum(self, seeds):
            total = super().of_sum(seeds)
            places = total.nonzero()[::every].T
            total[tuple(places)] += by * total.abs().max()
            return total

    model = random_unet()
    steps, reason = checked_steps(model, receptive_field(model, SHAPE), Off)
    assert (steps is not None) == agree == (reason == "")
    Off.rough = False
    assert checked_steps(model, receptive_field(model, SHAPE), Off)[0] is None


def test_changed_weights_change_the_map(monkeypatch):
    model = random_unet()
    before = saliency(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    after = saliency(model)
    assert relative_error(after, before) > 0.1
    monkeypatch.setattr("lib.saliency.gradients.checked_steps", lambda *given: (None, "not wanted"))
    assert relative_error(after, saliency(model)) < 1e-5


def test_copies_that_are_walked_one_by_one_give_the_same_map(monkeypatch):
    model = random_unet()
    together = saliency(model)
    monkeypatch.setattr("lib.exact.adjoint.LARGE", 100)
    assert relative_error(saliency(model), together) < 1e-6
    assert relative_error(saliency(model, aggregate="mean"), saliency(model)) > 0.1
