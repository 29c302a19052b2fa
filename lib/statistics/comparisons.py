"""Groups of lesions compared in pairs: rank tests, effect sizes, and both with lesions clustered in patients."""

import warnings
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu, rankdata
from scipy.stats import t as student_t
from statsmodels.genmod.cov_struct import Exchangeable
from statsmodels.genmod.generalized_estimating_equations import GEE

from lib.statistics.intervals import percentile_interval


def pairwise_tests(table, value, group, groups):
    """Two-sided Mann-Whitney U test of every pair of groups, Holm-corrected over the pairs, with Cliff's delta.

    table: columns `value` (NaN is left out) and `group`.  Returns one row a pair: a, b, n_a, n_b, U (of a), p,
    p_holm, cliffs_delta (positive where a is larger); NaN where a group is empty. The tests take rows as
    independent; lesions of one patient are not, so give a patient-clustered interval beside them.
    """
    samples = {name: table.loc[table[group] == name, value].dropna().to_numpy(float) for name in groups}
    rows = []
    for a, b in combinations(groups, 2):
        x, y = samples[a], samples[b]
        u, p = mannwhitneyu(x, y, alternative="two-sided") if len(x) and len(y) else (np.nan, np.nan)
        rows.append((a, b, len(x), len(y), u, p, np.nan, cliffs_delta(x, y)))
    tests = pd.DataFrame(rows, columns=["a", "b", "n_a", "n_b", "U", "p", "p_holm", "cliffs_delta"])
    return tests.assign(p_holm=_holm(tests["p"]))


def bootstrap_cliffs_delta(
    table, value, group, a, b, *, subject="subject", n_resamples=2000, level=0.95, generator
):  # fmt: skip
    """Cliff's delta of group a over group b with its percentile interval over patients: (value, low, high).

    As `bootstrap_patients` would give it, all resamples at once: a resample needs only, for each pair of patients, how
    often a value of the one in group a is above, less how often below, one of the other in group b. NaN without rows of
    either; the interval is NaN with one patient.
    """
    patients, index = np.unique(table[subject].to_numpy(), return_inverse=True)
    values, groups = table[value].to_numpy(float), table[group].to_numpy()
    in_a, in_b = groups == a, groups == b
    if not (in_a.any() and in_b.any()):
        return np.nan, np.nan, np.nan
    signs, of_a, of_b = np.sign(values[in_a][:, None] - values[in_b]), index[in_a], index[in_b]
    pairs = np.zeros((len(patients), len(patients)))
    np.add.at(pairs, (of_a[:, None], of_b), signs)
    counts_a, counts_b = (np.bincount(of, minlength=len(patients)) for of in (of_a, of_b))
    delta = float(pairs.sum() / (counts_a.sum() * counts_b.sum()))
    if len(patients) == 1:
        return delta, np.nan, np.nan
    drawn = generator.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=n_resamples)
    with np.errstate(invalid="ignore"):
        resampled = ((drawn @ pairs) * drawn).sum(1) / ((drawn @ counts_a) * (drawn @ counts_b))
    low, high = percentile_interval(resampled, level)
    return delta, float(low), float(high)


def clustered_tests(table, value, group, groups, *, covariates=(), subject="subject", n_resamples=2000, generator):
    """Every pair of groups compared with lesions clustered in patients: what `pairwise_tests` leaves out.

    Returns one row a pair: a, b; delta (Cliff's), delta_low, delta_high (95 % interval over patients); difference of the means
    with difference_low, difference_high, p and p_holm, of a GEE with exchangeable correlation within a patient; the same with the
    covariates (columns) held: adjusted, adjusted_low, adjusted_high, adjusted_p. Standard errors after Mancl and DeRouen
    2001, and Student's t with as many degrees of freedom as patients less coefficients, for few patients. NaN where a
    group is empty or there are fewer patients than coefficients + 2.
    """
    rows = []
    for a, b in combinations(groups, 2):
        pair = table[table[group].isin([a, b])].dropna(subset=[value, *covariates])
        delta, plain, adjusted = [np.nan] * 3, [np.nan] * 4, [np.nan] * 4
        if pair[group].nunique() == 2:
            delta = bootstrap_cliffs_delta(
                pair, value, group, a, b, subject=subject, n_resamples=n_resamples, generator=generator
            )
            plain = _gee(pair, value, pair[group] == a, (), subject)
            adjusted = _gee(pair, value, pair[group] == a, covariates, subject) if covariates else adjusted
        rows.append((a, b, *delta, *plain, np.nan, *adjusted))
    of_delta, of_gee = ("delta", "delta_low", "delta_high"), ("difference", "difference_low", "difference_high", "p")
    of_adjusted = ("adjusted", "adjusted_low", "adjusted_high", "adjusted_p")
    tests = pd.DataFrame(rows, columns=["a", "b", *of_delta, *of_gee, "p_holm", *of_adjusted])
    return tests.assign(p_holm=_holm(tests["p"]))


def _holm(p):
    """Holm's step-down adjustment of a Series; what is NaN is not tested, nor corrected for."""
    ordered = p.dropna().sort_values()
    adjusted = (ordered * np.arange(len(ordered), 0, -1)).cummax().clip(upper=1)
    return adjusted.reindex(p.index)


def _gee(table, value, is_a, covariates, subject):
    """Coefficient of is_a in a linear GEE with patients as clusters: (coefficient, low, high, p)."""
    columns = [np.ones(len(table)), is_a.to_numpy(float), *(table[name].to_numpy(float) for name in covariates)]
    free = table[subject].nunique() - len(columns)
    if free < 2:
        return [np.nan] * 4
    model = GEE(
        table[value].to_numpy(float), np.column_stack(columns), groups=table[subject], cov_struct=Exchangeable()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few patients: said in the docstring
        fit = model.fit(cov_type="bias_reduced")
    coefficient, error = float(fit.params[1]), float(fit.bse[1])
    if not error > 0:  # all values of each group are equal
        return [coefficient] + [np.nan] * 3
    margin = student_t.ppf(0.975, free) * error
    return [coefficient, coefficient - margin, coefficient + margin, 2 * student_t.sf(abs(coefficient) / error, free)]


def cliffs_delta(x, y):
    """P(x > y) - P(x < y) over all pairs of the 1-D samples x and y, by ranks; NaN if one is empty."""
    if len(x) == 0 or len(y) == 0:
        return np.nan
    u = rankdata(np.concatenate([x, y]))[: len(x)].sum() - len(x) * (len(x) + 1) / 2
    return 2 * u / (len(x) * len(y)) - 1
