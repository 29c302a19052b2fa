"""Tables of an evaluation: threshold, metrics with intervals, detection against lesion size."""

import numpy as np
import pandas as pd

from lib.metrics import dice, lesion_rates, normalised_dice
from lib.stats import bootstrap_patients, proportion_interval

THRESHOLDS = np.arange(1, 20) / 20  # on the lesion probability


def threshold_scores(probability, annotation):
    """nDSC and Dice of one scan at each of THRESHOLDS: (n, 2). probability, annotation: (X, Y, Z)."""
    predictions = (probability >= threshold for threshold in THRESHOLDS)
    return np.array([(normalised_dice(mask, annotation), dice(mask, annotation)) for mask in predictions])


def threshold_curve(scores):
    """Mean nDSC and Dice over scans at each of THRESHOLDS.

    scores: `threshold_scores` of each scan. Returns a table threshold, ndsc, dice.
    """
    ndsc, plain = np.mean(list(scores), axis=0).T
    return pd.DataFrame({"threshold": THRESHOLDS, "ndsc": ndsc, "dice": plain})


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
