"""How far a segmentation network looks: measured on the network itself and verified numerically, once per network."""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, wraps
from weakref import ref

import numpy as np
import torch

N_CHANNELS = 2  # FLAIR, MPRAGE
STRIDES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
LARGEST_RETRIED_STRIDE = 16
LONGEST_PROBE = 256  # voxels
TOLERANCE = 1e-4  # largest accepted `relative_error` of what stands for the logits, or gradients, of whole volumes

NO_STRIDES = "the network accepts none of the probe sizes, so its stride is unknown"
EVERYWHERE = "a logit depends on the whole volume (normalisation over the image, attention or global pooling)"


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
    with ExitStack() as before:
        for module in model.modules():
            before.callback(setattr, module, "training", module.training)
        for parameter in model.parameters():
            before.callback(parameter.requires_grad_, parameter.requires_grad)
        model.eval().requires_grad_(False)
        yield


def like_model(model, values):
    """The values as a tensor on the device and in the precision of the network."""
    return torch.as_tensor(values).to(next(model.parameters(), torch.empty(0)))


def random_probe(model, shape):
    """Normal noise (1, 2, *shape) for a network, always the same."""
    return like_model(model, torch.randn(1, N_CHANNELS, *shape, generator=torch.Generator().manual_seed(0)))


def relative_error(actual, expected):
    """Largest difference of two tensors, as a fraction of the largest expected value."""
    return float((actual - expected).abs().max() / expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny))


def once_per_architecture(measure):
    """Keep what a function finds out about a network for as long as the network's architecture stays the same."""
    kept = lru_cache(64)(lambda network, architecture: measure(network()))
    return wraps(measure)(lambda model: kept(ref(model), repr(model)))


@once_per_architecture
@torch.no_grad()
@torch.backends.cudnn.flags(enabled=False)  # its transforms (Winograd, FFT) may carry NaN further than the convolution
def measure_receptive_field(model):
    """The ReceptiveField of a network."""
    with frozen(model):
        accepted = _accepted_strides(model)
        if accepted is None:
            return ReceptiveField((1, 1, 1), reason=NO_STRIDES)
        strides = np.array(accepted)
        while halos := _halos(model, strides):
            field = ReceptiveField(tuple(strides.tolist()), *zip(*halos, strict=True))
            error = _window_error(model, field)
            if error <= TOLERANCE:
                return field
            strides = 2 * strides  # a network that resizes its maps accepts more sizes than it treats alike
            if strides.max() > LARGEST_RETRIED_STRIDE:
                reason = f"logits on windows differ from those of the whole volume by a fraction of {error:.1g}"
                return ReceptiveField(accepted, reason=reason)
        return ReceptiveField(accepted, reason=EVERYWHERE)


def _accepted_strides(model):
    """Smallest strides whose multiples the network accepts as sizes and returns unchanged; None if there are none."""

    def smallest(along, common=0):
        sizes = ((stride, np.where(along, 3 * stride, 3 * common)) for stride in STRIDES)
        return next((stride for stride, size in sizes if _accepts(model, size)), None)

    common = smallest(np.ones(3, bool))
    return common and tuple(smallest(axis, common) for axis in np.eye(3, dtype=bool))


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

    size: of the probe along the other axes.  NaN times zero is NaN: the answer does not depend on the weights.
    """
    half = 4 * int(strides[axis])
    while 2 * half <= max(LONGEST_PROBE, 8 * strides[axis]):
        probe = like_model(model, torch.zeros(2, N_CHANNELS, *np.where(np.arange(3) == axis, 2 * half, size)))
        probe[0].narrow(axis + 1, 0, half).fill_(torch.nan)
        probe[1].narrow(axis + 1, half, half).fill_(torch.nan)
        low, high = model(probe).isnan().movedim(axis + 2, 1).flatten(2).any(2)
        below, above = int(low[half:].sum()), int(high[:half].sum())
        if max(below, above) < half:
            return below, above
        half *= 2
    return None


def _window_error(model, field):
    """Largest relative difference of window and whole logits, at voxels of several alignments in the middle and at the
    borders of a random probe that is ten times stronger outside their windows."""
    shape = field.padded(np.add(field.below, field.above) + 5 * np.array(field.strides))
    volume, errors = random_probe(model, shape), []
    for fractions in ((0.5, 0.37, 0.6), (0.41, 0.55, 0.48), (0.0, 0.3, 0.99), (0.97, 0.02, 0.7)):
        voxel = (np.array(fractions) * shape).astype(int)
        box = field.box(voxel, voxel + 1, shape)
        probe = 10 * volume
        probe[(..., *box)] = volume[(..., *box)]
        whole = model(probe)[(..., *voxel)]
        cropped = model(probe[(..., *box)])[(..., *(voxel - [side.start for side in box]))]
        errors.append(relative_error(cropped, whole))
    return float(np.max(errors))  # NaN if one is
