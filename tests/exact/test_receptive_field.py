"""How far a network looks, measured once for each architecture."""

import torch
from literal import block, random_unet
from torch import nn

from lib.exact.receptive_field import measure_receptive_field
from lib.exact.windows import predict_lesion


def test_reach_of_one_convolution_is_its_half_width():
    model = nn.Conv3d(2, 2, (3, 5, 1), padding=(1, 2, 0))
    reach = measure_receptive_field(model)
    assert (reach.strides, reach.below, reach.above, reach.reason) == ((1, 1, 1), (1, 2, 0), (1, 2, 0), "")


def test_strides_of_each_axis_are_found():
    assert measure_receptive_field(random_unet(strides=((2, 2, 1), 2))).strides == (4, 4, 2)


def test_changed_architecture_is_measured_again():
    model = nn.Sequential(nn.Conv3d(2, 2, 3, padding=1))
    assert measure_receptive_field(model).below == (1, 1, 1)
    model.append(nn.Conv3d(2, 2, 5, padding=2))
    assert measure_receptive_field(model).below == (3, 3, 3)


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
