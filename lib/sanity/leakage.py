"""Leakage: does what a lesion's map marks act on the other lesions of the scan?"""

import numpy as np
import pandas as pd
from scipy import ndimage

from lib.exact import find_window, predict_lesion, receptive_field
from lib.saliency import class_logit
from lib.sanity.checks import ranked_voxels


def leakage(model, image, labels, label, baseline, maps):
    """How the mean logits of a lesion and of all others change where a map's strongest voxels are replaced.

    Replaced are the voxels of the tissue of the lesion's window where a map is largest, in the lesion or not: as many as
    the lesion has, or all where the map is above 0 if these are fewer. They take the values of the baseline in both
    sequences, as `perturbation_curves` deletes them.
    image, baseline: (2, X, Y, Z).  labels: (X, Y, Z) int, the lesions of the scan.  label: that of the explained one.
    maps: {name: (x, y, z)}, not negative, on the part of its window that lies inside the scan.
    Returns map, of, value: "own", the change of the lesion's mean logit; "others", the sum of the magnitudes of the
    changes of all other lesions; "share", the off-target share others / (others + |own|), NaN where nothing changes;
    "reached", how many others have logits that can depend on a replaced voxel. The rest change by exactly 0.
    """
    lesion, field = labels == label, receptive_field(model, labels.shape)
    tissue = (image != baseline).any(0)
    window = find_window(model, lesion, lesion.shape).within(lesion.shape)
    replaced = {name: np.zeros(lesion.shape, bool) for name in maps}
    for name, values in maps.items():
        replaced[name][window] = _strongest(values, tissue[window], lesion[window])
    reached = {}
    for number, sides in enumerate(ndimage.find_objects(labels), 1):
        if sides:
            box = field.box([side.start for side in sides], [side.stop for side in sides])
            reached[number] = {name: voxels[box].any() for name, voxels in replaced.items()}
    reached = pd.DataFrame.from_dict(reached, orient="index", dtype=bool)

    predicted = np.isin(labels, [label, *reached.index[reached.any(axis=1)]])
    volumes = (np.where(voxels, baseline, image) for voxels in (False, *replaced.values()))
    logits = class_logit(predict_lesion(model, volumes, predicted).double()).cpu().numpy()
    means = pd.DataFrame(logits.T, columns=["before", *maps]).groupby(labels[predicted]).mean()
    change = means[list(maps)].sub(means["before"], axis=0).where(reached, 0)
    own, others = change.loc[label], change.drop(label).abs().sum()
    found = {"own": own, "others": others, "share": others / (others + own.abs()), "reached": reached.drop(label).sum()}
    return pd.DataFrame(found).rename_axis("map").reset_index().melt("map", var_name="of")


def _strongest(values, tissue, lesion):
    """The voxels that are replaced: (x, y, z) bool."""
    found = np.zeros(lesion.shape, bool)
    found.flat[ranked_voxels(values, tissue.ravel())[: np.count_nonzero(lesion & tissue)]] = True
    return found & (np.asarray(values) > 0)
