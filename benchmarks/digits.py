"""Digests of what a run computes, a line each: are they the same on other processors?

python benchmarks/digits.py                       of `SMALL`, as this processor computes them
python benchmarks/digits.py --emulate chain       also as emulated ones do (qemu-x86_64), and what differs; takes minutes
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import lib  # noqa: F401  before numpy: it chooses the kernels

# isort: split
import numpy as np
import torch
from torch import nn

from lib.provenance import ROOT
from lib.threads import fixed_threads, keep_to_one_thread

PROCESSORS = {"Haswell": "Intel", "EPYC-Rome": "AMD"}  # models of qemu-x86_64, both with AVX2 and without AVX-512
SMALL = ("arithmetic", "convolutions", "training", "prediction", "saliency", "statistics")


def arithmetic():
    """What numpy, scipy and torch compute in kernels of their own."""
    values = np.random.default_rng(0).normal(size=(40, 40))
    positive, single = np.abs(values), torch.from_numpy(values).float()
    yield "functions", np.stack([f(positive) for f in (np.exp, np.log, np.sin, np.cos, np.tanh, np.sqrt)])
    yield "functions, single", np.stack([f(positive.astype(np.float32)) for f in (np.exp, np.log, np.sin, np.cos)])
    yield "numpy algebra", np.stack([values @ values, np.linalg.qr(values)[0], np.linalg.eigh(values @ values.T)[1]])
    yield (
        "torch algebra",
        torch.stack([single @ single, torch.linalg.qr(single)[0], torch.linalg.eigh(single + single.T)[1]]),
    )
    functions = (
        torch.exp,
        torch.log,
        torch.sqrt,
        torch.rsqrt,
        torch.atan,
        torch.tan,
        torch.acos,
        torch.sigmoid,
        torch.log1p,
    )
    yield "torch functions", torch.stack([f(single.abs() / 5) for f in functions])
    yield "torch functions, double", torch.stack([f(single.double().abs() / 5) for f in functions])
    yield "softmax, power", torch.stack([single.softmax(1), single.abs() ** 1.5, single.abs() ** 0.5])


def convolutions():
    """A layer of the default network each way, on a patch large enough for the caches of processors to matter."""
    torch.manual_seed(0)
    for name, layer, channels in (
        ("down", nn.Conv3d(32, 64, 3, stride=2, padding=1), 32),
        ("up", nn.ConvTranspose3d(192, 32, 3, stride=2, padding=1, output_padding=1), 192),
    ):
        given = torch.randn(2, channels, 12, 12, 12).requires_grad_()
        found = layer(given)
        found.square().sum().backward()
        yield name, found
        yield f"{name}, gradients", torch.cat([given.grad.flatten(), layer.weight.grad.flatten()])


def network():
    """A small network of convolutions, as the U-Net has them, without monai, whose import takes half a minute emulated."""
    torch.manual_seed(0)
    sizes = {"kernel_size": 3, "padding": 1}
    return nn.Sequential(
        nn.Conv3d(2, 8, **sizes), nn.BatchNorm3d(8), nn.PReLU(), nn.Conv3d(8, 8, stride=2, **sizes), nn.BatchNorm3d(8), nn.PReLU(),
        nn.ConvTranspose3d(8, 8, stride=2, output_padding=1, **sizes), nn.BatchNorm3d(8), nn.PReLU(), nn.Conv3d(8, 2, 1),
    )  # fmt: skip


@cache
def evaluated():
    return network().eval().requires_grad_(False)


def image(seed, side=12):
    return torch.randn(1, 2, side, side, side, generator=torch.Generator().manual_seed(seed))


def lesion(side=12):
    mask = torch.zeros(side, side, side, dtype=torch.bool)
    mask[4:7, 5:7, 5:7] = True
    return mask


def training():
    """Steps of SOAP, enough for its eigenvectors to be taken and, by QR, taken anew; with two threads."""
    from pytorch_optimizer import SOAP

    model = network().train().to(memory_format=torch.channels_last_3d)
    optimiser = SOAP(model.parameters(), lr=1e-2, precondition_frequency=1)
    with fixed_threads(2):
        for step in range(3):
            loss = nn.functional.cross_entropy(model(image(step)), lesion()[None].long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            yield f"gradients {step}", torch.cat([weight.grad.flatten() for weight in model.parameters()])
    yield "weights", torch.cat([weight.flatten() for weight in model.parameters()])


def prediction():
    from lib.exact import predict_lesion

    model = evaluated()
    with torch.no_grad():
        yield "volume", model(image(9)).softmax(1)
    yield "lesion", predict_lesion(model, image(9), lesion())


def saliency():
    from lib.saliency import grad_cam, smoothgrad

    model = evaluated()
    for aggregate in ("max", "mean"):
        options = {"n_samples": 2, "aggregate": aggregate, "generator": torch.Generator().manual_seed(0)}
        yield f"SmoothGrad {aggregate}", smoothgrad(model, image(9), lesion(), **options)
    yield "Grad-CAM++", grad_cam(model, image(9), lesion(), layer="3")


def statistics():
    import pandas as pd

    from lib.statistics import bootstrap_spearman, compare_kinds, detection_curve, psychometric_table

    rng, n = np.random.default_rng(0), 48
    names = ("peak", "peak_positive", "peak_negative", "mean_inside", "mean_perilesional", "contrast", "log_volume")
    facts = {"subject": [f"{i % 6}" for i in range(n)], "scan": [f"{i % 6}" for i in range(n)]}
    facts |= {"kind": np.where(np.arange(n) % 4 < 2, "TP", "FP"), "method": "grad_cam", "sequence": "both"}
    table = pd.DataFrame(facts | {name: rng.normal(1, 1, n) for name in names})
    drawn = {"n_resamples": 50, "generator": rng}
    for name, found in zip(
        ("tests", "GEE"), compare_kinds(table, ["TP", "FP"], covariates=["log_volume"], **drawn), strict=True
    ):
        yield name, found.select_dtypes("number").to_numpy(float)
    yield "Spearman", bootstrap_spearman(table, "peak", ["contrast"], **drawn)[["rho", "low", "high"]].to_numpy(float)
    levels = np.tile([0.0, 1.0, 2.0, 3.0], 12)
    detected = rng.random(48) < detection_curve(levels, 1.4, 0.4, 0.02, 0.02)
    sites = pd.DataFrame(
        {"contrast": levels, "subject": np.repeat(list("abcd"), 12), "kind": "a", "detected": detected}
    )
    curve = psychometric_table(sites, "contrast", ["kind"], n_resamples=5, generator=rng)
    yield "psychometric", curve.select_dtypes("number").to_numpy(float)


def chain():
    """What notebooks 0 to 4 compute, of two coarse scans."""
    from lib.cohort import make_cohort, maps_file
    from lib.network import PatchBatches, SubjectPatches, build_network, predict, train_network
    from lib.saliency import smoothgrad
    from lib.scans import find_scans, load_scan

    with tempfile.TemporaryDirectory() as folder:
        make_cohort(folder, n_subjects=2, n_two_sessions=0, seed=0, spacing_mm=4.0, workers=1)
        rows = find_scans(folder).to_dict("records")
        scans = [load_scan(row) for row in rows]
        for row, scan in zip(rows, scans, strict=True):
            yield row["scan"], scan.image
        source = SubjectPatches([maps_file(row["flair"]) for row in rows], 2)
        batches = PatchBatches(source, steps=12, patch_sizes=[16], scans_per_step=2, patches_per_scan=1, seed=0)
        for step in range(3):
            yield f"patches {step}", batches[step][0]
        torch.manual_seed(0)
        model = build_network("unet", channels=(8, 16, 32), strides=(2, 2))
        options = {"loss": "instance_dice_ce", "learning_rate": 1e-2, "weight_decay": 1e-5, "validate_every": 6}
        with fixed_threads(2):
            losses, validation = train_network(
                model,
                batches,
                rows[:1],
                Path(folder, "training.ckpt"),
                settings="",
                window=16,
                averaged_steps=3,
                **options,
            )
    yield "losses", np.array([row["loss"] for row in losses])
    yield "validation", np.array([list(row.values()) for row in validation])
    yield (
        "weights",
        torch.cat([weight.flatten() for weight in model.state_dict().values() if weight.is_floating_point()]),
    )
    yield "probabilities", predict(model.requires_grad_(False), scans[1].image, window=16)
    mask = np.zeros(scans[1].brain.shape, bool)
    mask[18:21, 20:22, 18:20] = True
    volume = torch.as_tensor(scans[1].image)[None]
    yield "map", smoothgrad(model, volume, mask, n_samples=2, generator=torch.Generator().manual_seed(0))


PIECES = {
    piece.__name__: piece for piece in (arithmetic, convolutions, training, prediction, saliency, statistics, chain)
}


def digests(names):
    """Yield lines of piece, what it is, and a digest of its bytes, of the pieces of these names."""
    keep_to_one_thread()
    for name in names:
        for what, values in PIECES[name]():
            values = values.detach().numpy() if isinstance(values, torch.Tensor) else values
            yield f"{name}, {what}: {hashlib.sha256(np.ascontiguousarray(values)).hexdigest()[:16]}"


def emulated(names, processor):
    """The lines of `digests` as a processor of `PROCESSORS` computes them, or this one ("")."""
    emulator = ["qemu-x86_64", "-cpu", processor] if processor else []
    done = subprocess.run(
        [*emulator, sys.executable, __file__, *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{processor}: {done.stderr[-2000:]}")
    return done.stdout.splitlines()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", default=SMALL, help=f"of {', '.join(PIECES)}; {', '.join(SMALL)} if none is given"
    )
    parser.add_argument("--emulate", action="store_true")
    given = parser.parse_args()
    if not given.emulate:
        print(*digests(given.names), sep="\n")
        return
    with ThreadPoolExecutor() as pool:
        here, *others = pool.map(partial(emulated, given.names), ("", *PROCESSORS))
    for processor, lines in zip(PROCESSORS, others, strict=True):
        differing = [line.rpartition(":")[0] for line, other in zip(here, lines, strict=True) if line != other]
        print(
            f"{processor}: {len(here) - len(differing)} of {len(here)} identical; differing: {'; '.join(differing) or 'none'}"
        )


if __name__ == "__main__":
    main()
