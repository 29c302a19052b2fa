"""Response of network and saliency to lesions that were inserted or changed: one table row a condition."""

import itertools

import numpy as np
import pandas as pd
from scipy import ndimage

from lib.stats import bootstrap_mean
from lib.synthetic import insert_lesion, move_lesion, place_next_to_grey_matter, remove_lesion
from lib.windows import find_window, predict_lesion

SIGNS = {"FLAIR": (1, 0), "MPRAGE": (0, -1), "both": (1, -1)}  # lesions are bright in FLAIR and dark in MPRAGE
SURROUNDINGS_MM = 5.0  # healthy white matter up to here is what a lesion's contrast is measured against


def insertion_response(model, image, sites, *, diameters_mm, contrasts, spacing_mm, threshold):
    """Insert a lesion of every diameter, contrast and choice of sequences at every site, and predict it.

    image: (2, X, Y, Z) z-scored. sites: (n, 3) voxels. contrasts: z-scores, added in FLAIR, subtracted in MPRAGE, or both.
    Returns rows site, diameter_mm, contrast, sequences, detected (any voxel of the lesion reaches the threshold), score
    (mean probability over its voxels).
    """
    rows = []
    for number, diameter in itertools.product(range(len(sites)), diameters_mm):
        _, mask = insert_lesion(image, sites[number], diameter, (0, 0), spacing_mm)
        window = find_window(model, mask, mask.shape).within(mask.shape)  # the rest of the scan does not matter
        part, site = image[(slice(None), *window)], np.subtract(sites[number], [side.start for side in window])
        conditions, images, mask = _insertions(part, site, diameter, contrasts, spacing_mm)
        for condition, response in zip(conditions, _responses(model, images, mask, threshold), strict=True):
            rows.append({"site": number, "diameter_mm": diameter} | condition | response)
    return pd.DataFrame(rows)


def insertion_saliency(image, sites, *, diameters_mm, contrasts, spacing_mm, saliency):
    """Saliency of the lesions of `insertion_response`: the same rows with what saliency(image, mask) returns, a dict."""
    rows = []
    for number, diameter in itertools.product(range(len(sites)), diameters_mm):
        conditions, images, mask = _insertions(image, sites[number], diameter, contrasts, spacing_mm)
        for condition, changed in zip(conditions, images, strict=True):
            rows.append({"site": number, "diameter_mm": diameter} | condition | saliency(changed, mask))
    return pd.DataFrame(rows)


def response_table(insertions, *, n_resamples, generator):
    """Mean response to each condition over sites, with patient-bootstrap 95 % intervals of detection and score.

    insertions: rows of `insertion_response` with subject, and saliency peaks where they were computed. Returns rows
    diameter_mm, contrast, sequences, n, detected, low_detected, high_detected, score, low_score, high_score, peak_flair,
    peak_mprage.
    """
    rows = []
    for keys, sites in insertions.groupby(["diameter_mm", "contrast", "sequences"]):
        mean, low, high = bootstrap_mean(sites, ["detected", "score"], n_resamples=n_resamples, generator=generator)
        peaks = sites[["peak_flair", "peak_mprage"]].mean()
        rows.append((*keys, len(sites), mean[0], low[0], high[0], mean[1], low[1], high[1], *peaks))
    names = ["diameter_mm", "contrast", "sequences", "n", "detected", "low_detected", "high_detected"]
    return pd.DataFrame(rows, columns=[*names, "score", "low_score", "high_score", "peak_flair", "peak_mprage"])


def changed_images(image, lesion, white, grey, spacing_mm, generator):
    """One lesion unchanged, without its contrast in FLAIR, MPRAGE or both, and moved next to grey matter.

    lesion, white, grey: (X, Y, Z) bool. Returns {change: (image, mask)}; "moved to grey matter" is missing where there is
    no place for it. Raises ValueError if there is no white matter nearby to fill from.
    """
    changed = {"none": (image, lesion)}
    for name, removed in (("FLAIR removed", [0]), ("MPRAGE removed", [1]), ("both removed", [0, 1])):
        changed[name] = (remove_lesion(image, lesion, white, removed, spacing_mm, generator), lesion)
    offset = place_next_to_grey_matter(lesion, white, grey, generator)
    if offset is not None:
        changed["moved to grey matter"] = move_lesion(image, lesion, offset, white, spacing_mm, generator)
    return changed


def change_response(model, changed, *, threshold, saliency):
    """Predict and explain a lesion after each change of `changed_images`: rows change, detected, score and what
    saliency(image, mask) returns, a dict."""
    rows = []
    for name, (image, mask) in changed.items():
        (response,) = _responses(model, [image], mask, threshold)
        rows.append({"change": name} | response | saliency(image, mask))
    return pd.DataFrame(rows)


def lesion_contrast(image, lesion, white, spacing_mm):
    """Mean z-score of a lesion less that of the white matter within 5 mm, in FLAIR and MPRAGE: (2,); NaN without any."""
    margin = np.ceil(SURROUNDINGS_MM / np.asarray(spacing_mm)).astype(int) + 1
    place = ndimage.find_objects(lesion.astype(np.uint8))[0]
    box = tuple(slice(max(side.start - m, 0), side.stop + m) for side, m in zip(place, margin, strict=True))
    near = ndimage.distance_transform_edt(~lesion[box], sampling=spacing_mm) <= SURROUNDINGS_MM
    around = white[box] & near & ~lesion[box]
    if not around.any():
        return np.full(2, np.nan)
    return np.array([channel[box][lesion[box]].mean() - channel[box][around].mean() for channel in image])


def _insertions(image, site, diameter_mm, contrasts, spacing_mm):
    """Conditions, an iterator over the images with the lesion inserted, and its mask."""
    conditions = [{"contrast": contrast, "sequences": sequences} for sequences in SIGNS for contrast in contrasts]
    _, mask = insert_lesion(image, site, diameter_mm, (0, 0), spacing_mm)
    added = (np.multiply(condition["contrast"], SIGNS[condition["sequences"]]) for condition in conditions)
    return conditions, (insert_lesion(image, site, diameter_mm, change, spacing_mm)[0] for change in added), mask


def _responses(model, images, mask, threshold):
    probability = predict_lesion(model, images, mask).softmax(1)[:, 1].cpu().numpy()
    return [{"detected": bool((p >= threshold).any()), "score": float(p.mean())} for p in probability]
