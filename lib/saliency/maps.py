"""The maps of one lesion by every method, kept as small NIfTI files; the noise they are drawn with."""

import time
from pathlib import Path

import numpy as np
import torch

from lib.provenance import digest
from lib.saliency.cam import grad_cam
from lib.saliency.gradients import smoothgrad
from lib.saliency.scores import SCORES
from lib.scans import is_whole, load_cut, save_cut

METHODS = ["smoothgrad_max", "smoothgrad_mean", "smoothgrad_few", "grad_cam"]


def lesion_generator(*seed):
    """Torch's generator of the noise for one lesion, from JSON-like items that name it: same items, same noise."""
    return torch.Generator().manual_seed(int(digest(*seed), 16) % 2**63)


def numpy_generator(*seed):
    """NumPy's generator of what is drawn for one scan or lesion, as `lesion_generator`."""
    return np.random.default_rng(int(digest(*seed), 16))


def lesion_maps(
    model, image, lesion, *, n_samples, noise_fraction, layer, peak_voxels, seed, identity, score="logit",
    statistics="exact", activations=None,
):  # fmt: skip
    """Maps of one lesion by method: three of SmoothGrad, (2, X, Y, Z), and "grad_cam", (1, X, Y, Z).

    "smoothgrad_max", "smoothgrad_mean"; "smoothgrad_few" is the signed maximum over peak_voxels of its voxels, drawn at
    random (all, if it has no more): a maximum over more voxels is larger, so peaks of lesions of different size are
    compared over as many of each.
    image: (2, X, Y, Z) z-scored.  seed, identity: JSON-like items that name the noise, and the voxels drawn.
    score: what is explained, one of `SCORES`; that of Spagnolo et al. 2024 is the logit of the lesion class.
    statistics: of `smoothgrad`.  activations: of `layer_activations`, which the lesions of one scan share.
    Raises ValueError for an unknown score.
    """
    if score not in SCORES:
        raise ValueError(f"score is {score!r}: choose one of {', '.join(SCORES)}")
    volume, options = torch.as_tensor(image)[None], {"score": SCORES[score]}
    cam = grad_cam(model, volume, lesion, layer=layer, activations=activations, **options)[None]
    options |= {"n_samples": n_samples, "noise_fraction": noise_fraction, "statistics": statistics}
    voxels, few = np.flatnonzero(lesion), np.zeros(lesion.shape, bool)
    few.flat[numpy_generator(seed, *identity).permutation(voxels)[:peak_voxels]] = True
    maps = [
        smoothgrad(model, volume, mask, aggregate=name, generator=lesion_generator(seed, *identity), **options)
        for mask, name in ((lesion, "max"), (lesion, "mean"), (few, "max"))
    ]
    return {method: saliency.cpu().numpy() for method, saliency in zip(METHODS, [*maps, cam], strict=True)}


def seconds_a_voxel(model, image, lesion, **noise):
    """Time that a further voxel of a lesion takes in its signed-maximum map, in seconds, measured on a few of its voxels.

    image: (2, X, Y, Z) z-scored.  lesion: (X, Y, Z) bool.  noise: n_samples, noise_fraction, statistics.
    """
    voxels, volume, times = np.flatnonzero(lesion), torch.as_tensor(image)[None], []
    few = np.unique(np.linspace(0, len(voxels) - 1, 42).astype(int))  # as far apart as all: the window is theirs
    for places in (few[[0, -1]], few[[0, -1]], few):  # the first measures the network too
        part = np.zeros(lesion.shape, bool)
        part.flat[voxels[places]] = True
        started = time.perf_counter()
        smoothgrad(model, volume, part, generator=torch.Generator(), **noise)
        times.append(time.perf_counter() - started)
    return max(times[2] - times[1], 0.0) / max(len(few) - 2, 1)


def map_name(facts):
    """Name of a lesion's maps, from its scan, kind and label: "sub-001_label-TP003"."""
    return f"{facts['scan']}_label-{facts['kind'].replace(' ', '')}{facts['label']:03d}"


def saved_maps(folder, name, affine, shape, compute):
    """Maps of `lesion_maps` as they lie in a folder, one NIfTI a method; computed and written there if one is missing or damaged.

    name: of the lesion. affine, shape: of the scan. compute: function without arguments that returns the maps.
    """
    paths = {method: Path(folder, f"{name}_desc-{method.replace('_', '')}.nii.gz") for method in METHODS}
    if not all(map(is_whole, paths.values())):
        for method, saliency in compute().items():
            save_cut(saliency, affine, paths[method])
    return {method: load_cut(path, affine, shape) for method, path in paths.items()}


def peak_saliency(model, image, lesion, *, seed, **noise):
    """Signed peaks of the signed-maximum map of one lesion: {"peak_flair", "peak_mprage"}, logit per z-score.

    image: (2, X, Y, Z) z-scored.  noise: n_samples, noise_fraction, statistics.  seed: JSON-like items that
    name it.
    """
    saliency = smoothgrad(model, torch.as_tensor(image)[None], lesion, generator=lesion_generator(*seed), **noise)
    peaks = saliency.flatten(1).gather(1, saliency.flatten(1).abs().argmax(1, keepdim=True))[:, 0].tolist()
    return dict(zip(("peak_flair", "peak_mprage"), peaks, strict=True))
