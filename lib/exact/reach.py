"""What the positions of a tensor depend on: the reach of one operation after the other, from the volume on.

Along each axis on its own, a convolution, pooling, resizing by an integer factor, padding or cropping takes a few
neighbouring positions. An operation that is not known here is taken to look everywhere, so a network is never cropped
by mistake, whatever its weights are.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from lib.exact.graph import leaves

ONE_GRID = {"_prelu_kernel", "clone", "detach", "alias", "_to_copy", "repeat", "expand", "zeros_like"}
CHANNELS = {  # along the channels, given as dim or dims
    "cat", "flip", "index_select", "slice", "split", "split_with_sizes", "mean", "sum", "amax", "max", "var", "_softmax",
    "_log_softmax", "logsumexp",
}  # fmt: skip
PADDINGS = {"constant_pad_nd": "pad", "replication_pad3d": "padding", "reflection_pad3d": "padding"}


@dataclass(frozen=True)
class Axis:
    """Along one axis, the first and last position of the volume that each position of a tensor depends on, never
    falling; how many positions of the volume one stands for (`ratio`); and the size of the volume."""

    first: np.ndarray
    last: np.ndarray
    ratio: Fraction
    size: int

    def take(self, first, last, ratio=1):
        """Of an operation whose positions depend on positions first to last of this one."""
        low, high = (np.clip(one, 0, len(self.first) - 1) for one in (np.minimum(first, last), np.maximum(first, last)))
        return Axis(self.first[low], self.last[high], self.ratio * ratio, self.size)

    def placed(self):
        """Each position depends also on its own place, counted from either end: a crop without it lacks the position."""
        here, (a, b) = np.arange(len(self.first)), self.ratio.as_integer_ratio()
        low, high = here * a // b, self.size + (here - len(here)) * a // b
        first, last = np.minimum(self.first, low), np.maximum(self.last, np.minimum(high, self.size - 1))
        return Axis(first, last, self.ratio, self.size)


def reach(node, known):
    """Axes of a node's result from those of the nodes before it, {node: axes}; None if it depends on everything."""
    if node.name == "input":
        return whole_axes(node.shape[2:])
    values = [given for given in node.inputs if not (node.name == "index" and given.name == "")]  # a list of channels
    inputs = [known.get(given) for given in values]
    if len(node.shape) != 5 or node.shape[0] != 1 or 0 in node.shape or not inputs or None in inputs:
        return None
    if _on_one_grid(node):
        return _hull(inputs)
    return within(node, inputs[0], node.shape[2:]) if len(inputs) == 1 else None


def whole_axes(shape):
    """Axes of a volume (X, Y, Z) itself."""
    return tuple(Axis(np.arange(size), np.arange(size), Fraction(1), size) for size in shape)


def within(node, axes, shape):
    """Axes of a node's result on a grid (x, y, z) from those of what it takes; None if it depends on everything."""
    if _on_one_grid(node):
        return axes
    rule = _rule(node)
    if rule is None:
        return None
    take, options = rule
    options = zip(axes, map(np.arange, shape), options, strict=True)
    taken = [take(axis, here, *one) for axis, here, one in options]
    return None if None in taken else tuple(axis.placed() for axis in taken)


def _rule(node):
    """How a result is taken from its neighbours: function, and its arguments along each axis; None if it is not."""
    given, (values,) = node.given, node.inputs
    match node.name:
        case "convolution" | "_convolution" if given["input"] is values:
            names = ("stride", "padding", "dilation")
            options = _by_axis(given["weight"].shape[2:], *(given[name] for name in names))
            return _transposed if given["transposed"] else _neighbours, options
        case "max_pool3d_with_indices" | "avg_pool3d" if given["output"] == 0:
            kernel = given["kernel_size"]
            return _neighbours, _by_axis(kernel, given["stride"] or kernel, given["padding"], given.get("dilation", 1))
        case "upsample_nearest3d" | "_upsample_nearest_exact3d" | "upsample_trilinear3d":
            factors = zip(node.shape[2:], values.shape[2:], (given[f"scales_{axis}"] for axis in "dhw"), strict=True)
            return _resized, [(node.name, given.get("align_corners"), by or out / size) for out, size, by in factors]
        case name if name in PADDINGS:
            amounts = [*given[PADDINGS[name]], *(0,) * 6]
            return _padded, [(name, *amounts[i : i + 2]) for i in (4, 2, 0)]
        case "slice":
            return _sliced, [(i == given["dim"] % 5, given) for i in (2, 3, 4)]
    return None


def _by_axis(*options):
    return np.transpose(np.broadcast_arrays(*options, np.zeros(3, int))[:-1]).tolist()


def _on_one_grid(node):
    """Whether a result depends, at each position, on the arguments at that position alone."""
    given = node.given
    if node.name == "index":
        return [index is not None for index in given["indices"]] == [False, True]
    if any(len(one.shape) != 5 or one.shape[2:] != node.shape[2:] for one in node.inputs):
        return False
    if node.name == "normalise":  # with statistics that are held
        return True
    if node.name == "native_batch_norm":
        return not given["training"] and given["output"] == 0
    if node.pointwise or node.name in ONE_GRID:
        return not _spread(given)
    if node.name in CHANNELS:
        dims = given.get("dim", given.get("dims"))
        alone = node.name == "cat" and _spread(given)
        return dims is not None and (np.atleast_1d(dims) % 5).tolist() == [1] and not alone
    return node.name == "view" and node.inputs[0].shape == node.shape


def _spread(given):
    """Whether a tensor that is no result, such as coordinates, differs from position to position."""
    tensors = (one for one in leaves(given.values()) if isinstance(one, torch.Tensor))
    return any(size != 1 for tensor in tensors for size in tensor.shape[-3:])


def _hull(inputs):
    axes = []
    for same in zip(*inputs, strict=True):
        if len({axis.ratio for axis in same}) > 1:
            return None
        ends = [np.minimum.reduce([axis.first for axis in same]), np.maximum.reduce([axis.last for axis in same])]
        axes.append(Axis(*ends, same[0].ratio, same[0].size))
    return tuple(axes)


def _neighbours(axis, here, kernel, stride, padding, dilation):
    first = here * stride - padding
    return axis.take(first, first + dilation * (kernel - 1), stride)


def _transposed(axis, here, kernel, stride, padding, dilation):
    last = (here + padding) // stride
    return axis.take(-((dilation * (kernel - 1) - here - padding) // stride), last, Fraction(1, stride))


def _resized(axis, here, name, align_corners, factor):
    larger, smaller = round(factor), round(1 / factor)
    if factor == larger:
        ratio, nearest, between = Fraction(1, larger), here // larger, (2 * here + 1 - larger) // (2 * larger)
    elif smaller and factor == 1 / smaller:
        centre = smaller // 2 if "exact" in name else 0
        ratio, nearest, between = Fraction(smaller), here * smaller + centre, ((2 * here + 1) * smaller - 1) // 2
    else:
        return None
    if "nearest" in name:
        return axis.take(nearest, nearest, ratio)
    return axis.take(between, between + 1, ratio) if not align_corners or factor == 1 else None


def _padded(axis, here, name, low, high):
    here = here - low
    if name == "reflection_pad3d":
        return axis.take(np.minimum(here, len(axis.first) - 1 - high), np.maximum(here, low))
    return axis.take(here, here)


def _sliced(axis, here, along, given):
    if not along:
        return axis
    start, _, step = slice(given["start"], None, given["step"]).indices(len(axis.first))
    return axis.take(start + here * step, start + here * step, step)
