"""Lesion instances: labelling, matching with the annotation, the lesion tables, distances and selection."""

import warnings

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, voxel_sizes
from scipy import linalg, ndimage, sparse
from scipy.spatial import cKDTree

NEIGHBOURS = {6: 1, 18: 2, 26: 3}  # of a voxel, by faces, and edges, and corners: the connectivity of scipy
STRUCTURE = ndimage.generate_binary_structure(3, NEIGHBOURS[18])


def voxel_sides(affine):
    """Sides of a voxel in mm, (3,), of an affine (4, 4), to 1e-4: oblique axes in single precision make 1.00000002 of 1 mm,
    and lengths are compared with whole mm."""
    return np.round(voxel_sizes(affine), 4)


def voxel_mm3(affine):
    """Volume of a voxel in mm3: the determinant of the affine (4, 4), to six digits, as `voxel_sides`."""
    return float(f"{abs(linalg.det(affine[:3, :3])):.6g}")


def label_instances(mask, neighbours=18, merged_mm=0.0, smallest_mm3=0.0, affine=None):
    """Number the instances of mask (X, Y, Z) from 1; int32 (X, Y, Z), 0 outside. As a rule its 18-connected components.

    neighbours: 6, 18 or 26 of a voxel that belong to its component.  merged_mm: components are one instance if the
    centres of two of their voxels are at most so far apart, or both so near a third component; 0: never.  smallest_mm3:
    instances of a smaller volume are left out.  affine: (4, 4), needed for the latter two.  Raises ValueError if they
    cannot be used.
    """
    if neighbours not in NEIGHBOURS or merged_mm < 0 or smallest_mm3 < 0:
        raise ValueError(f"neighbours {neighbours}, merged_mm {merged_mm}, smallest_mm3 {smallest_mm3}: give 6, 18 or "
                         "26, and lengths and volumes of 0 or more")  # fmt: skip
    structure = ndimage.generate_binary_structure(3, NEIGHBOURS[neighbours])
    labels = ndimage.label(mask, structure, output=np.int32)[0]
    if merged_mm:
        labels = _merged(labels, voxel_sides(affine), merged_mm)
    if smallest_mm3:
        large = np.bincount(labels.ravel()) * voxel_mm3(affine) >= smallest_mm3
        large[0] = False
        labels = np.where(large, large.cumsum(), 0).astype(np.int32)[labels]
    return labels


def _merged(labels, spacing_mm, merged_mm):
    """Labels (X, Y, Z) of chains of components, each nearer to the next than merged_mm, in the order of their first."""
    surface = (labels > 0) & ~ndimage.binary_erosion(labels > 0)
    points, owner = np.argwhere(surface) * spacing_mm, labels[surface] - 1
    pairs = owner[cKDTree(points).query_pairs(merged_mm * (1 + 1e-9), output_type="ndarray")]
    near = sparse.coo_array((np.ones(len(pairs)), pairs.T), shape=(labels.max(),) * 2)
    chains = sparse.csgraph.connected_components(near, directed=False)[1]
    return np.r_[0, chains + 1].astype(np.int32)[labels]


def segment(probability, threshold, outline=None, label=label_instances):
    """Predicted lesions, (X, Y, Z) bool: instances of ``probability >= outline`` that reach the threshold.

    label: `label_instances`, of other instances with its arguments as a `functools.partial`, here and below.
    outline: at most the threshold, else ValueError; as the threshold if None. Below it, what is sure to be a lesion is
    outlined where it is less sure (hysteresis thresholding: Canny 1986, IEEE TPAMI 8:679).
    """
    outline = threshold if outline is None else outline
    if outline > threshold:
        raise ValueError(f"outline {outline} is above the threshold {threshold}")
    labels = label(np.asarray(probability) >= outline)
    return (instance_peaks(probability, labels) >= threshold)[labels]


def instance_peaks(probability, labels):
    """Largest probability in each instance of `label_instances`, by label: (n + 1,), -inf for label 0, the rest."""
    inside = labels > 0
    return np.r_[-np.inf, pd.Series(np.asarray(probability)[inside]).groupby(labels[inside]).max()]


