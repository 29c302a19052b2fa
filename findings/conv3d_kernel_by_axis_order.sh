#!/usr/bin/env bash
# torch 2.13.0: on a CPU, which kernel computes a 3D convolution of one volume depends on the order of its axes, and with it time and last digits.
#
# A single volume of 16 channels and 30 x 40 x 60 voxels is convolved (kernel 3) by slow_conv3d, the same volume with its axes turned to 60 x 40 x 30 by oneDNN: the
# choice looks at the product of batch, channels and the first two axes (16 * 30 * 40 = 19200, 16 * 60 * 40 = 38400) and not at the last axis. On one thread of an
# AVX-512 Xeon the first took 109 and 154 ms of processor time in two runs, the second 29 and 17 ms, turning included. The results differ in their last digits. With two volumes in a batch the choice is always oneDNN.
#
# Prints the kernels, the times (which decide nothing) and the largest difference; fails if the kernels are the same or the results are.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'torch==2.13.0' 'numpy==2.4.6'
cat >"$folder/convolve.py" <<'PYTHON'
import time

import torch
import torch.nn.functional as F
from torch.profiler import profile

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
volume = torch.randn(1, 16, 30, 40, 60, generator=generator)
weight = torch.randn(16, 16, 3, 3, 3, generator=generator)


def kernels(volume):
    with torch.no_grad(), profile() as seen:
        F.conv3d(volume, weight, padding=1)
    return sorted(e.key for e in seen.key_averages() if e.key in ("aten::slow_conv3d", "aten::mkldnn_convolution"))


def turned(values):
    return values.permute(0, 1, 4, 3, 2).contiguous()


def milliseconds(function):
    function()
    before = time.process_time()
    function()
    return 1e3 * (time.process_time() - before)


found = {"30 x 40 x 60": kernels(volume), "60 x 40 x 30": kernels(turned(volume)), "two of 30 x 40 x 60": kernels(torch.cat([volume] * 2))}
for name, names in found.items():
    print(name, *names)
with torch.no_grad():
    as_it_is = F.conv3d(volume, weight, padding=1)
    with_axes_turned = turned(F.conv3d(turned(volume), turned(weight), padding=1))
    print(f"{milliseconds(lambda: F.conv3d(volume, weight, padding=1)):.0f} ms as it is,", end=" ")
    print(f"{milliseconds(lambda: turned(F.conv3d(turned(volume), turned(weight), padding=1))):.0f} ms with axes turned")
difference = (as_it_is - with_axes_turned).abs().max().item()
print(f"largest difference {difference:.1e}, largest value {as_it_is.abs().max():.0f}")
assert [*found.values()] == [["aten::slow_conv3d"], ["aten::mkldnn_convolution"], ["aten::mkldnn_convolution"]]
assert 0 < difference < 1e-3
PYTHON
"$folder/env/bin/python" "$folder/convolve.py"
