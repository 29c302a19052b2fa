"""Tables of an evaluation: thresholds, metrics with intervals, detection against lesion size."""

import numpy as np
import pandas as pd
from scipy import ndimage

from lib.lesions import label_instances
from lib.metrics import dice_of_counts, lesion_rates, normalised_dice_of_counts
from lib.stats import bootstrap_patients, proportion_interval

THRESHOLDS = np.arange(1, 20) / 20  # on the largest lesion probability of an instance
OUTLINES = np.arange(1, 10) / 10  # on the lesion probability of its voxels


def threshold_scores(probability, annotation):
    """Dice and nDSC of `lesions.segment` of one scan at each of OUTLINES and THRESHOLDS: (outlines, thresholds, 2).

    probability, annotation: (X, Y, Z). NaN where the outline is above the threshold.
    """
    scores = np.full((len(OUTLINES), len(THRESHOLDS), 2), np.nan)
    annotated = np.count_nonzero(annotation)
    for outline, row in zip(OUTLINES, scores, strict=True):
        labels = label_instances(probability >= outline)
        n = labels.max() + 1
        peaks = ndimage.maximum(probability, labels, np.arange(n))[1:]
        voxels, hits = (np.bincount(inside, minlength=n)[1:] for inside in (labels.ravel(), labels[annotation > 0]))
        reached = (peaks >= THRESHOLDS[:, None]).astype(int)
        predicted, tp = reached @ voxels, reached @ hits
        counts = tp, predicted - tp, annotated - tp
        row[:] = np.stack([dice_of_counts(*counts), normalised_dice_of_counts(*counts, annotation.size)], axis=1)
        row[outline > THRESHOLDS] = np.nan
    return scores


def threshold_curve(scores):
    """Mean Dice and nDSC over scans at each pair of outline and threshold: table outline, threshold, dice, ndsc.

    scores: `threshold_scores` of each scan.
    """
    means = np.mean(list(scores), axis=0)
    outlines, thresholds = np.nonzero(np.isfinite(means).all(axis=2))
    dice, ndsc = means[outlines, thresholds].T
    return pd.DataFrame(
        {"outline": OUTLINES[outlines], "threshold": THRESHOLDS[thresholds], "dice": dice, "ndsc": ndsc}
    )


def best_thresholds(curve):
    """Row of `threshold_curve` with the best mean Dice, as a dict of floats."""
    return {name: float(value) for name, value in curve.loc[curve["dice"].idxmax()].items()}


def metrics_table(scans, *, n_resamples, generator):
    """Test metrics with patient-bootstrap 95 % intervals: table metric, value, low, high, patients, scans.

    scans: one row a scan with subject, dice, ndsc, tp, fp, fn. Dice and nDSC are means over scans; counts are sums, and
    the lesion-wise rates are those of the summed counts, as in Spagnolo et al. 2024.
    """
    value, low, high = bootstrap_patients(scans, _metrics, n_resamples=n_resamples, generator=generator)
    names = ["Dice", "nDSC", *lesion_rates(1, 1, 1), "TP", "FP", "FN"]
    table = pd.DataFrame({"metric": names, "value": value, "low": low, "high": high})
    return table.assign(patients=scans["subject"].nunique(), scans=len(scans))


def _metrics(scans):
    counts = scans[["tp", "fp", "fn"]].sum().to_list()
    return np.array([scans["dice"].mean(), scans["ndsc"].mean(), *lesion_rates(*counts).values(), *counts], float)


def detection_by_volume(annotated, edges_mm3):
    """Detected fraction of annotated lesions in bins of volume, with Wilson 95 % intervals.

    annotated: rows of `lesions.annotated_table`. edges_mm3: increasing bin edges; bins without a lesion are left out.
    """
    volume_bin = pd.cut(annotated["volume_mm3"], edges_mm3, include_lowest=True)
    rows = []
    for interval, inside in annotated.groupby(volume_bin, observed=True):
        detected = int(inside["detected"].sum())
        low, high = proportion_interval(detected, len(inside))
        rows.append((interval.left, interval.right, len(inside), detected, detected / len(inside), low, high))
    columns = ["volume_low_mm3", "volume_high_mm3", "annotated", "detected", "fraction", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
