"""A segmentation network as a list of steps whose forward pass and adjoint can be computed on parts of the grid.

The network is traced. Convolutions (with the batch normalisation that follows them folded in), piecewise linear
activations, concatenations of channels and sums are steps: the U-Net family, with or without residual units.
"""

import operator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lib.exact.local_convolution import Convolution
from lib.exact.receptive_field import frozen, once_per_architecture

SUMS = (operator.add, operator.iadd, torch.add)


class Unsupported(ValueError):
    """The network has a part without adjoint."""


@dataclass
class Step:
    """operation: a Convolution, the slope of an activation below zero (tensor), "cat", "sum" or "input".

    inputs: numbers of the steps whose results it takes.
    """

    operation: object
    inputs: tuple[int, ...]


def build_steps(model):
    """The steps of a network, with its weights of this moment.  Raises Unsupported, naming the part without adjoint."""
    try:
        graph = _trace(model)
    except Exception as error:  # tracing fails in as many ways as there are networks
        raise Unsupported(f"the network cannot be traced: {error}") from error
    modules, steps, numbers = dict(model.named_modules()), [], {}
    for node in graph.nodes:
        inputs = tuple(numbers[given] for given in node.all_input_nodes)
        if not node.users and node.op != "output":
            raise Unsupported(f"the result of {node} is not used")
        operation = _operation(node, modules[node.target] if node.op == "call_module" else None, inputs, steps)
        if operation is not None:
            steps.append(Step(operation, inputs))
        numbers[node] = inputs[0] if operation is None else len(steps) - 1
    return steps


@once_per_architecture
def _trace(model):
    with frozen(model):
        return torch.fx.Tracer().trace(model)


def _operation(node, module, inputs, steps):
    """What a node computes, as in Step; None if nothing, or if it is folded into the step that it takes."""
    match module:
        case nn.Conv3d() | nn.ConvTranspose3d():
            return _convolution(module)
        case nn.BatchNorm3d() if module.track_running_stats and len(node.all_input_nodes[0].users) == 1:
            given = steps[inputs[0]]
            if not isinstance(given.operation, Convolution):
                raise Unsupported("batch normalisation that does not follow a convolution has no adjoint")
            given.operation = given.operation.normalised(module)
            return None
        case nn.PReLU() | nn.LeakyReLU() | nn.ReLU():
            slope = getattr(module, "weight", getattr(module, "negative_slope", 0.0))
            return torch.as_tensor(slope).detach().view(1, -1, 1, 1, 1)
        case nn.Identity() | nn.Dropout() | nn.Dropout3d():
            return None
        case nn.Module():
            raise Unsupported(f"{type(module).__name__} has no adjoint")
    function = node.target if node.op == "call_function" else None
    if node.op == "placeholder" and not steps:
        return "input"
    if node.op == "output" and inputs == (len(steps) - 1,):
        return None
    if function is torch.cat and (*node.args, *node.kwargs.values())[1:] == (1,):
        return "cat"
    if function in SUMS and len(inputs) == len(node.args) == 2 and not node.kwargs:
        return "sum"
    raise Unsupported(f"{node.op} {node.target} has no adjoint")


def _convolution(module):
    names, transposed = ("kernel_size", "stride", "padding", "output_padding"), isinstance(module, nn.ConvTranspose3d)
    kernel, stride, padding, extra = (np.array(getattr(module, name)) for name in names)
    usual = module.groups == 1 and set(module.dilation) == {1} and module.padding_mode == "zeros"
    if not usual or padding.dtype.kind != "i" or (transposed and ((kernel < stride) | (extra > padding)).any()):
        raise Unsupported(f"{module} has no adjoint")
    weight = module.weight.detach()
    bias = weight.new_zeros(module.out_channels) if module.bias is None else module.bias.detach()
    return Convolution(weight, bias, stride, padding, extra, transposed)
