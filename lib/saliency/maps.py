"""The maps of one lesion by every method, kept as small NIfTI files; the noise they are drawn with."""

import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from lib.exact import find_window
from lib.provenance import digest
from lib.saliency.cam import grad_cam, layer_activations
from lib.saliency.gradients import smoothgrad, smoothgrads
from lib.saliency.scores import SCORES
from lib.scans import is_whole, load_cut, save_cut

TOGETHER = 2**28  # numbers in the maps of lesions that are explained together
METHODS = ["smoothgrad_max", "smoothgrad_mean", "smoothgrad_few", "grad_cam"]


def lesion_generator(*seed):
    """Torch's generator of the noise for one lesion, from JSON-like items that name it: same items, same noise."""
    return torch.Generator().manual_seed(int(digest(*seed), 16) % 2**63)


def numpy_generator(*seed):
    """NumPy's generator of what is drawn for one scan or lesion, as `lesion_generator`."""
    return np.random.default_rng(int(digest(*seed), 16))


def noise_generator(window, seed, scan, *lesion):
    """The generator of a lesion's noisy copies: `lesion_generator` of seed, scan and lesion.

    A network without windows has the same noise for all lesions of a scan, of seed and scan alone: they share its passes
    through the whole volume.  window: of the lesion (`find_window`).
    """
    return lesion_generator(seed, scan, *(() if window.reason else lesion))


def lesion_maps(model, image, lesion, *, identity, **options):
    """Maps of one lesion by method: `scan_maps` of it alone."""
    (maps,) = scan_maps(model, image, [lesion], identities=[identity], **options)
    return maps


def scan_maps(
    model, image, lesions, *, n_samples, noise_fraction, layer, peak_voxels, seed, identities, score="logit",
    statistics="exact",
):  # fmt: skip
    """Yield maps of the lesions of one scan by method: three of SmoothGrad, (2, X, Y, Z), and "grad_cam", (1, X, Y, Z).

    "smoothgrad_max", "smoothgrad_mean"; "smoothgrad_few" is the signed maximum over peak_voxels of its voxels, drawn at
    random (all, if it has no more): a maximum over more voxels is larger, so peaks of lesions of different size are
    compared over as many of each.
    image: (2, X, Y, Z) z-scored.  lesions: (X, Y, Z) bool each.  seed, identities: JSON-like items of each lesion, its
    scan first, that name the voxels drawn, and the noise as in `noise_generator`. No lesion's maps depend on the others.
    score: what is explained, one of `SCORES`; that of Spagnolo et al. 2024 is the logit of the lesion class.
    statistics: of `smoothgrad`.
    Raises ValueError for an unknown score.
    """
    if score not in SCORES:
        raise ValueError(f"score is {score!r}: choose one of {', '.join(SCORES)}")
    if not lesions:
        return
    volume, options = torch.as_tensor(image)[None], {"score": SCORES[score]}
    noise = options | {"n_samples": n_samples, "noise_fraction": noise_fraction, "statistics": statistics}
    few = [
        _few(lesion, numpy_generator(seed, *identity), peak_voxels)
        for lesion, identity in zip(lesions, identities, strict=True)
    ]
    window = find_window(model, lesions[0], volume.shape[2:])
    generators = [partial(noise_generator, window, seed, *identity) for identity in identities]
    explain = _on_whole_volumes if window.reason else _on_windows
    activations = layer_activations(model, volume, layer)
    for lesion, maps in zip(lesions, explain(model, volume, lesions, few, generators, noise), strict=True):
        cam = grad_cam(model, volume, lesion, layer=layer, activations=activations, **options)[None]
        yield {method: saliency.cpu().numpy() for method, saliency in zip(METHODS, [*maps, cam], strict=True)}


def _few(lesion, generator, n_voxels):
    few = np.zeros(lesion.shape, bool)
    few.flat[generator.permutation(np.flatnonzero(lesion))[:n_voxels]] = True
    return few


def _on_windows(model, volume, lesions, few, generators, noise):
    """Yield the maps by SmoothGrad of each lesion; the noise is drawn on the window of the voxels that are explained."""
    for lesion, some, generator in zip(lesions, few, generators, strict=True):
        wanted = [(lesion, "max"), (lesion, "mean")]
        ((largest, mean),) = smoothgrads(model, volume, [wanted], generator=generator(), **noise)
        fewer = (some != lesion).any()
        yield largest, mean, smoothgrad(model, volume, some, generator=generator(), **noise) if fewer else largest


def _on_whole_volumes(model, volume, lesions, few, generators, noise):
    """Yield the same, of as many lesions together as memory allows."""
    together = max(1, TOGETHER // (3 * volume.numel()))
    for first in range(0, len(lesions), together):
        pairs = list(zip(lesions, few, strict=True))[first : first + together]
        wanted = [[(lesion, "max"), (lesion, "mean"), (some, "max")] for lesion, some in pairs]
        yield from smoothgrads(model, volume, wanted, generator=generators[first](), **noise)


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


def save_maps(maps, folder, name, affine):
    """Write the maps of a lesion (`lesion_maps`) into a folder, one NIfTI a method.  name: of the lesion.  affine: of the scan."""
    paths = _paths(folder, name)
    for method, saliency in maps.items():
        save_cut(saliency, affine, paths[method])


def saved_maps(folder, name, affine, shape):
    """Maps of a lesion as `save_maps` has written them.  affine, shape: of the scan."""
    return {method: load_cut(path, affine, shape) for method, path in _paths(folder, name).items()}


def are_saved(folder, name):
    """Whether the maps of a lesion are in the folder, whole."""
    return all(map(is_whole, _paths(folder, name).values()))


def _paths(folder, name):
    return {method: Path(folder, f"{name}_desc-{method.replace('_', '')}.nii.gz") for method in METHODS}


def peak_saliency(model, image, lesion, *, seed, **noise):
    """Signed peaks of the signed-maximum map of one lesion: {"peak_flair", "peak_mprage"}, logit per z-score.

    image: (2, X, Y, Z) z-scored.  noise: n_samples, noise_fraction, statistics.  seed: JSON-like items that
    name it.
    """
    saliency = smoothgrad(model, torch.as_tensor(image)[None], lesion, generator=lesion_generator(*seed), **noise)
    peaks = saliency.flatten(1).gather(1, saliency.flatten(1).abs().argmax(1, keepdim=True))[:, 0].tolist()
    return dict(zip(("peak_flair", "peak_mprage"), peaks, strict=True))