def lesion_table(probability, annotation, threshold, affine, outline=None, label=label_instances):
    """One row an instance: predicted ones are TP or FP, annotated ones that the prediction misses are FN; without
    annotation all are of the kind "predicted", and their overlap is NaN.

    probability: (X, Y, Z).  annotation: (X, Y, Z) bool, or None.  affine: (4, 4), RAS, mm.  threshold, outline, label:
    of `segment`.  A predicted instance is a TP if at least one voxel is annotated, else an FP; an annotated one without
    predicted voxel is an FN. `label` counts in `label_instances` of the prediction (TP, FP) or of the annotation (FN).
    `overlap` is the annotated fraction of a predicted instance.  `nearest_lesion_mm` is the least distance between a
    voxel centre of the instance and one of another instance in the same map, NaN if it is alone.  Raises ValueError if
    shapes differ.
    """
    if annotation is None:
        nothing = np.zeros(np.shape(probability), bool)
        table = lesion_table(probability, nothing, threshold, affine, outline, label)
        return table.assign(kind="predicted", overlap=np.nan)
    predicted, annotated = _predicted_and_annotated(probability, annotation, threshold, outline, label)
    tables = []
    for labels, other, kinds in ((predicted, annotated, ("TP", "FP")), (annotated, predicted, ("found", "FN"))):
        rows = _describe(labels, probability, other > 0, affine)
        rows.insert(1, "kind", np.where(rows["overlap"] > 0, *kinds))
        rows["nearest_lesion_mm"] = _nearest_other(labels, voxel_sides(affine))
        tables.append(rows[rows["kind"] != "found"])
    return pd.concat(tables, ignore_index=True)


def annotated_table(probability, annotation, threshold, affine, outline=None, label=label_instances):
    """One row an annotated instance, with `detected`: at least one of its voxels is predicted.

    Arguments and errors as in `lesion_table`; `label` counts in ``label_instances(annotation)``.
    """
    predicted, annotated = _predicted_and_annotated(probability, annotation, threshold, outline, label)
    rows = _describe(annotated, probability, predicted > 0, affine)
    rows.insert(3, "detected", rows.pop("overlap") > 0)
    return rows


def instance_mask(row, predicted_labels, annotated_labels):
    """Voxels (X, Y, Z) bool of a row of `lesion_table`. Raises ValueError if the labels of its kind do not hold it."""
    if row.kind not in ("TP", "FP", "FN", "predicted"):
        raise ValueError(f"kind is {row.kind!r}, but only TP, FP, FN and predicted rows have an instance")
    mask = (annotated_labels if row.kind == "FN" else predicted_labels) == row.label
    if not mask.any():
        raise ValueError(f"no voxel of {row.kind} label {row.label}: give the labels of the table's own scan")
    return mask


def largest_instance(labels):
    """Voxels (X, Y, Z) bool of the largest instance of a label image. Raises ValueError if there is none."""
    if not labels.any():
        raise ValueError("the label image holds no instance")
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1


def largest_part(mask):
    """The largest face-connected part of a mask (X, Y, Z) bool, which may be empty."""
    return largest_instance(ndimage.label(mask)[0]) if mask.any() else mask


def bounding_box(mask):
    """Slices around the voxels of a mask (X, Y, Z) bool; empty ones without any."""
    return (ndimage.find_objects(mask.astype(np.uint8)) or [(slice(0, 0),) * mask.ndim])[0]


def widened(box, margin):
    """Slices of a box and so many voxels more on either side, (3,) or as many along each axis; none before the first."""
    margins = np.broadcast_to(margin, len(box))
    return tuple(slice(max(side.start - m, 0), side.stop + m) for side, m in zip(box, margins, strict=True))


def signed_distance(lesion, spacing_mm):
    """Distance in mm from each voxel centre to the lesion's border, negative inside, positive outside.

    lesion: (X, Y, Z) bool.  The border lies half-way between the last voxel centre inside and the first outside: the
    Euclidean distance to the nearest centre on the other side, less half a voxel in its direction (half the spacing
    along an axis; for the unit direction u, half the norm of u * spacing_mm).  What lies beyond the volume does not
    count.  Raises ValueError if the lesion is empty or fills the volume.
    """
    lesion = np.asarray(lesion, bool)
    if not lesion.any() or lesion.all():
        raise ValueError(f"lesion has {lesion.sum()} of {lesion.size} voxels: it needs a border")
    return np.where(lesion, -_to_border(lesion, spacing_mm), _to_border(~lesion, spacing_mm))


