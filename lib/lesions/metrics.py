"""Voxel-wise and lesion-wise agreement of a predicted with an annotated lesion mask."""

import numpy as np

from lib.lesions.instances import label_instances


def dice(prediction, annotation):
    """Dice coefficient of two masks of equal shape; 1 if both are empty."""
    return float(dice_of_counts(*_voxel_counts(prediction, annotation)))


def normalised_dice(prediction, annotation, r=0.001):
    """Dice coefficient normalised to lesion load r (nDSC); 1 if both masks are empty.

    False-positive voxels weigh k = (1 - r) P / (r (V - P)), where P of all V voxels are annotated; k = 1 if none
    is.  Spagnolo et al. 2024, after Raina et al. 2023.  Raises ValueError unless 0 < r < 1.
    """
    return float(normalised_dice_of_counts(*_voxel_counts(prediction, annotation), np.size(annotation), r))


def dice_of_counts(tp, fp, fn):
    """`dice` from numbers of true-positive, false-positive and false-negative voxels; arrays of equal shape."""
    return _harmonic(np.asarray(tp), fp, fn)


def normalised_dice_of_counts(tp, fp, fn, voxels, r=0.001):
    """`normalised_dice` from numbers of true-positive, false-positive, false-negative and all voxels."""
    if not 0 < r < 1:
        raise ValueError(f"r is {r}: the reference load is a fraction between 0 and 1")
    positive = np.asarray(tp) + fn
    weighted = (positive > 0) & (positive < voxels)
    k = np.where(weighted, (1 - r) * positive / (r * np.maximum(voxels - positive, 1)), 1.0)
    return _harmonic(np.asarray(tp), k * fp, fn)


def lesion_rates(tp, fp, fn):
    """F1, TPR, PPV, FDR and FNR from lesion counts, NaN where the denominator is zero.

    tp, fp: predicted instances with and without annotated voxel.  fn: annotated instances without predicted
    voxel. TP + FN is thus the number of annotated lesions only where no two share one prediction or one two.
    """
    return {
        "F1": _ratio(2 * tp, 2 * tp + fp + fn),
        "TPR": _ratio(tp, tp + fn),
        "PPV": _ratio(tp, tp + fp),
        "FDR": _ratio(fp, tp + fp),
        "FNR": _ratio(fn, tp + fn),
    }


def scan_metrics(prediction, annotation):
    """Dice, nDSC and the lesion counts TP, FP and FN of one scan: dict dice, ndsc, tp, fp, fn.

    prediction, annotation: (X, Y, Z) bool.
    """
    scores = {"dice": dice(prediction, annotation), "ndsc": normalised_dice(prediction, annotation)}
    predicted, annotated = label_instances(prediction), label_instances(annotation)
    tp = np.unique(predicted[(predicted > 0) & (annotated > 0)]).size
    detected = np.unique(annotated[(predicted > 0) & (annotated > 0)]).size
    return scores | {"tp": tp, "fp": int(predicted.max()) - tp, "fn": int(annotated.max()) - detected}


def _harmonic(tp, fp, fn):
    found = 2 * tp + fp + fn
    return np.where(found > 0, 2 * tp / np.where(found > 0, found, 1), 1.0)


def _voxel_counts(prediction, annotation):
    """True-positive, false-positive and false-negative voxels."""
    prediction, annotation = np.asarray(prediction, bool), np.asarray(annotation, bool)
    if prediction.shape != annotation.shape:
        raise ValueError(f"prediction is {prediction.shape} but annotation is {annotation.shape}")
    tp = np.count_nonzero(prediction & annotation)
    return tp, np.count_nonzero(prediction) - tp, np.count_nonzero(annotation) - tp


def _ratio(part, whole):
    return part / whole if whole else float("nan")
