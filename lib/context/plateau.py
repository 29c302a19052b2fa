"""Context radius of lesions: where the response reaches its plateau, how sure that is, and what it goes with."""

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from lib.context.response import CURVE, context_response, surrounding_box
from lib.saliency import reach_mm
from lib.statistics import resampled_means

SD_OF_MEDIAN = 1 / 0.6745  # standard deviation over median magnitude of Gaussian noise


def overall_plateaus(responses, *, n_resamples, generator):
    """Step at which the mean curves over lesions reach 95 % of their plateau (`plateau_radius`).

    responses: rows of `context_response` with subject, scan, label, fill and growth. Returns rows fill, growth, curve
    ("fraction" of detected lesions or "score"), step95 (mm, or dilations) with its patient-bootstrap 95 % interval low,
    high (NaN with one patient), lesions, patients.
    """
    rows = []
    for names, here in responses.groupby(CURVE, sort=False):
        for curve, column in (("fraction", "detected"), ("score", "score")):
            lesions = here.pivot(index=["subject", "scan", "label"], columns="step", values=column).astype(float)
            table, steps = lesions.reset_index(), lesions.columns.to_numpy(float)
            _, means = resampled_means(table, list(lesions), n_resamples=n_resamples, generator=generator)
            low, high = np.quantile([plateau_radius(steps, mean) for mean in means], [0.025, 0.975])
            step, patients = plateau_radius(steps, lesions.mean()), table["subject"].nunique()
            rows.append((*names, curve, step, low, high, len(lesions), patients))
    return pd.DataFrame(rows, columns=[*CURVE, "curve", "step95", "low", "high", "lesions", "patients"])


def lesion_plateaus(responses, fills=()):
    """Radius in mm at which the score of each lesion reaches 95 % of its plateau, with each fill.

    responses: as of `overall_plateaus`.  fills: beside the mean. Returns rows subject, scan, label, radius95_mm (fill
    "mean") and <fill>_mm for every other fill.
    """
    curves = responses[responses["growth"] == "euclidean"].sort_values("step")
    lesions = curves.groupby(["subject", "scan", "label", "fill"], sort=False)[["step", "score"]]
    radii = lesions.apply(lambda curve: plateau_radius(curve["step"], curve["score"]))
    radii = radii.unstack("fill") if len(radii) else radii.reindex(columns=["mean", *fills])
    return radii.rename(columns=lambda fill: "radius95_mm" if fill == "mean" else f"{fill}_mm").reset_index()


def plateau_radius(radius, response, fraction=0.95):
    """Smallest radius from which on the response is at least fraction of its plateau; NaN if the plateau is <= 0.

    radius (increasing) and response: 1-D, equal length.  The plateau is the mean response over the last quarter of
    the radii (at least one), which count as having reached it; the result is one of the given radii.
    Raises ValueError if lengths differ, there is none, or radii do not increase.
    """
    radius, response = np.asarray(radius, float), np.asarray(response, float)
    if radius.shape != response.shape or radius.size == 0 or (np.diff(radius) <= 0).any():
        raise ValueError(f"radius {radius} and response {response}: give increasing radii with one response each")
    start = len(radius) - max(1, len(radius) // 4)
    plateau = response[start:].mean()
    below = np.flatnonzero(~(response[:start] >= fraction * plateau))
    return float(radius[below[-1] + 1 if below.size else 0]) if plateau > 0 else np.nan


def noisy_plateaus(model, image, lesion, radii_mm, spacing_mm, *, n_copies, generator, window=None):
    """Radius in mm at which the score reaches 95 % of its plateau, in copies of the scan with as much noise again.

    image: (2, X, Y, Z) z-scored; Gaussian noise of each channel's `noise_sd` is added in the brain. radii_mm, window:
    as of `context_response`; the fill is the mean.  Returns (n_copies,): a parametric bootstrap of the radius.
    """
    box = (slice(None), *surrounding_box(lesion, max(radii_mm), spacing_mm))
    sd = noise_sd(image).astype(np.float32)[:, None, None, None] * (image[box] != 0)
    radii = []
    for _ in range(n_copies):
        noisy = image.copy()
        noisy[box] += sd * generator.standard_normal(sd.shape, np.float32)
        found = context_response(model, torch.as_tensor(noisy)[None], lesion, radii_mm, spacing_mm, 0.5, window=window)
        radii.append(plateau_radius(found["step"], found["score"]))
    return np.array(radii)


def noise_sd(image):
    """Standard deviation of the noise in each channel of an image (2, X, Y, Z), 0 in the background: (2,).

    From the median magnitude of second differences between neighbours in the brain, which anatomy hardly changes,
    along the axis where they are largest: interpolation between slices hides noise along the others.
    """
    sd = np.zeros((len(image), 3))
    for channel, axis in np.ndindex(sd.shape):
        values = np.moveaxis(image[channel], axis, 0)
        inside = (values[:-2] != 0) & (values[1:-1] != 0) & (values[2:] != 0)
        if inside.any():
            second = values[:-2][inside] - 2 * values[1:-1][inside] + values[2:][inside]
            # the variance of 1, -2, 1 is 6
            sd[channel, axis] = SD_OF_MEDIAN * np.median(np.abs(second)) / np.sqrt(6)
    return sd.max(axis=1)


def saliency_reach(saliency, lesion, brain, spacing_mm, farthest_mm):
    """Radius in mm beyond which the mean |saliency| of 1 mm shells stays below 5 % of the largest, in each sequence.

    saliency: (2, X, Y, Z).  lesion, brain: (X, Y, Z) bool.  Shells are of the distance from the nearest voxel of the
    lesion, centre to centre, as the context radius; the lesion is the first.  Returns (2,), NaN from farthest_mm on.
    """
    box = surrounding_box(lesion, farthest_mm, spacing_mm)
    distance = ndimage.distance_transform_edt(~lesion[box], sampling=spacing_mm)
    inside = brain[box] & (distance <= farthest_mm)
    shells = np.ceil(distance[inside]).astype(int)
    voxels = np.maximum(np.bincount(shells), 1)
    means = [np.bincount(shells, np.abs(values[box][inside])) / voxels for values in saliency]
    return np.array([reach_mm(np.arange(len(mean)), mean) for mean in means])
