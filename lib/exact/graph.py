"""What a network computes: the operations that run on a volume of one shape, recorded without computing them.

The network is called with a tensor that has a shape and no values (torch's meta device), and every operation is noted
as it runs, those of functions and hooks too. Nothing is kept between calls, so nothing known of a network goes stale.
"""

from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from types import FunctionType, MethodType, ModuleType

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

SHAPE_STAYS = {"native_batch_norm", "_prelu_kernel", "relu", "relu_", "leaky_relu", "leaky_relu_", "elu", "elu_"}


@dataclass(eq=False)
class Node:
    """One result of an operation. name: of aten, "input" for the volume, "" if unknown.

    given: arguments by name, with Nodes for what depends on the volume.  shape: of the result.  pointwise: whether each
    value of the result depends on the values at its own position alone.  function: of aten, that computes it.
    """

    name: str
    given: dict
    shape: tuple[int, ...]
    pointwise: bool = False
    function: Callable | None = None

    @cached_property
    def inputs(self):
        """The Nodes among the arguments."""
        return [given for given in leaves(self.given.values()) if isinstance(given, Node)]


def leaves(values):
    """The values, and those in lists among them: arguments of an operation."""
    return [leaf for value in values for leaf in (value if isinstance(value, list | tuple) else (value,))]


def each(function, values):
    """Function of every value, and of those in lists among them, in the same lists."""
    return [list(map(function, value)) if isinstance(value, list | tuple) else function(value) for value in values]


@contextmanager
def frozen(model):
    """Evaluation mode, parameters without gradients, and convolutions of a GPU in whole single precision, as those of a
    CPU (not TF32); all restored at the end."""
    convolutions = torch.backends.cudnn.conv
    with ExitStack() as before:
        before.callback(setattr, convolutions, "fp32_precision", convolutions.fp32_precision)
        convolutions.fp32_precision = "ieee"
        for module in model.modules():
            before.callback(setattr, module, "training", module.training)
        for parameter in model.parameters():
            before.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(False)
        model.eval()
        yield


def like_model(model, values):
    """The values as a tensor on the device and in the precision of the network."""
    return torch.as_tensor(values).to(next(model.parameters(), torch.empty(0)))


def n_channels(model):
    """Channels C of the volumes (N, C, X, Y, Z) that a network takes: those that its first convolution asks for."""
    with _FirstConvolution() as first:
        _recorded(model, (1, 2, 32, 32, 32))
    return first.channels


class _FirstConvolution(TorchFunctionMode):
    """Runs a network until its first convolution, which tells how many channels there should have been."""

    channels = 2  # as long as no convolution tells: FLAIR, MPRAGE

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.conv3d:
            given = dict(
                zip(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), args, strict=False)
            )
            given |= kwargs
            there, wanted = given["input"].shape[1], given["weight"].shape[1] * given.get("groups", 1)
            self.channels = wanted if there != wanted else 2
            raise StopIteration
        return function(*args, **kwargs)


def record(model, shape, copies=1):
    """The nodes of a network in evaluation mode on volumes (copies, C, *shape), in their order; the node of the logits, or
    None where the network fails; and the error."""
    return _recorded(model, (copies, n_channels(model), *shape))


