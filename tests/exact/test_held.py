"""Gradients through the statistics of instance and group normalisation, against automatic differentiation."""

import numpy as np
import pytest
import torch
from literal import block, generator, literal, relative_error, scan, voxel_gradients, whole_copies
from monai.networks.nets import UNet
from torch import nn

from lib.exact.adjoint import checked_steps
from lib.exact.held import NormalisedGradients, WholeGradients
from lib.exact.windows import find_window, lesion_voxels
from lib.network.architectures import build_network
from lib.saliency.gradients import copy_maps, smoothgrad

SHAPE, LESION = (20, 16, 24), block((20, 16, 24), (8, 6, 10), (3, 3, 3))


class Residual(nn.Module):
    """Group normalisation before and after activations, on a skip and on the way that ends last."""

    def __init__(self, groups):
        super().__init__()
        self.first, self.second = nn.Conv3d(2, 4, 3, padding=1), nn.Conv3d(4, 4, 3, 2, 1)
        self.up, self.last = nn.ConvTranspose3d(4, 4, 2, 2), nn.Conv3d(8, 2, 1)
        self.norms = nn.ModuleList(nn.GroupNorm(groups, 4) for _ in range(3))

    def forward(self, x):
        skip = self.norms[0](self.first(x)).relu()
        deep = self.norms[1](nn.functional.leaky_relu(self.second(skip)))
        return self.last(torch.cat([self.norms[2](self.up(deep + deep)), skip], 1))


class Averaged(Residual):
    """A skip that is averaged, and adds to what a stride and channels in groups have made, as in nnU-Net's residual encoder."""

    def __init__(self, groups):
        super().__init__(groups)
        self.second = nn.Conv3d(4, 4, 3, 2, 1, groups=2)

    def forward(self, x):
        skip = self.norms[0](self.first(x)).relu()
        deep = self.norms[1](self.second(skip))
        deep += nn.functional.avg_pool3d(skip, 2)
        return self.last(torch.cat([self.norms[2](self.up(deep.relu())), skip], 1))


class Smooth(Residual):
    """A network that is interpolated, has no piecewise linear activation, and gives the log-odds of a mean of two."""

    def __init__(self, groups):
        super().__init__(groups)
        self.last = nn.Conv3d(8, 4, 1)

    def forward(self, x):
        skip = nn.functional.elu(self.norms[0](self.first(x)))
        deep = self.norms[1](nn.functional.silu(self.second(skip)))
        up = nn.functional.interpolate(deep, scale_factor=2, mode="trilinear")
        logits = self.last(torch.cat([self.norms[2](up), skip], 1))
        logarithms = torch.cat([logits[:, :2].log_softmax(1), logits[:, 2:].log_softmax(1)], 1)
        background, lesion = (logarithms[:, kind::2].logsumexp(1, keepdim=True) for kind in range(2))
        return torch.cat([torch.zeros_like(lesion), lesion - background], 1)


NETWORKS = {
    "DynUNet, residual": lambda: build_network("dynunet", channels=(4, 6, 8)),
    "UNet, not affine": lambda: UNet(3, 2, 2, (4, 6, 8), (2, 2), num_res_units=1, norm="instance"),
    "group": lambda: Residual(2),
    "group a channel": lambda: Residual(4),
    "layer": lambda: Residual(1),
    "reach of the whole patch": lambda: UNet(
        3, 2, 2, (3, 4, 4), (2, 2), kernel_size=7, up_kernel_size=7, norm="instance"
    ),
    "averaged skip": lambda: Averaged(4),
    "smooth": lambda: Smooth(2),
    "batch, untracked": lambda: nn.Sequential(
        nn.Conv3d(2, 3, 3, padding=1), nn.BatchNorm3d(3, track_running_stats=False), nn.PReLU(), nn.Conv3d(3, 2, 3, padding=1)
    ),
}  # fmt: skip


def drawn(network):
    torch.manual_seed(0)
    model = network().double().eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, float(name.endswith("weight")), 0.3)
    return model


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return drawn(NETWORKS[request.param])


@pytest.fixture(scope="module")
def dynunet():
    return drawn(NETWORKS["DynUNet, residual"])


def gradients(model, volume, tolerance, dtype=torch.double):
    """Approximate and true gradients (n, 2, X, Y, Z) of the lesion's logits, and what was computed."""
    model, volume = model.to(dtype), volume.to(dtype)
    field = find_window(model, LESION, SHAPE, held=True).field
    steps, reason = checked_steps(model, field, WholeGradients)
    assert not reason
    passes = WholeGradients.of_copy(steps, volume)
    found = NormalisedGradients(passes, lesion_voxels(LESION, SHAPE), tolerance)
    seeds = torch.tensor([0.0, 1.0]).to(volume).view(1, 2, 1).expand(1, 2, LESION.sum())
    maps = []
    for number in range(LESION.sum()):
        ((gradient, part),) = found.of_voxel(number, seeds)
        whole = torch.zeros_like(volume)
        whole[part] = gradient
        maps.append(whole[0])
    return torch.stack(maps), torch.stack(list(voxel_gradients(model, volume, LESION))), found


def test_local_part_and_all_directions_are_the_true_gradient(network):
    actual, expected, found = gradients(network, scan(SHAPE).double(), 0)
    assert relative_error(actual, expected) < 1e-10
    assert found.error < 1e-10


def test_coarse_levels_are_exact_where_gradients_reach_the_whole_patch(monkeypatch):
    model, volume = drawn(NETWORKS["reach of the whole patch"]), scan(SHAPE).double()
    actual, expected, found = gradients(model, volume, 0.999)
    assert found.held.everywhere
    for number, derivatives in found.held.sensitivities.items():
        assert not derivatives.any() or found.held.sizes[number].prod() > np.prod(SHAPE) / 64
    monkeypatch.setattr("lib.exact.held.COARSE", np.inf)
    held, _, _ = gradients(model, volume, 0.999)
    assert relative_error(actual, expected) < relative_error(held, expected)


