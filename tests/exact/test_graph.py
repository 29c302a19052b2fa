"""A network that was explained and then changed is explained as it then is."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from literal import block, generator, literal, random_unet, relative_error, scan
from monai.networks.nets import DynUNet
from torch import nn

from lib.exact.graph import copied
from lib.saliency.gradients import smoothgrad

SHAPE = (24, 18, 16)
VOLUME, LESION = scan(SHAPE), block(SHAPE, (10, 8, 7), (2, 1, 2))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv3d(2, 4, 3, padding=1), nn.Conv3d(4, 2, 3, padding=1)
        self.drop, self.norm, self.act = nn.Dropout(), nn.BatchNorm3d(4), nn.ReLU()
        self.dilation, self.slopes, self.globally = 1, [0.0], False

    def forward(self, x):
        h = self.drop(self.first(x))
        h = h + self.norm(h)
        h = F.leaky_relu(h, self.slopes[0])
        h = h - h.mean((2, 3, 4), keepdim=True) if self.globally else h
        return F.conv3d(h, self.last.weight, self.last.bias, padding=self.dilation, dilation=self.dilation)


def trained(model):
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.1, 4)


def less_its_mean(module, inputs, output):
    return output - output.mean((2, 3, 4), keepdim=True)


def draw_weights(model):
    model.load_state_dict(model.state_dict() | {"first.weight": torch.randn_like(model.first.weight)})


CHANGES = {
    "attribute that forward reads": lambda model: setattr(model, "dilation", 3),
    "attribute that switches a part on": lambda model: setattr(model, "globally", True),
    "list that forward reads": lambda model: model.slopes.__setitem__(0, 0.9),
    "hook": lambda model: model.first.register_forward_hook(less_its_mean),
    "hook before": lambda model: model.register_forward_pre_hook(lambda module, inputs: (inputs[0].flip(2),)),
    "backward hook": lambda model: model.first.register_full_backward_hook(lambda module, given, out: (3 * given[0],)),
    "trained batch normalisation": trained,
    "batch normalisation without statistics": lambda model: setattr(
        model, "norm", nn.BatchNorm3d(4, track_running_stats=False)
    ),
    "weights": draw_weights,
    "weights, not through the module": lambda model: model.first.weight.data.mul_(-3),
    "spectral normalisation": lambda model: nn.utils.parametrizations.spectral_norm(model.first),
    "forward": lambda model: setattr(model, "forward", lambda x: model.last(F.avg_pool3d(model.first(x), 3, 1, 1))),
    "layer of another reach": lambda model: setattr(model, "first", nn.Conv3d(2, 4, 5, padding=2)),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_map_is_that_of_the_network_as_it_is(change, aggregate):
    model = Network().eval()
    options = {"n_samples": 2, "aggregate": aggregate}
    before = smoothgrad(model, VOLUME, LESION, **options, generator=generator())
    with torch.no_grad():
        CHANGES[change](model)
    model.eval()
    after = smoothgrad(model, VOLUME, LESION, **options, generator=generator())
    assert relative_error(after, literal(model, VOLUME, LESION, 2, aggregate)) < 1e-5
    assert relative_error(after, before) > 1e-3


def test_weight_norm_loaded_anew_is_that_of_the_loaded_weights():
    model = Network().eval()
    model.first = nn.utils.parametrizations.weight_norm(model.first)
    before = smoothgrad(model, VOLUME, LESION, n_samples=1, generator=generator())
    model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})
    after = smoothgrad(model, VOLUME, LESION, n_samples=1, generator=generator())
    assert relative_error(after, literal(model, VOLUME, LESION, 1, "max")) < 1e-5
    assert relative_error(after, before) > 0.1


def test_a_volume_is_let_go_when_it_is_explained():
    """Also one whose sides the network refuses, for which it is padded: volumes of a scan are large."""
    sides = (25, 18, 15)
    model, volume = random_unet(), scan(sides)
    with pytest.raises(RuntimeError):
        model(volume)
    gone = weakref.ref(volume)
    gc.collect()
    gc.disable()
    smoothgrad(model, volume, block(sides, (10, 8, 7), (2, 1, 2)), n_samples=1, generator=generator())
    del volume
    found = gone()
    gc.enable()
    assert found is None


def test_a_network_that_keeps_tensors_of_its_last_call_is_copied():
    """MONAI's DynUNet with deep supervision keeps its heads, in evaluation mode too."""
    network = DynUNet(3, 2, 2, [3] * 3, [1, 2, 2], [2, 2], filters=[2, 4, 8], deep_supervision=True).eval()
    volume = torch.randn(1, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    before = network(volume)
    assert not network.heads[0].is_leaf  # which torch does not copy
    other = copied(network)
    torch.testing.assert_close(other(volume), before)
    assert all(one is not two for one, two in zip(network.parameters(), other.parameters(), strict=True))
