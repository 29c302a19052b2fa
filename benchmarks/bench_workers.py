"""Two Dask workers with one thread each against one, on the maps of lesions (`saliency.lesion_maps`).

Both compute the same lesions of the same random scan with the same random network after a first round in which
libraries are imported and scan and network are made, in turns; the maps must be equal to the last digit.
The processor time tells how busy the machine was: on an idle one it equals the wall-clock time of all workers.

    python benchmarks/bench_workers.py [--lesions 24] [--samples 8] [--turns 3]
"""

import argparse
import os
import time
from functools import cache, partial
from statistics import median

import lib  # noqa: F401  before numpy: it chooses the kernels

# isort: split
import numpy as np
from bench_saliency import ball, build, scan
from distributed import LocalCluster

from lib.run import compute_each
from lib.saliency import lesion_maps

SHAPE = (128, 128, 128)
VOXELS = 60
MEMORY = {"MALLOC_TRIM_THRESHOLD_": "134217728", "MALLOC_MMAP_THRESHOLD_": "33554432"}  # bytes, as in README.md


@cache
def inputs():
    return build("demo"), scan(SHAPE)[0], ball(SHAPE, VOXELS)


def explain(number, n_samples):
    """Checksums of the maps of one lesion, and the processor time they took, seconds."""
    model, image, lesion = inputs()
    start = time.process_time()
    options = {"n_samples": n_samples, "noise_fraction": 0.05, "layer": "model.1.submodule.2.conv", "seed": 0}
    maps = lesion_maps(model, image, lesion, **options, identity=[number])
    return [float(np.abs(values).sum(dtype=np.float64)) for values in maps.values()], time.process_time() - start


def measure(n_workers, n_lesions, n_samples):
    """Results, wall-clock time and processor time, seconds."""
    options = {"processes": True, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with LocalCluster(n_workers=n_workers, **options) as cluster:
        work = partial(compute_each, partial(explain, n_samples=n_samples), scheduler=cluster.scheduler_address)
        work(range(4 * n_workers), desc="warming up")
        start = time.perf_counter()
        found = work(range(n_lesions), desc=f"{n_workers} workers")
        return [sums for sums, _ in found], time.perf_counter() - start, sum(seconds for _, seconds in found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesions", type=int, default=24)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    os.environ.update(MEMORY)
    ratios = []
    print(f"{given.lesions} lesions of {VOXELS} voxels, {given.samples} copies, {SHAPE}")
    for _ in range(given.turns):
        (one, one_s, one_processor_s), (two, two_s, two_processor_s) = (
            measure(n_workers, given.lesions, given.samples) for n_workers in (1, 2)
        )
        assert one == two, "the maps depend on the number of workers"
        ratios.append(one_s / two_s)
        print(f"  one worker   {one_s:6.1f} s (processor {one_processor_s:.1f} s)")
        print(f"  two workers  {two_s:6.1f} s (processor {two_processor_s:.1f} s)   {one_s / two_s:.2f}x")
    print(f"two workers against one: {median(ratios):.2f}x (median of {given.turns} turns), equal to the last digit")


if __name__ == "__main__":
    from bench_workers import main  # workers import this module by its name

    main()
