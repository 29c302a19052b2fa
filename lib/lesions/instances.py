"""Lesion instances: labelling, matching with the annotation, the lesion tables, distances and selection."""

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, voxel_sizes
from scipy import ndimage
from scipy.spatial import cKDTree

STRUCTURE = ndimage.generate_binary_structure(3, 2)  # 18-connectivity
TABLE_COLUMNS = [
    "label",
    "kind",
    "voxels",
    "volume_mm3",
    "centroid_x_mm",
    "centroid_y_mm",
    "centroid_z_mm",
    "mean_probability",
    "peak_probability",
    "overlap",
    "nearest_lesion_mm",
]


def label_instances(mask):
    """Number the 18-connected components of mask (X, Y, Z) from 1; int32 (X, Y, Z), 0 outside."""
    return ndimage.label(mask, STRUCTURE, output=np.int32)[0]


def segment(probability, threshold, outline=None):
    """Predicted lesions, (X, Y, Z) bool: 18-connected components of ``probability >= outline`` that reach the threshold.

    outline: at most the threshold, which it is if None; below it, what is sure to be a lesion is outlined where it is less
    sure (hysteresis thresholding: Canny 1986, IEEE TPAMI 8:679). Raises ValueError if the outline is above the threshold.
    """
    outline = threshold if outline is None else outline
    if outline > threshold:
        raise ValueError(f"outline {outline} is above the threshold {threshold}")
    mask = np.asarray(probability) >= outline
    if outline == threshold:
        return mask
    labels = label_instances(mask)
    return (instance_peaks(probability, labels) >= threshold)[labels]


def instance_peaks(probability, labels):
    """Largest probability in each instance of `label_instances`, by label: (n + 1,), -inf for label 0, which is none."""
    inside = labels > 0
    return np.r_[-np.inf, pd.Series(np.asarray(probability)[inside]).groupby(labels[inside]).max()]


def lesion_table(probability, annotation, threshold, affine, outline=None):
    """One row an instance: predicted ones are TP or FP, annotated ones that the prediction misses are FN.

    probability: (X, Y, Z).  annotation: (X, Y, Z) bool.  affine: (4, 4), RAS, mm.  threshold, outline: of `segment`.  A
    predicted instance is a TP if at least one voxel is annotated, else an FP; an annotated instance without predicted
    voxel is an FN. `label` counts in `label_instances` of the prediction (TP, FP)
    or of the annotation (FN). `overlap` is the annotated fraction of a predicted instance.
    `nearest_lesion_mm` is the smallest distance between a voxel centre of the instance and one of
    another instance in the same map, NaN if it is alone there.  Raises ValueError if shapes differ.
    """
    predicted, annotated = _predicted_and_annotated(probability, annotation, threshold, outline)
    found = _describe(predicted, probability, annotated > 0, affine)
    found["kind"] = np.where(found["overlap"] > 0, "TP", "FP")
    found["nearest_lesion_mm"] = _nearest_other(predicted, voxel_sizes(affine))
    missed = _describe(annotated, probability, predicted > 0, affine)
    missed["kind"] = "FN"
    missed["nearest_lesion_mm"] = _nearest_other(annotated, voxel_sizes(affine))
    missed = missed[missed["overlap"] == 0]
    return pd.concat([found, missed], ignore_index=True)[TABLE_COLUMNS]


def annotated_table(probability, annotation, threshold, affine, outline=None):
    """One row an annotated instance, with `detected`: at least one of its voxels is predicted.

    Arguments and errors as in `lesion_table`; `label` counts in ``label_instances(annotation)``.
    """
    predicted, annotated = _predicted_and_annotated(probability, annotation, threshold, outline)
    rows = _describe(annotated, probability, predicted > 0, affine)
    rows.insert(3, "detected", rows.pop("overlap") > 0)
    return rows


def instance_mask(row, predicted_labels, annotated_labels):
    """Voxels (X, Y, Z) bool of one row of `lesion_table`.

    Raises ValueError if the label image that belongs to the row's kind does not hold its label.
    """
    if row.kind not in ("TP", "FP", "FN"):
        raise ValueError(f"kind is {row.kind!r}, but only TP, FP and FN rows have an instance")
    mask = (annotated_labels if row.kind == "FN" else predicted_labels) == row.label
    if not mask.any():
        raise ValueError(f"no voxel of {row.kind} label {row.label}: give the labels of the table's own scan")
    return mask


def largest_instance(labels):
    """Voxels (X, Y, Z) bool of the largest instance of a label image. Raises ValueError if there is none."""
    if not labels.any():
        raise ValueError("the label image holds no instance")
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1


