"""Gradients of single logits of a convolutional network, computed only where they can differ from zero.

The gradient of one logit is non-zero on a few positions of every decoder level and on its receptive field in the
encoder. The forward pass keeps the slopes of the activations on the boxes that a lesion needs; the adjoint walks the
steps of the network backwards on the boxes that one voxel needs.
"""

import numpy as np
import torch

from lib.exact.local_convolution import Convolution, cover, inside
from lib.exact.receptive_field import N_CHANNELS, frozen, like_model, measure_receptive_field, once_per_architecture
from lib.exact.steps import Unsupported, build_steps

LARGE = 2**18  # numbers in the gradient of one copy; from there copies are walked one by one, as caches are small
TOLERANCE = 1e-4  # largest accepted difference to automatic differentiation, relative to the largest gradient


class Adjoint:
    """Forward pass on the boxes that a box of logits depends on, and gradients of those logits.

    copies: (B, 2, ...) inputs on input_box of a volume of `shape`.  logits: (B, 2, ...) on `box`.
    """

    def __init__(self, steps, shape, copies, input_box, box):
        self.steps, self.grids = steps, []
        for step in steps:
            size = self.grids[step.inputs[0]][1] if step.inputs else np.array(shape)
            size = step.operation.size(size) if isinstance(step.operation, Convolution) else size
            self.grids.append(np.stack([0 * size, size]))
        self.boxes = self._boxes(box)
        self.slopes = {}
        self.logits = self._forward(copies, input_box)

    def _boxes(self, box):
        boxes = [None] * len(self.steps)
        boxes[-1] = box
        for number in range(len(self.steps) - 1, 0, -1):
            for i in self.steps[number].inputs:
                boxes[i] = _hull(boxes[i], self._input_box(number, i, boxes[number]))
        return boxes

    def _input_box(self, number, i, box):
        operation = self.steps[number].operation
        return np.clip(operation.input_box(box), *self.grids[i]) if isinstance(operation, Convolution) else box

    def _forward(self, copies, input_box):
        values = [cover(copies, input_box, self.boxes[0]).contiguous(memory_format=torch.channels_last_3d)]
        last_use = {i: number for number, step in enumerate(self.steps) for i in step.inputs}
        for number, step in enumerate(self.steps[1:], 1):
            box = self.boxes[number]
            if isinstance(step.operation, Convolution):
                value = step.operation.forward(values[step.inputs[0]], self.boxes[step.inputs[0]], box)
            else:
                given = [values[i][inside(box, self.boxes[i])] for i in step.inputs]
                if step.operation == "cat":
                    value = torch.cat(given, 1)
                elif step.operation == "sum":
                    value = sum(given)
                else:
                    self.slopes[number] = torch.where(given[0] > 0, 1, step.operation.to(given[0]))
                    value = given[0] * self.slopes[number]
            values.append(value)
            for i in step.inputs:
                if last_use[i] == number:
                    values[i] = None
        return values[-1]

    def gradients(self, seed, box):
        """Gradients at the input of sum(seed * logits on the box), seed (B, 2, ...).

        Yields them in groups of copies: (slice of the copies, gradients, box of the input where they are given).
        """
        found = [None] * len(self.steps)
        found[-1] = seed, box
        yield from self._walk_back(found, slice(0, len(seed)), len(self.steps) - 1)

    def _walk_back(self, found, copies, start):
        """Walk from a step back to the input, given the gradients (values, box) found so far for some copies."""
        for number in range(start, 0, -1):
            step, (gradient, box) = self.steps[number], found[number]
            if len(gradient) > 1 and gradient[0].numel() > LARGE:
                for i in range(len(gradient)):
                    one = [given and (given[0][i : i + 1], given[1]) for given in found[: number + 1]]
                    yield from self._walk_back(one, slice(copies.start + i, copies.start + i + 1), number)
                return
            if isinstance(step.operation, Convolution):
                input_box = self._input_box(number, step.inputs[0], box)
                parts, box = [step.operation.adjoint(gradient, box, input_box)], input_box
            elif isinstance(step.operation, torch.Tensor):
                parts = [gradient.mul_(self.slopes[number][copies][inside(box, self.boxes[number])])]
            elif step.operation == "cat":
                parts = gradient.split([self.steps[i].channels for i in step.inputs], 1)
            else:
                parts = [gradient, gradient.clone()]
            found[number] = None
            for i, part in zip(step.inputs, parts, strict=True):
                found[i] = _add(found[i], (part, box))
        yield copies, *found[0]


