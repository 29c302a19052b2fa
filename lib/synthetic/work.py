"""Inserting lesions into one scan, and changing those it has: items of work (`run.compute_each`), which read files.

row: of the scans table, a dict.  path: function of scan and description that gives the path of a map (`run.Run.map`).
noise: n_samples (0: changed lesions are not explained), noise_fraction and statistics of `saliency.peak_saliency`.
patch: side of the part of a scan around a lesion that the network is given; 0: the whole scan.
"""

from functools import partial

import numpy as np
import pandas as pd

from lib.lesions import (
    cut_patch,
    distance_to,
    healthy_volumes,
    label_instances,
    segment,
    voxel_mm3,
    white_and_grey_matter,
    white_matter,
)
from lib.network import loaded_network, loaded_scan, predict, prediction_settings
from lib.saliency import numpy_generator, peak_saliency
from lib.scans import load_labels
from lib.synthetic import response
from lib.synthetic.changes import BLEND_MM, has_healthy_surroundings
from lib.synthetic.invented import add_noise, count_invented, noise_sd
from lib.synthetic.places import site_places, sites_by_height
from lib.synthetic.sites import DEEP, SURROUNDINGS, sites_by_surroundings, structure_distances

NAMES = ["scan", "subject", "label", "kind", "volume_mm3"]
# `predict_changes` of no lesion, and `predict_twice` of a scan whose noise is not known
NO_CHANGES = pd.DataFrame(columns=[*NAMES, "change", *response.RESPONSES], dtype=float)
COUNTS = ["subject", "scan", "flair_noise", "mprage_noise", "volume_mm3", "predicted", "invented"]
NO_COUNTS = pd.DataFrame(columns=COUNTS, dtype=float)


def find_sites(row, *, path, surroundings, n, n_per_third, margin_mm, beside_margin_mm, seed):
    """Places for lesions in one scan, and the contrast of those it has.

    Returns up to n sites in each kind of surroundings (`sites_by_surroundings`); others, up to n_per_third in each third
    of the brain's height (`sites_by_height`); where the latter lie, as lesions of twice beside_margin_mm in diameter:
    rows scan and those of `site_places`; and the contrast of the annotated lesions: rows scan, subject and those of
    `contrast_table`.
    """
    scan, _, annotated, marked = _scan(row, path)
    white, grey = white_and_grey_matter(scan.image, scan.brain, marked)
    known = structure_distances({*surroundings, *SURROUNDINGS}, scan.image, scan.brain, marked, grey, scan.spacing_mm)
    beside = {name: known[name] for name in (DEEP, *surroundings)}
    margins = {"margin_mm": margin_mm, "beside_margin_mm": beside_margin_mm, "spacing_mm": scan.spacing_mm}
    sites = sites_by_surroundings(white, beside, n, **margins, generator=numpy_generator(seed, row["scan"]))
    generator = numpy_generator(seed, row["scan"], "thirds")
    spread = sites_by_height(white, beside, scan.brain, n_per_third, **margins, generator=generator)
    where = site_places(spread, scan.brain, known, 2 * beside_margin_mm, scan.spacing_mm)
    contrast = response.contrast_table(scan.image, annotated, white, scan.spacing_mm)
    names = {"scan": row["scan"], "subject": row["subject"]}
    return sites, spread, _named(where, {"scan": row["scan"]}), _named(contrast, names)


def predict_insertions(item, *, weights, device, threshold, diameters_mm, contrasts, patch=0):
    """`insertion_response` of a scan in one kind of surroundings: rows scan, surroundings and more.

    item: row, surroundings, sites (n, 3).  diameters_mm: a list for each kind of surroundings.
    """
    row, surroundings, at = item
    model, description = loaded_network(weights, device)
    scan = loaded_scan(row, description)
    options = {"diameters_mm": diameters_mm[surroundings], "contrasts": contrasts, "spacing_mm": scan.spacing_mm}
    options |= {"z_score": scan.levels.z_score} if scan.levels else {}
    found = response.insertion_response(model, scan.image, scan.tissue, at, **options, threshold=threshold, patch=patch)
    return _named(found, {"scan": row["scan"], "surroundings": surroundings})


