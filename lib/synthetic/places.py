"""Where in the brain inserted lesions are found: places, and thirds of its height."""

from itertools import pairwise, product

import numpy as np
import pandas as pd

from lib.lesions import PLACES, VOXELS, bounding_box, distance_to, place_names
from lib.statistics import bootstrap_mean
from lib.synthetic.insertion import soft_ball
from lib.synthetic.sites import sites_by_surroundings

HEIGHTS = ("lower third", "middle third", "upper third")  # of the brain's extent along Z
RISE = (0.1, 0.9)  # detected shares between which a contrast lies on the rise of detection


def sites_by_height(white, beside, brain, n, **options):
    """Up to n `sites_by_surroundings` in each third of the brain's height: {surroundings: (at most 3 n, 3) int}.

    white, brain: (X, Y, Z) bool.  beside, options: of `sites_by_surroundings`. Margins of a site lie in its third.
    """
    found = []
    for low, high in pairwise(_thirds(brain)):
        third = np.zeros_like(white)
        third[..., low:high] = white[..., low:high]
        found.append(sites_by_surroundings(third, beside, n, **options))
    return {name: np.concatenate([sites[name] for sites in found]) for name in beside}


def _thirds(brain):
    side = bounding_box(brain)[2]
    return np.linspace(side.start, side.stop, len(HEIGHTS) + 1).round().astype(int)


def site_places(sites, brain, distances, diameter_mm, spacing_mm):
    """Where lesions of a diameter at these sites lie: rows surroundings, site, place, height.

    sites: of `sites_by_surroundings`.  brain: (X, Y, Z) bool.  distances: of `structure_distances`, of all structures.
    place: `lesions.place_names` of the lesion's voxels.  height: of HEIGHTS, that of its centre.
    """
    (_, *between, _), rows = _thirds(brain), []
    to_ventricle, to_cortex = distances["beside ventricle"], distance_to(distances["beside cortex"] == 0, VOXELS)
    for surroundings, at in sites.items():
        for number, site in enumerate(at):
            *_, mask = soft_ball(brain, site, diameter_mm, spacing_mm)
            place = place_names(to_ventricle[mask].min(), to_cortex[mask].min()).item()
            height = HEIGHTS[np.searchsorted(between, site[2], side="right")]
            rows.append((surroundings, number, place, height))
    return pd.DataFrame(rows, columns=["surroundings", "site", "place", "height"]).astype({"site": int})


def rising_contrasts(insertions, diameter_mm):
    """Contrasts at which the detected share of all inserted lesions of a diameter lies within RISE: {sequences: list}.

    Elsewhere nearly none or nearly all are found, wherever they are.  insertions: rows of `insertion_response`.
    """
    found = insertions[insertions["diameter_mm"] == diameter_mm].groupby(["sequences", "contrast"])["detected"].mean()
    rising = found[found.between(*RISE)].reset_index()
    return rising.groupby("sequences")["contrast"].apply(list).to_dict()


def recall_by_place(insertions, where, rising, **resampling):
    """Detected share of inserted lesions by place and height, with patient-bootstrap 95 % intervals.

    insertions: rows of `insertion_response` of one diameter, with subject, scan and surroundings.  where: `site_places`
    of their sites, with scan.  rising: of `rising_contrasts`; a lesion counts with its mean over these.
    resampling: n_resamples and generator.  Returns rows sequences, contrasts, place, height ("all": of any), value, low,
    high, lesions, patients; places without a lesion, and sequences without a contrast, have none.
    """
    table, rows = insertions.merge(where, on=["scan", "surroundings", "site"]), []
    keys = ["subject", "scan", "surroundings", "site", "place", "height"]
    for sequences, contrasts in rising.items():
        found = table[(table["sequences"] == sequences) & table["contrast"].isin(contrasts)]
        lesions = found.astype({"detected": float}).groupby(keys, as_index=False)["detected"].mean()
        for place, height in product(("all", *PLACES), ("all", *HEIGHTS)):
            here = lesions[(lesions["place"] == place) | (place == "all")]
            here = here[(here["height"] == height) | (height == "all")]
            if len(here):
                numbers = np.ravel(bootstrap_mean(here, ["detected"], **resampling))
                counts = len(here), here["subject"].nunique()
                rows.append((sequences, ", ".join(f"{c:g}" for c in contrasts), place, height, *numbers, *counts))
    names = ["sequences", "contrasts", "place", "height", "value", "low", "high", "lesions", "patients"]
    return pd.DataFrame(rows, columns=names)
