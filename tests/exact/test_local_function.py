"""Local operations on a part of the grid: what they compute there, and their gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.exact.local_convolution import inside
from lib.exact.local_function import LocalFunction
from lib.exact.receptive_field import receptive_field

SHAPE = (24, 20, 18)
FUNCTIONS = {
    "activation": (F.gelu, ()),
    "product": (lambda x: x * x.sigmoid(), ("mul",)),
    "in place": (lambda x: (x + 1).mul_(3), ("mul_",)),
    "joined classes": (lambda x: x.logsumexp(1, keepdim=True), ()),
    "sum over channels": (lambda x: x.sum(1, keepdim=True), ("sum",)),
    "by sign": (lambda x: torch.where(x > 0, x, x.exp()), ("where",)),
    "maximum": (lambda x: F.max_pool3d(x, 2), ()),
    "overlapping maximum, rounded up": (lambda x: F.max_pool3d(x, 3, 2, 1, ceil_mode=True), ()),
    "nearest": (lambda x: F.interpolate(x, scale_factor=3), ()),
    "trilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), ()),
    "half as large": (lambda x: F.interpolate(x, scale_factor=0.5, mode="trilinear"), ()),
    "mirrored border": (lambda x: F.pad(x, (3, 2, 1, 0, 0, 4), mode="reflect"), ()),
    "zeros before": (lambda x: F.pad(x, (2, 0, 0, 1, 3, 0)), ()),
    "zeros for a border": (lambda x: F.pad(x, (0, 1, -2, 0, 0, -3)), ()),
    "dilated": (nn.Conv3d(2, 3, 3, padding=2, dilation=2).requires_grad_(False), ()),
    "gaps": (nn.ConvTranspose3d(2, 3, 1, 3, output_padding=1).requires_grad_(False), ()),
}


class Same(nn.Module):
    """A function among the operations of a network, whose logits are on the grid of the input whatever it makes."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        made = self.function(x)
        return x + made.sum() if made.shape[2:] != x.shape[2:] else made


def operation(function, names):
    """The last operation of a function, as it is recorded; or the last of a name."""
    nodes = receptive_field(Same(function), SHAPE).nodes
    local = [node for node in nodes if node.name in names] or [
        node for node in nodes if node.name not in ("input", "sum", "add")
    ]
    return LocalFunction(local[-1])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_part_is_that_of_the_whole_and_so_is_its_gradient(name):
    function = operation(*FUNCTIONS[name])
    generator = np.random.default_rng(0)
    channels = [node.shape[1] for node in function.node.inputs]
    draw = torch.Generator().manual_seed(0)
    values = [torch.randn(2, n, *SHAPE, generator=draw, dtype=torch.double) for n in channels]
    values[:-2] = [one > 0 for one in values[:-2]]  # a condition
    if name in ("dilated", "gaps"):
        values = [one.float() for one in values]
    whole_in, size = np.array([(0, 0, 0), SHAPE]), function.size(SHAPE)
    given = [one.clone().requires_grad_(one.is_floating_point()) for one in values]
    whole = function.forward(given, whole_in, np.stack([size * 0, size]))
    for _ in range(20):
        box = np.sort(generator.integers(0, size + 1, (2, 3)), 0)
        box[1] = np.minimum(np.maximum(box[1], box[0] + 1), size)
        box[0] = np.minimum(box[0], box[1] - 1)
        input_box = function.input_box(box, SHAPE)
        part = [one[inside(input_box, whole_in)] for one in values]
        found = function.forward(part, input_box, box)
        at = inside(box, np.stack([size * 0, size]))
        torch.testing.assert_close(found, whole[at].detach())
        seed = torch.randn(found.shape, generator=draw, dtype=found.dtype)
        by_value = [one for one in given if one.requires_grad]
        expected = torch.autograd.grad(whole[at], by_value, seed, retain_graph=True)
        gradients = [one for one in function.adjoint(seed, part, input_box, box) if one.is_floating_point()]
        for one, there in zip(gradients, expected, strict=True):
            outside = there.clone()
            outside[inside(input_box, whole_in)] = 0
            assert not outside.any()
            torch.testing.assert_close(one, there[inside(input_box, whole_in)])


def test_where_inputs_lie_grows_with_the_box():
    function = operation(*FUNCTIONS["mirrored border"])
    size, generator = function.size(SHAPE), np.random.default_rng(1)
    for _ in range(50):
        low = generator.integers(0, size)
        high = generator.integers(low, size) + 1
        inner = np.stack([generator.integers(low, high), high])
        (first, stop), (inner_first, inner_stop) = (function.input_box(one, SHAPE) for one in ([low, high], inner))
        assert (first <= inner_first).all() and (inner_stop <= stop).all()


def test_what_has_no_gradient_has_zeros():
    function = operation(lambda x: x.detach() * 2 + (x > 0), ("gt",))
    (found,) = function.adjoint(
        torch.ones(1, 2, 2, 2, 2), [torch.randn(1, 2, 2, 2, 2)], *[np.array([(0, 0, 0), (2, 2, 2)])] * 2
    )
    assert not found.any()
