"""How far a segmentation network looks: the part of a volume that its logits depend on, found anew for every call."""

from dataclasses import dataclass
from math import lcm, prod

import numpy as np
import torch

from lib.exact.graph import Node, each, frozen, leaves, like_model, n_channels, record
from lib.exact.normalisation import hold_statistics
from lib.exact.reach import PADDINGS, reach

LARGEST_STRIDE = 64
COPIES = 61  # volumes of a batch; a prime: each keeps its place, be it among channels, where there are multiples of it


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """shape: of the grid on which the network runs, a volume's own or the next larger one that the network accepts.

    nodes: what is computed, the logits last.  reaches: axes of every node.  strides: crops that begin on multiples of
    them are computed as the whole is.  reason: why there are no such crops; empty if there are.
    """

    shape: tuple[int, int, int]
    nodes: list
    reaches: dict
    strides: tuple[int, int, int] = (1, 1, 1)
    reason: str = ""

    @property
    def axes(self):
        return self.reaches[self.nodes[-1]]

    def box(self, first, stop):
        """Slices of the grid that the logits of the voxels in [first, stop) depend on; all of it with a reason."""
        if self.reason:
            return tuple(slice(0, size) for size in self.shape)
        return tuple(map(_side, self.axes, first, stop, self.strides, self.shape))

    def agrees(self, part, box, first, stop):
        """Whether the network does the same on a box, of which `part` is the field, for the voxels in [first, stop)."""
        if part is None or part.reason:
            return False
        (whole_program, whole_nodes), (part_program, part_nodes) = _program(self), _program(part)
        if not _equal(whole_program, part_program):
            return False
        missing = np.subtract(self.shape, part.shape)
        for node, inside in zip(whole_nodes, part_nodes, strict=True):
            ratios = [axis.ratio for axis in self.reaches[node]]
            if (node.shape[2:] - missing / ratios > inside.shape[2:]).any():  # a position that is cut off is missing
                return False
        for whole, inside, side, low, high in zip(self.axes, part.axes, box, first, stop, strict=True):
            here, there = slice(low, high), slice(low - side.start, high - side.start)
            if (whole.first[here] != inside.first[there] + side.start).any():
                return False
            if (whole.last[here] != inside.last[there] + side.start).any():
                return False
        return True


def receptive_field(model, shape, held=False):
    """The ReceptiveField of a network on volumes (X, Y, Z), padded at their far ends if it does not accept the size.

    held: whether statistics of instance and group normalisation are taken as given, not as results of the volume.
    Raises ValueError if it returns no logit for each voxel, whatever the padding.
    """
    field, strides, error = follow(model, shape, held)
    field = (
        field or follow(model, multiples(shape, strides), held)[0] or (_runs(model, shape) and _opaque(shape, error))
    )
    least = None if field else multiples(shape, follow(model, shape, held=True)[1])  # by the strides of each axis, also
    for stride in range(2, LARGEST_STRIDE + 1) if not field else ():  # of what follows instance normalisation
        larger, odd = multiples(shape, stride), (3 * stride,) * 3  # accepted only if no larger stride is asked for
        if least and np.less_equal(least, larger).all():
            field, least = follow(model, least, held)[0], None
        field = field or follow(model, larger, held)[0]
        if not field and stride.bit_count() == 1 and not follow(model, odd, held)[0] and _runs(model, odd):
            field = _opaque(larger, error)
        if field:
            break
    if not field:
        raise ValueError(f"the network gives no logit for each voxel of a volume of {tuple(shape)}: {error}") from error
    return field


def multiples(shape, strides):
    """Smallest multiples of the strides that hold a volume of this shape."""
    return tuple((-(-np.array(shape) // strides) * strides).tolist())


def follow(model, shape, held=False):
    """The field of a network on a grid, None if it fails there; the strides as far as it came, and the error."""
    shape = tuple(shape)
    nodes, logits, error = record(model, shape)
    reaches = {}
    for node in nodes if held else ():
        hold_statistics(node)
    for node in nodes:
        reaches[node] = reach(node, reaches)
    strides = tuple(lcm(*(found[i].ratio.numerator for found in reaches.values() if found)) for i in range(3))
    if error is None and not (isinstance(logits, Node) and logits.shape[2:] == shape):
        found = getattr(logits, "shape", type(logits).__name__)
        error = ValueError(f"it returns {found} for {(1, n_channels(model), *shape)}")
    if error is not None:
        return None, strides, error
    nodes = _needed(nodes, logits)
    if reaches.get(logits) is None:
        beyond = (node.name for node in nodes if reaches[node] is None and all(map(reaches.get, node.inputs)))
        reason = (
            f"a logit depends on the whole volume: {next(beyond, 'a part of the network')} is not known to be local"
        )
        return ReceptiveField(shape, nodes, reaches, reason=reason), strides, None
    return ReceptiveField(shape, nodes, reaches, strides), strides, None


def _needed(nodes, logits):
    needed = {logits}
    for node in reversed(nodes):
        if node in needed:
            needed |= set(node.inputs)
    return [node for node in nodes if node in needed]


def takes_some(model, shape):
    """The first operation that takes some volumes of a batch alone, as x[:1] does; "" without one, or if batches fail.

    A batch of one does not show it. Of several noisy copies such a network explains the first.
    """
    nodes, logits, error = record(model, shape, COPIES)
    nodes = _needed(nodes, logits) if error is None else []
    return next((node.name for node in nodes if prod(node.shape[:2]) % COPIES), "")


def _opaque(shape, error):
    reason = f"what the network computes on the whole volume cannot be told without its values: {error}"
    return ReceptiveField(tuple(shape), [], {}, reason=reason)


@torch.no_grad()
def _runs(model, shape):
    """Whether a network returns logits on the grid of a volume of zeros."""
    try:
        with frozen(model):
            return tuple(model(like_model(model, torch.zeros(1, n_channels(model), *shape))).shape[2:]) == tuple(shape)
    except Exception:  # as in `record`
        return False


def _side(axis, first, stop, stride, size):
    low, high = min(first, axis.first[first]), max(stop, axis.last[stop - 1] + 1)
    return slice(int(low // stride * stride), int(min(size, -(-high // stride) * stride)))


def _program(field):
    """What a network computes, whatever the size of the grid: of each node its name, ratios and arguments, in one list;
    and the nodes.

    Left out is what pads or crops at the far end alone: what that changes is in the reach.
    """
    program, kept, places = [], [], {}  # places: of the nodes in the list, by which others refer to them
    for node in field.nodes:
        given, before = node.given | {"size": None, "output_size": None}, node.inputs[:1]
        if name := PADDINGS.get(node.name):
            given[name] = near = given[name][::2]
        elif node.name == "slice" and given["dim"] % 5 >= 2:
            start, _, step = slice(given["start"], None, given["step"]).indices(before[0].shape[given["dim"]])
            near = [start, step - 1]
            given |= {"start": start, "end": None}
        else:
            near = [1]
        if not any(near):
            places[node] = places[before[0]]
            continue
        places[node] = len(kept)
        kept.append(node)
        ratios = [axis.ratio for axis in field.reaches[node]]
        constants = each(lambda one: places.get(one) if isinstance(one, Node) else one, given.values())
        program += [node.name, *ratios, *leaves(constants)]
    return program, kept


def _equal(one, other):
    return len(one) == len(other) and all(map(_same, one, other))


def _same(one, other):
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one is other or torch.equal(one, other)
    return type(one) is type(other) and one == other
