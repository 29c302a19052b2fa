"""Gradients of single logits of a convolutional network, computed only where they can differ from zero.

The gradient of one logit is non-zero on a few positions of every decoder level and on its receptive field in the
encoder. The forward pass keeps the slopes of the activations on the boxes that a lesion needs; the adjoint walks the
steps of the network backwards on the boxes that one voxel needs.
"""

import numpy as np
import torch

from lib.exact import receptive_field
from lib.exact.local_convolution import Convolution, cover, grid_box, inside
from lib.exact.steps import Unsupported, build_steps

LARGE = 2**18  # numbers in the gradient of one copy; from there copies are walked one by one, as caches are small


class AdjointGradients:
    """Gradients of the logits (B, 2, n) of noisy copies (B, 2, x, y, z) at the n voxels of a lesion.

    steps: of the network.  shape: of the padded volume.  voxels: (n, 3).  copies_box: where in the volume copies lie.
    """

    @torch.no_grad()
    def __init__(self, steps, shape, copies, voxels, copies_box):
        self.steps, self.copies, self.copies_box, self.voxels = steps, copies, copies_box, voxels.numpy()
        self.box = np.stack([self.voxels.min(0), self.voxels.max(0) + 1])
        self.at_voxels = (..., *(self.voxels - self.box[0]).T)
        self.last, self.sizes = len(steps) - 1, []
        for step in steps:
            size = self.sizes[step.inputs[0]] if step.inputs else np.array(shape)
            self.sizes.append(step.operation.size(size) if isinstance(step.operation, Convolution) else size)
        self.boxes, self.kept = {self.last: self.box}, {}  # of each step: where logits need it, what the way back needs
        for number in range(self.last, 0, -1):
            for i in steps[number].inputs:
                box = self._input_box(number, self.boxes[number])
                self.boxes[i] = _hull(self.boxes[i], box) if i in self.boxes else box
        self.box_logits = self._forward()
        self.logits = self.box_logits[self.at_voxels]

    @torch.no_grad()
    def of_sum(self, seeds):
        """Gradient of sum(seeds * logits), seeds (B, 2, n): (B, 2, x, y, z)."""
        seed = torch.zeros_like(self.box_logits)
        seed[self.at_voxels] = seeds
        found = self._walk_back({self.last: (seed, self.box)})
        return torch.cat([cover(*gradient, self.copies_box) for _, *gradient in found])

    @torch.no_grad()
    def of_voxel(self, number, seed):
        """Gradients of sum(seed * logits of one voxel), seed (B, 2), each with its index in (B, 2, x, y, z)."""
        found = seed[:, :, None, None, None].clone(), self.voxels[number] + np.array([[0], [1]])
        for copies, gradient, box in self._walk_back({self.last: found}):
            yield gradient, (copies, *inside(box, self.copies_box))

    def _input_box(self, number, box):
        """Where a step needs its inputs for a box of its result."""
        operation, (i, *_) = self.steps[number].operation, self.steps[number].inputs
        return np.clip(operation.input_box(box), 0, self.sizes[i]) if isinstance(operation, Convolution) else box

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
            elif isinstance(operation, torch.Tensor):
                value = cover(*given[0], box)
                self.kept[number] = torch.where(value > 0, 1, operation.to(value))
                values[number] = value * self.kept[number]
            else:
                given = [cover(*one, box) for one in given]
                self.kept[number] = [value.shape[1] for value in given]
                values[number] = torch.cat(given, 1) if operation == "cat" else sum(given)
            for i in step.inputs:
                if last_use[i] == number:
                    del values[i]
        return values[self.last]

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
            elif isinstance(step.operation, torch.Tensor):
                slopes = self.kept[number][first : first + len(gradient)]
                parts = [gradient.mul_(slopes[inside(box, self.boxes[number])])]
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


@receptive_field.once_per_architecture
@torch.enable_grad()
def unsupported_reason(model):
    """Why gradients of this network are not computed by the adjoint; empty if they are, as they then equal automatic
    differentiation on a probe."""
    try:
        steps = build_steps(model)
    except Unsupported as error:
        return str(error)
    field, errors = receptive_field.measure_receptive_field(model), []
    shape = field.padded(np.add(field.below, field.above) + field.strides)
    probe = receptive_field.random_probe(model, shape)
    with receptive_field.frozen(model):
        for fraction in ((0.0, 0.5, 0.99), (0.52, 0.4, 0.45)):
            voxel = (np.array(fraction) * shape).astype(int)
            x = probe.clone().requires_grad_()
            logits = model(x)[(..., *voxel, None)]
            expected = *torch.autograd.grad(logits[0, 1, 0], x), logits.detach()
            adjoint = AdjointGradients(steps, shape, probe, torch.from_numpy(voxel)[None], grid_box(shape))
            actual = adjoint.of_sum(probe.new_tensor([[[0], [1]]])), adjoint.logits
            errors += map(receptive_field.relative_error, actual, expected)
    if max(errors) <= receptive_field.TOLERANCE:
        return ""
    return f"the adjoint differs from automatic differentiation by {max(errors):.1g}"
