"""The steps of a network."""

import torch
from literal import random_unet

from lib.exact.local_convolution import Convolution
from lib.exact.receptive_field import receptive_field
from lib.exact.steps import build_steps


def test_batch_normalisation_is_folded_into_its_convolution():
    operations = [step.operation for step in build_steps(receptive_field(random_unet(), (16, 16, 16)))[0]]
    assert sum(isinstance(operation, Convolution) for operation in operations) == 5
    assert sum(isinstance(operation, torch.Tensor) for operation in operations) == 4
    assert len(operations) == 12  # with the input and two concatenations
