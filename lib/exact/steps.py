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
from lib.exact.receptive_field import N_CHANNELS, frozen, once_per_architecture

SUMS = (operator.add, operator.iadd, torch.add)


class Unsupported(ValueError):
    """The network has a part without adjoint."""


@dataclass
class Step:
    """operation: a Convolution, the slope of an activation below zero (tensor), "cat", "sum" or "input"."""

    operation: object
    inputs: tuple[int, ...] = ()
    channels: int = N_CHANNELS


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
        if node.op == "call_module":
            numbers[node] = _append_module(
                steps, modules[node.target], inputs[0], len(node.all_input_nodes[0].users) == 1
            )
        elif node.op != "output" or inputs != (len(steps) - 1,):
            steps.append(_step(node, inputs, steps))
            numbers[node] = len(steps) - 1
    return steps


@once_per_architecture
def _trace(model):
    with frozen(model):
        return torch.fx.Tracer().trace(model)


def _step(node, inputs, steps):
    """The step of a node that is no module."""
    if node.op == "placeholder" and not steps:
        return Step("input")
    if node.op == "call_function" and node.target is torch.cat and (*node.args, *node.kwargs.values())[1:] == (1,):
        return Step("cat", inputs, sum(steps[i].channels for i in inputs))
    if node.op == "call_function" and node.target in SUMS and len(inputs) == len(node.args) == 2 and not node.kwargs:
        return Step("sum", inputs, steps[inputs[0]].channels)
    raise Unsupported(f"{node.op} {node.target} has no adjoint")


def _append_module(steps, module, given, single_use):
    """Append the step of a module, or fold it into the given step.  Returns the number of the step of its output."""
    match module:
        case nn.Conv3d() | nn.ConvTranspose3d():
            steps.append(Step(_convolution(module), (given,), module.out_channels))
        case nn.BatchNorm3d() if module.track_running_stats and single_use:
            steps[given].operation = _fold(steps[given].operation, module)
            return given
        case nn.PReLU() | nn.LeakyReLU() | nn.ReLU():
            slope = getattr(module, "weight", getattr(module, "negative_slope", 0.0))
            slope = torch.as_tensor(slope).detach().view(1, -1, 1, 1, 1)
            steps.append(Step(slope, (given,), steps[given].channels))
        case nn.Identity() | nn.Dropout() | nn.Dropout3d():
            return given
        case _:
            raise Unsupported(f"{type(module).__name__} has no adjoint")
    return len(steps) - 1


def _convolution(module):
    transposed = isinstance(module, nn.ConvTranspose3d)
    kernel, stride, padding, extra = (
        np.array(value) for value in (module.kernel_size, module.stride, module.padding, module.output_padding)
    )
    usual = module.groups == 1 and set(module.dilation) == {1} and module.padding_mode == "zeros"
    if not usual or padding.dtype.kind != "i" or (transposed and ((kernel < stride) | (extra > padding)).any()):
        raise Unsupported(f"{module} has no adjoint")
    weight = module.weight.detach()
    bias = weight.new_zeros(module.out_channels) if module.bias is None else module.bias.detach()
    return Convolution(weight, bias, stride, padding, extra, transposed)


def _fold(convolution, norm):
    if not isinstance(convolution, Convolution):
        raise Unsupported("batch normalisation that does not follow a convolution has no adjoint")
    weight = norm.weight.detach() if norm.affine else 1
    scale = weight / (norm.running_var + norm.eps).sqrt()
    shift = (norm.bias.detach() if norm.affine else 0) - norm.running_mean * scale
    return convolution.rescale(scale, shift)
