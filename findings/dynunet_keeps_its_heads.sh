#!/usr/bin/env bash
# MONAI 1.6.1: a DynUNet with deep supervision keeps the heads of its last call on itself, in evaluation mode too, where it does not return them.
#
# So after one call with gradients it cannot be copied (copy.deepcopy, as for averaged weights, raises RuntimeError: heads are no leaves), and a call
# without gradients still computes the heads and holds them until the next. Without deep supervision it is copied.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'monai==1.6.1' 'torch==2.13.0'
"$folder/env/bin/python" -W ignore - <<'PYTHON'
import copy

import torch
from monai.networks.nets import DynUNet


def copies_after_a_call(deep_supervision):
    network = DynUNet(3, 2, 2, [3] * 3, [1, 2, 2], [2, 2], filters=[2, 4, 8], deep_supervision=deep_supervision).eval()
    copy.deepcopy(network)  # before any call, both are
    network(torch.zeros(1, 2, 8, 8, 8))
    try:
        copy.deepcopy(network)
    except RuntimeError as error:
        return str(error).split(",")[0][:60]
    with torch.no_grad():
        network(torch.zeros(1, 2, 8, 8, 8))
    return "copied"


found = {deep: copies_after_a_call(deep) for deep in (False, True)}
print(found)
assert found[False] == "copied"
assert "graph leaves" in found[True] or "explicitly" in found[True], "a DynUNet with deep supervision is now copied after a call"
PYTHON
