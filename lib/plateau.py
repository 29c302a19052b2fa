"""Context radius of lesions: where the response reaches its plateau, how sure that is, and what it goes with."""

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from lib.context import CURVE, context_response, surrounding_box
from lib.explanation import reach
from lib.stats import bootstrap_mean, plateau_radius

SD_OF_MEDIAN = 1 / 0.6745  # standard deviation over median magnitude of Gaussian noise


def overall_plateaus(responses, *, n_resamples, generator):
    """Step at which the mean curves over lesions reach 95 % of their plateau (`stats.plateau_radius`).

    responses: rows of `context_response` with subject, scan, label, fill and growth. Returns rows fill, growth, curve
    ("fraction" of detected lesions or "score"), step95 (mm, or dilations) with its patient-bootstrap 95 % interval low,
    high (NaN with one patient), lesions, patients.
    """
    rows = []
    for names, here in responses.groupby(CURVE, sort=False):
        for curve, column in (("fraction", "detected"), ("score", "score")):
            lesions = here.pivot(index=["subject", "scan", "label"], columns="step", values=column).astype(float)
            patients, steps = lesions.groupby("subject"), lesions.columns.to_numpy(float)
            sums, counts = patients.sum().to_numpy(), patients.size().to_numpy()
            low = high = np.nan
            if len(counts) > 1:
                drawn = generator.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=n_resamples)
                means = (drawn @ sums) / (drawn @ counts)[:, None]
                low, high = np.quantile([plateau_radius(steps, mean) for mean in means], [0.025, 0.975])
            step = plateau_radius(steps, lesions.mean())
            rows.append((*names, curve, step, low, high, len(lesions), len(counts)))
    return pd.DataFrame(rows, columns=[*CURVE, "curve", "step95", "low", "high", "lesions", "patients"])


def lesion_plateaus(responses):
    """Radius in mm at which the score of each lesion reaches 95 % of its plateau, with each fill.

    responses: as of `overall_plateaus`. Returns rows subject, scan, label, radius95_mm (fill "mean") and <fill>_mm for
    every other fill.
    """
    curves = responses[responses["growth"] == "euclidean"].sort_values("step")
    lesions = curves.groupby(["subject", "scan", "label", "fill"], sort=False)[["step", "score"]]
    radii = lesions.apply(lambda curve: plateau_radius(curve["step"], curve["score"])).unstack("fill")
    return radii.rename(columns=lambda fill: "radius95_mm" if fill == "mean" else f"{fill}_mm").reset_index()


def noisy_plateaus(model, image, lesion, radii_mm, spacing_mm, *, n_copies, generator, window=None):
    """Radius in mm at which the score reaches 95 % of its plateau, in copies of the scan with as much noise again.

    image: (2, X, Y, Z) z-scored; Gaussian noise of each channel's `noise_sd` is added in the brain. radii_mm, window: as
    of `context_response`; the fill is the mean.  Returns (n_copies,): a parametric bootstrap of the radius.
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

    From the median magnitude of second differences between neighbours in the brain, which smooth anatomy hardly changes,
    along the axis where they are largest: interpolation between slices hides noise along the others.
    """
    return np.array([max(_second_differences(channel, axis) for axis in range(3)) for channel in image])


def saliency_reach(saliency, lesion, brain, spacing_mm, farthest_mm):
    """Radius in mm beyond which the mean |saliency| of 1 mm shells stays below 5 % of the largest, in each sequence.

    saliency: (2, X, Y, Z).  lesion, brain: (X, Y, Z) bool.  Shells are of the distance from the nearest voxel of the
    lesion, centre to centre, as the context radius; the lesion is the first.  Returns (2,), NaN if it is farthest_mm or more.
    """
    box = surrounding_box(lesion, farthest_mm, spacing_mm)
    distance = ndimage.distance_transform_edt(~lesion[box], sampling=spacing_mm)
    shells, inside = np.ceil(distance).astype(int), brain[box] & (distance <= farthest_mm)
    voxels = np.bincount(shells[inside])
    found = []
    for values in np.abs(saliency[(slice(None), *box)]):
        mean = np.bincount(shells[inside], values[inside]) / np.maximum(voxels, 1)
        found.append(reach(np.arange(len(mean)), mean))
    return np.array(found)


def rank_correlations(table, value, columns, *, n_resamples, generator):
    """Spearman correlation of a column with others over lesions: rows with, lesions, patients, rho, low, high.

    low, high: 95 % interval over resamples of whole patients, NaN with one.  Lesions without a number (NaN or infinite)
    are left out; NaN where fewer than 3 are left.
    """
    rows = []
    for name in columns:
        pair = table[["subject", value, name]].replace([np.inf, -np.inf], np.nan).dropna()
        patients, index = np.unique(pair["subject"].to_numpy(str), return_inverse=True)
        rho = low = high = np.nan
        if len(pair) > 2:
            x, y = pair[value].to_numpy(float), pair[name].to_numpy(float)
            rho = weighted_spearman(x, y, np.ones((1, len(x))))[0]
            if len(patients) > 1:
                share = np.full(len(patients), 1 / len(patients))
                drawn = generator.multinomial(len(patients), share, size=n_resamples)[:, index]
                low, high = np.nanquantile(weighted_spearman(x, y, drawn), [0.025, 0.975])
        rows.append((name, len(pair), len(patients), rho, low, high))
    return pd.DataFrame(rows, columns=["with", "lesions", "patients", "rho", "low", "high"])


def weighted_spearman(x, y, times):
    """Spearman correlation of x and y (n,), each pair taken times (B, n) over: (B,); NaN where one does not vary."""
    ranks = [times @ (np.less.outer(v, v) + 0.5 * np.equal.outer(v, v)) for v in (x, y)]  # mean rank of ties, less 1/2
    total = times.sum(1, keepdims=True)
    x, y = (rank - (times * rank).sum(1, keepdims=True) / total for rank in ranks)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (times * x * y).sum(1) / np.sqrt((times * x**2).sum(1) * (times * y**2).sum(1))


def agreement(table, value, columns, *, n_resamples, generator):
    """Agreement of a column with others in the same unit (Bland and Altman 1986), beside `rank_correlations`.

    Adds mean_difference (column less value) with its patient-bootstrap 95 % interval difference_low, difference_high, and
    the limits of agreement limit_low, limit_high: mean difference -/+ 1.96 standard deviations over lesions.
    """
    options = {"n_resamples": n_resamples, "generator": generator}
    rows = []
    for name in columns:
        difference = table.assign(difference=table[name] - table[value]).dropna(subset=["difference"])
        found = [float(part[0]) for part in bootstrap_mean(difference, ["difference"], **options)]
        spread = 1.96 * difference["difference"].std()
        rows.append((*found, found[0] - spread, found[0] + spread))
    names = ["mean_difference", "difference_low", "difference_high", "limit_low", "limit_high"]
    return rank_correlations(table, value, columns, **options).join(pd.DataFrame(rows, columns=names))


def _second_differences(channel, axis):
    values = np.moveaxis(channel, axis, 0)
    inside = (values[:-2] != 0) & (values[1:-1] != 0) & (values[2:] != 0)
    if not inside.any():
        return 0.0
    second = values[:-2][inside] - 2 * values[1:-1][inside] + values[2:][inside]
    return SD_OF_MEDIAN * np.median(np.abs(second)) / np.sqrt(6)  # the variance of 1, -2, 1 is 6
