"""Explaining a set of lesions: their maps, and the numbers taken from them."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from lib.lesions import signed_distance
from lib.maps import load_cut, save_cut
from lib.provenance import digest
from lib.saliency import grad_cam, smoothgrad
from lib.stats import bootstrap_mean

METHODS = ["smoothgrad_max", "smoothgrad_mean", "grad_cam"]
SEQUENCES = ["FLAIR", "MPRAGE"]
PERILESIONAL_MM = 3.0  # width of the shell around a lesion that is called perilesional


def lesion_generator(*seed):
    """Generator of the noise for one lesion, from JSON-like items that name it: the same items, the same noise."""
    return torch.Generator().manual_seed(int(digest(*seed), 16) % 2**63)


def lesion_maps(model, image, lesion, *, n_samples, noise_fraction, layer, seed, identity, activations=None):
    """Maps of one lesion by method: "smoothgrad_max", "smoothgrad_mean" (2, X, Y, Z) and "grad_cam" (1, X, Y, Z).

    image: (2, X, Y, Z) z-scored. Both SmoothGrad maps see the same noise. Spagnolo et al. 2024, eqs. 3, 2 and 8-10.
    activations: of `saliency.layer_activations`, which the lesions of one scan share.
    """
    volume = torch.as_tensor(image)[None]
    maps = {
        f"smoothgrad_{aggregate}": smoothgrad(
            model, volume, lesion, n_samples=n_samples, noise_fraction=noise_fraction, aggregate=aggregate,
            generator=lesion_generator(seed, *identity),
        )
        for aggregate in ("max", "mean")
    }  # fmt: skip
    maps["grad_cam"] = grad_cam(model, volume, lesion, layer=layer, activations=activations)[None]
    return {method: saliency.cpu().numpy() for method, saliency in maps.items()}


def saved_maps(folder, name, affine, shape, compute):
    """Maps of `lesion_maps` as they lie in a folder, one NIfTI a method; computed and written there if one is missing.

    name: of the lesion. affine, shape: of the scan. compute: function without arguments that returns the maps.
    """
    paths = {method: Path(folder, f"{name}_desc-{method.replace('_', '')}.nii.gz") for method in METHODS}
    if not all(path.exists() for path in paths.values()):
        for method, saliency in compute().items():
            save_cut(saliency, affine, paths[method])
    return {method: load_cut(path, affine, shape) for method, path in paths.items()}


def measure(maps, lesion, brain, spacing_mm, edges_mm):
    """Numbers of one lesion's maps, and their radial profile: two tables with a row a method and sequence (and shell).

    lesion, brain: (X, Y, Z) bool. peak is the value of largest magnitude with its sign, over the whole map; mean_inside
    averages over the lesion, mean_perilesional over the brain up to 3 mm around it. The profile averages over the brain
    in shells of signed distance from the lesion's border (edges_mm, increasing): distance_mm is the middle of the shell.
    """
    reach = np.ceil(max(edges_mm[-1], PERILESIONAL_MM) / np.asarray(spacing_mm)).astype(int) + 2
    place = ndimage.find_objects(lesion.astype(np.uint8))[0]
    box = tuple(slice(max(side.start - r, 0), side.stop + r) for side, r in zip(place, reach, strict=True))
    inside, tissue = lesion[box], brain[box]
    distance = signed_distance(inside, spacing_mm)
    around = tissue & ~inside & (distance <= PERILESIONAL_MM)
    shell = np.digitize(distance, edges_mm) - 1
    valid = tissue & (shell >= 0) & (shell < len(edges_mm) - 1)
    voxels = np.bincount(shell[valid], minlength=len(edges_mm) - 1)
    middle = (np.asarray(edges_mm[:-1]) + np.asarray(edges_mm[1:])) / 2
    numbers, profiles = [], []
    for method, sequence, values in _channels(maps):
        high, low, near = float(values.max()), float(values.min()), values[box]
        numbers.append(
            {
                "method": method,
                "sequence": sequence,
                "peak": high if high >= -low else low,
                "peak_positive": max(high, 0.0),
                "peak_negative": min(low, 0.0),
                "mean_inside": float(near[inside].mean()),
                "mean_perilesional": float(near[around].mean()) if around.any() else np.nan,
            }
        )
        sums = np.bincount(shell[valid], near[valid], minlength=len(voxels))
        shells = pd.DataFrame({"distance_mm": middle, "value": sums / np.maximum(voxels, 1)})[voxels > 0]
        profiles.append(shells.assign(method=method, sequence=sequence))
    return pd.DataFrame(numbers), pd.concat(profiles, ignore_index=True)


def mean_profile(profiles, *, n_resamples, generator):
    """Mean over lesions of their radial profiles, with patient-bootstrap 95 % intervals.

    profiles: profiles of `measure` with columns subject, scan, label and kind added. Returns rows method, sequence, kind,
    distance_mm, mean, low, high, lesions, patients.
    """
    tables = []
    for (method, sequence, kind), rows in profiles.groupby(["method", "sequence", "kind"]):
        shells = rows.pivot(index=["subject", "scan", "label"], columns="distance_mm", values="value")
        mean, low, high = bootstrap_mean(
            shells.reset_index(), list(shells), n_resamples=n_resamples, generator=generator
        )
        present = rows.groupby("distance_mm")["subject"].agg(lesions="size", patients="nunique").reset_index()
        tables.append(present.assign(method=method, sequence=sequence, kind=kind, mean=mean, low=low, high=high))
    columns = ["method", "sequence", "kind", "distance_mm", "mean", "low", "high", "lesions", "patients"]
    return pd.concat(tables, ignore_index=True)[columns]


def peak_saliency(model, image, lesion, *, n_samples, noise_fraction, seed):
    """Signed peaks of the signed-maximum map (eq. 3) of one lesion: {"peak_flair", "peak_mprage"}, logit per z-score.

    seed: JSON-like items that name the noise; the same items, the same noise.
    """
    saliency = smoothgrad(
        model, torch.as_tensor(image)[None], lesion, n_samples=n_samples, noise_fraction=noise_fraction,
        generator=lesion_generator(*seed),
    ).flatten(1)  # fmt: skip
    peaks = saliency.gather(1, saliency.abs().argmax(1, keepdim=True))[:, 0].tolist()
    return dict(zip(("peak_flair", "peak_mprage"), peaks, strict=True))


def _channels(maps):
    """(method, sequence, (X, Y, Z)) of each channel; a Grad-CAM++ map is of both sequences."""
    for method, saliency in maps.items():
        names = SEQUENCES if len(saliency) == 2 else ["both"]
        for name, values in zip(names, saliency, strict=True):
            yield method, name, values