@torch.no_grad()
def _recorded(model, shape):
    """`record` on volumes (B, C, X, Y, Z) of this shape."""
    dtype = next(model.parameters(), torch.empty(0)).dtype
    with torch.inference_mode(False):
        volume = torch.empty(shape, dtype=dtype, device="meta")
    with frozen(model), torch.inference_mode(False), _Recorder() as recorder:
        recorder.note(volume, Node("input", {}, tuple(volume.shape)))
        try:
            return recorder.nodes, recorder.node(model(volume)), None
        except Exception as error:  # a network fails in as many ways as there are networks
            return recorder.nodes, None, error.with_traceback(None)  # which would keep the caller's volumes


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.nodes, self._last, self._tensors = [], {}, {}  # by id of a tensor; by storage, all of it

    def note(self, tensor, node):
        self.nodes.append(node)
        self._remember(tensor, node)

    def _remember(self, tensor, node):
        self._last[id(tensor)] = node
        self._tensors.setdefault(_memory(tensor), {})[id(tensor)] = tensor  # also keeps it alive

    def node(self, value):
        """The node of a tensor that depends on the volume; other values as they are."""
        if not _is_meta(value):
            return value
        return self._last.get(id(value)) or Node("", {}, tuple(value.shape))

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not any(_is_meta(value) for value in leaves((*args, *kwargs.values()))):  # of weights alone, or a constant
            on_meta = "device" in kwargs and torch.device(kwargs["device"] or "cpu").type == "meta"
            return function(*args, **kwargs | ({"device": "cpu"} if on_meta else {}))
        arguments, name = function._schema.arguments, function.overloadpacket.__name__
        named = {one.name: one.default_value for one in arguments} | kwargs
        named |= dict(zip([one.name for one in arguments], args, strict=False))
        written = leaves([named[one.name] for one in arguments if one.alias_info and one.alias_info.is_write])
        if not all(map(_is_meta, written)):
            raise RuntimeError("the network writes into a tensor that it keeps")
        given = dict(zip(named, each(self.node, named.values()), strict=True))
        results = self._run(function, name, args, kwargs)
        pointwise = torch.Tag.pointwise in function.tags and torch.Tag.nondeterministic_seeded not in function.tags
        for number, tensor in enumerate(leaves([results])):
            if name == "view" and _layout(tensor) == _layout(args[0]):
                self._remember(tensor, given["self"])
            elif isinstance(tensor, torch.Tensor):
                self.note(tensor, Node(name, given | {"output": number}, tuple(tensor.shape), pointwise, function))
        for tensor in written:
            shared = self._tensors.get(_memory(tensor), {})
            if all(_layout(one) == _layout(tensor) for one in shared.values()):
                self._last |= dict.fromkeys(shared, self.node(tensor))
            else:  # what was written into a part is not followed
                self._last |= {key: Node("", {}, tuple(one.shape)) for key, one in shared.items()}
        return results

    @staticmethod
    def _run(function, name, args, kwargs):
        if name in SHAPE_STAYS:  # several times faster
            result = args[0] if name.endswith("_") else torch.empty_like(args[0])
            return (result, *(result.new_empty(0),) * 2) if name == "native_batch_norm" else result
        kwargs = dict(zip(kwargs, each(to_meta, kwargs.values()), strict=True))
        return function(*each(to_meta, args), **kwargs | ({"device": "meta"} if "device" in kwargs else {}))


def _is_meta(value):
    return isinstance(value, torch.Tensor) and value.is_meta


def to_meta(value):
    return value.to("meta") if isinstance(value, torch.Tensor) else value


def _layout(tensor):
    return tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset()


def _memory(tensor):
    return tensor.untyped_storage()._cdata


def held_by(network):
    """Everything that a network holds, also in the closures of hooks, with the versions of its tensors, which count
    changes in place. Hooks of the network itself are left out: what they keep comes from its result."""
    found, known = [], set()
    waiting = [value for name, value in vars(network).items() if name != "_forward_hooks"]
    while waiting:
        value = waiting.pop()
        is_tensor = isinstance(value, torch.Tensor)
        found.append((value, value._version if is_tensor and not value.is_inference() else None))
        if is_tensor or id(value) in known or isinstance(value, type | ModuleType):
            continue
        known.add(id(value))
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple | set):
            waiting += value
        elif isinstance(value, FunctionType):
            for cell in value.__closure__ or ():
                with suppress(ValueError):  # an empty one
                    waiting.append(cell.cell_contents)
        elif isinstance(value, MethodType):
            waiting.append(value.__self__)
        elif isinstance(value, partial):
            waiting += [value.func, *value.args, *value.keywords.values()]
        elif hasattr(value, "__dict__"):
            waiting += vars(value).values()
    return found


def copied(network):
    """A deep copy, also of a network that keeps tensors of its last call, as MONAI's DynUNet with deep supervision does:
    torch does not copy these with the gradients behind them, the copy has their values."""
    tensors = [value for value, _ in held_by(network) if isinstance(value, torch.Tensor)]
    return deepcopy(network, {id(value): value.detach().clone() for value in tensors if not value.is_leaf})
