"""Checks of saliency maps: are they faithful to the score, stable, and more than the lesion mask?

Maps and volumes are those of one lesion's window. Every check returns a table with one `value` a row; `add_means` puts
the tables of all lesions together.
"""

import warnings
from itertools import islice

import numpy as np
import pandas as pd
import statsmodels.api as sm
import torch
from scipy import integrate, stats

from lib.exact import find_window, like_model, predict_lesion
from lib.lesions import signed_distance
from lib.saliency import PERILESIONAL_MM, channels, class_logit, copy_maps, grad_cam, lesion_generator, noise_sigma
from lib.statistics import bootstrap_mean

LESION = ["subject", "scan", "label"]  # columns that name a lesion


def explain_lesion(
    model, image, lesion, baseline, spacing_mm, *, n_samples, noise_fraction, layer, seed, statistics="exact"
):
    """What the checks of one lesion take, on the part of its window that lies inside the scan: a dict.

    image, baseline: (2, X, Y, Z).  lesion: (X, Y, Z) bool.  layer: of Grad-CAM++.  statistics: of `smoothgrad`.
    seed: JSON-like items; the first is a number, and that number plus one names the second noise.
    volume and baseline (1, 2, *window), lesion and where (regions) *window, sigma (2,) of SmoothGrad's noise, first and
    second (maps of N and of 2N copies under two seeds, each (2, *window)), cam (1, *window).
    """
    volume, copies = torch.as_tensor(image)[None], (n_samples, 2 * n_samples)
    box = find_window(model, lesion, lesion.shape).within(lesion.shape)
    noise = {"noise_fraction": noise_fraction, "statistics": statistics}
    first, second = (
        window_maps(model, volume, lesion, copies, **noise, generator=generator)
        for generator in (lesion_generator(seed[0] + step, *seed[1:]) for step in (0, 1))
    )
    cam = grad_cam(model, volume, lesion, layer=layer).cpu().numpy()[None, *box]
    found = {"volume": volume[..., *box], "baseline": torch.as_tensor(baseline)[None, ..., *box]}
    found |= {"lesion": lesion[box], "where": regions(lesion[box], spacing_mm)}
    return found | {"sigma": noise_sigma(volume, noise_fraction), "first": first, "second": second, "cam": cam}


def window_maps(model, volume, lesion, copies, **options):
    """Signed-maximum maps of the first n noisy copies, for every n of `copies` (increasing): list of (2, *window).

    volume: (1, 2, X, Y, Z).  lesion: (X, Y, Z) bool.  options: of `saliency.copy_maps`.
    window: the part of the lesion's window that lies inside the volume.
    """
    inside = find_window(model, lesion, volume.shape[2:]).within(volume.shape[2:])
    maps, total, found = copy_maps(model, volume, lesion, n_samples=copies[-1], **options), 0, []
    for before, n in zip((0, *copies), copies, strict=False):
        total = total + sum(islice(maps, n - before))
        found.append((total / n)[(..., *(slice(side.stop - side.start) for side in inside))].cpu().numpy())
    return found


def seeded_map(model, image, lesion, *, n_samples, seed, **noise):
    """The map of `window_maps` of an image (2, X, Y, Z) under the noise that the items of seed name: (2, *window)."""
    volume, generator = torch.as_tensor(image)[None], lesion_generator(*seed)
    return window_maps(model, volume, lesion, [n_samples], generator=generator, **noise)[0]


def regions(lesion, spacing_mm):
    """Where maps are compared, (X, Y, Z) bool by name: over the whole window every map falls with the distance from the
    lesion, which alone makes maps alike; up to 3 mm around the lesion (and in it) this tells little."""
    near = signed_distance(lesion, spacing_mm) <= PERILESIONAL_MM
    return {"window": np.ones_like(near), "within 3 mm": near}


def correlate_maps(a, b, where):
    """Spearman's correlation of two maps (2, X, Y, Z) in regions, of magnitudes and signed values: region, of, value.

    The sequences of `shared_channels` are taken together; NaN where one of the maps is constant.
    """
    a, b = shared_channels(a, b)
    rows = [
        (region, of, _correlation(stats.spearmanr, change(a[:, inside]), change(b[:, inside])))
        for region, inside in where.items()
        for of, change in (("magnitude", np.abs), ("signed", np.asarray))
    ]
    return pd.DataFrame(rows, columns=["region", "of", "value"])


