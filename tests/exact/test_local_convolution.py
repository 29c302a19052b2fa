"""Convolutions and their adjoints on boxes are part of those of the whole grid."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lib.exact.local_convolution import Convolution, cover


@pytest.mark.parametrize("split", [False, True], ids=["together", "split"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("channels", [2, 7], ids=["few channels", "many channels"])
@pytest.mark.parametrize(
    "kernel, stride, padding",
    [
        ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
        ((5, 3, 1), (3, 1, 1), (2, 0, 0)),
        ((1, 2, 4), (2, 3, 2), (0, 0, 1)),
        ((2,) * 3, (2,) * 3, (0,) * 3),
    ],
)
def test_convolution_on_a_box_is_part_of_the_whole(transposed, channels, kernel, stride, padding, split):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, channels, *kernel, generator=generator)
    bias = torch.randn(channels if transposed else 6, generator=generator)
    kernel, stride, padding = (np.array(value) for value in (kernel, stride, padding))
    convolution = Convolution(weight, bias, stride, padding, 0 * padding, transposed, split)
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
