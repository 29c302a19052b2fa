"""Response of network and saliency to lesions that were inserted or changed: one table row a condition."""

import itertools

import numpy as np
import pandas as pd
from scipy import ndimage

from lib.exact import find_window, predict_lesion
from lib.lesions import distance_to, patch_around, widened
from lib.statistics import bootstrap_mean
from lib.synthetic.changes import move_lesion, place_next_to_grey_matter, remove_lesion, swap_sequences
from lib.synthetic.insertion import add_contrast, soft_ball

SIGNS = {"FLAIR": (1, 0), "MPRAGE": (0, -1), "both": (1, -1)}  # lesions are bright in FLAIR and dark in MPRAGE
CONDITION = ["site", "diameter_mm", "contrast", "sequences"]
RESPONSES = ["detected", "score", "peak_flair", "peak_mprage"]
SURROUNDINGS_MM = 5.0  # healthy white matter up to here is what a lesion's contrast is measured against


def insertion_response(
    model, image, tissue, sites, *, diameters_mm, contrasts, spacing_mm, threshold, z_score=(1.0, 1.0), patch=0
):
    """Insert a lesion of every diameter, contrast and choice of sequences at every site, and predict it.

    image: (2, X, Y, Z).  tissue: where each channel has some, likewise.  sites: (n, 3) voxels.  contrasts: z-scores, added
    in FLAIR, less in MPRAGE, or both.
    z_score: what one is in FLAIR and MPRAGE of the image, 1 where that is z-scored.
    patch: side of the part of the scan around the lesion that the network is given (`patch_around`); 0: all of it.
    Returns rows site, diameter_mm, contrast, sequences, detected (any voxel of the lesion reaches the threshold), score
    (mean probability over its voxels).
    """
    brain, conditions, rows = tissue.any(axis=0), _conditions(contrasts, z_score), []
    for (number, site), diameter in itertools.product(enumerate(sites), diameters_mm):
        *_, mask = soft_ball(brain, site, diameter, spacing_mm)
        window = patch_around(mask, patch)
        if not patch:
            window = find_window(model, mask, mask.shape).within(mask.shape)  # the rest of the scan does not matter
        site, place = np.subtract(site, [side.start for side in window]), (slice(None), *window)
        share, box, mask = soft_ball(brain[window], site, diameter, spacing_mm)
        changes = list(dict.fromkeys(conditions.values()))  # nothing inserted is the same in all sequences
        images = (add_contrast(image[place], tissue[place], share, box, change) for change in changes)
        found = dict(zip(changes, _responses(model, images, mask, threshold, patch), strict=True))
        rows += [(number, diameter, *condition, *found[change]) for condition, change in conditions.items()]
    return pd.DataFrame(rows, columns=[*CONDITION, "detected", "score"])


def insertion_saliency(image, tissue, sites, *, diameters_mm, contrasts, spacing_mm, saliency, z_score=(1.0, 1.0)):
    """Saliency of the lesions of `insertion_response`: the same rows with the dict that saliency(image, mask) gives."""
    brain, conditions, rows = tissue.any(axis=0), _conditions(contrasts, z_score), []
    for (number, site), diameter in itertools.product(enumerate(sites), diameters_mm):
        share, box, mask = soft_ball(brain, site, diameter, spacing_mm)
        changes = set(conditions.values())
        found = {change: saliency(add_contrast(image, tissue, share, box, change), mask) for change in changes}
        for condition, change in conditions.items():
            rows.append(dict(zip(CONDITION, (number, diameter, *condition), strict=True)) | found[change])
    return pd.DataFrame(rows)


