"""Lesions of two groups in pairs alike in what could explain a difference between the groups."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from lib.statistics.intervals import bootstrap_mean


def match_pairs(table, group, a, b, *, calipers, within="subject"):
    """Pairs of a row of group a and one of group b, one to one within a patient: labels of the index (a, b), two arrays.

    calipers: {column: largest difference}. Of all ways to pair the rows within the calipers, one with the most pairs and,
    among those, the least sum of squared differences, each in units of its caliper (Hungarian method).
    """
    chosen = [np.array([], table.index.dtype)], [np.array([], table.index.dtype)]
    for _, rows in table.groupby(within):
        of_a, of_b = rows[rows[group] == a], rows[rows[group] == b]
        squares = [
            (np.subtract.outer(of_a[column].to_numpy(), of_b[column].to_numpy()) / caliper) ** 2
            for column, caliper in calipers.items()
        ]
        allowed = (np.array(squares) <= 1).all(0)
        more_than_any_sum = len(calipers) * min(allowed.shape) + 1
        i, j = linear_sum_assignment(np.where(allowed, sum(squares), more_than_any_sum))
        kept = allowed[i, j]
        chosen[0].append(of_a.index[i[kept]])
        chosen[1].append(of_b.index[j[kept]])
    return np.concatenate(chosen[0]), np.concatenate(chosen[1])


def matched_differences(table, value, group, groups, *, matchings, n_resamples, generator):
    """Every pair of groups compared within pairs of lesions of one patient that are alike: what a proxy cannot explain.

    matchings: {name: calipers of `match_pairs`}.  Returns one row a matching and pair of groups: matched_on, a, b, pairs,
    patients, difference (mean over pairs of a less b), low, high, delta (Cliff's delta of pairs: how often a is larger less how often
    b is), delta_low, delta_high, and <column>_gap, the mean difference that the matching left in a column of the calipers.
    Intervals: 95 %, bootstrap of patients with their pairs as they were matched (Austin and Small 2014), NaN for fewer than
    two patients.
    """
    table, rows = table.reset_index(drop=True), []
    for (name, calipers), (a, b) in ((m, pair) for m in matchings.items() for pair in combinations(groups, 2)):
        of_a, of_b = match_pairs(table, group, a, b, calipers=calipers)
        columns = [value, *calipers]
        pairs = table.loc[of_a, columns].reset_index(drop=True) - table.loc[of_b, columns].reset_index(drop=True)
        pairs = pairs.assign(delta=np.sign(pairs[value]), subject=table.loc[of_a, "subject"].to_numpy())
        row = {"matched_on": name, "a": a, "b": b, "pairs": len(pairs), "patients": pairs["subject"].nunique()}
        row |= dict.fromkeys(("difference", "low", "high", "delta", "delta_low", "delta_high"), np.nan)
        if len(pairs):
            options = {"n_resamples": n_resamples, "generator": generator}
            mean, low, high = bootstrap_mean(pairs, [value, "delta"], **options)
            row |= {"difference": mean[0], "low": low[0], "high": high[0]}
            row |= {"delta": mean[1], "delta_low": low[1], "delta_high": high[1]}
            row |= {f"{column}_gap": pairs[column].mean() for column in calipers}
        rows.append(row)
    return pd.DataFrame(rows)
