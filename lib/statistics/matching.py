"""Lesions of two groups in pairs alike in what could explain a difference between the groups."""

from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from lib.statistics.intervals import bootstrap_mean

INTERVALS = "difference", "low", "high", "delta", "delta_low", "delta_high"


def match_pairs(table, group, a, b, *, calipers):
    """Pairs of a row of group a and one of group b, one to one within a patient: labels of the index, (2, pairs).

    calipers: {column: largest difference}. Of all ways to pair the rows within the calipers, one with the most pairs
    and, among those, the least sum of squared differences, each in units of its caliper (Hungarian method).
    """
    columns, widths, pairs = list(calipers), np.array(list(calipers.values())), []
    for _, rows in table.groupby("subject"):
        of_a, of_b = rows[rows[group] == a], rows[rows[group] == b]
        gaps = of_a[columns].to_numpy()[:, None] - of_b[columns].to_numpy()  # (of a, of b, calipers)
        squares = (gaps / widths) ** 2
        allowed = (squares <= 1).all(-1)
        more_than_any_sum = len(calipers) * min(allowed.shape) + 1
        i, j = linear_sum_assignment(np.where(allowed, squares.sum(-1), more_than_any_sum))
        kept = allowed[i, j]
        pairs += zip(of_a.index[i[kept]], of_b.index[j[kept]], strict=True)
    return np.array(pairs, table.index.dtype).reshape(-1, 2).T


def matched_differences(table, value, group, groups, *, matchings, n_resamples, generator):
    """Every pair of groups compared within pairs of lesions of one patient that are alike: what a proxy cannot explain.

    matchings: {name: calipers of `match_pairs`}.  Returns one row a matching and pair of groups: matched_on, a, b,
    pairs, patients, difference (mean over pairs of a less b), low, high, delta (Cliff's delta of pairs: how often a is
    larger less how often b is), delta_low, delta_high, and <column>_gap, the mean difference left in a column.
    Intervals: 95 %, bootstrap of patients with their pairs as matched (Austin and Small 2014), NaN for one patient.
    """
    table, rows = table.reset_index(drop=True), []
    for (name, calipers), (a, b) in product(matchings.items(), combinations(groups, 2)):
        of_a, of_b = (table.loc[labels] for labels in match_pairs(table, group, a, b, calipers=calipers))
        pairs = of_a[[value, *calipers]] - of_b[[value, *calipers]].set_index(of_a.index)
        pairs = pairs.assign(delta=np.sign(pairs[value]), subject=of_a["subject"])
        found = bootstrap_mean(pairs, [value, "delta"], n_resamples=n_resamples, generator=generator)
        row = {"matched_on": name, "a": a, "b": b, "pairs": len(pairs), "patients": pairs["subject"].nunique()}
        row |= dict(zip(INTERVALS, np.transpose(found).ravel(), strict=True))
        rows.append(row | {f"{column}_gap": pairs[column].mean() for column in calipers})
    return pd.DataFrame(rows)