def signed_distance(lesion, spacing_mm):
    """Distance in mm from each voxel centre to the lesion's border, negative inside, positive outside.

    lesion: (X, Y, Z) bool.  The border lies half-way between the last voxel centre inside and the first
    outside: the Euclidean distance to the nearest centre on the other side, less half a voxel in its
    direction (half the spacing along an axis; for the unit direction u, half the norm of u * spacing_mm).
    What lies beyond the volume does not count.  Raises ValueError if the lesion is empty or fills the volume.
    """
    lesion = np.asarray(lesion, bool)
    if not lesion.any() or lesion.all():
        raise ValueError(f"lesion has {lesion.sum()} of {lesion.size} voxels: it needs a border")
    return np.where(lesion, -_to_border(lesion, spacing_mm), _to_border(~lesion, spacing_mm))


def select_lesions(table, *, n_per_kind, min_volume_mm3, max_volume_mm3, generator):
    """At most n_per_kind rows of each kind, spread over patients, in the order of the table.

    Every patient (column `subject`) gives one random lesion before any gives a second, and so on; eligible are
    lesions with min_volume_mm3 < volume_mm3 <= max_volume_mm3 (the paper explains those > 5 mm3).
    Raises ValueError if there is none.
    """
    rows = table.reset_index(drop=True)
    eligible = rows[(rows["volume_mm3"] > min_volume_mm3) & (rows["volume_mm3"] <= max_volume_mm3)]
    if eligible.empty:
        raise ValueError(
            f"none of {len(table)} lesions has more than {min_volume_mm3} and at most {max_volume_mm3} mm3: widen the "
            "bounds, or train a network that detects some"
        )
    chosen = []
    for _, kind in eligible.groupby("kind"):
        kind = kind.iloc[generator.permutation(len(kind))]
        turn = kind.groupby("subject").cumcount()
        patient = kind.groupby("subject").ngroup()
        seat = generator.permutation(patient.nunique())[patient]
        chosen.extend(kind.index[np.lexsort((seat, turn))[:n_per_kind]])
    return table.iloc[sorted(chosen)]


def _predicted_and_annotated(probability, annotation, threshold, outline):
    """Label images of prediction and annotation."""
    if np.shape(probability) != np.shape(annotation):
        raise ValueError(f"probability is {np.shape(probability)} but annotation is {np.shape(annotation)}")
    return label_instances(segment(probability, threshold, outline)), label_instances(np.asarray(annotation) > 0)


def _describe(labels, probability, other, affine):
    """Size, place, probability and overlap with the other mask of every instance in labels."""
    inside = labels > 0
    x, y, z = apply_affine(affine, np.argwhere(inside)).T
    value = np.asarray(probability)[inside].astype(float)
    voxels = pd.DataFrame({"label": labels[inside], "x": x, "y": y, "z": z, "p": value, "other": other[inside]})
    rows = voxels.groupby("label", as_index=False).agg(
        voxels=("p", "size"),
        centroid_x_mm=("x", "mean"),
        centroid_y_mm=("y", "mean"),
        centroid_z_mm=("z", "mean"),
        mean_probability=("p", "mean"),
        peak_probability=("p", "max"),
        overlap=("other", "mean"),
    )
    rows.insert(2, "volume_mm3", rows["voxels"] * np.prod(voxel_sizes(affine)))
    return rows


def _nearest_other(labels, spacing_mm):
    """Distance in mm from each instance to the nearest other one, by label; NaN for a single instance.

    Closest pairs are voxels with a face outside their instance, so only those are searched. Two labels
    differ in at least one binary digit: splitting the instances by each digit in turn compares every pair.
    """
    n = labels.max()
    if n < 2:
        return np.full(n, np.nan)
    surface = (labels > 0) & ~ndimage.binary_erosion(labels > 0)
    points, owner = np.argwhere(surface) * spacing_mm, labels[surface]
    nearest = np.full(n + 1, np.inf)
    for digit in range(int(n).bit_length()):
        one = (owner >> digit & 1).astype(bool)
        for side in (one, ~one):
            if side.any() and not side.all():
                distance, _ = cKDTree(points[~side]).query(points[side])
                np.minimum.at(nearest, owner[side], distance)
    return nearest[1:]


def _to_border(region, spacing_mm):
    """Distance from the voxels of region to its border, in mm; half a voxel less than to the nearest outside it."""
    distance, nearest = ndimage.distance_transform_edt(region, sampling=spacing_mm, return_indices=True)
    squares = sum(
        (((axis - index) * spacing) * spacing) ** 2
        for axis, index, spacing in zip(np.indices(region.shape, sparse=True), nearest, spacing_mm, strict=True)
    )
    return distance - np.sqrt(squares) / (2 * np.maximum(distance, np.finfo(float).tiny))
