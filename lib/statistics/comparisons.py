"""Groups of lesions compared in pairs: rank tests, effect sizes, and both with lesions clustered in patients."""

import warnings
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu
from scipy.stats import t as student_t
from statsmodels.genmod.cov_struct import Exchangeable
from statsmodels.genmod.generalized_estimating_equations import GEE

from lib.statistics.intervals import draw_patients, percentile_interval


def pairwise_tests(table, value, group, groups):
    """Two-sided Mann-Whitney U test of every pair of groups, Holm-corrected over the pairs, with Cliff's delta.

    table: columns `value` (NaN is left out) and `group`.  Returns one row a pair: a, b, n_a, n_b, U (of a), p, p_holm,
    cliffs_delta (P(a > b) - P(a < b) over all pairs of values); NaN where a group is empty. The tests take rows as
    independent; lesions of one patient are not, so give a patient-clustered interval beside them.
    """
    samples = {name: table.loc[table[group] == name, value].dropna().to_numpy(float) for name in groups}
    rows = []
    for a, b in combinations(groups, 2):
        x, y = samples[a], samples[b]
        u, p = mannwhitneyu(x, y, alternative="two-sided") if len(x) and len(y) else (np.nan, np.nan)
        rows.append((a, b, len(x), len(y), u, p))
    tests = pd.DataFrame(rows, columns=["a", "b", "n_a", "n_b", "U", "p"])
    return tests.assign(p_holm=_holm(tests["p"]), cliffs_delta=2 * tests["U"] / (tests["n_a"] * tests["n_b"]) - 1)


def bootstrap_cliffs_delta(table, value, group, a, b, *, n_resamples=2000, generator):
    """Cliff's delta of group a over group b with its 95 % interval over patients: (value, low, high).

    The resamples of `bootstrap_patients`, all at once: a resample needs only, for each pair of patients, how often a
    value of the one in group a is above, less how often below, one of the other in group b. The interval is as wide as
    the patients of the group that has fewer allow. NaN without values of either (NaN is left out); the interval is NaN
    where a group has one patient.
    """
    table = table.dropna(subset=[value])
    patient = table["subject"].to_numpy()[:, None] == np.unique(table["subject"].to_numpy())  # (rows, patients)
    in_a, in_b = ((table[group] == name).to_numpy() for name in (a, b))
    if not (in_a.any() and in_b.any()):
        return np.nan, np.nan, np.nan
    values, of_a, of_b = table[value].to_numpy(float), patient[in_a].astype(float), patient[in_b].astype(float)
    pairs = of_a.T @ np.sign(values[in_a][:, None] - values[in_b]) @ of_b
    drawn = draw_patients(len(pairs), n_resamples, generator)
    with np.errstate(invalid="ignore"):
        resampled = ((drawn @ pairs) * drawn).sum(1) / ((drawn @ of_a.sum(0)) * (drawn @ of_b.sum(0)))
    patients = min(of_kind.any(0).sum() for of_kind in (of_a, of_b))
    return tuple(map(float, (pairs.sum() / (len(of_a) * len(of_b)), *percentile_interval(resampled, patients))))


def clustered_tests(table, value, group, groups, *, covariates=(), n_resamples=2000, generator):
    """Every pair of groups compared with lesions clustered in patients: what `pairwise_tests` leaves out.

    Returns one row a pair: a, b; delta, delta_low, delta_high (`bootstrap_cliffs_delta`); difference of the means with
    difference_low, difference_high, p and p_holm, of a GEE with exchangeable correlation within a patient; with the
    covariates (columns) held: adjusted, adjusted_low, adjusted_high, adjusted_p. Standard errors after Mancl and
    DeRouen 2001, and Student's t with as many degrees of freedom as patients less coefficients, for few patients. NaN
    where a group is empty, there are fewer patients than coefficients + 2, or a covariate tells nothing beside the
    others; interval and p are NaN where the groups and covariates leave no residual, or one patient alone decides a
    coefficient, such as that of a group which no other has.
    """
    rows = []
    for a, b in combinations(groups, 2):
        pair = table[table[group].isin([a, b])].dropna(subset=[value, *covariates])
        found = [np.nan] * 11
        if pair[group].nunique() == 2:
            found[:3] = bootstrap_cliffs_delta(pair, value, group, a, b, n_resamples=n_resamples, generator=generator)
            found[3:7] = _gee(pair, value, pair[group] == a, ())
            if covariates:
                found[7:] = _gee(pair, value, pair[group] == a, covariates)
        rows.append((a, b, *found))
    of_delta, of_gee = ["delta", "delta_low", "delta_high"], ["difference", "difference_low", "difference_high", "p"]
    of_adjusted = ["adjusted", "adjusted_low", "adjusted_high", "adjusted_p"]
    tests = pd.DataFrame(rows, columns=["a", "b", *of_delta, *of_gee, *of_adjusted])
    tests.insert(tests.columns.get_loc("adjusted"), "p_holm", _holm(tests["p"]))
    return tests


def _holm(p):
    """Holm's step-down adjustment of a Series, NaN left out. statsmodels' `multipletests` gives the same numbers, but
    collects garbage at each call, which takes half a second in a notebook."""
    ordered = p.dropna().sort_values()
    return (ordered * np.arange(len(ordered), 0, -1)).cummax().clip(upper=1)


def _gee(table, value, is_a, covariates):
    """Coefficient of is_a in a linear GEE with patients as clusters: (coefficient, low, high, p)."""
    columns = [np.ones(len(table)), is_a.to_numpy(float), *(table[name].to_numpy(float) for name in covariates)]
    free = table["subject"].nunique() - len(columns)
    if free < 2:
        return [np.nan] * 4
    y, x = table[value].to_numpy(float), np.column_stack(columns)
    least_squares, _, rank, _ = np.linalg.lstsq(x, y)
    if rank < len(columns):
        return [np.nan] * 4
    if np.allclose(x @ least_squares, y, rtol=0, atol=1e-9 * np.abs(y).max()):
        return [float(least_squares[1])] + [np.nan] * 3
    clusters = {"groups": table["subject"], "cov_struct": Exchangeable()}
    subjects = table["subject"].to_numpy()
    alone = any(np.linalg.matrix_rank(x[subjects != one]) < len(columns) for one in np.unique(subjects))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few patients: said in the docstring
        fit = GEE(y, x, **clusters).fit(cov_type="naive" if alone else "bias_reduced")  # whose inverse there is not
        coefficient, error = float(fit.params[1]), np.nan if alone else float(fit.bse[1])
    if not error > 0:
        return [coefficient] + [np.nan] * 3
    margin = student_t.ppf(0.975, free) * error
    return [coefficient, coefficient - margin, coefficient + margin, 2 * student_t.sf(abs(coefficient) / error, free)]
