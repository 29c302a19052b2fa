"""Convolutions, their transposes and their adjoints on boxes of a grid instead of whole volumes.

A box is an integer array [[x0, y0, z0], [x1, y1, z1]] of positions on one grid, the upper ends excluded. Everything
outside the grid is zero, as in a padded convolution.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange

FEW_CHANNELS = 4  # up to here an adjoint is faster as one convolution to all positions between the coarse ones


def cover(values, values_box, box):
    """Values (B, C, X, Y, Z) on one box, given on another: cropped, and zero where they are not given."""
    low, high = np.maximum(values_box[0], box[0]), np.minimum(values_box[1], box[1])
    values = values[inside(np.stack([low, high]), values_box)]
    missing = np.stack([low - box[0], box[1] - high], 1)[::-1].ravel().tolist()
    return F.pad(values, missing) if any(missing) else values


def inside(box, outer):
    """Index of a box in values that are given on an outer box."""
    return ..., *(slice(*side) for side in (box - outer[0]).T.tolist())


def grid_box(shape):
    """The box of all positions of a grid."""
    return np.array([(0, 0, 0), shape])


@dataclass
class Convolution:
    """A convolution coarse[o] = sum_k weight[k] fine[stride * o - padding + k] + bias, or its transpose.

    weight: (channels of the coarse grid, channels of the fine grid, kx, ky, kz), as in torch for both.
    groups: of channels, which the coarse grid has in order, each from as many of the fine grid (not of a transpose).
    split: computes each place between the coarse positions by a convolution of its own, and with oneDNN also where torch
    does not (one small volume, one thread): several times faster for one copy, with sums in another order.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    stride: np.ndarray
    padding: np.ndarray
    output_padding: np.ndarray
    transposed: bool
    split: bool = False
    groups: int = 1

    def __post_init__(self):
        self.kernel, self.steps = np.array(self.weight.shape[2:]), tuple(self.stride.tolist())
        self.weight = self.weight.contiguous(memory_format=torch.channels_last_3d)

    def normalised(self, weight, bias, mean, variance, eps):
        """The convolution with the batch normalisation of its output folded in; weight and bias None: not affine."""
        scale = (1 if weight is None else weight.detach()) / (variance + eps).sqrt()
        shift = (0 if bias is None else bias.detach()) - mean * scale
        weight = self.weight * scale.view((1, -1, 1, 1, 1) if self.transposed else (-1, 1, 1, 1, 1))
        return replace(self, weight=weight, bias=self.bias * scale + shift)

    def size(self, size):
        """Size of the output for a size of the input."""
        if self.transposed:
            return (size - 1) * self.stride - 2 * self.padding + self.kernel + self.output_padding
        return (size + 2 * self.padding - self.kernel) // self.stride + 1

    def input_box(self, box):
        """Positions of the input, within the grid or not, that outputs on a box depend on."""
        if self.transposed:  # lower end: ceil((box + padding - kernel + 1) / stride)
            return (box + self.padding - [self.kernel, (1, 1, 1)]) // self.stride + 1
        return self._fine_box(box)

    def forward(self, values, values_box, box):
        """Outputs on a box from inputs that cover it."""
        apply = self._to_fine if self.transposed else self._to_coarse
        return apply(values, values_box, box).add_(self.bias.view(1, -1, 1, 1, 1))

    def adjoint(self, gradient, box, input_box):
        """Gradient at the inputs on a box from the gradient at the outputs."""
        apply = self._to_coarse if self.transposed else self._to_fine
        return apply(gradient, box, input_box)

    def _fine_box(self, box):
        return box * self.stride - self.padding + [(0, 0, 0), self.kernel - self.stride]

    def _to_coarse(self, fine, fine_box, box):
        return self._convolved(cover(fine, fine_box, self._fine_box(box)), self.weight, stride=self.steps)

    def _to_fine(self, coarse, coarse_box, box):
        if self.groups == 1 and self.split:
            fine = self._interleaved(coarse)
        elif self.groups == 1 and self.weight.shape[1] <= FEW_CHANNELS:
            positions, strides = self._between
            fine = F.conv3d(coarse, positions, padding=[taps - 1 for taps in positions.shape[2:]])
            fine = rearrange(fine, "b (sx sy sz fine) x y z -> b fine (x sx) (y sy) (z sz)", **strides)
        else:
            fine = F.conv_transpose3d(coarse, self.weight, stride=self.steps, groups=self.groups)
        first = coarse_box[0] * self.stride - self.padding
        return cover(fine, first + grid_box(fine.shape[2:]), box)

    def _interleaved(self, coarse):
        """All fine positions that coarse ones reach, from a convolution for each place between two coarse ones."""
        found = [
            (first, self._convolved(coarse, weight, padding=[taps - 1 for taps in weight.shape[2:]]))
            for first, weight in self._places
        ]
        if self.steps == (1, 1, 1):
            return found[0][1]
        sides = (np.array(coarse.shape[2:]) - 1) * self.stride + self.kernel
        like = {"dtype": coarse.dtype, "device": coarse.device, "memory_format": torch.channels_last_3d}
        fine = torch.empty(len(coarse), self.weight.shape[1], *sides.tolist(), **like).zero_()
        for first, values in found:
            fine[(..., *(slice(start, None, step) for start, step in zip(first, self.steps, strict=True)))] = values
        return fine

    @cached_property
    def _places(self):
        """Each place between two coarse positions that a kernel has, with its weights as those of a convolution."""
        found = []
        for first in product(*map(range, np.minimum(self.stride, self.kernel).tolist())):
            taps = (slice(start, None, step) for start, step in zip(first, self.steps, strict=True))
            weight = self.weight[(..., *taps)].transpose(0, 1).flip(2, 3, 4)
            found.append((first, weight.contiguous(memory_format=torch.channels_last_3d)))
        return found

    def _convolved(self, values, weight, stride=(1, 1, 1), padding=(0, 0, 0)):
        if self.split and values.device.type == "cpu" and values.dtype == torch.float and torch.backends.mkldnn.enabled:
            return torch.mkldnn_convolution(values, weight, None, padding, stride, (1, 1, 1), self.groups)
        return F.conv3d(values, weight, stride=stride, padding=padding, groups=self.groups)

    @cached_property
    def _between(self):
        """Weights that compute all positions between two coarse ones at once, as channels; the strides by axis."""
        strides = dict(zip(("sx", "sy", "sz"), self.steps, strict=True))
        missing = -self.kernel % self.stride
        weight = F.pad(self.weight, [side for amount in missing[::-1].tolist() for side in (0, amount)])
        weight = rearrange(weight, "coarse fine (x sx) (y sy) (z sz) -> (sx sy sz fine) coarse x y z", **strides)
        return weight.flip(2, 3, 4).contiguous(memory_format=torch.channels_last_3d), strides
