"""Response of the network to a lesion against how much of the tissue around it is shown."""

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from lib.inference import blended_lesion, lesion_patches
from lib.lesions import STRUCTURE
from lib.stats import bootstrap_mean, bootstrap_patients, plateau_radius
from lib.windows import find_window, predict_lesion


def context_response(model, volume, lesion, radii_mm, spacing_mm, threshold, growth="euclidean", window=None):
    """Predict a lesion again with only the tissue within a radius of it; all else is 0, the mean of a z-scored scan.

    volume: (1, 2, X, Y, Z) tensor.  lesion: (X, Y, Z) bool array.  radii_mm: distances from the nearest voxel of the
    lesion, centre to centre; 0 keeps the lesion alone.  threshold: of the lesion probability.
    growth: "euclidean", or "dilation" for the protocol of Spagnolo et al. 2024: the lesion dilated with 18-connectivity,
    once for every voxel (of the smallest spacing) that the radius holds. A dilation goes farther along diagonals than
    along axes; radius_mm is then the distance of the farthest voxel kept, so nothing beyond radius_mm is ever shown.
    Returns one row a radius: step (place in radii_mm), radius_mm, detected (any voxel of the lesion reaches the
    threshold), score and peak (mean and largest lesion probability over the lesion's voxels).
    Raises ValueError if the lesion is empty, a radius is negative or growth is unknown.
    """
    if not np.any(lesion):
        raise ValueError("the lesion has no voxel: give a mask with at least one")
    if min(radii_mm) < 0:
        raise ValueError(f"radius {min(radii_mm)} mm is negative: radii start at 0, the lesion alone")
    if growth not in ("euclidean", "dilation"):
        raise ValueError(f'growth "{growth}" is unknown: choose "euclidean" or "dilation"')

    box = _box(lesion, max(radii_mm), spacing_mm)
    distance = ndimage.distance_transform_edt(~lesion[box], sampling=spacing_mm)
    if growth == "euclidean":
        reached, limits = distance, radii_mm
    else:
        limits = [int(radius / min(spacing_mm) + 0.5) for radius in radii_mm]
        reached = _dilations(lesion[box], max(limits))
        radii_mm = [distance[reached <= limit].max() for limit in limits]

    order = np.full(lesion.shape, np.inf, np.float32)
    order[box] = reached

    def shown(part):
        near = torch.from_numpy(order[part]).to(volume.device)
        return (volume[0][(slice(None), *part)] * (near <= limit) for limit in limits)

    if window is None:
        part = find_window(model, lesion, lesion.shape).within(lesion.shape)
        probability = predict_lesion(model, shown(part), lesion[part]).softmax(dim=1)[:, 1]
    else:
        probability = blended_lesion(model, shown, lesion, lesion_patches(lesion, window))
    probability = probability.cpu().numpy()
    return pd.DataFrame(
        {
            "step": range(len(radii_mm)),
            "radius_mm": np.asarray(radii_mm, float),
            "detected": (probability >= threshold).any(axis=1),
            "score": probability.mean(axis=1),
            "peak": probability.max(axis=1),
        }
    )


def mean_response(responses, *, n_resamples, generator):
    """Mean over lesions at each radius, with patient-bootstrap 95 % intervals.

    responses: rows of `context_response` with subject. Returns rows radius_mm, lesions, patients, detected (count),
    fraction, low_fraction, high_fraction, score, sd_score (over lesions), low_score, high_score.
    """
    rows = []
    for radius, here in responses.groupby("radius_mm"):
        mean, low, high = bootstrap_mean(here, ["detected", "score"], n_resamples=n_resamples, generator=generator)
        counts = (len(here), here["subject"].nunique(), int(here["detected"].sum()))
        rows.append((radius, *counts, mean[0], low[0], high[0], mean[1], here["score"].std(), low[1], high[1]))
    names = ["radius_mm", "lesions", "patients", "detected", "fraction", "low_fraction", "high_fraction"]
    return pd.DataFrame(rows, columns=[*names, "score", "sd_score", "low_score", "high_score"])


def plateau_table(responses, *, n_resamples, generator):
    """Radius at which 95 % of the plateau is reached (`stats.plateau_radius`): table scan, subject, label, radius95_mm,
    low, high.

    One row a lesion, for its score; then two of scan "all", label "fraction" and "score", for the mean curves over
    lesions with patient-bootstrap 95 % intervals.
    """
    rows = []
    for (scan, subject, label), here in responses.sort_values("radius_mm").groupby(["scan", "subject", "label"]):
        rows.append((scan, subject, str(label), plateau_radius(here["radius_mm"], here["score"]), np.nan, np.nan))
    for name, column in (("fraction", "detected"), ("score", "score")):
        lesions = responses.pivot(index=["subject", "scan", "label"], columns="radius_mm", values=column).astype(float)
        found = bootstrap_patients(
            lesions.reset_index("subject"), _mean_plateau_radius, n_resamples=n_resamples, generator=generator
        )
        rows.append(("all", "all", name, *found))
    return pd.DataFrame(rows, columns=["scan", "subject", "label", "radius95_mm", "low", "high"])


def _mean_plateau_radius(lesions):
    """Plateau radius of the mean curve of lesions: a table of subject and one column a radius."""
    curve = lesions.drop(columns="subject").mean()
    return plateau_radius(curve.index.astype(float), curve)


def _box(lesion, radius_mm, spacing_mm):
    """Slices around everything within a radius of the lesion, of dilations by as many voxels too."""
    reach = np.ceil(radius_mm / np.min(spacing_mm)) + 1
    place = ndimage.find_objects(lesion.astype(np.uint8))[0]
    return tuple(
        slice(int(max(axis.start - reach, 0)), int(min(axis.stop + reach, size)))
        for axis, size in zip(place, lesion.shape, strict=True)
    )


def _dilations(lesion, times):
    """How many 18-connected dilations of the lesion it takes to reach each voxel; infinite if more than `times`."""
    reached = np.where(lesion, 0, np.inf)
    for step in range(1, times + 1):
        reached[ndimage.binary_dilation(reached < step, STRUCTURE) & (reached > step)] = step
    return reached
