"""Networks of many shapes against the literal loop: each takes the fast way, or falls back, and gives the same map.

adjoint: gradients on parts of the grid; window: automatic differentiation on the lesion's window; whole: on the volume.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from literal import block, generator, scan
from monai.networks.nets import BasicUNet, UNet
from torch import nn

from lib.exact import checked_steps, find_window
from lib.saliency.gradients import noise_sigma, noisy_copies, smoothgrad

MIDDLE = (16, 9, 8)


class Net(nn.Module):
    """A convolution, what is written in `inner`, a convolution; modules by keyword."""

    def __init__(self, inner, channels=4, **modules):
        super().__init__()
        self.first, self.last = nn.Conv3d(2, 4, 3, padding=1), nn.Conv3d(channels, 2, 1)
        self.inner = inner
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.last(self.inner(self, F.leaky_relu(self.first(x), 0.3)))


def conv(channels=4, *, kernel=3, **options):
    return nn.Conv3d(4, channels, kernel, **{"padding": kernel // 2, **options})


def up(kernel, stride, padding, extra=0):
    return nn.ConvTranspose3d(4, 4, kernel, stride, padding, extra)


def unet(**options):
    return UNet(3, 2, 2, **{"channels": (4, 6), "strides": (2,), "num_res_units": 0, "norm": "batch", **options})


def resized(mode, to=None, **options):
    """Down by a convolution and up by interpolation, to the size of the skip or by a factor."""

    def inner(net, x):
        size = {"size": x.shape[2:]} if to is None else {"scale_factor": to}
        return x + F.interpolate(net.down(x), **size, mode=mode, **options)

    return Net(inner, down=conv(stride=2))


class Squeeze(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.Linear(4, 4)

    def forward(self, x):
        return x * self.weights(x.mean((2, 3, 4))).sigmoid()[:, :, None, None, None]


def gated(net, x):
    return x * net.gate(x + net.up(net.down(x)).relu()).sigmoid()


def normalised_with_skip(net, x):
    h = net.drop(net.deep(x))
    return h + net.norm(h)


def large_only(net, x):
    return 3 * net.deep(x) if x.shape[2] > 30 else net.deep(x)


def by_value(net, x):
    return net.deep(x) if x.sum() < 1e9 else x


def missing(x, low):
    return [size - have for size, have in zip(x.shape[:1:-1], low.shape[:1:-1], strict=True)]


def padded_to_skip(net, x):
    low = net.up(F.max_pool3d(x, 2))
    return torch.cat([x, F.pad(low, [side for amount in missing(x, low) for side in (0, amount)])], 1)


def middle_of_skip(net, x):
    low = net.up(F.max_pool3d(x, 4))
    return x + F.pad(low, [side for amount in missing(x, low) for side in (amount // 2, amount - amount // 2)])


def in_place(net, x):
    x.mul_(2)
    return net.deep(x).relu_()


def written_into(net, x):
    out = torch.zeros_like(x)
    out[..., 1:] = net.deep(x)[..., :-1]
    return out


def at_far_end(net, x):
    return net.deep(F.pad(x[:, :, :-3], (0, 0, 0, 0, 0, 3)))


def with_coordinates(net, x):
    place = torch.linspace(0, 1, x.shape[2], dtype=x.dtype).view(1, 1, -1, 1, 1)
    return x * place


def without_gradient(net, x):
    return net.deep(x) + net.deep(x.detach())


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.relu()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.relu()


NETWORKS = {  # name: (network, how it is explained[, multiples to which it asks for padding])
    "unet": (lambda: unet(), "adjoint", 2),
    "residual unet": (lambda: unet(num_res_units=2), "adjoint", 2),
    "unet of relu": (lambda: unet(act="relu", dropout=0.2), "adjoint", 2),
    "unet of anisotropic strides": (lambda: unet(channels=(4, 4, 4), strides=((2, 2, 1), 2)), "adjoint", (4, 4, 2)),
    "unet of anisotropic strides and instance normalisation": (
        lambda: unet(channels=(4, 4, 4), strides=((2, 2, 1), 2), norm="instance"), "whole", (4, 4, 2), (33, 17, 18)
    ),
    "unet of stride 3": (lambda: unet(strides=(3,)), "adjoint", 3),
    "unet of strides 3 and 3": (lambda: unet(channels=(4, 4, 4), strides=(3, 3)), "adjoint", 9),
    "unet of stride 5": (lambda: unet(strides=(5,), kernel_size=5, up_kernel_size=5), "adjoint", 5),
    "unet of instance normalisation": (lambda: unet(norm="instance"), "whole", 2),
    "unet of group normalisation": (lambda: unet(norm=("group", {"num_groups": 2})), "whole", 2),
    "BasicUNet": (lambda: BasicUNet(3, 2, 2, (2,) * 6, norm="batch"), "adjoint", 1, (115, 17, 16)),
    "BasicUNet of instance normalisation": (lambda: BasicUNet(3, 2, 2, (2,) * 6), "whole", 1, (32, 32, 33)),
    "attention gate": (
        lambda: Net(gated, down=conv(stride=2), up=up(2, 2, 0), gate=conv(1)), "adjoint", 2
    ),
    "dilated": (lambda: Net(lambda net, x: net.deep(x), deep=conv(padding=4, dilation=4)), "adjoint"),
    "grouped": (lambda: Net(lambda net, x: net.deep(x), deep=conv(groups=2)), "adjoint"),
    "even kernel, same size": (lambda: Net(lambda net, x: net.deep(x), deep=conv(kernel=4, padding="same")), "adjoint"),
    "asymmetric padding": (lambda: Net(lambda net, x: net.deep(F.pad(x, (2, 0) * 3)), deep=conv(padding=0)), "adjoint"),
    "reflection": (lambda: Net(lambda net, x: net.deep(x), deep=conv(padding_mode="reflect")), "adjoint"),
    "replication": (lambda: Net(lambda net, x: net.deep(x), deep=conv(padding_mode="replicate")), "adjoint"),
    "circular": (lambda: Net(lambda net, x: net.deep(x), deep=conv(padding_mode="circular")), "whole"),
    "odd transposed kernel": (
        lambda: Net(lambda n, x: n.up(n.down(x)), down=conv(stride=2), up=up(3, 2, 1, 1)), "adjoint", 2
    ),
    "large transposed kernel": (
        lambda: Net(lambda n, x: n.up(n.down(x)), down=conv(kernel=5, stride=3), up=up(5, 3, 1)), "adjoint", 3
    ),
    "transposed with gaps": (
        lambda: Net(lambda n, x: n.up(n.down(x)), down=conv(stride=3), up=up(1, 3, 0, 2)), "adjoint", 3
    ),
    "cropped transposed": (
        lambda: Net(lambda n, x: n.up(n.down(x))[..., :-1, :-1, :-1], down=conv(stride=2), up=up(3, 2, 0)), "window", 2
    ),
    "maximum, size rounded up": (
        lambda: Net(lambda n, x: n.up(F.max_pool3d(x, 2, ceil_mode=True)), up=up(2, 2, 0)), "adjoint", 2
    ),
    "overlapping maximum": (lambda: Net(lambda n, x: n.up(F.max_pool3d(x, 3, 2, 1)), up=up(2, 2, 0)), "adjoint", 2),
    "average": (lambda: Net(lambda n, x: n.up(F.avg_pool3d(x, 3, 2, 1)), up=up(2, 2, 0)), "adjoint", 2),
    "average of less at borders": (
        lambda: Net(lambda n, x: n.up(F.avg_pool3d(x, 3, 2, 1, count_include_pad=False)), up=up(2, 2, 0)), "adjoint", 2
    ),
    "average, nearest by 3": (
        lambda: Net(lambda net, x: F.interpolate(F.avg_pool3d(x, 3), scale_factor=3)), "adjoint", 3
    ),
    "nearest to the skip": (lambda: resized("nearest"), "adjoint", 1, (34, 20, 18)),
    "nearest to an odd skip": (lambda: resized("nearest"), "whole", 1, (33, 20, 18)),
    "trilinear to the skip": (lambda: resized("trilinear"), "adjoint", 1, (34, 20, 18)),
    "trilinear to an odd skip": (lambda: resized("trilinear"), "whole", 1, (33, 21, 18)),
    "trilinear by 2": (lambda: resized("trilinear", to=2), "adjoint", 2),
    "trilinear with corners": (lambda: resized("trilinear", align_corners=True), "whole"),
    "resized down": (
        lambda: Net(lambda net, x: net.up(F.interpolate(x, scale_factor=0.5, mode="trilinear")), up=up(2, 2, 0)),
        "adjoint", 2,
    ),
    "padded to the skip": (lambda: Net(padded_to_skip, channels=8, up=up(2, 2, 0)), "adjoint", 1),
    "padded around to the skip": (lambda: Net(middle_of_skip, up=up(4, 4, 0)), "whole", 1, (35, 19, 18)),
    "no running statistics": (
        lambda: Net(lambda net, x: net.norm(x), norm=nn.BatchNorm3d(4, track_running_stats=False)), "whole"
    ),
    "always in training": (lambda: Net(lambda net, x: F.batch_norm(x, None, None, training=True)), "whole"),
    "normalisation after an activation": (lambda: Net(lambda net, x: net.norm(x), norm=nn.BatchNorm3d(4)), "adjoint"),
    "normalisation behind dropout with a skip": (
        lambda: Net(normalised_with_skip, deep=conv(), drop=nn.Dropout(), norm=nn.BatchNorm3d(4)), "adjoint"
    ),
    "same twice": (lambda: Net(lambda net, x: torch.cat([x, x], 1), channels=8), "adjoint"),
    "doubled": (lambda: Net(lambda net, x: x + x), "adjoint"),
    "broadcast sum": (lambda: Net(lambda net, x: x + net.one(x), one=conv(1)), "adjoint"),
    "shared layer": (lambda: Net(lambda net, x: net.deep(net.deep(x).relu()), deep=conv()), "adjoint"),
    "unused layer": (lambda: Net(lambda net, x: (net.deep(x), x)[1], deep=conv(kernel=5)), "adjoint"),
    "channels exchanged": (lambda: Net(lambda net, x: net.deep(x)[:, [3, 0, 1, 2]].flip(1), deep=conv()), "window"),
    "by sign": (lambda: Net(lambda net, x: torch.where(net.deep(x) > 0, net.deep(x), x.sum(1, True)), deep=conv()), "adjoint"),
    "gelu": (lambda: Net(lambda net, x: F.gelu(net.deep(x)), deep=conv()), "adjoint"),
    "squeeze and excitation": (lambda: Net(lambda net, x: net.squeeze(x), squeeze=Squeeze()), "whole"),
    "classes joined": (lambda: Net(lambda net, x: torch.cat([x[:, :3], x.logsumexp(1, keepdim=True)], 1)), "adjoint"),
    "attention over channels": (lambda: Net(lambda net, x: x * x.softmax(1).amax(1, keepdim=True)), "adjoint"),
    "attention over voxels": (lambda: Net(lambda net, x: x * x.flatten(2).softmax(2).view_as(x)), "whole"),
    "global pooling": (lambda: Net(lambda net, x: x - F.adaptive_avg_pool3d(x, 1)), "whole"),
    "coordinates": (lambda: Net(with_coordinates), "whole"),
    "condition on the size": (lambda: Net(large_only, deep=conv()), "whole"),
    "condition on a value": (lambda: Net(by_value, deep=conv()), "whole"),
    "far end": (lambda: Net(at_far_end, deep=conv()), "window"),
    "in place": (lambda: Net(in_place, deep=conv()), "adjoint"),
    "written into": (lambda: Net(written_into, deep=conv()), "whole"),
    "weight normalisation": (
        lambda: Net(lambda net, x: net.deep(x), deep=nn.utils.parametrizations.weight_norm(conv())), "adjoint"
    ),
    "part without gradient": (lambda: Net(without_gradient, deep=conv()), "adjoint"),
    "gradient of its own": (lambda: Net(lambda net, x: Straight.apply(net.deep(x)), deep=conv()), "window"),
    "tiny weights": (lambda: Net(lambda net, x: net.deep(x) * 1e-12, deep=conv(kernel=5)), "adjoint"),
    "scripted": (
        lambda: Net(lambda net, x: net.deep(x), deep=torch.jit.script(nn.Sequential(conv(), nn.ReLU()))), "adjoint"
    ),
    "resized by no integer": (
        lambda: Net(lambda net, x: x + F.interpolate(F.avg_pool3d(x, 3), size=x.shape[2:])), "whole"
    ),
    "cropped too small": (lambda: Net(lambda net, x: F.pad(x[:, :, 3:-3], (0, 0, 0, 0, 3, 3))), "window"),
}  # fmt: skip


def drawn(network):
    """The network in double precision with drawn weights and statistics, large in all layers."""
    torch.manual_seed(0)
    model = network().double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=(1 / max(1, parameter[0].numel())) ** 0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d) and module.track_running_stats:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


def way(model, lesion):
    window = find_window(model, lesion, lesion.shape)
    if window.reason:
        return "whole"
    return "window" if checked_steps(model, window.field)[1] else "adjoint"


def literal_map(model, volume, lesion, multiples):
    """Signed maximum as written, of the network on the volume as it is, or zero-padded to multiples."""
    shape = np.array(lesion.shape)
    padding = [side for missing in (-shape % multiples)[::-1] for side in (0, int(missing))]
    window = find_window(model, lesion, lesion.shape)
    (copy,) = noisy_copies(volume, window, noise_sigma(volume, 0.05), 1, generator())
    x, inside = volume.clone(), (..., *window.within(lesion.shape))
    x[inside] = window.paste(copy, lesion.shape)[inside]
    x.requires_grad_()
    logits = model(F.pad(x.clone(), padding))[0, 1]
    gradients = [torch.autograd.grad(logits[tuple(v)], x, retain_graph=True)[0][0] for v in np.argwhere(lesion)]
    gradients = torch.stack(gradients)
    return gradients.gather(0, gradients.abs().argmax(0, keepdim=True))[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_map_equals_the_literal_loop_whichever_way_it_is_computed(name):
    network, expected, multiples, shape = (*NETWORKS[name], *(1, (35, 20, 17))[len(NETWORKS[name]) - 2 :])
    model, volume = drawn(network), scan(shape).double()
    before = volume.clone()
    for place in ((0, 1, 0), MIDDLE, np.array(shape) - (1, 2, 1)):
        lesion = block(shape, place, (1, 2, 1))
        if tuple(place) == MIDDLE:
            assert way(model, lesion) == expected
        actual = smoothgrad(model, volume, lesion, n_samples=1, generator=generator())
        wanted = literal_map(model, volume, lesion, multiples)
        assert torch.equal(volume, before)
        assert (actual - wanted).abs().max() <= 1e-5 * wanted.abs().max()
