"""Intervals that respect patients: resampled means and proportions."""

import warnings

import numpy as np
from statsmodels.stats.proportion import proportion_confint


def bootstrap_patients(table, statistic, *, subject="subject", n_resamples=2000, level=0.95, generator):
    """Value of a statistic and its percentile interval under resampling of whole patients: (value, low, high).

    table: one row a lesion, scan or patient, the patient named in column `subject`; all rows of a drawn
    patient are taken together.  statistic: DataFrame -> float or array, of rows whose `subject` is
    numbered by draw, so that a patient drawn twice counts as two.  Resamples in which the statistic is
    NaN are left out of the interval.  With one patient the interval is NaN, NaN: nothing tells how patients vary.
    Raises ValueError if the table is empty or a row has no patient.
    """
    if len(table) == 0 or table[subject].isna().any():
        raise ValueError(f"table has {len(table)} rows, {table[subject].isna().sum()} without {subject}: name each")
    table = table.astype(dict.fromkeys(table.select_dtypes("str"), object))  # taken twice as fast
    value = np.asarray(statistic(table), float)
    patients = list(table.groupby(subject).indices.values())
    if len(patients) == 1:
        return _plain(value), _plain(value * np.nan), _plain(value * np.nan)

    sizes = np.array([len(rows) for rows in patients])
    resampled = np.empty((n_resamples, *value.shape))
    for i in range(n_resamples):
        draw = generator.integers(len(patients), size=len(patients))
        sample = table.take(np.concatenate([patients[p] for p in draw]))
        sample[subject] = np.repeat(np.arange(len(draw)), sizes[draw])
        resampled[i] = statistic(sample)
    low, high = percentile_interval(resampled, level)
    return _plain(value), _plain(low), _plain(high)


def bootstrap_mean(table, columns, *, subject="subject", n_resamples=2000, level=0.95, generator):
    """Mean of columns over the rows of a table, with the intervals of `bootstrap_patients`: three arrays (columns,).

    The same resampling of whole patients, by `resampled_means`. NaN is left out of mean and count.
    """
    mean, resampled = resampled_means(table, columns, subject=subject, n_resamples=n_resamples, generator=generator)
    return mean, *percentile_interval(resampled, level)


def resampled_means(table, columns, *, subject="subject", n_resamples=2000, generator):
    """Mean of columns over the rows of a table, (columns,), and its resamples of whole patients, (n_resamples, columns).

    All resamples at once: a mean needs only each patient's sums and counts. NaN is left out of mean and count; with one
    patient the resamples are NaN.
    """
    patients = table[columns].astype(float).groupby(table[subject])
    sums, counts = patients.sum().to_numpy(), patients.count().to_numpy()
    with np.errstate(invalid="ignore"):
        mean = sums.sum(0) / counts.sum(0)
        if len(sums) == 1:
            return mean, np.full((n_resamples, len(mean)), np.nan)
        drawn = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=n_resamples)
        return mean, (drawn @ sums) / (drawn @ counts)


def percentile_interval(resampled, level=0.95):
    """(low, high) of resamples along their first axis; NaN is left out."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered")
        return np.nanquantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)


def proportion_interval(k, n, level=0.95):
    """Wilson interval (low, high) of k of n, numbers or arrays; NaN where n is 0."""
    k, n = np.asarray(k, float), np.asarray(n, float)
    low, high = proportion_confint(k, np.where(n > 0, n, np.nan), alpha=1 - level, method="wilson")
    return _plain(low), _plain(high)


def _plain(array):
    """A float for a single number, else the array."""
    return float(array) if np.ndim(array) == 0 else np.asarray(array)
