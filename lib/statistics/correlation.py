"""Correlation and agreement of columns over lesions, with intervals over patients."""

import numpy as np
import pandas as pd

from lib.statistics.intervals import LEFT_OUT, bootstrap_mean, draw_patients, percentile_interval


def bootstrap_spearman(table, value, columns, *, n_resamples, generator):
    """Spearman correlation of a column with others over lesions: rows with, lesions, patients, rho, low, high.

    low, high: 95 % interval over resamples of whole patients, NaN with one, or where more than LEFT_OUT of the resamples
    have no variation.  Lesions without a number (NaN or infinite)
    are left out; NaN where fewer than 3 are left.
    """
    rows = []
    for name in columns:
        pair = table[["subject", value, name]].replace([np.inf, -np.inf], np.nan).dropna()
        patients, index = np.unique(pair["subject"].to_numpy(str), return_inverse=True)
        rho = low = high = np.nan
        if len(pair) > 2:
            x, y = pair[[value, name]].to_numpy(float).T
            rho = weighted_spearman(x, y, np.ones((1, len(x))))[0]
            if len(patients) > 1:
                drawn = draw_patients(len(patients), n_resamples, generator)[:, index]
                resampled = weighted_spearman(x, y, drawn)
                if np.isnan(resampled).mean() <= LEFT_OUT:
                    low, high = percentile_interval(resampled, len(patients))
        rows.append((name, len(pair), len(patients), rho, low, high))
    return pd.DataFrame(rows, columns=["with", "lesions", "patients", "rho", "low", "high"])


def weighted_spearman(x, y, times):
    """Spearman correlation of x and y (n,), each pair taken times (B, n) over: (B,); NaN where one does not vary."""
    ranks = [times @ (np.less.outer(v, v) + 0.5 * np.equal.outer(v, v)) for v in (x, y)]  # mean rank of ties, less 1/2
    total = times.sum(1, keepdims=True)
    x, y = (rank - (times * rank).sum(1, keepdims=True) / total for rank in ranks)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (times * x * y).sum(1) / np.sqrt((times * x**2).sum(1) * (times * y**2).sum(1))


def bland_altman(table, value, columns, *, n_resamples, generator):
    """Agreement of a column with others in the same unit (Bland and Altman 1986), beside `bootstrap_spearman`.

    Adds mean_difference (column less value) with its patient-bootstrap 95 % interval difference_low, difference_high,
    and the limits of agreement limit_low, limit_high: mean difference -/+ 1.96 standard deviations over lesions.
    """
    options, rows = {"n_resamples": n_resamples, "generator": generator}, []
    for name in columns:
        pairs = table.assign(difference=table[name] - table[value]).dropna(subset=["difference"])
        mean, low, high = (float(part[0]) for part in bootstrap_mean(pairs, ["difference"], **options))
        spread = 1.96 * pairs["difference"].std()
        rows.append((mean, low, high, mean - spread, mean + spread))
    names = ["mean_difference", "difference_low", "difference_high", "limit_low", "limit_high"]
    return bootstrap_spearman(table, value, columns, **options).join(pd.DataFrame(rows, columns=names))
