"""Networks by name: the paper's layers and initialisation, and names that are none."""

import pytest
import torch

from lib.network.architectures import build_network


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
