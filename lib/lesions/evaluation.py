"""Tables of an evaluation: thresholds, metrics with intervals, detection against lesion size."""

import numpy as np
import pandas as pd

from lib.lesions.instances import instance_peaks, label_instances
from lib.lesions.metrics import dice_of_counts, lesion_rates, normalised_dice_of_counts
from lib.statistics import bootstrap_patients, proportion_interval

THRESHOLDS = np.r_[np.arange(1, 20) / 20, 0.975, 0.99]  # on the largest lesion probability of an instance
OUTLINE = 0.5  # on the lesion probability of its voxels: where lesion is likelier than not


def threshold_scores(probability, annotation):
    """Scores of `lesions.segment` of one scan at each of THRESHOLDS: (thresholds, 5), Dice, nDSC and numbers of lesions.

    probability, annotation: (X, Y, Z).  Lesions are outlined at OUTLINE, or at the threshold where that is lower. Numbers:
    annotated lesions found, FP, FN. One that is predicted in pieces is found once.
    """
    scores = np.empty((len(THRESHOLDS), 5))
    inside = annotation > 0
    annotated = label_instances(inside)[inside]  # the instance of each annotated voxel
    outlines = np.minimum(THRESHOLDS, OUTLINE)
    for outline in np.unique(outlines):
        here = outlines == outline
        labels = label_instances(probability >= outline)
        peaks = instance_peaks(probability, labels)
        voxels, hits = (np.bincount(found, minlength=len(peaks)) for found in (labels.ravel(), labels[inside]))
        reached = (peaks >= THRESHOLDS[here, None]).astype(int)
        predicted, tp = reached @ voxels, reached @ hits
        counts = tp, predicted - tp, annotated.size - tp
        best = pd.Series(peaks[labels[inside]]).groupby(annotated).max().to_numpy()  # on each annotated instance
        found = (best >= THRESHOLDS[here, None]).sum(axis=1)
        scores[here] = np.transpose(
            [dice_of_counts(*counts), normalised_dice_of_counts(*counts, annotation.size)]
            + [found, reached @ (hits == 0), best.size - found]
        )
    return scores


def threshold_curve(scores):
    """Scores at each of THRESHOLDS: table threshold, outline, dice, ndsc (means over scans), f1 (lesions of all scans).

    scores: `threshold_scores` of each scan.
    """
    scores = np.stack(list(scores))
    dice, ndsc = scores[..., :2].mean(axis=0).T
    f1 = dice_of_counts(*scores[..., 2:].sum(axis=0).T)
    at = {"threshold": THRESHOLDS, "outline": np.minimum(THRESHOLDS, OUTLINE)}
    return pd.DataFrame(at | {"dice": dice, "ndsc": ndsc, "f1": f1})


def best_threshold(curve):
    """Row of `threshold_curve` with the best mean of Dice and lesion F1 to three decimals, as a dict of floats: of rows that
    are as good, that of the highest threshold, which has the fewest false positives."""
    score = ((curve["dice"] + curve["f1"]) / 2).round(3)
    best = curve[score == score.max()]
    return {name: float(value) for name, value in best.loc[best["threshold"].idxmax()].items()}


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
