"""Gradients of single logits of a convolutional network, computed only where they can differ from zero.

The gradient of one logit is non-zero on a few positions of every decoder level and on its receptive field in the
encoder. The forward pass keeps the slopes of the activations on the boxes that a lesion needs; the adjoint walks the
steps of the network backwards on the boxes that one voxel needs.
"""

import numpy as np
import torch

from lib.exact.graph import frozen, like_model, n_channels
from lib.exact.local_convolution import Convolution, cover, grid_box, inside
from lib.exact.local_function import LocalFunction
from lib.exact.normalisation import Normalisation
from lib.exact.receptive_field import multiples, receptive_field
from lib.exact.steps import build_steps

LARGE = 2**18  # numbers in the gradient of one copy; from there copies are walked one by one, as caches are small
PROBE = 16  # voxels, or one stride: of the probe on which the adjoint is compared
TOLERANCE = 1e-4  # in single precision, if no activation lies within rounding of its kink; for `rough` where some do:
ROUGHLY, FEW, FLIPPED = 1e-3, 0.01, 0.05  # all but few positions within this, and those within that


class AdjointGradients:
    """Gradients of the logits (B, 2, n) of noisy copies (B, C, x, y, z) at the n voxels of a lesion.

    steps: of the network.  shape: of the padded volume.  voxels: (n, 3).  copies_box: where in the volume copies lie.
    """

    rough = False  # whether they are to a tolerance in any case

    @torch.no_grad()
    def __init__(self, steps, shape, copies, voxels, copies_box):
        self.steps, self.copies, self.copies_box, self.voxels = steps, copies, copies_box, voxels.numpy()
        self.box = np.stack([self.voxels.min(0), self.voxels.max(0) + 1])
        self.at_voxels = (..., *(self.voxels - self.box[0]).T)
        self.last, self.sizes = len(steps) - 1, []
        for step in steps:
            size = self.sizes[step.inputs[0]] if step.inputs else np.array(shape)
            local = isinstance(step.operation, Convolution | LocalFunction)
            self.sizes.append(step.operation.size(size) if local else size)
        self.boxes = self._needed(self.box)  # of each step: where it is computed
        self.kept = {}  # of each step: what the way back needs
        self.box_logits = self._forward()
        self.logits = self.box_logits[self.at_voxels]

    @staticmethod
    def arranged(steps):
        """The steps as these gradients are computed fastest."""
        return steps

    @torch.no_grad()
    def of_sum(self, seeds):
        """Gradient of sum(seeds * logits), seeds (B, 2, n): (B, 2, x, y, z)."""
        seed = torch.zeros_like(self.box_logits)
        seed[self.at_voxels] = seeds
        found = self._walk_back({self.last: (seed, self.box)})
        return torch.cat([cover(*gradient, self.copies_box) for _, *gradient in found])

    @torch.no_grad()
    def of_voxel(self, number, seeds):
        """Gradients of sum(seeds * logits) at one voxel, seeds (B, 2, n), each with its index in (B, 2, x, y, z)."""
        found = seeds[:, :, number, None, None, None].clone(), self.voxels[number] + np.array([[0], [1]])
        for copies, gradient, box in self._walk_back({self.last: found}):
            part = np.clip(box, *self.copies_box)  # strides may begin before the copies do
            yield gradient[inside(part, box)], (copies, *inside(part, self.copies_box))

    def _needed(self, box):
        """Where logits on a box need each step, {step: box}."""
        boxes = {self.last: box}
        for number in range(self.last, 0, -1):
            for i in self.steps[number].inputs:
                needed = self._input_box(number, boxes[number])
                boxes[i] = _hull(boxes[i], needed) if i in boxes else needed
        return boxes

    def _input_box(self, number, box):
        """Where a step needs its inputs for a box of its result; at least one position."""
        operation, (i, *_) = self.steps[number].operation, self.steps[number].inputs
        if isinstance(operation, LocalFunction):
            return operation.input_box(box, self.sizes[i].tolist())
        if not isinstance(operation, Convolution):
            return box
        low, high = np.clip(operation.input_box(box), 0, self.sizes[i])
        low = np.minimum(low, self.sizes[i] - 1)
        return np.stack([low, np.maximum(high, low + 1)])

    def _forward(self):
        """The logits on their box; keeps the slopes of activations and the channels of what is concatenated."""
        first = cover(self.copies, self.copies_box, self.boxes[0])
        values = {0: first.contiguous(memory_format=torch.channels_last_3d)}
        last_use = {i: number for number, step in enumerate(self.steps) for i in step.inputs}
        for number, step in enumerate(self.steps[1:], 1):
            operation, box = step.operation, self.boxes[number]
            given = [(values[i], self.boxes[i]) for i in step.inputs]
            if isinstance(operation, Convolution):
                values[number] = operation.forward(*given[0], box)
            elif isinstance(operation, Normalisation):
                values[number] = operation.affine(self._normal(number, cover(*given[0], box)))
            elif isinstance(operation, torch.Tensor):
                value = cover(*given[0], box)
                slopes = torch.where(value > 0, 1, operation.to(value))
                values[number], self.kept[number] = value * slopes, self._kept_slopes(value, slopes)
            elif isinstance(operation, LocalFunction):
                input_box = self._input_box(number, box)
                self.kept[number] = [cover(*one, input_box) for one in given]
                values[number] = operation.forward(self.kept[number], input_box, box)
            else:
                given = [cover(*one, box) for one in given]
                self.kept[number] = [value.shape[1] for value in given]
                values[number] = torch.cat(given, 1) if operation == "cat" else sum(given)
            for i in set(step.inputs):
                if last_use[i] == number:
                    del values[i]
        return values[self.last]

    @staticmethod
    def _kept_slopes(value, slopes):
        return slopes

    def _sloped(self, number, gradient, slopes):
        return gradient.mul_(slopes)

    def _walk_back(self, found, first=0):
        """Walk back to the input from gradients at some steps, {step: (values, box)}, of the copies from the first on.

        Yields them in groups of copies: (slice of the copies, gradients, box of the input where they are given).
        """
        while number := max(found):
            step, (gradient, box) = self.steps[number], found[number]
            if len(gradient) > 1 and gradient[0].numel() > LARGE:
                for i in range(len(gradient)):
                    one = {place: (values[i : i + 1], box) for place, (values, box) in found.items()}
                    yield from self._walk_back(one, first + i)
                return
            del found[number]
            if isinstance(step.operation, Convolution):
                input_box = self._input_box(number, box)
                parts, box = [step.operation.adjoint(gradient, box, input_box)], input_box
            elif isinstance(step.operation, Normalisation):
                gradient, box = self._through_normalisation(number, gradient, box)
                parts = [gradient]
            elif isinstance(step.operation, torch.Tensor):
                kept = self.kept[number][first : first + len(gradient)][inside(box, self.boxes[number])]
                parts = [self._sloped(number, gradient, kept)]
            elif isinstance(step.operation, LocalFunction):
                input_box, kept_box = (self._input_box(number, one) for one in (box, self.boxes[number]))
                part = (slice(first, first + len(gradient)), *inside(input_box, kept_box))
                parts = step.operation.adjoint(gradient, [one[part] for one in self.kept[number]], input_box, box)
                box = input_box
            elif step.operation == "cat":
                parts = gradient.split(self.kept[number], 1)
            else:
                parts = [gradient, gradient.clone()]
            for i, part in zip(step.inputs, parts, strict=True):
                found[i] = _add(found[i], (part, box)) if i in found else (part, box)
        yield slice(first, first + len(found[0][0])), *found[0]


