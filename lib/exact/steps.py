"""A segmentation network as a list of steps whose forward pass and adjoint can be computed on parts of the grid.

Convolutions (with the batch normalisation that follows them folded in), normalisation, concatenations of channels, sums
and other local functions are steps: the U-Net family, with or without residual units, however it is written.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from lib.exact.local_convolution import Convolution
from lib.exact.local_function import LocalFunction
from lib.exact.normalisation import Normalisation


class _Unsupported(ValueError):
    """The network has a part without adjoint."""


@dataclass
class Step:
    """operation: a Convolution, a Normalisation, the slope of an activation below zero (tensor), "cat", "sum", "input", or a
    LocalFunction for any other.

    inputs: numbers of the steps whose results it takes.
    """

    operation: object
    inputs: tuple[int, ...]


def build_steps(field):
    """The steps of a network from its `ReceptiveField` and "", or None and the part that is no such step."""
    if field.reason:
        return None, field.reason
    try:
        return _steps(field.nodes), ""
    except _Unsupported as error:
        return None, str(error)


def _steps(nodes):
    steps, numbers = [], {}
    users = Counter(given for node in nodes for given in node.inputs)
    for node in nodes:
        inputs = tuple(map(numbers.get, node.inputs))
        if None in inputs:
            raise _Unsupported(f"{node.name} of what is not known has no adjoint")
        given = steps[inputs[0]] if inputs else None
        if node.name == "native_batch_norm" and isinstance(given.operation, Convolution) and users[node.inputs[0]] == 1:
            names = ("weight", "bias", "running_mean", "running_var", "eps")
            given.operation = given.operation.normalised(*(node.given[name] for name in names))
            numbers[node] = inputs[0]
        else:
            steps.append(Step(_operation(node), inputs))
            numbers[node] = len(steps) - 1
    if numbers[nodes[-1]] != len(steps) - 1:
        raise _Unsupported("the last step is not the logits")
    if isinstance(steps[-1].operation, Normalisation):
        raise _Unsupported("normalisation of the logits has no adjoint")
    return steps


def _operation(node):
    """What a node computes, as in Step."""
    given, alike = node.given, all(one.shape == node.shape for one in node.inputs)
    match node.name.removesuffix("_"), len(node.inputs):
        case "input", 0:
            return "input"
        case (("convolution" | "_convolution"), 1) if _is_dense(given):
            return _convolution(given)
        case "relu", 1:
            return torch.zeros(1, 1, 1, 1, 1)
        case "leaky_relu", 1:
            return torch.full((1, 1, 1, 1, 1), given["negative_slope"], dtype=torch.double)
        case "_prelu_kernel", 1:
            return given["weight"].detach()
        case "normalise", 1:
            return _normalisation(given)
        case "cat", _ if given["dim"] in (1, -4) and len(given["tensors"]) == len(node.inputs):
            return "cat"
        case "add", 2 if alike and given["alpha"] == 1:
            return "sum"
        case "slice", 1 if given["dim"] not in (1, -4):  # it may end at a position of the whole grid
            raise _Unsupported("a part that is cut out of the grid has no adjoint")
    return LocalFunction(node)


def _normalisation(given):
    weight, bias = (None if given[name] is None else given[name].detach() for name in ("weight", "bias"))
    return Normalisation(weight, bias, given["groups"], given["eps"])


def _is_dense(given):
    """Whether a convolution reaches all positions between its first and last, and groups none that it transposes."""
    if given["transposed"]:
        kernel = np.array(given["weight"].shape[2:])
        return given["groups"] == 1 and max(given["dilation"]) == 1 and (kernel >= given["stride"]).all()
    return max(given["dilation"]) == 1


def _convolution(given):
    weight, transposed = given["weight"].detach(), given["transposed"]
    stride, padding, extra = (np.array(given[name]) for name in ("stride", "padding", "output_padding"))
    bias = given["bias"]
    bias = weight.new_zeros(weight.shape[1 if transposed else 0]) if bias is None else bias.detach()
    return Convolution(weight, bias, stride, padding, extra, transposed, groups=given["groups"])