def _hull(a, b):
    return b if a is None else np.stack([np.minimum(a[0], b[0]), np.maximum(a[1], b[1])])


def _add(first, second):
    """Sum of two gradients (values, box), on the hull of their boxes; reuses the memory of the larger one."""
    if first is None:
        return second
    hull = _hull(first[1], second[1])
    small, large = sorted((first, second), key=lambda found: np.prod(found[1][1] - found[1][0]))
    total = cover(*large, hull)
    total[inside(small[1], hull)] += small[0]
    return total, hull


class AdjointGradients:
    """Gradients of the logits (B, 2, n) of noisy copies (B, 2, *window.shape) at the n voxels of a lesion."""

    @torch.no_grad()
    def __init__(self, steps, shape, copies, voxels, window):
        self.window_box = np.transpose([(side.start, side.stop) for side in window.input])
        self.box = np.stack([voxels.amin(0).numpy(), voxels.amax(0).numpy() + 1])
        self.copies, self.voxels = copies, voxels.numpy()
        self.adjoint = Adjoint(steps, shape, copies, self.window_box, self.box)
        self.logits = self.adjoint.logits[self._at_voxels()]

    def _at_voxels(self):
        return ..., *(self.voxels - self.box[0]).T

    def zeros(self):
        return torch.zeros_like(self.copies)

    @torch.no_grad()
    def of_sum(self, seeds):
        """Gradient of sum(seeds * logits), seeds (B, 2, n): (B, 2, *window.shape)."""
        seed = torch.zeros_like(self.adjoint.logits)
        seed[self._at_voxels()] = seeds
        return torch.cat([cover(*found, self.window_box) for _, *found in self.adjoint.gradients(seed, self.box)])

    @torch.no_grad()
    def of_voxel(self, number, seed):
        """Gradients of sum(seed * logits of one voxel), seed (B, 2), each with its index in (B, 2, *window.shape)."""
        box = self.voxels[number] + np.array([[0], [1]])
        for copies, gradient, input_box in self.adjoint.gradients(seed[:, :, None, None, None].clone(), box):
            yield gradient, (copies, *inside(input_box, self.window_box))


@once_per_architecture
@torch.enable_grad()
def unsupported_reason(model):
    """Why gradients of this network are not computed by the adjoint; empty if they are, as they then equal automatic
    differentiation on a probe."""
    try:
        steps = build_steps(model)
    except Unsupported as error:
        return str(error)
    reach = measure_receptive_field(model)
    shape = reach.padded(np.add(reach.below, reach.above) + reach.strides)
    generator = torch.Generator().manual_seed(0)
    probe = like_model(model, torch.randn(1, N_CHANNELS, *shape, generator=generator))
    whole, errors = np.stack([0 * np.array(shape), shape]), []
    with frozen(model):
        for fraction in ((0.0, 0.5, 0.99), (0.52, 0.4, 0.45)):
            first = (np.array(fraction) * shape).astype(int)
            box = np.stack([first, first + 1])
            x = probe.clone().requires_grad_()
            logits = model(x)[inside(box, whole)]
            (expected,) = torch.autograd.grad(logits[0, 1].sum(), x)
            with torch.no_grad():
                adjoint = Adjoint(steps, shape, probe, whole, box)
                seed = torch.zeros_like(logits)
                seed[:, 1] = 1
                ((_, *found),) = adjoint.gradients(seed, box)
            errors.append(_relative_error(cover(*found, whole), expected))
            errors.append(_relative_error(adjoint.logits, logits.detach()))
    return (
        "" if max(errors) <= TOLERANCE else f"the adjoint differs from automatic differentiation by {max(errors):.1g}"
    )


def _relative_error(actual, expected):
    return float((actual - expected).abs().max() / expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny))
