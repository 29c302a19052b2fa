"""Context radius of lesions: where the response reaches its plateau, and what it goes with."""

import itertools

import numpy as np
import pandas as pd
from scipy import ndimage

from lib.context.response import CURVE, surrounding_box
from lib.exact import receptive_field
from lib.lesions import bounding_box
from lib.saliency import reach_mm
from lib.statistics import percentile_interval, resampled_means

INTERVALS = ["low_first", "high_first", "low_last", "high_last"]
PLATEAU = [*CURVE, "curve", "first", "last", *INTERVALS, "dip", "dip_at", "plateau", "smallest", "lesions", "patients"]


def overall_plateaus(responses, *, n_resamples, generator):
    """Where the mean curves over lesions cross 95 % of their plateau (`crossings`), in mm or dilations.

    responses: rows of `context_response` with subject, scan, label, fill and growth. Returns rows fill, growth, curve
    ("fraction" of detected lesions or "score"), smallest (step tried), lesions, patients, what `crossings` gives, and
    the patient-bootstrap 95 % intervals low_first, high_first, low_last, high_last: NaN with one patient, or where more
    than one resample in twenty has no variation.
    """
    rows = []
    for names, here in responses.groupby(CURVE, sort=False):
        for curve, column in (("fraction", "detected"), ("score", "score")):
            lesions = here.pivot(index=["subject", "scan", "label"], columns="step", values=column).astype(float)
            table, steps = lesions.reset_index(), lesions.columns.to_numpy(float)
            _, means = resampled_means(table, list(lesions), n_resamples=n_resamples, generator=generator)
            row = dict(zip([*CURVE, "curve"], (*names, curve), strict=True)) | {"smallest": steps[0]}
            row |= {"lesions": len(lesions), "patients": table["subject"].nunique()}
            row |= crossings(steps, lesions.mean())
            drawn = pd.DataFrame([crossings(steps, mean) for mean in means])[["first", "last"]]
            if drawn.isna().mean().max() <= 0.05:
                interval = zip(*percentile_interval(drawn, row["patients"]), strict=True)
                row |= dict(zip(INTERVALS, itertools.chain(*interval), strict=True))
            rows.append(row)
    return pd.DataFrame(rows, columns=PLATEAU)


def lesion_plateaus(responses, fills):
    """Radii in mm at which the score of each lesion first reaches 95 % of its plateau, with each fill.

    responses: as of `overall_plateaus`.  fills: beside the mean. Returns rows subject, scan, label, radius95_mm and
    last95_mm (first and last of `crossings`; fill "mean") and <fill>_mm (first) for every other fill.
    """
    curves = responses[responses["growth"] == "euclidean"].sort_values("step")
    lesions = ["subject", "scan", "label"]
    rows = [
        dict(zip([*lesions, "fill"], names, strict=True)) | crossings(curve["step"], curve["score"])
        for names, curve in curves.groupby([*lesions, "fill"], sort=False)
    ]
    found = pd.DataFrame(rows, columns=[*lesions, "fill", "first", "last"])
    first, last = (found.pivot(index=lesions, columns="fill", values=name) for name in ("first", "last"))
    radii = first.reindex(columns=["mean", *fills]).add_suffix("_mm").rename(columns={"mean_mm": "radius95_mm"})
    return radii.assign(last95_mm=last.reindex(columns=["mean"])).reset_index()


def crossings(radius, response, fraction=0.95):
    """Where a response crosses a fraction of its plateau: {"plateau", "first", "last", "dip", "dip_at"}.

    radius (increasing) and response: 1-D, equal length.  The plateau is the mean response over the last quarter of the
    radii (at least one), which count as having reached it.  first: the smallest radius at which the response is at least
    fraction of it; last: the smallest from which on it is; each is one of the given radii, or inf where that is not so
    before the last quarter.  dip: the lowest response between the two, dip_at: its radius; NaN where it never falls again.
    All but the plateau are NaN without variation (one response at every radius), or if the plateau is not above 0.
    Raises ValueError if lengths differ, there is none, or radii do not increase.
    """
    radius, response = np.asarray(radius, float), np.asarray(response, float)
    if radius.shape != response.shape or radius.size == 0 or (np.diff(radius) <= 0).any():
        raise ValueError(f"radius {radius} and response {response}: give increasing radii with one response each")
    start = len(radius) - max(1, len(radius) // 4)
    found = {"plateau": response[start:].mean()} | dict.fromkeys(("first", "last", "dip", "dip_at"), np.nan)
    if not found["plateau"] > 0 or np.isclose(response, response[0], rtol=0, atol=1e-9).all():
        return found
    reached = response[:start] >= fraction * found["plateau"]
    radii = np.append(radius[:start], np.inf)
    first, last = np.append(reached, True).argmax(), start - np.append(reached[::-1], False).argmin()
    if first < last:
        dip = first + response[first:last].argmin()
        found |= {"dip": response[dip], "dip_at": radius[dip]}
    return found | {"first": radii[first], "last": radii[last]}


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


def saliency_extent(saliency, lesion, spacing_mm, farthest_mm, share):
    """Smallest radius in whole mm within which a share of the sum of |saliency| lies, in each sequence: an effective
    receptive field (Luo et al. 2016, NeurIPS).

    saliency: (2, X, Y, Z).  lesion: (X, Y, Z) bool; radii are from its nearest voxel, centre to centre.  Returns (2,),
    NaN if it is more than farthest_mm, and for a map of zeros.
    """
    box = surrounding_box(lesion, farthest_mm, spacing_mm)
    shells = np.ceil(ndimage.distance_transform_edt(~lesion[box], sampling=spacing_mm)).astype(int)
    extents = []
    for values in np.abs(saliency):
        within = np.bincount(shells.ravel(), values[box].ravel())[: farthest_mm + 1].cumsum()
        reached = np.flatnonzero(within >= share * values.sum(dtype=float)) if values.any() else ()
        extents.append(float(reached[0]) if len(reached) else np.nan)
    return np.array(extents)


def field_extent(model, lesion, spacing_mm):
    """How far from a lesion, along an axis in mm, the farthest voxel lies on which its logits can depend: the
    theoretical receptive field, exactly; inf if they depend on the whole volume, as with instance normalisation.

    lesion: (X, Y, Z) bool.  It is what the network's layers allow inside the volume; diagonals reach farther.
    """
    field = receptive_field(model, lesion.shape)
    if field.reason:
        return np.inf
    extents = []
    for axis, side, length, spacing in zip(field.axes, bounding_box(lesion), lesion.shape, spacing_mm, strict=True):
        low, high = axis.first[side].min().clip(0), axis.last[side].max().clip(max=length - 1)
        extents += [(side.start - low) * spacing, (high - side.stop + 1) * spacing]
    return float(max(extents))
