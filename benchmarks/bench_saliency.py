"""Instance SmoothGrad (signed maximum) against the literal loop: time, peak memory and error in the same run.

The literal loop differentiates the whole volume once for every voxel of a lesion and every noisy copy. It is timed on
a few voxels, in turns with the whole map of the lesion, and its cost for the lesion follows: one forward pass and one
backward pass a voxel for every copy. The error is the largest difference of the two maps of these few voxels with the
same noise, relative to the largest value.

    python benchmarks/bench_saliency.py                 the paper's and the demo network on 192 x 224 x 192
    python benchmarks/bench_saliency.py --network demo  one of them
    python benchmarks/bench_saliency.py --scaling       cost against lesion size, scan size and lesions per scan
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from lib import unet
from lib.adjoint import unsupported_reason
from lib.reach import frozen
from lib.saliency import noise_sigma, noisy_copies, smoothgrad
from lib.windows import find_window, whole_logits

SHAPE = (192, 224, 192)
NETWORKS = {"paper": ((32, 64, 128, 256, 512), (2, 2, 2, 2)), "demo": ((16, 32, 64, 128), (2, 2, 2))}
LITERAL_VOXELS = 3
COPIES = {"paper": 4, "demo": 16}


def build(name):
    """The network with random weights, and batch normalisation and slopes as if it were trained."""
    torch.manual_seed(0)
    channels, strides = NETWORKS[name]
    model = unet.build("unet", channels=channels, strides=strides).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
        if isinstance(module, torch.nn.PReLU):
            torch.nn.init.uniform_(module.weight, 0.0, 0.4)
    return model


def ball(shape, n_voxels):
    """About n_voxels around a point that is neither the centre nor on the stride grid."""
    centre = np.array(shape).reshape(3, 1, 1, 1) * 0.47 + 0.3
    distance = ((np.indices(shape) - centre) ** 2).sum(0)
    return distance <= np.partition(distance.ravel(), n_voxels - 1)[n_voxels - 1]


def scan(shape):
    return torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(1))


def explain(model, volume, lesion, n_samples):
    return smoothgrad(model, volume, lesion, n_samples=n_samples, generator=torch.Generator().manual_seed(2))


def literal(model, volume, lesion):
    """The signed maximum for one noisy copy; also the seconds of the forward pass and of one backward pass."""
    window = find_window(model, lesion, volume.shape[2:])
    (copy,) = noisy_copies(volume, window, noise_sigma(volume, 0.05), 1, torch.Generator().manual_seed(2))
    x = volume.clone()
    x[(..., *window.input)] = copy
    with frozen(model):
        start = time.perf_counter()
        x.requires_grad_()
        logits = whole_logits(model, x)[0, 1][torch.from_numpy(lesion)]
        forward, strongest = time.perf_counter() - start, torch.zeros_like(volume)
        for logit in logits:
            (gradient,) = torch.autograd.grad(logit, x, retain_graph=True)
            strongest = torch.where(gradient.abs() > strongest.abs(), gradient, strongest)
        backward = (time.perf_counter() - start - forward) / len(logits)
    return strongest[0], forward, backward


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def peak_gb(function, *arguments):
    """Result, and memory that the call needed beyond what the process held before; Linux only, else NaN."""
    if not Path("/proc/self/clear_refs").exists():
        return function(*arguments), float("nan")
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_gb("VmRSS")
    result = function(*arguments)
    return result, _status_gb("VmHWM") - before


def _status_gb(field):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**20


def compare(name, n_voxels, rounds):
    model, volume, lesion, copies = build(name), scan(SHAPE), ball(SHAPE, n_voxels), COPIES[name]
    few = np.zeros_like(lesion)
    few[tuple(np.argwhere(lesion)[:: len(np.argwhere(lesion)) // LITERAL_VOXELS][:LITERAL_VOXELS].T)] = True
    once = seconds(unsupported_reason, model)

    _, our_gb = peak_gb(explain, model, volume, lesion, copies)
    (expected, *_), literal_gb = peak_gb(literal, model, volume, few)
    actual = explain(model, volume, few, 1)
    error = float((actual - expected).abs().max() / expected.abs().max())

    ours, forwards, backwards = [], [], []
    for _ in range(rounds):
        ours.append(seconds(explain, model, volume, lesion, copies) / copies)
        _, forward, backward = literal(model, volume, few)
        forwards.append(forward)
        backwards.append(backward)
    whole = min(forwards) + lesion.sum() * min(backwards)
    print(
        f"{name} U-Net {NETWORKS[name][0]}, {SHAPE}, lesion of {lesion.sum()} voxels, {torch.get_num_threads()} threads"
    )
    print(f"  found and verified once in {once:.1f} s; adjoint: {unsupported_reason(model) or 'yes'}")
    print(f"  literal loop  {whole:8.1f} s a copy  {min(backwards):8.3f} s a voxel  {literal_gb:6.2f} GB")
    print(f"  lib.saliency  {min(ours):8.2f} s a copy  {min(ours) / lesion.sum():8.4f} s a voxel  {our_gb:6.2f} GB")
    print(f"  ratio {whole / min(ours):.0f}x, memory {our_gb / literal_gb:.2f}, largest relative error {error:.1e}\n")


def scaling(name="demo"):
    model, copies = build(name), COPIES[name]
    unsupported_reason(model)
    explain(model, scan(SHAPE), ball(SHAPE, 10), copies)
    print(f"{name} network, {copies} copies\nlesion voxels   s a lesion   ms a voxel and copy")
    for n_voxels in (6, 25, 100, 400):
        lesion = ball(SHAPE, n_voxels)
        time_s = min(seconds(explain, model, scan(SHAPE), lesion, copies) for _ in range(2))
        print(f"{lesion.sum():13d} {time_s:12.2f} {1000 * time_s / lesion.sum() / copies:12.2f}")
    print("scan size       s a lesion of 50 voxels")
    for shape in ((96, 96, 96), (128, 160, 128), (192, 224, 192), (256, 256, 256)):
        volume, lesion = scan(shape), ball(shape, 50)
        print(f"{shape!s:16}{min(seconds(explain, model, volume, lesion, copies) for _ in range(2)):10.2f}")
    print("lesions         s a scan")
    volume = scan(SHAPE)
    for n_lesions in (1, 2, 4):
        lesions = [np.roll(ball(SHAPE, 50), 12 * i, axis=1) for i in range(n_lesions)]
        print(
            f"{n_lesions:7d} {seconds(lambda lesions: [explain(model, volume, x, copies) for x in lesions], lesions):16.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, nargs="+", default=list(NETWORKS))
    parser.add_argument("--voxels", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--scaling", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.scaling:
        scaling()
    else:
        for network in options.network:
            compare(network, options.voxels, options.rounds)