def _hull(a, b):
    return np.stack([np.minimum(a[0], b[0]), np.maximum(a[1], b[1])])


def _add(first, second):
    """Sum of two gradients (values, box), on the hull of their boxes; reuses the memory of the larger one."""
    hull = _hull(first[1], second[1])
    small, large = sorted((first, second), key=lambda found: np.prod(found[1][1] - found[1][0]))
    total = cover(*large, hull)
    total[inside(small[1], hull)] += small[0]
    return total, hull


def unsupported_reason(model, shape):
    """Why gradients of this network, on volumes (X, Y, Z), are not computed by the adjoint; empty if they are."""
    return checked_steps(model, receptive_field(model, shape))[1]


def checked_steps(model, field, gradients=AdjointGradients):
    """The steps of a network and "", or None and why its gradients are not computed by the adjoint.

    The adjoint is compared with automatic differentiation on a few voxels of noise: networks may define gradients of
    their own. An activation within rounding of its kink may take either slope, so one of three tries has to agree; of the
    tens of millions of a large network some always do, hence `FEW` where gradients are `rough`. field: `ReceptiveField` of the network.  gradients: the class that is compared.
    """
    steps, reason = build_steps(field)
    if reason:
        return None, reason
    steps = gradients.arranged(steps)
    normalised = any(isinstance(step.operation, Normalisation) for step in steps)
    shape = multiples((PROBE,) * 3, np.array(field.strides) * (2 if normalised else 1))  # one value has no deviation
    if any(_agrees(model, steps, shape, seed, gradients) for seed in range(3)):
        return steps, ""
    return None, "the adjoint differs from automatic differentiation"


@torch.inference_mode(False)
@torch.enable_grad()
def _agrees(model, steps, shape, seed, gradients):
    """Whether the adjoint agrees with automatic differentiation; not without."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (n_channels(model), *shape), (2, 3)
    probe, seeds = (like_model(model, torch.randn(1, *size, generator=generator)) for size in sizes)
    voxels = torch.from_numpy(np.linspace((0, 0, 0), np.array(shape) - 1, 3).astype(int))
    x = probe.clone().requires_grad_()
    with frozen(model):
        try:
            logits = model(x.clone())[(..., *voxels.T)]
            (expected,) = torch.autograd.grad(logits, x, seeds)
            adjoint = gradients(steps, shape, probe, voxels, grid_box(shape))
            found = adjoint.of_sum(seeds)
        except RuntimeError:  # the network is not differentiated, or does not take another size of the volume
            return False
    if not _relative(adjoint.logits, logits.detach()).max() <= TOLERANCE:
        return False
    difference = _relative(found, expected)
    reached = difference[(found != 0) | (expected != 0)]
    largest = difference.max()
    return bool(
        largest <= TOLERANCE or gradients.rough and (largest <= FLIPPED and (reached > ROUGHLY).double().mean() <= FEW)
    )


def _relative(one, other):
    return (one - other).abs() / other.abs().max()
