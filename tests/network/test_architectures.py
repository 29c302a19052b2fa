"""Networks by name: the paper's layers and initialisation, and names that are none."""

import pytest
import torch
from monai.networks import nets
from torch import nn

from lib.network.architectures import build_network, named_layer


def test_the_paper_network_has_its_layers():
    model = build_network("unet", channels=(32, 64, 128, 256, 512), strides=(2, 2, 2, 2))
    names = dict(model.named_modules())
    assert isinstance(names["model.1.submodule.2.conv"], torch.nn.ConvTranspose3d)
    assert sum(isinstance(module, torch.nn.BatchNorm3d) for module in names.values()) == 8
    assert sum(isinstance(module, torch.nn.PReLU) for module in names.values()) == 8
    assert names["model.1.submodule.1.submodule.0.conv"].out_channels == 128


def test_convolutions_are_xavier_normal():
    torch.manual_seed(0)
    weight = build_network("unet", channels=(32, 64, 128), strides=(2, 2)).model[1].submodule[0].conv.weight
    fan_in, fan_out = 32 * 27, 64 * 27
    assert weight.std().item() == pytest.approx((2 / (fan_in + fan_out)) ** 0.5, rel=0.02)


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="unknown network 'resnet': choose one of unet, dynunet, swinunetr"):
        build_network("resnet")


@pytest.mark.parametrize(
    "channels, residual, layer",
    [
        ((2, 3, 4), 0, "model.1.submodule.2.conv"),
        ((2, 3, 4), 2, "model.1.submodule.2"),
        ((2, 3), 0, "model.1.submodule"),
        ((2, 3), 1, "model.1.submodule"),
    ],
)
def test_the_layer_of_a_unet_of_any_depth_and_units_is_one_that_ends_half_the_resolution(channels, residual, layer):
    network = nets.UNet(3, 2, 2, channels, (2,) * (len(channels) - 1), num_res_units=residual).eval()
    assert named_layer(network) == layer
    assert named_layer(nn.Sequential(network)) == f"0.{layer}"
    halved = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.register_forward_hook(lambda *given, name=name: halved.append((name, given[2].shape[2:])))
    network(torch.zeros(1, 2, 16, 16, 16))
    assert [name for name, size in halved if size == (8, 8, 8)][-1].startswith(layer)


class Strange(nn.Module):
    """A network of no known layer."""

    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv3d(channels, 2, 3, 2, 1), nn.ConvTranspose3d(2, 2, 2, 2)

    def forward(self, x):
        return self.up(self.down(x))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_layer_is_advised_without_gradients_and_for_any_channels(mode, channels):
    network = Strange(channels).double()
    with mode(), pytest.raises(ValueError, match='such as SET="layer=down", the last at half the resolution'):
        named_layer(network)


def test_a_unet_without_the_layer_that_is_guessed_is_advised():
    class Own(nets.UNet):
        def __init__(self):
            super().__init__(3, 2, 2, (2, 3), (2,))
            self.model = Strange(2)

    with pytest.raises(ValueError, match='which layer of Own .* such as SET="layer=model.down"'):
        named_layer(Own())