def response_table(insertions, **resampling):
    """Mean response to each condition over sites, with patient-bootstrap 95 % intervals.

    insertions: rows of `insertion_response` with subject and surroundings, and saliency peaks where they were computed.
    resampling: n_resamples and generator. Returns rows surroundings, diameter_mm, contrast, sequences, n, n_explained
    (with saliency), and detected, score, peak_flair and peak_mprage, each with low_ and high_.
    """
    conditions, rows = ["surroundings", *CONDITION[1:]], []
    for keys, sites in insertions.groupby(conditions, sort=False):
        row = dict(zip(conditions, keys, strict=True)) | {"n": len(sites), "n_explained": sites["peak_flair"].count()}
        for name, *numbers in zip(RESPONSES, *bootstrap_mean(sites, RESPONSES, **resampling), strict=True):
            row |= dict(zip((name, f"low_{name}", f"high_{name}"), numbers, strict=True))
        rows.append(row)
    responses = [prefix + name for name in RESPONSES for prefix in ("", "low_", "high_")]
    return pd.DataFrame(rows, columns=[*conditions, "n", "n_explained", *responses])


def changed_images(image, lesion, white, grey, spacing_mm, generator):
    """One lesion unchanged, without its contrast in FLAIR, MPRAGE or both, with both exchanged, and moved next to grey
    matter: {change: (image, mask)}; the last is missing where there is no place for it.

    lesion, white, grey: (X, Y, Z) bool.  Raises ValueError if there is no white matter nearby to fill from.
    """
    changed = {"none": (image, lesion)}
    for name, removed in (("FLAIR removed", [0]), ("MPRAGE removed", [1]), ("both removed", [0, 1])):
        changed[name] = (remove_lesion(image, lesion, white, removed, spacing_mm, generator), lesion)
    changed["sequences swapped"] = (swap_sequences(image, lesion, white, spacing_mm), lesion)
    offset = place_next_to_grey_matter(lesion, white, grey, generator)
    if offset is not None:
        changed["moved to grey matter"] = move_lesion(image, lesion, offset, white, spacing_mm, generator)
    return changed


def change_response(model, changed, *, threshold, saliency, patch=0):
    """Predict and explain a lesion after each change of `changed_images`: rows change, detected, score and what
    saliency(image, mask) returns, a dict.  patch: of `insertion_response`."""
    rows = []
    for name, (image, mask) in changed.items():
        ((detected, score),) = _responses(model, [image], mask, threshold, patch)
        rows.append({"change": name, "detected": detected, "score": score} | saliency(image, mask))
    return pd.DataFrame(rows)


def contrast_table(image, labels, white, spacing_mm):
    """Contrast of every lesion of a label image (X, Y, Z): rows label, flair, mprage (`contrast_to_white_matter`)."""
    margin, rows = np.ceil(SURROUNDINGS_MM / np.asarray(spacing_mm)).astype(int) + 1, []
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        box = widened(place, margin)
        found = contrast_to_white_matter(image[(slice(None), *box)], labels[box] == label, white[box], spacing_mm)
        rows.append((label, *found))
    return pd.DataFrame(rows, columns=["label", "flair", "mprage"])


def contrast_to_white_matter(image, lesion, white, spacing_mm):
    """Mean z-score of a lesion less that of the white matter within 5 mm, in FLAIR and MPRAGE: (2,); NaN without."""
    around = white & ~lesion & (distance_to(lesion, spacing_mm) <= SURROUNDINGS_MM)
    if not around.any():
        return np.full(2, np.nan)
    return np.array([channel[lesion].mean() - channel[around].mean() for channel in image])


def _conditions(contrasts, z_score):
    """What (FLAIR, MPRAGE) gain in each condition: every (contrast, sequences)."""
    gains = {name: np.multiply(signs, z_score).tolist() for name, signs in SIGNS.items()}
    return {(c, name): tuple(c * gain for gain in each) for name, each in gains.items() for c in contrasts}


def _responses(model, images, mask, threshold, patch):
    """Whether any voxel of the mask reaches the threshold, and their mean probability, in each of the images."""
    part = patch_around(mask, patch)
    logits = predict_lesion(model, (image[(slice(None), *part)] for image in images), mask[part])
    probability = logits.softmax(1)[:, 1].cpu().numpy()
    return [(bool((p >= threshold).any()), float(p.mean())) for p in probability]
