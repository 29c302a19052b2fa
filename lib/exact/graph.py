"""What a network computes: the operations that run on a volume of one shape, recorded without computing them.

The network is called with a tensor that has a shape and no values (torch's meta device), and every operation is noted
as it runs, those of functions and hooks too. Nothing is kept between calls, so nothing known of a network goes stale.
"""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

N_CHANNELS = 2  # FLAIR, MPRAGE
SHAPE_STAYS = {"native_batch_norm", "_prelu_kernel", "relu", "relu_", "leaky_relu", "leaky_relu_", "elu", "elu_"}


@dataclass(eq=False)
class Node:
    """One result of an operation. name: of aten, "input" for the volume, "" if unknown.

    given: arguments by name, with Nodes for what depends on the volume.  shape: of the result.  pointwise: whether each
    value of the result depends on the values at its own position alone.
    """

    name: str
    given: dict
    shape: tuple[int, ...]
    pointwise: bool = False

    @cached_property
    def inputs(self):
        """The Nodes among the arguments."""
        return [given for given in tree_leaves(self.given) if isinstance(given, Node)]


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


@torch.no_grad()
def record(model, shape):
    """The nodes of a network in evaluation mode on a volume (1, 2, *shape), in their order; the node of the logits, or
    None where the network fails; and the error."""
    dtype = next(model.parameters(), torch.empty(0)).dtype
    with torch.inference_mode(False):
        volume = torch.empty(1, N_CHANNELS, *shape, dtype=dtype, device="meta")
    with frozen(model), torch.inference_mode(False), _Recorder() as recorder:
        recorder.note(volume, Node("input", {}, tuple(volume.shape)))
        try:
            return recorder.nodes, recorder.node(model(volume)), None
        except Exception as error:  # a network fails in as many ways as there are networks
            return recorder.nodes, None, error


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.nodes, self._last, self._tensors = [], {}, {}  # by id of a tensor; by storage, all of it

    def note(self, tensor, node):
        self.nodes.append(node)
        self._last[id(tensor)] = node
        self._tensors.setdefault(_memory(tensor), {})[id(tensor)] = tensor  # also keeps it alive

    def node(self, value):
        """The node of a tensor that depends on the volume; other values as they are."""
        if not (isinstance(value, torch.Tensor) and value.is_meta):
            return value
        return self._last.get(id(value)) or Node("", {}, tuple(value.shape))

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        if not any(tensor.is_meta for tensor in tensors):  # of weights alone, or a constant
            return function(*args, **kwargs | {name: "cpu" for name in ("device",) if _is_meta(kwargs.get(name))})
        arguments, name = function._schema.arguments, function.overloadpacket.__name__
        named = {one.name: one.default_value for one in arguments} | kwargs
        named |= dict(zip([one.name for one in arguments], args, strict=False))
        written = tree_leaves([named[one.name] for one in arguments if one.alias_info and one.alias_info.is_write])
        if not all(tensor.is_meta for tensor in written):
            raise RuntimeError("the network writes into a tensor that it keeps")
        given = tree_map(self.node, named)
        if name in SHAPE_STAYS:
            first = named[arguments[0].name]
            result = first if name.endswith("_") else torch.empty_like(first)
            result = (result, *(first.new_empty(0),) * 2) if name == "native_batch_norm" else result
        else:
            args, kwargs = tree_map(lambda one: one.to("meta") if isinstance(one, torch.Tensor) else one, (args, kwargs))
            result = function(*args, **(kwargs | {"device": "meta"} if "device" in kwargs else kwargs))
        for number, tensor in enumerate(tree_leaves(result)):
            if isinstance(tensor, torch.Tensor):
                tags = set(function.tags)
                pointwise = torch.Tag.pointwise in tags and torch.Tag.nondeterministic_seeded not in tags
                self.note(tensor, Node(name, given | {"output": number}, tuple(tensor.shape), pointwise))
        for tensor in written:
            shared = self._tensors.get(_memory(tensor), {})
            if len(shared) > 1:  # what was written into a part is not followed
                self._last |= {key: Node("", {}, tuple(one.shape)) for key, one in shared.items()}
        return result


def _is_meta(device):
    return device is not None and torch.device(device).type == "meta"


def _memory(tensor):
    return tensor.untyped_storage()._cdata
