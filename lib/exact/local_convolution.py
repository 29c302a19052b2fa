"""Convolutions, their transposes and their adjoints on boxes of a grid instead of whole volumes.

A box is an integer array [[x0, y0, z0], [x1, y1, z1]] of positions on one grid, the upper ends excluded. Everything
outside the grid is zero, as in a padded convolution.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F

FEW_CHANNELS = 4  # up to here an adjoint is faster as one convolution to all positions between the coarse ones


def cover(values, values_box, box):
    """Values (B, C, X, Y, Z) on one box, given on another: cropped, and zero where they are not given."""
    low, high = np.maximum(values_box[0], box[0]), np.minimum(values_box[1], box[1])
    values = values[inside(np.stack([low, high]), values_box)]
    missing = np.stack([low - box[0], box[1] - high], 1)[::-1].ravel().tolist()
    return F.pad(values, missing) if any(missing) else values


def inside(box, outer):
    """Index of a box in values that are given on an outer box."""
    (x0, y0, z0), (x1, y1, z1) = (box - outer[0]).tolist()
    return ..., slice(x0, x1), slice(y0, y1), slice(z0, z1)


def box_of(values, start=0):
    """The box of values (B, C, X, Y, Z) whose first position is `start`."""
    return np.stack([np.zeros(3, int), np.array(values.shape[2:])]) + start


@dataclass
class Convolution:
    """A convolution coarse[o] = sum_k weight[k] fine[stride * o - padding + k] + bias, or its transpose.

    weight: (channels of the coarse grid, channels of the fine grid, kx, ky, kz), as in torch for both.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    stride: np.ndarray
    padding: np.ndarray
    output_padding: np.ndarray
    transposed: bool
    kernel: np.ndarray = field(init=False)

    def __post_init__(self):
        self.kernel = np.array(self.weight.shape[2:])
        self.weight = self.weight.contiguous(memory_format=torch.channels_last_3d)
        self.steps = tuple(self.stride.tolist())
        if self.weight.shape[1] <= FEW_CHANNELS:
            self.between = self._weight_between()

    def rescale(self, scale, shift):
        """Fold output * scale + shift, one number a channel, into the convolution."""
        along = (1, -1, 1, 1, 1) if self.transposed else (-1, 1, 1, 1, 1)
        return replace(self, weight=self.weight * scale.view(along), bias=self.bias * scale + shift)

    def size(self, size):
        """Size of the output for a size of the input."""
        if self.transposed:
            return (size - 1) * self.stride - 2 * self.padding + self.kernel + self.output_padding
        return (size + 2 * self.padding - self.kernel) // self.stride + 1

    def input_box(self, box):
        """Positions of the input, within the grid or not, that outputs on a box depend on."""
        return self._coarse_box(box) if self.transposed else self._fine_box(box)

    def forward(self, values, values_box, box):
        """Outputs on a box from inputs that cover it."""
        apply = self._to_fine if self.transposed else self._to_coarse
        return apply(values, values_box, box).add_(self.bias.view(1, -1, 1, 1, 1))

    def adjoint(self, gradient, box, input_box):
        """Gradient at the inputs on a box from the gradient at the outputs."""
        apply = self._to_coarse if self.transposed else self._to_fine
        return apply(gradient, box, input_box)

    def _fine_box(self, box):
        first = box * self.stride - self.padding
        return np.stack([first[0], first[1] - self.stride + self.kernel])

    def _coarse_box(self, box):
        last = box + self.padding - np.stack([self.kernel, np.ones(3, int)])
        return last // self.stride + 1  # lower end: ceil((box + padding - kernel + 1) / stride)

    def _to_coarse(self, fine, fine_box, box):
        return F.conv3d(cover(fine, fine_box, self._fine_box(box)), self.weight, stride=self.steps)

    def _to_fine(self, coarse, coarse_box, box):
        fine = self._between(coarse) if self.weight.shape[1] <= FEW_CHANNELS else self._transpose(coarse)
        return cover(fine, box_of(fine, coarse_box[0] * self.stride - self.padding), box)

    def _transpose(self, coarse):
        return F.conv_transpose3d(coarse, self.weight, stride=self.steps)

    def _between(self, coarse):
        """The transposed convolution as a convolution that computes all positions between two coarse ones at once."""
        split = F.conv3d(coarse, self.between, padding=[taps - 1 for taps in self.between.shape[2:]])
        split = split.unflatten(1, (*self.steps, -1)).permute(0, 4, 5, 1, 6, 2, 7, 3)
        return split.flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def _weight_between(self):
        taps = -(-self.kernel // self.stride)
        weight = cover(self.weight, box_of(self.weight), np.stack([0 * taps, taps * self.stride]))
        (tx, ty, tz), (sx, sy, sz) = taps.tolist(), self.steps
        weight = weight.reshape(*weight.shape[:2], tx, sx, ty, sy, tz, sz).permute(3, 5, 7, 1, 0, 2, 4, 6).flatten(0, 3)
        return weight.flip(2, 3, 4).contiguous(memory_format=torch.channels_last_3d)