def test_few_directions_are_within_the_stated_error(network):
    volume = scan(SHAPE).double()
    without, expected, _ = gradients(network, volume, 0.999)
    local = relative_error(without, expected)
    actual, _, found = gradients(network, volume, local / 2)
    error = float((actual - expected).abs().max() / found.peak)
    assert error <= local / 2
    assert found.error <= local / 2
    assert 0 < len(found.maps) <= LESION.sum()


def test_measured_error_is_that_of_the_gradients(dynunet):
    for seed in (1, 2):
        volume = torch.randn(1, 2, *SHAPE, generator=generator(seed)).double()
        actual, expected, found = gradients(dynunet, volume, 0.05)
        assert 0.1 * found.error < float((actual - expected).abs().max() / found.peak) <= found.error


def normal_of(norm, x):
    """Instance normalisation, with its statistics as numbers to automatic differentiation."""
    dims = (2, 3, 4)
    mean, deviation = (
        x.mean(dims, keepdim=True).detach(),
        (x.var(dims, correction=0, keepdim=True) + norm.eps).sqrt().detach(),
    )
    scale, shift = (one.view(1, -1, 1, 1, 1) for one in (norm.weight, norm.bias))
    return (x - mean) / deviation * scale + shift


def test_in_single_precision_what_goes_through_statistics_is_rounded_to_half(dynunet, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(nn.InstanceNorm3d, "forward", normal_of)
        without = torch.stack(list(voxel_gradients(dynunet, scan(SHAPE).double(), LESION)))
    _, expected, _ = gradients(dynunet, scan(SHAPE).double(), 0.999)
    through_statistics = relative_error(without, expected)
    actual, expected, _ = gradients(dynunet, scan(SHAPE), 0, torch.float)
    dynunet.double()
    assert relative_error(actual, expected) < 2**-11 * through_statistics


def extremes(maps):
    return maps.amax(0), maps.amin(0)


def test_both_extremes_of_each_copy_are_within_the_tolerance(dynunet):
    """The signed maximum may take the other of two extremes that tie, so each is judged."""
    volume, tolerance, errors = scan(SHAPE).double(), 0.05, []
    options = {"n_samples": 3, "generator": generator(), "statistics": tolerance, "measured": errors.append}
    maps = list(copy_maps(dynunet, volume, LESION, **options))
    assert len(errors) == 3
    assert all(0 < error <= tolerance for error in errors)
    for actual, copy in zip(maps, whole_copies(dynunet, volume, LESION, 3), strict=True):
        highest, lowest = extremes(torch.stack(list(voxel_gradients(dynunet, copy, LESION))))
        peak = max(highest.max(), -lowest.min())
        nearest = torch.minimum((actual - highest.clamp_min(0)).abs(), (actual - lowest.clamp_max(0)).abs())
        assert nearest.max() <= tolerance * peak
        assert (actual.abs() - torch.maximum(highest, -lowest)).abs().max() <= tolerance * peak


def test_map_covers_the_whole_patch_and_the_mean_is_exact(dynunet):
    volume = scan(SHAPE).double()
    options = {"n_samples": 2, "statistics": 1e-6}
    fast = smoothgrad(dynunet, volume, LESION, generator=generator(), **options)
    assert fast[:, -1, -1, -1].all()
    assert relative_error(fast, literal(dynunet, volume, LESION, 2, "max")) < 1e-2
    mean = smoothgrad(dynunet, volume, LESION, aggregate="mean", generator=generator(), **options)
    assert relative_error(mean, literal(dynunet, volume, LESION, 2, "mean")) < 1e-10


def test_networks_without_such_statistics_keep_their_map_to_the_last_bit():
    model, errors = UNet(3, 2, 2, (4, 6), (2,), norm="batch").eval(), []
    options = {"n_samples": 2, "measured": errors.append}
    maps = [
        smoothgrad(model, scan(SHAPE), LESION, generator=generator(), statistics=statistics, **options)
        for statistics in ("exact", 1e-2)
    ]
    assert torch.equal(*maps)
    assert errors == [0.0] * 4


def test_unknown_operations_keep_the_exact_way():
    class Attention(Residual):
        def forward(self, x):
            return super().forward(x) * x.flatten(2).softmax(2).view_as(x)

    model = drawn(lambda: Attention(2))
    volume = scan(SHAPE).double()
    assert find_window(model, LESION, SHAPE, held=True).reason
    actual = smoothgrad(model, volume, LESION, n_samples=1, generator=generator(), statistics=1e-3)
    assert relative_error(actual, literal(model, volume, LESION, 1, "max")) < 1e-10


@pytest.mark.parametrize("statistics", ["fast", -1e-3, 2, None])
def test_unknown_statistics_are_refused(dynunet, statistics):
    with pytest.raises(ValueError, match="statistics is"):
        smoothgrad(dynunet, scan(SHAPE), LESION, generator=generator(), statistics=statistics)


def test_blocks_of_voxels_share_their_maps(dynunet, monkeypatch):
    volume = scan(SHAPE).double()
    together, _, _ = gradients(dynunet, volume, 0)
    monkeypatch.setattr("lib.exact.held.BLOCK", 1)
    (slices,) = np.nonzero(LESION.any((1, 2)))
    assert len(slices) == 3
    parts, _, _ = gradients(dynunet, volume, 0)
    assert relative_error(parts, together) < 1e-10
