"""Explaining a set of lesions: their maps, and the numbers taken from them."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from lib.lesions import instance_mask, signed_distance
from lib.maps import load_cut, save_cut
from lib.provenance import digest
from lib.saliency import SCORES, grad_cam, smoothgrad
from lib.tissue import healthy_volumes, white_and_grey_matter

METHODS = ["smoothgrad_max", "smoothgrad_mean", "grad_cam"]
SEQUENCES = ["FLAIR", "MPRAGE"]
PERILESIONAL_MM = 3.0  # width of the shell around a lesion that is called perilesional
SHARE_LEFT = 0.05  # of the largest shell: below it saliency counts as gone


def lesion_generator(*seed):
    """Generator of the noise for one lesion, from JSON-like items that name it: the same items, the same noise."""
    return torch.Generator().manual_seed(int(digest(*seed), 16) % 2**63)


def numpy_generator(*seed):
    """NumPy's generator of what is drawn for one scan or lesion, from JSON-like items that name it, as `lesion_generator`."""
    return np.random.default_rng(int(digest(*seed), 16))


def instances(rows, scan, probability, predicted, annotated, *, apart_mm, seed):
    """What is explained of one scan: its lesions, and two healthy volumes of the shape of each TP.

    rows: of `lesions.lesion_table`, with scan.  probability, predicted, annotated: (X, Y, Z), the latter two label
    images.  A healthy volume lies in white ("TN") or grey matter ("TN grey"), more than apart_mm from any labelled voxel,
    where seed, scan and label of the TP decide; it is left out where there is no room. Returns dicts of the columns of
    the row, kind, where (flat indices of voxels) and mean_probability.
    """
    marked, found = (predicted > 0) | (annotated > 0), []
    away = ndimage.distance_transform_edt(~marked, sampling=scan.spacing_mm) > apart_mm
    white, grey = white_and_grey_matter(scan.image, scan.brain, marked)
    tissues = {"TN": white & away, "TN grey": grey & away}
    for row in rows.itertuples(index=False):
        lesion = instance_mask(row, predicted, annotated)
        generator = numpy_generator(seed, row.scan, row.label)
        healthy = healthy_volumes(lesion, tissues, generator) if row.kind == "TP" else {}
        for kind, mask in ({row.kind: lesion} | healthy).items():
            facts = {"kind": kind, "where": np.flatnonzero(mask), "mean_probability": probability[mask].mean()}
            found.append(row._asdict() | facts)
    return found


def lesion_maps(
    model, image, lesion, *, n_samples, noise_fraction, layer, seed, identity, score="logit", activations=None
):
    """Maps of one lesion by method: "smoothgrad_max", "smoothgrad_mean" (2, X, Y, Z) and "grad_cam" (1, X, Y, Z).

    image: (2, X, Y, Z) z-scored. Both SmoothGrad maps see the same noise. Spagnolo et al. 2024, eqs. 3, 2 and 8-10.
    score: what is explained, one of `saliency.SCORES`; the paper's is the logit of the lesion class.
    activations: of `saliency.layer_activations`, which the lesions of one scan share.
    Raises ValueError for an unknown score.
    """
    if score not in SCORES:
        raise ValueError(f"score is {score!r}: choose one of {', '.join(SCORES)}")
    volume = torch.as_tensor(image)[None]
    maps = {
        f"smoothgrad_{aggregate}": smoothgrad(
            model, volume, lesion, n_samples=n_samples, noise_fraction=noise_fraction, aggregate=aggregate,
            generator=lesion_generator(seed, *identity), score=SCORES[score],
        )
        for aggregate in ("max", "mean")
    }  # fmt: skip
    maps["grad_cam"] = grad_cam(model, volume, lesion, layer=layer, score=SCORES[score], activations=activations)[None]
    return {method: saliency.cpu().numpy() for method, saliency in maps.items()}


def map_name(facts):
    """Name of a lesion's maps, from its scan, kind and label: "sub-001_label-TP003"."""
    return f"{facts['scan']}_label-{facts['kind'].replace(' ', '')}{facts['label']:03d}"


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
    averages over the lesion, mean_perilesional over the brain up to 3 mm around it, contrast is inside less perilesional.
    The profile averages over the brain in shells of signed distance from the lesion's border (edges_mm, increasing):
    distance_mm is the middle of the shell. reach5_mm: see `reach`, of the shells' mean magnitude.
    """
    margin = np.ceil(max(edges_mm[-1], PERILESIONAL_MM) / np.asarray(spacing_mm)).astype(int) + 2
    place = ndimage.find_objects(lesion.astype(np.uint8))[0]
    box = tuple(slice(max(side.start - m, 0), side.stop + m) for side, m in zip(place, margin, strict=True))
    inside, tissue = lesion[box], brain[box]
    distance = signed_distance(inside, spacing_mm)
    around = tissue & ~inside & (distance <= PERILESIONAL_MM)
    edges_mm = np.asarray(edges_mm, float)
    shell = np.digitize(distance, edges_mm) - 1
    valid = tissue & (shell >= 0) & (shell < len(edges_mm) - 1)
    shells, shell = np.unique(shell[valid], return_inverse=True)
    middle, outer = (edges_mm[shells] + edges_mm[shells + 1]) / 2, edges_mm[shells + 1]
    numbers, profiles = [], []
    for method, sequence, values in _channels(maps):
        near, names = values[box], {"method": method, "sequence": sequence}
        mean, magnitude = (np.bincount(shell, of[valid]) / np.bincount(shell) for of in (near, np.abs(near)))
        found = _peaks(values) | {"mean_inside": float(near[inside].mean())}
        found["mean_perilesional"] = float(near[around].mean()) if around.any() else np.nan
        found["contrast"] = found["mean_inside"] - found["mean_perilesional"]
        numbers.append(names | found | {"reach5_mm": reach(outer, magnitude)})
        profiles.append(pd.DataFrame({"distance_mm": middle, "value": mean}).assign(**names))
    return pd.DataFrame(numbers), pd.concat(profiles, ignore_index=True)


def reach(outer_mm, magnitude):
    """Smallest radius around the border beyond which the magnitude stays below 5 % of its largest value, in mm.

    outer_mm: (shells,), increasing, the outer radius of each shell (negative: inside the lesion); magnitude: (shells,).
    NaN where the last shell is not below, as the reach is beyond it, and for a map of zeros.
    """
    last = np.flatnonzero(magnitude >= SHARE_LEFT * magnitude.max())[-1]
    return max(float(outer_mm[last]), 0.0) if last < len(magnitude) - 1 else np.nan


def _peaks(values):
    high, low = float(values.max()), float(values.min())
    signed = high if high >= -low else low
    return {"peak": signed, "peak_positive": max(high, 0.0), "peak_negative": min(low, 0.0)}


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
