"""Gradients of networks with instance or group normalisation, whose statistics depend on the whole patch.

With its statistics held, such a network is local. What is missing in the gradient of a logit goes through the
statistics. There are few of them, and the voxels of a lesion depend on them much alike: few gradients through the whole
patch stand for those of all voxels.
"""

from copy import copy
from dataclasses import replace
from math import inf

import numpy as np
import torch

from lib.exact.adjoint import AdjointGradients
from lib.exact.local_convolution import Convolution, cover, grid_box, inside

BLOCK = 2**26  # numbers in the local gradients that are kept at once
MEASURED = 4  # voxels, on one copy at least
RECENT = 5  # of the measured voxels: the error for each unit of what is left out falls as directions are taken
COARSE = 64  # positions of the input for one: on such grids statistics are not held if gradients reach the whole input
MARGIN = 2.5  # between the largest that these show for each unit, and that of all voxels


class WholeGradients(AdjointGradients):
    """`AdjointGradients` of one copy, (1, 2, *shape), through the statistics of its normalisations, on the whole grid.

    statistics: {step: (mean, deviation)}.  held: whether they are taken as numbers, so that gradients are local; but for
    those that cost little: of steps that the gradient covers anyway, and, if it covers the input, of coarse ones.
    sensitivities: with held, {step: derivatives by its statistics of what was differentiated last}, 0 of the latter.
    """

    held = everywhere = False
    rough = True

    def __init__(self, steps, *given):
        self.statistics = {}
        super().__init__(steps, *given)

    @staticmethod
    def arranged(steps):
        """The steps with `Convolution.split`."""
        return [
            replace(step, operation=replace(step.operation, split=True))
            if isinstance(step.operation, Convolution)
            else step
            for step in steps
        ]

    @classmethod
    def of_copy(cls, steps, copy):
        """The passes of one copy that all lesions of a scan share: `of_lesion` has their gradients."""
        grid = grid_box(copy.shape[2:])
        return cls(steps, copy.shape[2:], copy, torch.from_numpy(grid - [(0, 0, 0), (1, 1, 1)]), grid)

    def of_lesion(self, voxels, held=False):
        """The same passes for the voxels (n, 3) of a lesion."""
        lesion = copy(self)
        lesion.held, lesion.sensitivities, lesion.voxels = held, {}, voxels.numpy()
        lesion.box = np.stack([lesion.voxels.min(0), lesion.voxels.max(0) + 1])
        lesion.at_voxels = (..., *(lesion.voxels - lesion.box[0]).T)
        lesion.box_logits = self.box_logits[inside(lesion.box, self.box)]
        lesion.logits = lesion.box_logits[lesion.at_voxels]
        lesion.everywhere = held and np.array_equal(lesion.boxes_needed()[0], self.boxes[0])
        return lesion

    def boxes_needed(self):
        """Where gradients of the lesion's voxels may differ from zero, {step: box}; step 0 is the input."""
        return self._needed(self.box)

    def _input_box(self, number, box):
        return super()._input_box(number, box) if self.held else grid_box(self.sizes[self.steps[number].inputs[0]])

    def _normal(self, number, values):
        mean, deviation = self.statistics[number] = self.steps[number].operation.statistics(values)
        normal = (values - mean) / deviation
        self.kept[number] = normal.half() if normal.dtype == torch.float else normal  # for small corrections only
        return normal

    @staticmethod
    def _kept_slopes(value, slopes):
        return value > 0

    def _sloped(self, number, gradient, positive):
        return torch.where(positive, gradient, gradient * self.steps[number].operation.to(gradient))

    def _through_normalisation(self, number, gradient, box):
        operation, whole, deviation = self.steps[number].operation, self.boxes[number], self.statistics[number][1]
        coarse = self.everywhere and COARSE * self.sizes[number].prod() <= self.sizes[0].prod()
        held = self.held and not coarse and not np.array_equal(box, whole)
        box, gradient = (box, gradient) if held else (whole, cover(gradient, box, whole))
        normal = self.kept[number][inside(box, whole)].to(gradient)
        sensitivities = operation.sensitivities(gradient, normal)
        if self.held:
            self.sensitivities[number] = sensitivities * held
        if held:
            return operation.adjoint(gradient, deviation), box
        return operation.whole_adjoint(gradient, deviation, normal, sensitivities), box