def shared_channels(*maps):
    """Maps (2, X, Y, Z) without the sequences in which one of them is 0 everywhere; as given, if none is left.

    So is the map of a network in a sequence that it does not take: its zeros tie, and would make any two maps alike.
    """
    shared = np.logical_and.reduce([saliency.any((1, 2, 3)) for saliency in maps])
    return [saliency[shared] for saliency in maps] if shared.any() else list(maps)


def perturbation_curves(model, volume, lesion, baseline, rankings, fractions):
    """Score of a lesion while the voxels of its window are deleted or inserted in an order.

    volume: (1, 2, X, Y, Z), the lesion's window.  lesion: (X, Y, Z) bool.  baseline: as volume, with the mean of the
    brain in its place.  rankings: {order: [(X, Y, Z), ...]}, largest first; the mean over its rankings is one curve.
    fractions: of the window's tissue, the voxels where volume and baseline differ.  A deleted voxel takes the values of
    the baseline in both sequences; insertion starts from the baseline.
    Returns order, mode ("deletion", "insertion"), of ("probability", "logit": means over the lesion), fraction, value.
    """
    image, baseline = (like_model(model, values)[0].flatten(1) for values in (volume, baseline))
    tissue = (image != baseline).any(0).cpu().numpy()
    counts = np.rint(np.asarray(fractions) * tissue.sum()).astype(int)
    tables = []
    for order, values in rankings.items():
        for mode in ("deletion", "insertion"):
            ends = (image, baseline) if mode == "deletion" else (baseline, image)
            curves = (_changed(*ends, ranked_voxels(ranking, tissue), counts) for ranking in values)
            scores = [lesion_scores(model, (c.unflatten(1, lesion.shape) for c in curve), lesion) for curve in curves]
            mean = np.mean(scores, 0)
            table = pd.DataFrame(mean, columns=["probability", "logit"]).assign(fraction=fractions)
            tables.append(table.melt("fraction", var_name="of").assign(order=order, mode=mode))
    return pd.concat(tables)[["order", "mode", "of", "fraction", "value"]]


def _changed(start, end, ranked, counts):
    """Yield the volumes (2, voxels) of one curve, with the first voxels of `ranked` taken from the end."""
    for count in counts:
        changed = start.clone()
        changed[:, ranked[:count]] = end[:, ranked[:count]]
        yield changed


def ranked_voxels(ranking, tissue):
    """Flat indices of the voxels of tissue (voxels,) bool, those where a ranking (X, Y, Z) is largest first."""
    return np.flatnonzero(tissue)[np.argsort(-np.asarray(ranking).ravel()[tissue], kind="stable")]


def lesion_scores(model, volumes, lesion):
    """Mean probability and mean logit of a lesion in each of some volumes (2, X, Y, Z): (n, 2)."""
    logits = predict_lesion(model, volumes, lesion).double()
    return torch.stack([logits.softmax(1)[:, 1].mean(1), class_logit(logits).mean(1)], 1).cpu().numpy()


def curve_areas(curves):
    """Area under each of `perturbation_curves` over log10 of the fraction, as a mean score: order, mode, of, value."""

    def area(curve):
        x = np.log10(curve["fraction"].to_numpy())
        return integrate.trapezoid(curve["value"], x) / np.ptp(x)

    return curves.groupby(["order", "mode", "of"], sort=False).apply(area).rename("value").reset_index()


def infidelity(model, volume, lesion, maps, *, sigma, n_perturbations, generator):
    """How badly maps predict the change of a lesion's mean logit under noise on its window.

    Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations", NeurIPS: mean over perturbations I of
    (scale * sum(I * map) - (f(x) - f(x - I)))^2, with the scale that is best for each map, as maps differ in unit. The
    value of `captum.metrics.infidelity(normalize=True)`, but every x - I is predicted once for all maps.
    volume: (1, 2, X, Y, Z), the lesion's window.  maps: {name: (2, X, Y, Z)}.  sigma: (2,) of the Gaussian noise.
    Returns map, of, value: "infidelity" in logit^2, and "relative" to that of a map of zeros, at most 1. As the scale is
    fitted to the same n perturbations, a map that tells nothing has 1 - 1 / n on average, not 1.
    """
    volume = like_model(model, volume)[0]
    stacked, sigma = like_model(model, np.stack(list(maps.values()))).flatten(1), sigma.to(volume).view(-1, 1, 1, 1)
    predicted = []

    def perturbed():
        yield volume
        for _ in range(n_perturbations):
            noise = sigma * torch.randn(volume.shape, generator=generator).to(volume)
            predicted.append(stacked @ noise.flatten())
            yield volume - noise

    score = lesion_scores(model, perturbed(), lesion)[:, 1]
    change, predicted = score[0] - score[1:], torch.stack(predicted).double().cpu().numpy()
    squares = (predicted**2).sum(0)
    scale = np.divide(change @ predicted, squares, out=np.zeros(len(maps)), where=squares > 0)
    missed = ((scale * predicted - change[:, None]) ** 2).mean(0)
    found = pd.DataFrame({"map": list(maps), "infidelity": missed, "relative": missed / (change**2).mean()})
    return found.melt("map", var_name="of")