def explain_insertions(item, *, weights, device, diameters_mm, contrasts, noise, seed, patch=0):
    """`insertion_saliency` of the peaks, with rows and items as of `predict_insertions`; all lesions of a scan have the
    same noise."""
    row, surroundings, at = item
    model, description = loaded_network(weights, device)
    scan = loaded_scan(row, description)
    options = {"diameters_mm": diameters_mm, "contrasts": contrasts, "spacing_mm": scan.spacing_mm}
    options |= {"z_score": scan.levels.z_score} if scan.levels else {}
    saliency = _explained(model, noise, [seed, row["scan"]], patch)
    found = response.insertion_saliency(scan.image, scan.tissue, at, **options, saliency=saliency)
    return _named(found, {"scan": row["scan"], "surroundings": surroundings})


def change_lesions(item, *, path, seed, description=None):
    """Yield rows of lesions, each with its `changed_images`; without those that have no healthy surroundings.

    item: row, and rows of lesions in that scan, as of `run.group_by_scan`: TP, predicted, FN, or as TN a detected one
    whose shape is put in healthy white matter, out of reach of any lesion's changes.  description: of `loaded_scan`.
    """
    row, lesions = item
    scan, predicted, annotated, marked = _scan(row, path, description)
    white, grey = white_and_grey_matter(scan.image, scan.brain, marked)
    away = white & (distance_to(marked, scan.spacing_mm) > BLEND_MM)
    for lesion in lesions:
        mask = (annotated if lesion["kind"] == "FN" else predicted) == lesion["label"]
        generator = numpy_generator(seed, row["scan"], lesion["kind"], lesion["label"])
        if lesion["kind"] == "TN":
            mask = healthy_volumes(mask, {"TN": away}, generator).get("TN")
        if mask is not None and has_healthy_surroundings(mask, white, scan.spacing_mm):
            yield lesion, response.changed_images(scan.image, mask, white, grey, scan.spacing_mm, generator)


def predict_changes(item, *, path, weights, device, threshold, noise, seed, patch=0):
    """`change_response` of `change_lesions`, a table that begins with NAMES; detected lesions (TP, predicted) alone are
    explained, and the noise of a lesion is that of all its changes."""
    (model, description), tables = loaded_network(weights, device), []
    for lesion, changed in change_lesions(item, path=path, seed=seed, description=description):
        saliency = _explained(model, noise, [seed, lesion["scan"], lesion["label"]], patch)
        explained = lesion["kind"] in ("TP", "predicted") and noise["n_samples"]
        saliency = saliency if explained else lambda *_: {}
        found = response.change_response(model, changed, threshold=threshold, saliency=saliency, patch=patch)
        tables.append(_named(found, {name: lesion[name] for name in NAMES}))
    return pd.concat(tables, ignore_index=True).reindex(columns=NO_CHANGES.columns) if tables else NO_CHANGES


def predict_twice(row, *, path, weights, device, threshold, outline, instances, edges_mm3, seed):
    """`count_invented` between two predictions of a scan, each with noise of the scan's own size added to it, drawn anew:
    rows subject, scan, flair_noise, mprage_noise (standard deviations) and more.

    threshold, outline: of `segment`.  instances: arguments of `label_instances`. Without healthy white matter there is no
    row.
    """
    model, description = loaded_network(weights, device)
    scan, *_, marked = _scan(row, path, description)
    sd = noise_sd(scan.image, white_matter(scan.image, scan.brain, marked))
    if not np.isfinite(sd).all():
        return NO_COUNTS
    generator = numpy_generator(seed, row["scan"], "noise")
    label = partial(label_instances, **instances, affine=scan.affine)
    labels = []
    for _ in range(2):
        noisy = add_noise(scan.image, scan.tissue, sd, generator)
        probability = predict(model, noisy, **prediction_settings(description))
        labels.append(label(segment(probability, threshold, outline, label)))
    names = {"subject": row["subject"], "scan": row["scan"], "flair_noise": sd[0], "mprage_noise": sd[1]}
    return _named(count_invented(*labels, voxel_mm3(scan.affine), edges_mm3), names)


def _explained(model, noise, seed, patch):
    """Function of image and mask that gives the `peak_saliency` of the patch."""
    return lambda image, mask: peak_saliency(model, *cut_patch(image, mask, patch), **noise, seed=seed)


def _scan(row, path, description=None):
    """The scan, its predicted and annotated labels, and whether a voxel is either: (X, Y, Z) each."""
    predicted, annotated = load_labels(row, path)
    return loaded_scan(row, description), predicted, annotated, (predicted > 0) | (annotated > 0)


def _named(table, names):
    return table.assign(**names)[[*names, *table]]
