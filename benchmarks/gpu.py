"""The maps of a GPU against those of the CPU, in single precision (no TF32) and with the same noise, and their times.

The paper's U-Net with random weights, a lesion in a whole scan. Errors are the largest difference of two maps, relative to
the largest value. What single precision alone does is told by the CPU against itself in double precision: an activation
within rounding of its kink may take either slope. `benchmarks/gpu.sh` starts this on a machine that has nothing yet.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --network demo --shape 48 48 48 --voxels 4 --copies 4    # to try it without
"""

import argparse
import sys
import time

from bench_saliency import NETWORKS, SHAPE, ball, build, scan  # first: it chooses the kernels

# isort: split
import torch

from lib.saliency import grad_cam, smoothgrad

COMPARED = 2  # noisy copies of the maps that are compared


def explained(model, volume, lesion, n_samples, aggregate="max"):
    """The map, on the CPU, and how long it took in seconds; the noise is that of a fixed seed, drawn on the CPU."""
    generator, start = torch.Generator().manual_seed(2), time.perf_counter()
    found = smoothgrad(model, volume, lesion, n_samples=n_samples, aggregate=aggregate, generator=generator).cpu()
    return found, time.perf_counter() - start


def error(found, expected):
    return f"{float((found - expected).abs().max() / expected.abs().max()):.1e}"


def main(options):
    on_cpu, volume, lesion = build(options.network), scan(options.shape), ball(options.shape, options.voxels)
    on_device = build(options.network).to(options.device)
    print(
        f"{options.network} U-Net, {tuple(options.shape)}, lesion of {lesion.sum()} voxels, torch {torch.__version__}"
    )
    print(f"device: {torch.cuda.get_device_name() if options.device == 'cuda' else 'this CPU'}")
    explained(on_device, volume, lesion, 1)  # kernels are chosen
    for aggregate in ("max", "mean"):
        first, again = (explained(on_device, volume, lesion, COMPARED, aggregate)[0] for _ in range(2))
        expected, cpu_s = explained(on_cpu, volume, lesion, COMPARED, aggregate)
        exact, _ = explained(on_cpu.double(), volume, lesion, COMPARED, aggregate)
        on_cpu.float()
        print(f"SmoothGrad {aggregate}, {COMPARED} copies: device against CPU {error(first, expected)}, "
              f"twice on the device {error(again, first)}; CPU against double precision {error(expected, exact)}")  # fmt: skip
        _, seconds = explained(on_device, volume, lesion, options.copies, aggregate)
        cpu_s *= options.copies / COMPARED
        print(f"  N = {options.copies}: {seconds:.1f} s, CPU ({torch.get_num_threads()} threads) {cpu_s:.0f} s, "
              f"extrapolated from {COMPARED} copies")  # fmt: skip
    cams = [grad_cam(model, volume, lesion).cpu() for model in (on_device, on_cpu)]
    print(f"Grad-CAM++: device against CPU {error(*cams)}")
    if options.device == "cuda":
        print(f"peak memory of the GPU: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--network", choices=NETWORKS, default="paper")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--voxels", type=int, default=100)
    parser.add_argument("--copies", type=int, default=50)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"no GPU that torch {torch.__version__} can use: see nvidia-smi, or try --device cpu")
    main(given)