def stability(first, second, where):
    """How alike maps of a lesion are when only the noise differs.

    first, second: (map of N, map of 2N copies), each (2, X, Y, Z), with independent noise between first and second.
    Returns maps, region, of, value: "signed" and "magnitude" are Spearman's correlation, "pearson" Pearson's;
    "expected" is the latter as it follows from that of two maps of N copies if independent noise of the copies is all
    that differs (Spearman-Brown); "difference" is the root mean square of the difference over that of the mean. All are
    of the sequences of `shared_channels`.
    """
    maps = shared_channels(*first, *second)
    first, second = maps[:2], maps[2:]
    pairs = {"N, two seeds": (first[0], second[0]), "2N, two seeds": (first[1], second[1]), "N and 2N": first}
    tables, rows = [correlate_maps(*pair, where).assign(maps=name) for name, pair in pairs.items()], []
    for number, (name, pair) in enumerate(pairs.items()):
        for region, inside in where.items():
            rho = _correlation(stats.pearsonr, first[0][:, inside], second[0][:, inside])
            x, y = (saliency[:, inside].ravel() for saliency in pair)
            rows.append((region, "pearson", _correlation(stats.pearsonr, x, y), name))
            rows.append((region, "expected", (rho, 2 * rho / (1 + rho), np.sqrt((1 + rho) / 2))[number], name))
            rows.append((region, "difference", 2 * np.sqrt(((x - y) ** 2).mean() / ((x + y) ** 2).mean()), name))
    tables.append(pd.DataFrame(rows, columns=["region", "of", "value", "maps"]))
    return pd.concat(tables)[["maps", "region", "of", "value"]]


def explained_by_mask(saliency, lesion, spacing_mm, where):
    """R^2 of least-squares regressions of a map (C, X, Y, Z) on what is known from the lesion mask alone.

    model: "mask"; "mask + distance", the signed distance from the border in mm; "any profile", the mean of each shell
    of 1 mm, which no function of the distance can surpass but by finer shells.
    Returns sequence ("both" for a map of one channel), region, model, value.
    """
    distance, rows = signed_distance(lesion, spacing_mm), []
    for sequence, channel in channels(saliency.astype(float)):
        for region, inside in where.items():
            y, known = channel[inside], np.stack([lesion[inside], distance[inside]], 1).astype(float)
            shells = np.unique(np.floor(distance[inside]), return_inverse=True)[1]
            profile = (np.bincount(shells, y) / np.bincount(shells))[shells]
            for name, x in (("mask", known[:, :1]), ("mask + distance", known), ("any profile", profile)):
                value = sm.OLS(y, sm.add_constant(x)).fit().rsquared if np.ptp(y) else np.nan
                rows.append((sequence, region, name, value))
    return pd.DataFrame(rows, columns=["sequence", "region", "model", "value"])


def add_means(tables, by, **resampling):
    """The tables of all lesions (columns `LESION`, by, value), then rows of scan "all": the means over lesions.

    Means have patient-bootstrap 95 % intervals (low, high) and the number of lesions and patients; NaN is left out.
    Without a lesion the table is empty.  resampling: n_resamples and generator.
    """
    columns = [*LESION, *by, "value", "low", "high", "lesions", "patients"]
    if not tables:
        return pd.DataFrame(columns=columns)
    rows = pd.concat(tables, ignore_index=True)
    rows["group"] = rows.groupby(by, sort=False).ngroup()
    wide = rows.pivot(index=LESION, columns="group", values="value")
    found = zip(("value", "low", "high"), bootstrap_mean(wide.reset_index(), list(wide), **resampling), strict=True)
    counts = {"lesions": wide.count().to_numpy(), "patients": (wide.groupby("subject").count() > 0).sum().to_numpy()}
    means = (
        rows.drop_duplicates("group")[by].reset_index(drop=True).assign(**dict.fromkeys(LESION, "all"), **dict(found))
    )
    return pd.concat([rows, means.assign(**counts)], ignore_index=True)[columns]


def _correlation(measure, x, y):
    """Correlation of two samples, NaN without a warning if one is constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(measure(x.ravel(), y.ravel()).statistic)
