"""What decides whether a synthetic or changed lesion is detected: differences of the detected share, within patients."""

import numpy as np
import pandas as pd

from lib.statistics import bootstrap_mean
from lib.synthetic.sites import DEEP

CHANGES = [
    ("FLAIR removed", "MPRAGE removed"),
    ("sequences swapped", "none"),
    ("moved to grey matter", "none"),
]


def effects_table(insertions, changes, *, n_resamples, generator):
    """Differences of the detected share, with patient-bootstrap 95 % intervals: rows effect, value, low, high, lesions,
    patients; NaN where there is nothing to compare.

    insertions: rows of `response.insertion_response`, changes: of `response.change_response`, with subject, scan
    and label or surroundings. Compared are sequences (each lesion deep in white matter with itself, at the largest contrast),
    surroundings (shares of each patient, over all contrasts above 0, at the diameters inserted in all of them) and
    changes of detected lesions (each with itself).
    """
    deep = insertions[insertions["surroundings"] == DEEP]
    strongest = deep[deep["contrast"] == deep["contrast"].max()]
    beside = insertions[(insertions["surroundings"] != DEEP) & (insertions["contrast"] > 0)]
    compared = insertions[(insertions["contrast"] > 0) & insertions["diameter_mm"].isin(beside["diameter_mm"])]
    sites = compared.drop_duplicates(["scan", "surroundings", "site", "diameter_mm"])["surroundings"].value_counts()
    options = {"n_resamples": n_resamples, "generator": generator}
    wide = _shares(strongest, ["subject", "scan", "site", "diameter_mm"], "sequences")
    rows = [_difference(wide, "FLAIR", "MPRAGE", **options)]
    wide = _shares(compared, ["subject"], "surroundings")
    for other in ("beside cortex", "beside ventricle"):
        rows.append(_difference(wide, DEEP, other, **options) | {"lesions": sites.get(other, 0)})
    wide = _shares(changes, ["subject", "scan", "label"], "change")
    for a, b in CHANGES:
        rows.append(_difference(wide, a, b, **options))
    return pd.DataFrame(rows)


def _shares(table, unit, condition):
    """Detected share of each unit (rows) in each condition (columns)."""
    shares = table.assign(detected=table["detected"].astype(float))
    return shares.pivot_table(index=unit, columns=condition, values="detected").reset_index()


def _difference(wide, a, b, *, n_resamples, generator):
    both = wide.reindex(columns=["subject", a, b]).dropna()
    found = (np.nan,) * 3
    if len(both):
        both = both.assign(difference=both[a] - both[b])
        found = bootstrap_mean(both, ["difference"], n_resamples=n_resamples, generator=generator)
        found = [float(part[0]) for part in found]
    names = ["value", "low", "high"]
    counts = {"lesions": len(both), "patients": both["subject"].nunique()}
    return {"effect": f"{a} - {b}"} | dict(zip(names, found, strict=True)) | counts
