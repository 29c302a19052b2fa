import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from literal import block, random_unet, relative_error
from monai.networks.nets import UNet
from torch import nn

from lib.exact.adjoint import unsupported_reason
from lib.exact.local_convolution import Convolution, cover
from lib.exact.steps import build_steps
from lib.saliency.gradients import smoothgrad


def unet(**options):
    torch.manual_seed(3)
    return UNet(3, 2, 2, **{"channels": (4, 8, 16), "strides": (2, 2), "num_res_units": 0, "norm": "batch", **options})


def saliency(model, **options):
    shape = (43, 40, 38)
    volume = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(1))
    lesion = block(shape, (20, 0, 34))
    generator = torch.Generator().manual_seed(2)
    return smoothgrad(model, volume, lesion, n_samples=3, generator=generator, **options)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("channels", [2, 7], ids=["few channels", "many channels"])
@pytest.mark.parametrize(
    "kernel, stride, padding",
    [((3, 3, 3), (2, 2, 2), (1, 1, 1)), ((5, 3, 1), (3, 1, 1), (2, 0, 0)), ((2,) * 3, (2,) * 3, (0,) * 3)],
)
def test_convolution_on_a_box_is_part_of_the_whole(transposed, channels, kernel, stride, padding):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, channels, *kernel, generator=generator)
    bias = torch.randn(channels if transposed else 6, generator=generator)
    kernel, stride, padding = (np.array(value) for value in (kernel, stride, padding))
    convolution = Convolution(weight, bias, stride, padding, 0 * padding, transposed)
    x = torch.randn(2, 6 if transposed else channels, 12, 11, 13, generator=generator, requires_grad=True)
    apply = F.conv_transpose3d if transposed else F.conv3d
    whole = apply(x, weight, bias, stride.tolist(), padding.tolist())
    size = np.array(whole.shape[2:])
    assert convolution.size(np.array(x.shape[2:])).tolist() == size.tolist()

    for box in (np.array([[0, 1, 2], [2, 2, 3]]), np.stack([size - 2, size])):
        part = tuple(slice(*side) for side in box.T)
        given = np.clip(convolution.input_box(box), 0, x.shape[2:])
        values = x.detach()[(..., *(slice(*side) for side in given.T))]
        torch.testing.assert_close(convolution.forward(values, given, box), whole[(..., *part)].detach())
        seed = torch.randn(whole[(..., *part)].shape, generator=generator)
        (expected,) = torch.autograd.grad(whole[(..., *part)], x, seed, retain_graph=True)
        actual = cover(convolution.adjoint(seed, box, given), given, np.array([[0, 0, 0], x.shape[2:]]))
        torch.testing.assert_close(actual, expected)


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
    assert unsupported_reason(model) == ""
    actual = saliency(model, aggregate=aggregate)
    monkeypatch.setattr("lib.saliency.gradients.unsupported_reason", lambda model: "not wanted")
    assert relative_error(actual, saliency(model, aggregate=aggregate)) < 1e-5


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv3d(2, 4, 3, padding=1), nn.Conv3d(4, 2, 3, padding=1)

    def forward(self, x):
        return self.last(F.gelu(self.first(x)))


class DataDependent(nn.Conv3d):
    def forward(self, x):
        return super().forward(x) if x.sum() < 1e9 else x


@pytest.mark.parametrize(
    "model, named",
    [
        (Functional(), "gelu"),
        (nn.Sequential(DataDependent(2, 2, 3, padding=1)), "traced"),
        (nn.Sequential(nn.Conv3d(2, 2, 3, padding=2, dilation=2)), "dilation"),
        (
            nn.Sequential(nn.BatchNorm3d(2), nn.Conv3d(2, 2, 3, padding=1)),
            "BatchNorm3d|normalisation that does not follow",
        ),
    ],
)
def test_network_without_adjoint_is_named_and_explained_on_its_window(model, named):
    assert re.search(named, unsupported_reason(model))
    model.eval()
    shape, voxel = (14, 13, 12), (6, 7, 5)
    volume = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(1))
    x = volume.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(x)[(0, 1, *voxel)], x)
    lesion = block(shape, voxel, (1, 1, 1))
    actual = smoothgrad(model, volume, lesion, n_samples=1, noise_fraction=0, generator=torch.Generator())
    assert relative_error(actual, expected[0]) < 1e-6


def test_changed_weights_change_the_map(monkeypatch):
    model = random_unet()
    before = saliency(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    after = saliency(model)
    assert relative_error(after, before) > 0.1
    monkeypatch.setattr("lib.saliency.gradients.unsupported_reason", lambda model: "not wanted")
    assert relative_error(after, saliency(model)) < 1e-5


def test_copies_that_are_walked_one_by_one_give_the_same_map(monkeypatch):
    model = random_unet()
    together = saliency(model)
    monkeypatch.setattr("lib.exact.adjoint.LARGE", 100)
    assert relative_error(saliency(model), together) < 1e-6
    assert relative_error(saliency(model, aggregate="mean"), saliency(model)) > 0.1


def test_batch_normalisation_is_folded_into_its_convolution():
    operations = [step.operation for step in build_steps(random_unet())]
    assert sum(isinstance(operation, Convolution) for operation in operations) == 5
    assert sum(isinstance(operation, torch.Tensor) for operation in operations) == 4
    assert len(operations) == 12  # with the input and two concatenations
