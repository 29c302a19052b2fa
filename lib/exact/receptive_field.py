"""How far a segmentation network looks: measured on the network itself and verified numerically, once per network."""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from weakref import WeakKeyDictionary

import numpy as np
import torch

N_CHANNELS = 2  # FLAIR, MPRAGE
STRIDES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
LARGEST_RETRIED_STRIDE = 16
LONGEST_PROBE = 256  # voxels
TOLERANCE = 1e-4  # largest accepted difference of window and whole logits, relative to the whole logits


@dataclass(frozen=True)
class ReceptiveField:
    """On crops that lie on the grid of `strides`, the outermost logits are not those of the whole volume: `below` of
    them at a low border that is cut, `above` at a high one (voxels along X, Y, Z).

    reason: why crops are never exact for this network; empty if they are.
    """

    strides: tuple[int, int, int]
    below: tuple[int, int, int] = (0, 0, 0)
    above: tuple[int, int, int] = (0, 0, 0)
    reason: str = ""

    def padded(self, shape):
        """Smallest multiples of the strides that hold a volume of this shape."""
        return tuple((-(-np.array(shape) // self.strides) * self.strides).tolist())

    def box(self, first, stop, shape):
        """Slices of the input, in the padded volume, that the logits of the voxels in [first, stop) depend on."""
        low, high = np.zeros(3, int), np.array(self.padded(shape))
        if not self.reason:
            low = np.maximum(low, (np.array(first) - self.below) // self.strides * self.strides)
            high = np.minimum(high, self.padded(np.array(stop) + self.above))
        return tuple(slice(*bounds) for bounds in np.stack([low, high], 1).tolist())


@contextmanager
def frozen(model):
    """Evaluation mode and parameters without gradients; both restored at the end."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def like_model(model, values):
    """The values as a tensor on the device and in the precision of the network."""
    return torch.as_tensor(values).to(next(model.parameters(), torch.empty(0)))


def once_per_architecture(measure):
    """Keep what a function finds out about a network for as long as the network's architecture stays the same."""
    found = WeakKeyDictionary()

    @wraps(measure)
    def remembered(model):
        architecture = repr(model)
        if model not in found or found[model][0] != architecture:
            found[model] = architecture, measure(model)
        return found[model][1]

    return remembered


@once_per_architecture
def measure_receptive_field(model):
    """The Reach of a network."""
    # cuDNN may choose transforms (Winograd, FFT) in which NaN travels further than in the convolution itself
    with frozen(model), torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
        return _measure(model)


def _measure(model):
    accepted = _accepted_strides(model)
    if accepted is None:
        return ReceptiveField((1, 1, 1), reason="the network accepts none of the probe sizes, so its stride is unknown")
    strides = np.array(accepted)
    while True:
        halos = _halos(model, strides)
        if halos is None:
            reason = "a logit depends on the whole volume (normalisation over the image, attention or global pooling)"
            return ReceptiveField(accepted, reason=reason)
        below, above = np.transpose(halos).tolist()
        reach = ReceptiveField(tuple(strides.tolist()), tuple(below), tuple(above))
        error = _window_error(model, reach)
        if error <= TOLERANCE:
            return reach
        strides = 2 * strides  # a network that resizes its maps accepts more sizes than it treats alike
        if strides.max() > LARGEST_RETRIED_STRIDE:
            reason = f"logits on windows differ from those of the whole volume by a fraction of {error:.1g}"
            return ReceptiveField(accepted, reason=reason)


def _accepted_strides(model):
    """Smallest strides whose multiples the network accepts as sizes and returns unchanged; None if there are none."""
    common = next((stride for stride in STRIDES if _accepts(model, np.full(3, 3 * stride))), None)
    if common is None:
        return None
    smaller = [stride for stride in STRIDES if stride < common]
    sizes = [[np.where(np.arange(3) == axis, 3 * stride, 3 * common) for stride in smaller] for axis in range(3)]
    return tuple(
        next((int(size[axis]) // 3 for size in sizes[axis] if _accepts(model, size)), common) for axis in range(3)
    )


def _accepts(model, size):
    try:
        return tuple(model(like_model(model, torch.zeros(1, N_CHANNELS, *size))).shape[2:]) == tuple(size)
    except (RuntimeError, ValueError, AssertionError):
        return False


def _halos(model, strides):
    """(below, above) along each axis; None if a logit looks everywhere, which a thin probe often tells cheaply."""
    thin = np.where(np.arange(3) == 0, 8, 1) * strides
    if _accepts(model, thin) and _halo(model, strides, 0, strides) is None:
        return None
    halos = [_halo(model, strides, axis, 3 * strides) for axis in range(3)]
    return None if None in halos else halos


def _halo(model, strides, axis, size):
    """(below, above) along one axis: one half of a probe is NaN, how far does it travel? None if everywhere.

    size: of the probe along the other axes.
    NaN times zero is NaN: the answer does not depend on the weights.
    """
    length = 8 * int(strides[axis])
    while length <= max(LONGEST_PROBE, 8 * strides[axis]):
        size = np.where(np.arange(3) == axis, length, size)
        probe = like_model(model, torch.zeros(2, N_CHANNELS, *size)).movedim(axis + 2, 0)
        probe[: length // 2, 0] = torch.nan
        probe[length // 2 :, 1] = torch.nan
        low, high = model(probe.movedim(0, axis + 2)).isnan().movedim(axis + 2, 0).flatten(2).any(2).T
        below, above = int(low[length // 2 :].sum()), int(high[: length // 2].sum())
        if max(below, above) < length // 2:
            return below, above
        length *= 2
    return None


def _window_error(model, reach):
    """Largest relative difference of window and whole logits, at voxels of several alignments in the middle and at the
    borders of a random probe that is ten times stronger outside their windows."""
    shape = reach.padded(np.add(reach.below, reach.above) + 5 * np.array(reach.strides))
    generator = torch.Generator().manual_seed(0)
    volume = like_model(model, torch.randn(1, N_CHANNELS, *shape, generator=generator))
    errors = []
    for fractions in ((0.5, 0.37, 0.6), (0.41, 0.55, 0.48), (0.0, 0.3, 0.99), (0.97, 0.02, 0.7)):
        voxel = (np.array(fractions) * shape).astype(int)
        box = reach.box(voxel, voxel + 1, shape)
        probe = 10 * volume
        probe[(..., *box)] = volume[(..., *box)]
        whole = model(probe)[(0, slice(None), *voxel)]
        cropped = model(probe[(..., *box)])[(0, slice(None), *(voxel - [side.start for side in box]))]
        errors.append((cropped - whole).abs().max() / whole.abs().max().clamp_min(torch.finfo(whole.dtype).tiny))
    return float(torch.stack(errors).max())
