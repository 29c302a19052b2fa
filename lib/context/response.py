"""Response of the network to a lesion against how much of the tissue around it is shown."""

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from lib.exact import find_window, predict_lesion
from lib.lesions import STRUCTURE, bounding_box, patch_around, widened
from lib.network import blended_lesion, lesion_patches
from lib.statistics import bootstrap_mean

CURVE = ["fill", "growth"]  # columns that tell the curves of one lesion apart


def context_response(
    model, volume, lesion, steps, spacing_mm, threshold, *, growth="euclidean", fill=0.0, window=None, patch=0
):
    """Predict a lesion again with only the tissue near it; what is farther is replaced.

    volume: (1, 2, X, Y, Z) tensor.  lesion: (X, Y, Z) bool array.  steps: how far the tissue is kept; 0 keeps the
    lesion alone.  threshold: of the lesion probability.
    growth: "euclidean", steps are distances in mm from the nearest voxel of the lesion, centre to centre; or
    "dilation", steps count dilations with 18-connectivity (Spagnolo et al. 2024), which reach farther along diagonals.
    fill: what replaces the rest, a number (0: the mean of a z-scored scan, as in Spagnolo et al.) or an image
    (2, X, Y, Z).  window: side of the patches of a blended sliding window; None: the whole volume in one pass, or of it
    the patch of this side around the lesion (`patch_around`); 0: all.
    Returns one row a step: step, radius_mm (the step, or of dilations the distance of the farthest voxel kept), detected (any voxel of the
    lesion reaches the threshold), score and peak (mean and largest probability over the lesion's voxels).
    Raises ValueError if the lesion is empty, a step is negative or growth is unknown.
    """
    if not np.any(lesion):
        raise ValueError("the lesion has no voxel: give a mask with at least one")
    if min(steps) < 0:
        raise ValueError(f"step {min(steps)} is negative: steps start at 0, the lesion alone")
    if growth not in ("euclidean", "dilation"):
        raise ValueError(f'growth "{growth}" is unknown: choose "euclidean" or "dilation"')

    box = surrounding_box(lesion, max(steps) * (1 if growth == "euclidean" else min(spacing_mm)), spacing_mm)
    distance = ndimage.distance_transform_edt(~lesion[box], sampling=spacing_mm)
    reached = distance if growth == "euclidean" else ndimage.distance_transform_cdt(~lesion[box], metric=STRUCTURE)
    radii_mm = steps if growth == "euclidean" else [distance[reached <= step].max() for step in steps]
    order = np.full(lesion.shape, np.inf, np.float32)
    order[box] = reached
    images = volume[0], torch.as_tensor(fill).to(volume).expand_as(volume)[0]

    def shown(part):
        near = torch.from_numpy(order[part]).to(volume.device)
        kept, rest = (image[(slice(None), *part)] for image in images)
        return (torch.where(near <= step, kept, rest) for step in steps)

    if window is None:
        part = patch_around(lesion, patch) if patch else find_window(model, lesion, lesion.shape).within(lesion.shape)
        probability = predict_lesion(model, shown(part), lesion[part]).softmax(dim=1)[:, 1]
    else:
        probability = blended_lesion(model, shown, lesion, lesion_patches(lesion, window))
    probability = probability.cpu().numpy()
    found = pd.DataFrame({"step": np.asarray(steps), "radius_mm": np.asarray(radii_mm, float)})
    detected = (probability >= threshold).any(axis=1)
    return found.assign(detected=detected, score=probability.mean(axis=1), peak=probability.max(axis=1))


def mean_response(responses, *, n_resamples, generator):
    """Mean over lesions at each step, with patient-bootstrap 95 % intervals.

    responses: rows of `context_response` with subject, fill and growth. Returns rows fill, growth, step, radius_mm
    (mean over lesions), lesions, patients, detected (count), fraction, low_fraction, high_fraction, score, sd_score
    (over lesions), low_score, high_score.
    """
    rows = []
    for (*curve, step), here in responses.groupby([*CURVE, "step"], sort=False):
        mean, low, high = bootstrap_mean(here, ["detected", "score"], n_resamples=n_resamples, generator=generator)
        counts = (here["radius_mm"].mean(), len(here), here["subject"].nunique(), int(here["detected"].sum()))
        fraction, (score, *interval) = zip(mean, low, high, strict=True)
        rows.append((*curve, step, *counts, *fraction, score, here["score"].std(), *interval))
    counted = [*CURVE, "step", "radius_mm", "lesions", "patients", "detected"]
    fractions, scores = ["fraction", "low_fraction", "high_fraction"], ["score", "sd_score", "low_score", "high_score"]
    return pd.DataFrame(rows, columns=counted + fractions + scores)


def surrounding_box(lesion, radius_mm, spacing_mm):
    """Slices around everything within a radius of the lesion, of dilations by as many voxels too."""
    reach = int(np.ceil(radius_mm / np.min(spacing_mm))) + 1
    return widened(bounding_box(lesion), reach)
