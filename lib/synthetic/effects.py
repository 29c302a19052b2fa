"""What decides whether a synthetic or changed lesion is detected: differences of detected shares, within patients."""

import numpy as np
import pandas as pd

from lib.statistics import bootstrap_mean, kinds_of
from lib.synthetic.sites import DEEP

CHANGES = [("FLAIR removed", "MPRAGE removed"), ("sequences swapped", "none"), ("moved to grey matter", "none")]


def effects_table(insertions, changes, **resampling):
    """Differences of the detected share, with patient-bootstrap 95 % intervals: rows effect, kind, value, low, high,
    lesions, patients; NaN where there is nothing to compare.

    insertions: rows of `insertion_response`, changes: of `change_response`, with subject, scan, label, kind or surroundings.
    resampling: n_resamples and generator. Compared are sequences (each lesion deep in white matter with itself, at the
    largest contrast), surroundings (shares of each patient, over all contrasts above 0, at the diameters inserted in
    all of them) and changes of lesions (each with itself), by kind: of detected ones, and beside them of missed lesions
    and of healthy tissue, in which there is little to be lost, and what is found was made by the change.
    """
    deep = insertions[insertions["surroundings"] == DEEP]
    strongest = deep[deep["contrast"] == deep["contrast"].max()]
    visible = insertions[insertions["contrast"] > 0]
    compared = visible[visible["diameter_mm"].isin(visible.loc[visible["surroundings"] != DEEP, "diameter_mm"])]
    sites = compared.drop_duplicates(["scan", "surroundings", "site", "diameter_mm"])["surroundings"].value_counts()
    wide = _shares(strongest, ["subject", "scan", "site", "diameter_mm"], "sequences")
    rows = [_difference(wide, "FLAIR", "MPRAGE", resampling)]
    wide = _shares(compared, ["subject"], "surroundings")
    for other in ("beside cortex", "beside ventricle"):
        rows.append(_difference(wide, DEEP, other, resampling) | {"lesions": sites.get(other, 0)})
    for kind in (kind for kind in kinds_of(changes) if kind not in ("FP", "TN grey")):
        wide = _shares(changes[changes["kind"] == kind], ["subject", "scan", "label"], "change")
        rows += [_difference(wide, a, b, resampling) | {"kind": kind} for a, b in CHANGES]
    return pd.DataFrame(rows)


def _shares(table, unit, condition):
    """Detected share of each unit (rows) in each condition (columns)."""
    table = table.assign(detected=table["detected"].astype(float))
    return table.pivot_table(index=unit, columns=condition, values="detected").reset_index()


def _difference(wide, a, b, resampling):
    both, value, low, high = wide.reindex(columns=["subject", a, b]).dropna(), np.nan, np.nan, np.nan
    if len(both):
        table = both.assign(difference=both[a] - both[b])
        value, low, high = np.ravel(bootstrap_mean(table, ["difference"], **resampling)).tolist()
    found = {"effect": f"{a} - {b}", "kind": "inserted", "value": value, "low": low, "high": high}
    return found | {"lesions": len(both), "patients": both["subject"].nunique()}
