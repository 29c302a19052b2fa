"""Tables of an evaluation: thresholds, metrics with intervals, detection against lesion size."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import expit

from lib.lesions.instances import instance_peaks, label_instances, lesion_table
from lib.lesions.metrics import dice_of_counts, lesion_rates, normalised_dice_of_counts
from lib.statistics import bootstrap_mean, bootstrap_patients

THRESHOLDS = expit(np.arange(-3, 12.25, 0.25))  # on the largest lesion probability of an instance: 0.047 to 0.999994
OUTLINE = 0.5  # on the lesion probability of its voxels: where lesion is likelier than not


def threshold_scores(probability, annotation, brain, label=label_instances):
    """Scores of `segment` in one scan at each of THRESHOLDS: (thresholds, 5), Dice, nDSC over the brain and numbers of
    lesions.

    probability, annotation, brain: (X, Y, Z).  label: of `segment`.  Lesions are outlined at OUTLINE, or at the
    threshold where that is lower. Numbers: annotated lesions found, FP, FN. One that is predicted in pieces is found
    once.
    """
    scores = np.empty((len(THRESHOLDS), 5))
    annotated = label(annotation > 0)
    inside = annotated > 0
    annotated = annotated[inside]  # the instance of each annotated voxel
    outlines = np.minimum(THRESHOLDS, OUTLINE)
    for outline in np.unique(outlines):
        here = outlines == outline
        labels = label(probability >= outline)
        peaks = instance_peaks(probability, labels)
        reached = (peaks >= THRESHOLDS[here, None]).astype(int)
        best = pd.Series(peaks[labels[inside]]).groupby(annotated).max().to_numpy()  # on each annotated instance
        found = (best >= THRESHOLDS[here, None]).sum(axis=1)
        false = np.bincount(labels[inside], minlength=len(peaks)) == 0
        ndsc = normalised_dice_of_counts(*_voxel_counts(reached, labels[brain], inside[brain]), np.count_nonzero(brain))
        scores[here] = np.transpose(
            [dice_of_counts(*_voxel_counts(reached, labels, inside)), ndsc]
            + [found, reached @ false, best.size - found]
        )
    return scores


def _voxel_counts(reached, labels, annotated):
    """True-positive, false-positive and false-negative voxels where the instances reached, (thresholds, n + 1), 0 or 1,
    are predicted."""
    found, inside = labels.ravel(), labels[annotated]
    predicted, tp = (reached @ np.bincount(here, minlength=reached.shape[1]) for here in (found, inside))
    return tp, predicted - tp, inside.size - tp


def threshold_curve(scores):
    """`threshold_scores` of scans in a table: threshold, outline, dice, ndsc (means of scans), f1 (of all lesions)."""
    scores = np.stack(list(scores))
    dice, ndsc = scores[..., :2].mean(axis=0).T
    f1 = dice_of_counts(*scores[..., 2:].sum(axis=0).T)
    at = {"threshold": THRESHOLDS, "outline": np.minimum(THRESHOLDS, OUTLINE)}
    return pd.DataFrame(at | {"dice": dice, "ndsc": ndsc, "f1": f1})


def best_threshold(curve):
    """Row of `threshold_curve` with the best mean of Dice and lesion F1 to three decimals, as a dict of floats: of rows
    that are as good, that of the highest threshold, which has the fewest false positives. Warns if that is the lowest
    or highest of all."""
    score = ((curve["dice"] + curve["f1"]) / 2).round(3)
    best = curve[score == score.max()]
    best = best.loc[best["threshold"].idxmax()].astype(float).to_dict()
    if best["threshold"] in (edges := (curve["threshold"].min(), curve["threshold"].max())):
        warnings.warn(
            f"the best threshold, {best['threshold']:.6g}, is at an edge of those that were tried, {edges[0]:.3g} to "
            f"{edges[1]:.6g}: a better one may lie beyond",
            stacklevel=2,
        )
    return best


def count_instances(scans, definitions, threshold, outline):
    """What other definitions of an instance make of the counts: rows neighbours, merged_mm, smallest_mm3, predicted,
    annotated, TP, FP, FN (sums over scans; the latter four of annotated scans).

    scans: (probability, annotation or None, affine) of each.  definitions: dicts of arguments of `label_instances`.
    threshold, outline: of `segment`.
    """
    totals = np.zeros((len(definitions), 5), int)
    for probability, annotation, affine in scans:
        for total, definition in zip(totals, definitions, strict=True):
            label = partial(label_instances, **definition, affine=affine)
            kinds = lesion_table(probability, annotation, threshold, affine, outline, label)["kind"].value_counts()
            total[0] += kinds.drop("FN", errors="ignore").sum()
            total[1] += 0 if annotation is None else label(annotation).max()
            total[2:] += kinds.reindex(["TP", "FP", "FN"], fill_value=0).to_numpy()
    counts = pd.DataFrame(totals, columns=["predicted", "annotated", "TP", "FP", "FN"])
    return pd.concat([pd.DataFrame(definitions), counts], axis=1)


def metrics_table(scans, *, n_resamples, generator):
    """Test metrics with patient-bootstrap 95 % intervals: table metric, value, low, high, patients, scans.

    scans: one row an annotated scan with subject and `scan_metrics`; without any there is no row. Dice, nDSC (over the
    brain) and nDSC of the whole volume are means over scans; counts are sums, and the lesion-wise rates are those of
    the summed counts, as in Spagnolo et al. 2024.
    """

    def metrics(rows):
        counts = rows[["tp", "fp", "fn"]].sum().to_list()
        return [*rows[["dice", "ndsc", "ndsc_whole_volume"]].mean(), *lesion_rates(*counts).values(), *counts]

    if scans.empty:
        return pd.DataFrame(columns=["metric", "value", "low", "high", "patients", "scans"])
    value, low, high = bootstrap_patients(scans, metrics, n_resamples=n_resamples, generator=generator)
    names = ["Dice", "nDSC", "nDSC, whole volume", *lesion_rates(1, 1, 1), "TP", "FP", "FN"]
    counts = {"patients": scans["subject"].nunique(), "scans": len(scans)}
    return pd.DataFrame({"metric": names, "value": value, "low": low, "high": high} | counts)


def detection_by_volume(annotated, edges_mm3, **resampling):
    """Detected fraction of annotated lesions in bins of volume, with patient-bootstrap 95 % intervals: NaN where it does not
    vary.

    annotated: rows of `annotated_table`, with subject.  resampling: n_resamples and generator.  edges_mm3: increasing bin edges above 0; bins without a lesion are left out.
    Lesions below or above them are counted in bins of their own, up to the next power of ten.
    """
    volumes, edges_mm3 = annotated["volume_mm3"].astype(float), list(edges_mm3)
    if volumes.min() < edges_mm3[0]:
        edges_mm3.insert(0, 10.0 ** np.floor(np.log10(volumes.min())))
    if volumes.max() > edges_mm3[-1]:
        edges_mm3.append(10.0 ** np.ceil(np.log10(volumes.max())))
    bins = annotated.groupby(pd.cut(volumes, edges_mm3, include_lowest=True), observed=True)
    table = bins["detected"].agg(annotated="size", detected="sum", fraction="mean")
    table["patients"] = bins["subject"].nunique()
    for place, name in enumerate(("volume_low_mm3", "volume_high_mm3")):
        table.insert(place, name, np.asarray(edges_mm3, float)[table.index.codes + place])
    ends = [bootstrap_mean(rows.astype({"detected": float}), ["detected"], **resampling)[1:] for _, rows in bins]
    ends = pd.DataFrame(np.reshape(ends, (-1, 2)), table.index, ["low", "high"])
    return table.join(ends.where(ends["low"] < ends["high"])).reset_index(drop=True)
