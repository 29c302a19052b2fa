"""Exact input windows: the part of a scan that the logits of a lesion's voxels depend on.

A convolutional network in evaluation mode looks at a bounded neighbourhood of every output voxel, so a lesion can be
predicted and explained on a crop with the very result of the whole volume. A network whose logits depend on the whole
volume (instance normalisation, attention, global pooling) is never cropped. Nothing is kept between calls: what a
network does is found on every call, on the volume's shape and on the window's.
"""

import math
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch

from lib.exact.adjoint import AdjointGradients
from lib.exact.contract import check_network, of_each, usable
from lib.exact.graph import frozen, like_model, n_channels
from lib.exact.local_convolution import cover, grid_box
from lib.exact.receptive_field import ReceptiveField, follow, receptive_field, takes_some
from lib.exact.steps import build_steps

BATCH_VOXELS = 2**21  # input voxels that are predicted at once


@dataclass(frozen=True)
class Window:
    """Box of the grid on which the network runs: the volume, zero-padded at its far ends if the network asks for it.

    input: slices along X, Y, Z.  reason: why this is the whole volume; empty if windows of the network are exact.
    field: `ReceptiveField` of the network on the whole volume.
    """

    input: tuple[slice, slice, slice]
    reason: str = ""
    field: ReceptiveField = field(default=None, compare=False, repr=False)

    @property
    def shape(self):
        return tuple(side.stop - side.start for side in self.input)

    @property
    def start(self):
        return tuple(side.start for side in self.input)

    @property
    def box(self):
        return grid_box(self.shape) + self.start

    def within(self, shape):
        """Slices of the part inside a volume of this shape: the rest of the window is zero padding."""
        return tuple(slice(side.start, min(side.stop, size)) for side, size in zip(self.input, shape, strict=True))

    def crop(self, volumes):
        """(..., X, Y, Z) -> (..., *self.shape)."""
        return cover(volumes, grid_box(volumes.shape[-3:]), self.box)

    def paste(self, values, shape):
        """(..., *self.shape) -> (..., *shape), zero outside the window."""
        return cover(values, self.box, grid_box(shape))


def find_window(model, lesion, shape, held=False):
    """The input window that the logits of a lesion's voxels depend on, in a volume of `shape` (X, Y, Z).

    lesion: (X, Y, Z) bool.  held: as in `receptive_field`.
    Returns a Window; the whole volume with a reason if windows of this network are inexact.
    Raises ValueError if the lesion is empty, shapes differ, or the network gives no logits (`check_network`).
    """
    voxels = lesion_voxels(lesion, shape).numpy()
    try:
        whole = receptive_field(model, shape, held)
    except ValueError:
        check_network(model, shape)  # says it better
        raise
    check_network(model, shape, (node.name for node in whole.nodes))
    first, stop = voxels.min(0), voxels.max(0) + 1
    window, reason = Window(whole.box(first, stop), whole.reason, whole), ""
    if window.shape != whole.shape and not whole.agrees(
        follow(model, window.shape, held)[0], window.input, first, stop
    ):
        reason = "the network does not treat a part of the volume as it treats the whole"
    elif not whole.reason and (name := takes_some(model, window.shape)):
        reason = f"the network does not treat each volume of a batch alone: {name} takes some of them, as x[:1] does"
    if reason:
        whole = replace(whole, reason=reason)
        return Window(whole.box(first, stop), whole.reason, whole)
    return window


def whole_logits(model, volumes):
    """Logits (B, 2, X, Y, Z) of whole volumes (B, C, X, Y, Z), also of sizes that the network does not accept: they are
    zero-padded at the far ends.  Raises ValueError as `find_window`, and as `of_each`."""
    x, y, z = volumes.shape[2:]
    padded = pad_far(volumes, receptive_field(model, (x, y, z)).shape)
    return of_each(model(padded.clone()), padded)[..., :x, :y, :z]


@torch.no_grad()
def predict_lesion(model, volumes, lesion):
    """Logits (B, 2, n) at the n voxels of a lesion (in C order), equal to those of the whole volumes.

    Computed on the lesion's window, and every level of the network on what the lesion needs if its steps are known.
    volumes: (B, C, X, Y, Z), or an iterable of volumes (C, X, Y, Z), of which only windows are kept.
    lesion: (X, Y, Z) bool.  Raises ValueError as `find_window`, if a volume has another shape or logits are not finite.
    """
    shape = tuple(lesion.shape)
    voxels, window = lesion_voxels(lesion, shape), find_window(model, lesion, shape)
    steps, _ = build_steps(window.field)
    size = 1 if window.reason else max(1, BATCH_VOXELS // math.prod(window.shape))  # it may mix volumes of a batch
    wanted = (n_channels(model), *shape)

    def crop(volume):
        if tuple(volume.shape) != wanted:
            raise ValueError(f"volume has shape {tuple(volume.shape)}: lesion and network ask for {wanted}")
        return like_model(model, window.crop(torch.as_tensor(volume)))

    def logits(copies):
        if steps:
            return AdjointGradients(steps, window.field.shape, copies, voxels, window.box).logits
        return at_voxels(of_each(model(copies), copies), voxels, window)

    crops = map(crop, volumes)
    with frozen(model):
        return usable(torch.cat([logits(torch.stack(batch)) for batch in iter(lambda: list(islice(crops, size)), [])]))


def predict_lesions(model, volumes, lesions):
    """`predict_lesion` of each of some lesions, a list: in one pass for all where a network has no windows."""
    together = np.any(lesions, 0)
    if not find_window(model, together, together.shape).reason:
        return [predict_lesion(model, volumes, lesion) for lesion in lesions]
    logits = predict_lesion(model, volumes, together)
    return [logits[:, :, torch.from_numpy(lesion[together])] for lesion in lesions]


def lesion_voxels(lesion, shape):
    """Voxel indices (n, 3) of a lesion mask (X, Y, Z), in C order.  ValueError if it is empty or not of `shape`."""
    lesion = torch.as_tensor(lesion).cpu().bool()
    if tuple(lesion.shape) != tuple(shape):
        raise ValueError(f"lesion has shape {tuple(lesion.shape)}, the volume {tuple(shape)}: give both on one grid")
    if not lesion.any():
        raise ValueError("the lesion mask is empty: give at least one voxel")
    return lesion.nonzero()


def at_voxels(logits, voxels, window):
    """(B, 2, *window.shape) -> (B, 2, n): the values at voxels (n, 3) of the volume."""
    return logits[(..., *(voxels - torch.tensor(window.start)).to(logits.device).T)]


def pad_far(volumes, shape):
    """Zero padding at the far ends of X, Y and Z up to `shape`."""
    return cover(volumes, grid_box(volumes.shape[-3:]), grid_box(shape))
