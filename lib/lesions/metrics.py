"""Voxel-wise and lesion-wise agreement of a predicted with an annotated lesion mask."""

import numpy as np

from lib.lesions.instances import label_instances


def dice(prediction, annotation):
    """Dice coefficient of two masks of equal shape; 1 if both are empty."""
    return float(dice_of_counts(*_voxel_counts(prediction, annotation)))


def normalised_dice(prediction, annotation, r=0.001):
    """Dice coefficient normalised to lesion load r (nDSC); 1 if both masks are empty.

    False-positive voxels weigh k = (1 - r) P / (r (V - P)), where P of V voxels are annotated; k = 1 if none is.
    Of the whole volume, as in Spagnolo et al. 2024, air around the head makes k small and the score high. That of the
    voxels of the brain alone does not depend on how a scan is cut (Raina et al. 2023).
    Raises ValueError unless 0 < r < 1.
    """
    return float(normalised_dice_of_counts(*_voxel_counts(prediction, annotation), np.size(annotation), r))


def dice_of_counts(tp, fp, fn):
    """`dice` from numbers of true-positive, false-positive and false-negative voxels; arrays of equal shape."""
    found = 2 * np.asarray(tp) + fp + fn
    return np.where(found > 0, 2 * np.asarray(tp) / np.where(found > 0, found, 1), 1.0)


def normalised_dice_of_counts(tp, fp, fn, voxels, r=0.001):
    """`normalised_dice` from numbers of true-positive, false-positive and false-negative voxels, and V."""
    if not 0 < r < 1:
        raise ValueError(f"r is {r}: the reference load is a fraction between 0 and 1")
    positive = np.asarray(tp) + fn
    weighted = (positive > 0) & (positive < voxels)
    k = np.where(weighted, (1 - r) * positive / (r * np.maximum(voxels - positive, 1)), 1.0)
    return dice_of_counts(tp, k * fp, fn)


def lesion_rates(tp, fp, fn):
    """F1, TPR, PPV, FDR and FNR from lesion counts, NaN where the denominator is zero.

    tp, fp: predicted instances with and without annotated voxel.  fn: annotated instances without predicted voxel.
    TP + FN is thus the number of annotated lesions only where no two share one prediction or one two.
    """
    annotated, predicted = tp + fn, tp + fp
    parts = {"F1": (2 * tp, 2 * tp + fp + fn), "TPR": (tp, annotated), "PPV": (tp, predicted)}
    parts |= {"FDR": (fp, predicted), "FNR": (fn, annotated)}
    return {name: part / whole if whole else float("nan") for name, (part, whole) in parts.items()}


def scan_metrics(prediction, annotation, brain, label=label_instances):
    """Dice, nDSC of the voxels of the brain and of the whole volume, and lesion counts of one scan.

    All masks (X, Y, Z) bool; label: of `segment`. Returns a dict dice, ndsc, ndsc_whole_volume, tp, fp, fn.
    """
    scores = {"dice": dice(prediction, annotation)}
    scores["ndsc"] = normalised_dice(prediction[brain], annotation[brain])
    scores["ndsc_whole_volume"] = normalised_dice(prediction, annotation)
    predicted, annotated = label(prediction), label(annotation)
    both = (predicted > 0) & (annotated > 0)
    tp, detected = (np.unique(labels[both]).size for labels in (predicted, annotated))
    return scores | {"tp": tp, "fp": int(predicted.max()) - tp, "fn": int(annotated.max()) - detected}


def _voxel_counts(prediction, annotation):
    """True-positive, false-positive and false-negative voxels."""
    prediction, annotation = np.asarray(prediction, bool), np.asarray(annotation, bool)
    if prediction.shape != annotation.shape:
        raise ValueError(f"prediction is {prediction.shape} but annotation is {annotation.shape}")
    tp = np.count_nonzero(prediction & annotation)
    return tp, np.count_nonzero(prediction) - tp, np.count_nonzero(annotation) - tp
