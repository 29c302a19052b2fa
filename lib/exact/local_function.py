"""Any other local operation of a network: activations, gates, joined classes, maxima, interpolation, padding.

It is called as the network calls it, on a part of the grid; automatic differentiation is its adjoint.
"""

import numpy as np
import torch

from lib.exact.graph import Node, each, leaves, to_meta
from lib.exact.local_convolution import grid_box, inside
from lib.exact.reach import whole_axes, within


class LocalFunction:
    """What a `Node` with a `reach` computes, of values (B, C, x, y, z) of the nodes before it, in their order."""

    def __init__(self, node):
        self.node, self.known = node, {}
        given = [node.given[name] for name in ("kernel_size", "padding", "pad") if name in node.given]
        self.least = max([*leaves(given), 0])  # positions that there must be, on either side
        given = whole_axes(node.inputs[0].shape[2:])
        axes = within(node, given, node.shape[2:])
        self.pointwise, self.ratios = axes is given, [axis.ratio for axis in axes]

    def size(self, size):
        """Size of the output for a size of the inputs."""
        if self.pointwise:
            return np.array(size)
        inputs = [torch.empty(1, one.shape[1], *size, device="meta") for one in self.node.inputs]
        return np.array(self._called(inputs).shape[2:])

    def input_box(self, box, size):
        """Where outputs on a box need inputs of a size, begun where the operation, begun there, does the same."""
        if self.pointwise:
            return box
        size = tuple(size)
        if size not in self.known:
            self.known[size] = within(self.node, whole_axes(size), self.size(size))
        sides = zip(self.known[size], *box, size, strict=True)
        return np.transpose([self._side(axis, first, stop, length) for axis, first, stop, length in sides])

    def _side(self, axis, first, stop, length):
        low, stride = max(axis.first[first] - self.least, 0), axis.ratio.numerator
        return low // stride * stride, min(axis.last[stop - 1] + 1 + self.least, length)

    def forward(self, values, input_box, box):
        """Outputs on a box from values on its input box."""
        start = np.array([int(low / ratio) for low, ratio in zip(input_box[0].tolist(), self.ratios, strict=True)])
        result = self._called(values)
        return result[inside(box, start + grid_box(result.shape[2:]))]

    def adjoint(self, gradient, values, input_box, box):
        """Gradients at the values on an input box from the gradient at the outputs on a box."""
        with torch.enable_grad():
            values = [value.detach().requires_grad_(value.is_floating_point()) for value in values]
            result = self.forward(values, input_box, box)
            if not result.requires_grad:  # comparisons, and what is detached
                return [torch.zeros_like(value) for value in values]
            given = [value for value in values if value.requires_grad]
            found = iter(torch.autograd.grad(result, given, gradient, allow_unused=True, materialize_grads=True))
        # copies, which may be written into: channels of a sum have one gradient in memory
        return [next(found).clone() if value.requires_grad else torch.zeros_like(value) for value in values]

    def _called(self, values):
        given, function, on_meta = dict(self.node.given), self.node.function, values[0].is_meta
        output = given.pop("output")
        if "output_size" in given:
            sizes = zip(values[0].shape[2:], self.ratios, strict=True)
            given["output_size"] = [int(size / ratio) for size, ratio in sizes]
        values = iter([value.clone() for value in values] if function._schema.is_mutable else values)
        called = each(lambda one: next(values) if isinstance(one, Node) else one, given.values())
        called = each(to_meta, called) if on_meta else called
        return leaves([function(**dict(zip(given, called, strict=True)))])[output]