def detected_lesions(table):
    """Rows of a lesion table that are taken for lesions which the network found: TP and, where there is no annotation
    to tell them from FP, all that are predicted."""
    return table[table["kind"].isin(["TP", "predicted"])]


def select_lesions(table, *, n_per_kind, min_volume_mm3, max_volume_mm3, max_voxels=None, generator):
    """At most n_per_kind rows of each kind, spread over patients, in the order of the table.

    Every patient (column `subject`) gives one random lesion before any gives a second, and so on; eligible are lesions
    with min_volume_mm3 < volume_mm3 <= max_volume_mm3 (the paper explains those > 5 mm3) and at most max_voxels (None:
    any). Warns if there is none, and names those that have more voxels: what is computed of each voxel would take too long.
    """
    rows = table.reset_index(drop=True)
    eligible = rows[rows["volume_mm3"].between(min_volume_mm3, max_volume_mm3, inclusive="right")]
    if max_voxels and len(large := eligible[eligible["voxels"] > max_voxels]):
        names = ", ".join(f"{row.scan} {row.kind} {row.label} ({row.voxels:,} voxels)" for row in large.itertuples())
        warnings.warn(f"left out, as they have more than {max_voxels:,} voxels (max_voxels): {names}", stacklevel=2)
        eligible = eligible.drop(large.index)
    if eligible.empty:
        warnings.warn(
            f"none of {len(table)} lesions is left that has more than {min_volume_mm3} and at most {max_volume_mm3} mm3: "
            "nothing to compute; widen the bounds, or take other scans or another network",
            stacklevel=2,
        )
    chosen = []
    for _, kind in eligible.groupby("kind"):
        kind = kind.iloc[generator.permutation(len(kind))]
        patients = kind.groupby("subject")
        seat = generator.permutation(patients.ngroups)[patients.ngroup()]
        chosen.extend(kind.index[np.lexsort((seat, patients.cumcount()))[:n_per_kind]])
    return table.iloc[sorted(chosen)]


def _predicted_and_annotated(probability, annotation, threshold, outline, label):
    """Label images of prediction and annotation."""
    if np.shape(probability) != np.shape(annotation):
        raise ValueError(f"probability is {np.shape(probability)} but annotation is {np.shape(annotation)}")
    return label(segment(probability, threshold, outline, label)), label(np.asarray(annotation) > 0)


def _describe(labels, probability, other, affine):
    """Size, place, probability and overlap with the other mask of every instance in labels."""
    inside = labels > 0
    x, y, z = apply_affine(affine, np.argwhere(inside)).T
    value = np.asarray(probability)[inside].astype(float)
    voxels = pd.DataFrame({"label": labels[inside], "x": x, "y": y, "z": z, "p": value, "other": other[inside]})
    measures = {"voxels": ("p", "size")} | {f"centroid_{axis}_mm": (axis, "mean") for axis in "xyz"}
    measures |= {"mean_probability": ("p", "mean"), "peak_probability": ("p", "max"), "overlap": ("other", "mean")}
    rows = voxels.groupby("label", as_index=False).agg(**measures)
    rows.insert(2, "volume_mm3", rows["voxels"] * voxel_mm3(affine))
    return rows


def _nearest_other(labels, spacing_mm):
    """Distance in mm from each instance to the nearest other one, by label; NaN for a single instance.

    Closest pairs are voxels with a face outside their instance, so only those are searched. Two labels differ in at
    least one binary digit: splitting the instances by each digit in turn compares every pair.
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
    axes = zip(np.indices(region.shape, sparse=True), nearest, spacing_mm, strict=True)
    squares = sum((((own - other) * spacing) * spacing) ** 2 for own, other, spacing in axes)
    return distance - np.sqrt(squares) / (2 * np.maximum(distance, np.finfo(float).tiny))
