"""Which lesions a context experiment takes: those of every degree of detection, not mainly saturated ones."""

import numpy as np
import pandas as pd
from scipy.special import logit

STRATA = 4
SATURATED = 1e-6  # probabilities as near to 0 or 1 are told apart by rounding alone


def spread_over_detection(table, n, generator):
    """At most n rows of a lesion table, in its order, spread evenly over how clearly lesions are detected.

    The logit of `peak_probability`, by which a lesion is detected, is cut into STRATA intervals of equal width: drawn at
    random, most lesions would be saturated. Every stratum gives one lesion before any gives a second, and so on, and in
    each stratum so does every patient (column `subject`).
    """
    if table.empty:
        return table
    rows = table.reset_index(drop=True)
    score = logit(rows["peak_probability"].clip(SATURATED, 1 - SATURATED))
    rows = rows.assign(stratum=pd.cut(score, STRATA, labels=False)).iloc[generator.permutation(len(rows))]
    for names in (["stratum", "subject"], ["stratum"]):
        rows = rows.iloc[np.argsort(rows.groupby(names).cumcount(), kind="stable")]
    return table.iloc[sorted(rows.index[:n])]
