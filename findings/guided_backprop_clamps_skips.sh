#!/usr/bin/env bash
# captum 0.9.0: GuidedBackprop, Deconvolution and DeepLift change the gradient of the whole tensor that enters an activation, not the part of it
# that went through the activation.
#
# Where a network gives the same tensor to a ReLU and to a skip connection, h + relu(h), GuidedBackprop drops the negative gradients of the skip too,
# and DeepLift loses what goes around the ReLU: its attributions no longer add up to the change of the output, by 50 % below. Its documentation
# asks for ReLU as modules, used once, which these are. A clone of the input before each activation gives the right values.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'captum==0.9.0' 'torch==2.13.0'
"$folder/env/bin/python" -W ignore - <<'PYTHON'
import torch
from captum.attr import DeepLift, GuidedBackprop
from torch import nn


class Skip(nn.Module):
    """-(h + relu(h)), for h = 1 * x: the gradient is -1 around the ReLU and -1 through it."""

    def __init__(self, clone):
        super().__init__()
        self.relu, self.clone = nn.ReLU(), clone

    def forward(self, x):
        hidden = 1 * x
        return -(hidden + self.relu(hidden.clone() if self.clone else hidden))


x = torch.ones(1, 1)
guided, lifted = ([float(method(Skip(clone)).attribute(x)) for clone in (False, True)] for method in (GuidedBackprop, DeepLift))
print(f"guided backpropagation {guided[0]:g}, with a clone {guided[1]:g}; by hand: around -1, through 0, sum -1")
print(f"DeepLift {lifted[0]:g}, with a clone {lifted[1]:g}; the output changes by -2")
assert guided[1] == -1 and lifted[1] == -2
assert guided[0] != -1 and lifted[0] != -2, "captum tells the two ways apart now"
PYTHON
