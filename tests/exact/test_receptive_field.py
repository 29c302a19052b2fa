"""How far a network looks, as the operations that run tell."""

import time

import pytest
import torch
from literal import block, random_unet
from monai.networks import nets
from torch import nn

from lib.exact.receptive_field import receptive_field
from lib.exact.windows import predict_lesion, whole_logits


def around(model, voxel=30, size=64):
    """Voxels of the volume, along each axis, that the logit of a voxel depends on."""
    axes = receptive_field(model, (size,) * 3).axes
    return [(int(axis.first[voxel]), int(axis.last[voxel])) for axis in axes]


def test_reach_of_one_convolution_is_its_half_width():
    field = receptive_field(nn.Conv3d(2, 2, (3, 5, 1), padding=(1, 2, 0)), (9, 8, 7))
    assert (field.strides, field.shape, field.reason) == ((1, 1, 1), (9, 8, 7), "")
    assert [axis.first[4] for axis in field.axes] == [3, 2, 4]
    assert [axis.last[4] for axis in field.axes] == [5, 6, 4]


def test_strides_of_each_axis_are_found():
    field = receptive_field(random_unet(strides=((2, 2, 1), 2)), (18, 18, 18))
    assert field.strides == (4, 4, 2)
    assert field.shape == (20, 20, 18)


def test_changed_architecture_is_seen():
    model = nn.Sequential(nn.Conv3d(2, 2, 3, padding=1))
    assert around(model) == [(29, 31)] * 3
    model.append(nn.Conv3d(2, 2, 5, padding=2))
    assert around(model) == [(27, 33)] * 3


def test_measuring_leaves_the_model_as_it_was():
    model = random_unet().train()
    model.model[0].eval()
    model.model[2].requires_grad_(False)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    predict_lesion(model, torch.zeros(1, 2, 24, 24, 24), block((24, 24, 24), (9, 9, 9)))
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (nn.Conv3d(2, 2, 3), r"\(1, 2, 7, 6, 5\)"),
        (nn.Sequential(nn.Conv3d(2, 2, 1), nn.Flatten()), r"\(1, 1008\)"),
        (nn.Sequential(nn.Conv3d(2, 2, 1), nn.Conv3d(3, 2, 1)), "channel"),
        (nn.Sequential(nn.Conv3d(2, 2, 1), nn.Linear(5, 5)), "dim"),
    ],
)
def test_a_network_without_a_logit_for_each_voxel_is_refused(model, named):
    with pytest.raises(ValueError, match=rf"no logit for each voxel of a volume of \(9, 8, 7\): .*{named}"):
        receptive_field(model, (9, 8, 7))


def test_a_network_of_stride_16_that_fits_its_skips_is_seen_as_such_in_seconds():
    model = nets.BasicUNet(3, 2, 2, norm="batch")
    start = time.process_time()
    field = receptive_field(model, (182, 218, 182))
    assert (field.shape, field.strides) == ((182, 218, 182), (16, 16, 16))
    assert time.process_time() - start < 10


def group_unet(strides):
    return nets.UNet(3, 2, 2, (4,) * (len(strides) + 1), strides, norm=("group", {"num_groups": 2}))


NEVER_CROPPED = {
    "group norm, strides of 4": (lambda: group_unet((2, 2)), 4),
    "group norm, strides of 16": (lambda: group_unet((2, 2, 2, 2)), 16),
    "SegResNet": (lambda: nets.SegResNet(3, 8, 2, 2, blocks_down=(1, 1, 1), blocks_up=(1, 1)), 4),
}


@pytest.mark.parametrize("network, stride", NEVER_CROPPED.values(), ids=NEVER_CROPPED)
@pytest.mark.parametrize("shape", [(35, 20, 17)])
def test_a_network_that_is_never_cropped_is_padded_to_what_it_accepts(network, stride, shape):
    model = network().eval()
    field = receptive_field(model, shape)
    assert field.reason
    assert field.shape == tuple(-(-size // stride) * stride for size in shape)
    with torch.no_grad():
        assert whole_logits(model, torch.zeros(1, 2, *shape)).shape == (1, 2, *shape)


@pytest.mark.parametrize("norm", ["instance", ("group", {"num_groups": 2}), "batch"])
def test_strides_of_each_axis_are_found_whatever_the_normalisation(norm):
    kernels, strides = [[3, 3, 1], 3, 3], [1, [2, 2, 1], 2]
    dynunet = nets.DynUNet(3, 2, 2, kernels, strides, strides[1:], filters=[4, 4, 4], norm_name=norm)
    unet = nets.UNet(3, 2, 2, (4, 4, 4), strides[1:], norm=norm)
    for model in (dynunet, unet):
        assert receptive_field(model, (24, 25, 18)).shape == (24, 28, 18)
        assert receptive_field(model, (24, 28, 18)).shape == (24, 28, 18)
    both = nets.UNet(3, 2, 2, (4, 4, 4, 4), (*strides[1:], (1, 2, 1)), norm=norm)
    assert receptive_field(both, (9, 9, 9)).shape == (12, 16, 10)


class OneSize(nn.Conv3d):
    def forward(self, x):
        if x.shape[2:] != (16, 16, 16):
            raise ValueError("made for 16 x 16 x 16")
        return super().forward(x)


def test_a_network_of_one_size_says_that_no_padding_helps():
    with pytest.raises(ValueError, match="no logit for each voxel of a volume of .* made for 16"):
        receptive_field(OneSize(2, 2, 3, padding=1), (20, 9, 8))
