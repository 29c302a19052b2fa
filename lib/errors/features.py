"""What is known of a predicted lesion, in numbers: its probability, size, place, and its saliency map (notebook 9).

item: row of the scans table and rows of predicted lesions in that scan, as of `run.group_by_scan`.
path: function of scan and description that gives the path of a map (`run.Run.map`).
"""

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from scipy.special import logit

from lib.errors.texture import first_order, texture
from lib.lesions import bounding_box, cut_patch, patch_around, place_distances, signed_distance, widened
from lib.network import loaded_network, loaded_scan
from lib.saliency import PERILESIONAL_MM, lesion_generator, smoothgrad
from lib.scans import SEQUENCES, load_labels

KEY = ["scan", "label"]  # of a predicted lesion
SURE = 1e-6  # distance from 0 and 1 at which a probability is cut, for its logit to be finite
FARTHEST_MM = 100.0  # distance from a ventricle where none is found
PLACE = ["surface (mm)", "ventricle (mm)", "lateral (mm)", "anterior (mm)", "superior (mm)"]
OTHERS = {  # predictors beside saliency
    "probability": ["mean probability (logit)", "peak probability (logit)"],
    "size": ["volume (log)"],
    "place": PLACE,
}


def lesion_values(item, *, weights, device, path, seed, noise, patch=0):
    """The signed-maximum map of each lesion of one scan, around it: dicts of scan, label, values (2, x, y, z), and lesion
    and rim, (x, y, z) bool.

    The rim is the brain within PERILESIONAL_MM of the lesion (all within it, if none is brain).  seed: of the noise,
    which depends on the lesion too.  noise: n_samples, noise_fraction and statistics of `smoothgrad`.
    patch: side of the part of a scan around a lesion that the network is given; 0: the whole scan.
    """
    (row, lesions), found = item, []
    model, description = loaded_network(weights, device)
    scan, (predicted, _) = loaded_scan(row, description), load_labels(row, path)
    margin = np.ceil(PERILESIONAL_MM / np.asarray(scan.spacing_mm)).astype(int) + 1
    for facts in lesions:
        lesion = predicted == facts["label"]
        generator = lesion_generator(seed, row["scan"], facts["kind"], facts["label"])
        part, within = cut_patch(scan.image, lesion, patch)
        saliency = np.zeros_like(scan.image)
        saliency[(slice(None), *patch_around(lesion, patch))] = smoothgrad(
            model, torch.as_tensor(part)[None], within, generator=generator, **noise
        ).cpu()
        box = widened(bounding_box(lesion), margin)
        inside = lesion[box]
        around = ~inside & (signed_distance(inside, scan.spacing_mm) <= PERILESIONAL_MM)
        tissue = around & scan.brain[box]
        places = {"lesion": inside, "rim": tissue if tissue.any() else around}
        values = saliency[(slice(None), *box)].copy()  # not a view, which would keep the map of the whole scan
        found.append({name: facts[name] for name in KEY} | {"values": values} | places)
    return found


def bin_widths(found, bins):
    """Width of a grey level of each sequence, (2,), in the unit of the maps: the range of values in a lesion and its rim,
    the median of `lesion_values`, is so many bins."""
    ranges = [np.ptp(one["values"][:, one["lesion"] | one["rim"]], axis=1) for one in found]
    return np.median(ranges, axis=0) / bins


def saliency_features(found, widths):
    """One row a lesion of `lesion_values`: KEY, first order in the lesion and in its rim, and texture of both together.

    widths: of `bin_widths`.  Columns: "FLAIR lesion mean", "MPRAGE texture entropy".
    """
    rows = []
    for one in found:
        numbers = {name: one[name] for name in KEY}
        for sequence, values, width in zip(SEQUENCES, one["values"], widths, strict=True):
            of = {place: first_order(values[one[place]]) for place in ("lesion", "rim")}
            of["texture"] = texture(values, one["lesion"] | one["rim"], width)
            numbers |= {f"{sequence} {place} {name}": x for place, all in of.items() for name, x in all.items()}
        rows.append(numbers)
    return pd.DataFrame(rows)


def describe_places(row, *, path):
    """PLACE of each predicted lesion of one scan: rows of KEY and its distances, in mm, at least, from the surface of the
    brain and the ventricles (FARTHEST_MM without any), and of its centre from that of the brain's box: to the side,
    left or right, to the front and upwards."""
    scan, (predicted, annotated) = loaded_scan(row), load_labels(row, path)
    marked, labels = (predicted > 0) | (annotated > 0), np.arange(1, predicted.max() + 1)
    distances = place_distances(scan.image, scan.brain, marked, scan.spacing_mm).values()
    nearest = [np.minimum(ndimage.minimum(distance, predicted, labels), FARTHEST_MM) for distance in distances]
    middle = [(side.start + side.stop - 1) / 2 for side in bounding_box(scan.brain)]
    centres = np.reshape(ndimage.center_of_mass(predicted > 0, predicted, labels), (-1, 3))
    side, front, up = ((centres - middle) * scan.spacing_mm).T
    table = pd.DataFrame(dict(zip(PLACE, [*nearest, np.abs(side), front, up], strict=True)))
    return table.assign(scan=row["scan"], label=labels)[[*KEY, *PLACE]]


def predictors_of(drawn, places, features):
    """All predictors of predicted lesions, a row each under its index: OTHERS and those of `saliency_features`.

    drawn: rows of `lesions.lesion_table` with scan, none of them FN (whose labels are of the annotation).  places: of
    `describe_places`, of all scans.  features: of `saliency_features`.
    """
    numbers = [logit(drawn[name].clip(SURE, 1 - SURE)) for name in ("mean_probability", "peak_probability")]
    names = [*OTHERS["probability"], *OTHERS["size"]]
    table = drawn[KEY].assign(**dict(zip(names, [*numbers, np.log(drawn["volume_mm3"])], strict=True)))
    return table.join(places.set_index(KEY), on=KEY).join(features.set_index(KEY), on=KEY).drop(columns=KEY)


def draw_lesions(table, *, n_per_patient, max_voxels, generator):
    """The table with columns drawn (bool) and weight: which TP and FP are explained, and how many each row stands for.

    At most n_per_patient of each kind of a patient are drawn, of those of at most max_voxels; a drawn one stands for as
    many as there are to draw from for each drawn, the others of these for none. All other rows stand for themselves.
    """
    table = table.assign(drawn=False, weight=1.0)
    eligible = table[table["kind"].isin(["TP", "FP"]) & (table["voxels"] <= max_voxels)]
    for _, rows in eligible.groupby(["subject", "kind"]):
        chosen = rows.index[np.sort(generator.permutation(len(rows))[:n_per_patient])]
        table.loc[rows.index, "weight"] = 0.0
        table.loc[chosen, "weight"] = len(rows) / len(chosen)
        table.loc[chosen, "drawn"] = True
    return table