class NormalisedGradients:
    """Gradients of the logits (1, 2, n) of one copy at the n voxels of a lesion, to a tolerance.

    The gradient of a voxel is its local part, and a combination of a few maps of the whole patch. The maps are what the
    true gradients of some voxels have beyond that: of the voxel whose sensitivities are farthest from a combination of
    those before, until what is left of the sensitivities of all is expected to be within the tolerance.

    passes: `WholeGradients` of the copy, which lesions share.
    tolerance: largest error, relative to the largest local gradient.  measured: errors for each unit of sensitivity that
    is left out, which true gradients have shown so far, on this copy or those before.
    error: expected of what is left out at the end, relative to the largest gradient; 0 if all gradients are true.
    """

    def __init__(self, passes, voxels, tolerance, measured=()):
        self.copies, self.tolerance, self.error, self.measured = passes.copies, tolerance, 0.0, list(measured)
        self.whole, self.held = passes.of_lesion(voxels), passes.of_lesion(voxels, held=True)
        self.logits, self.peak = self.whole.logits, 0.0
        self.directions, self.maps = [], []
        low, high = self.held.boxes_needed()[0]
        self.block = max(8, BLOCK // (self.copies.shape[1] * int(np.prod(high - low))))

    @torch.no_grad()
    def of_sum(self, seeds):
        """As of `AdjointGradients`, from what the voxels' gradients have shown: to the tolerance, of its own largest value."""
        total, left = self.held.of_sum(seeds), self._sensitivities()
        allowed = self.tolerance * float(total.abs().max())
        for direction, values in zip(self.directions, self.maps, strict=True):
            along = float(left @ direction)
            total.add_(values, alpha=along)
            left = left - along * direction
        error = self._expected(float(left.norm()))
        if error > allowed:
            return self.whole.of_sum(seeds)
        self.error = max(self.error, error and error / allowed * self.tolerance)
        return total

    @torch.no_grad()
    def of_voxel(self, number, seeds):
        """As of `AdjointGradients`, for the voxels in their order."""
        if number % self.block == 0:
            self._prepare(range(number, min(number + self.block, seeds.shape[2])), seeds)
        yield self._gradient(number % self.block) if self.maps else self.local[number % self.block]

    def _gradient(self, place):
        """Gradient of one voxel of the block on the whole grid."""
        total, (gradient, part) = torch.zeros_like(self.copies), self.local[place]
        for coefficient, values in zip(self.coefficients[place], self.maps, strict=True):
            total.add_(values, alpha=float(coefficient))
        total[part] += gradient
        return total, ...

    def _prepare(self, numbers, seeds):
        """Local gradients of some voxels, and as many maps as they ask for."""
        self.local, rows = [], []
        for number in numbers:
            self.local += self.held.of_voxel(number, seeds)
            rows.append(self._sensitivities())
        self.peak = max(self.peak, *(float(gradient.abs().max()) for gradient, _ in self.local))
        left = torch.stack(rows)
        self.coefficients = left.new_zeros(len(left), 0)
        for direction in self.directions:
            left = self._project(left, direction)
        for _ in numbers:
            size, worst = (one.item() for one in left.norm(dim=1).max(0))
            if (error := self._expected(size)) <= self.tolerance * self.peak:
                self.error = max(self.error, error and error / self.peak)
                return
            ((difference, _),) = self.whole.of_voxel(numbers[worst], seeds)
            difference -= self._gradient(worst)[0]
            self.measured.append(float(difference.abs().max()) / size)
            self.directions.append(left[worst] / size)
            self.maps.append(difference / size)
            left = self._project(left, self.directions[-1])

    def _expected(self, size):
        """Largest error that is expected of voxels of which so much sensitivity, or less, is left out."""
        if not size:
            return 0.0
        return MARGIN * max(self.measured[-RECENT:]) * size if len(self.measured) >= MEASURED else inf

    def _project(self, left, direction):
        along = left @ direction
        self.coefficients = torch.cat([self.coefficients, along[:, None]], 1)
        return left - along[:, None] * direction

    def _sensitivities(self):
        """One vector, as long for each voxel: a statistic over fewer positions changes more with each of them."""
        found = self.held.sensitivities
        return torch.cat([
            found[number].flatten().double() / self.whole.kept[number][0, 0].numel() ** 0.5 for number in sorted(found)
        ])  # fmt: skip
