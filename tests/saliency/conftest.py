"""Builders that the tests of several modules of the room share."""

import pytest
import torch
from literal import PLACES, SHAPE, block, random_unet, scan


@pytest.fixture(scope="module")
def model():
    return random_unet().eval()


@pytest.fixture
def leaves_as_it_was():
    """Asserts that explain(model, volume, lesion) changes nothing of a network whose parts are set differently."""

    def check(explain):
        model = random_unet().train()
        model.model[0].eval()
        model.model[2].requires_grad_(False)
        volume, lesion = scan(), block(SHAPE, PLACES["middle"])
        before = volume.clone()
        modes = [module.training for module in model.modules()]
        flags = [parameter.requires_grad for parameter in model.parameters()]
        state = {name: value.clone() for name, value in model.state_dict().items()}
        result = explain(model, volume, lesion)
        assert not result.requires_grad
        assert not any(module._forward_hooks for module in model.modules())
        assert all(parameter.grad is None for parameter in model.parameters())
        assert [module.training for module in model.modules()] == modes
        assert [parameter.requires_grad for parameter in model.parameters()] == flags
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert torch.equal(volume, before)

    return check
