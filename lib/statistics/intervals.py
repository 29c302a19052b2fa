"""Intervals over patients: a bootstrap of whole patients whose percentiles allow for how few they are."""

import warnings

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t
from statsmodels.stats.proportion import proportion_confint

LEFT_OUT = 0.05  # of the resamples may have no value: more, and what is left is no 95 % interval


def bootstrap_patients(table, statistic, *, n_resamples=2000, generator):
    """Value of a statistic and its 95 % interval (`percentile_interval`) over whole patients: (value, low, high).

    table: one row a lesion, scan or patient, the patient named in column `subject`; all rows of a drawn patient are
    taken together.  statistic: DataFrame -> float or array, of rows whose `subject` is numbered by draw, so that a
    patient drawn twice counts as two.  Resamples in which the statistic is NaN are left out of the interval; it is NaN
    with one patient.  Raises ValueError if the table is empty or a row has no patient.
    """
    if len(table) == 0 or table["subject"].isna().any():
        raise ValueError(f"table has {len(table)} rows, {table['subject'].isna().sum()} without subject: name each")
    table = table.astype(dict.fromkeys(table.select_dtypes("str"), object))  # taken twice as fast
    value = np.asarray(statistic(table), float)
    patients = list(table.groupby("subject").indices.values())
    sizes, resampled = np.array([len(rows) for rows in patients]), np.full((n_resamples, *value.shape), np.nan)
    if len(patients) > 1:
        for i in range(n_resamples):
            draw = generator.integers(len(patients), size=len(patients))
            sample = table.take(np.concatenate([patients[p] for p in draw]))
            resampled[i] = statistic(sample.assign(subject=np.repeat(np.arange(len(draw)), sizes[draw])))
    return value[()], *percentile_interval(resampled, len(patients))


def bootstrap_mean(table, columns, *, n_resamples=2000, generator):
    """Mean of columns over the rows of a table, with its 95 % interval over the patients that have a number there.

    Returns three arrays (columns,).
    """
    mean, resampled = resampled_means(table, columns, n_resamples=n_resamples, generator=generator)
    patients = table[columns].notna().groupby(table["subject"]).any().sum()
    ends = [percentile_interval(of_column, n) for of_column, n in zip(resampled.T, patients, strict=True)]
    return mean, *np.reshape(ends, (-1, 2)).T


def resampled_means(table, columns, *, n_resamples=2000, generator):
    """Mean of columns over the rows of a table, (columns,), and in resamples of whole patients, (n_resamples, columns).

    All resamples at once: a mean needs only each patient's sums and counts. NaN is left out of mean and count.
    """
    patients = table[columns].astype(float).groupby(table["subject"])
    sums, counts = patients.sum().to_numpy(), patients.count().to_numpy()
    drawn = draw_patients(len(sums), n_resamples, generator)
    with np.errstate(invalid="ignore"):
        return sums.sum(0) / counts.sum(0), (drawn @ sums) / (drawn @ counts)


def draw_patients(n, n_resamples, generator):
    """How often each of n patients is in each resample, (n_resamples, n); NaN for one: nothing tells how they vary."""
    return generator.multinomial(n, np.full(n, 1 / n), n_resamples) if n > 1 else np.full((n_resamples, n), np.nan)


def percentile_interval(resampled, patients):
    """Expanded percentile interval, 95 %, of resamples of so many patients along their first axis: (low, high).

    Percentiles of the bootstrap are those of a normal distribution with the variance divided by n: for few patients too
    narrow. So they are taken as far out as Student's t with n - 1 degrees of freedom and a variance divided by n - 1
    reach (Hesterberg 2015, section 5.3): of 8 patients at 0.6 and 99.4 %. The interval stays in the range of the
    statistic, and may be infinite: the ends are values of resamples, the next outwards. NaN is left out. Fewer than 6
    patients all lie on one side of the truth in more than 5 % of samples, and with them the interval; NaN with one.
    """
    n = patients
    if n < 2:
        return (np.full(np.shape(resampled)[1:], np.nan)[()],) * 2
    tail = norm.cdf(np.sqrt(n / (n - 1)) * student_t.ppf(0.025, n - 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered")
        low = np.nanquantile(resampled, tail, axis=0, method="lower")
        return low, np.nanquantile(resampled, 1 - tail, axis=0, method="higher")


def proportion_interval(k, n, level=0.95):
    """Wilson interval (low, high) of k of n, numbers or arrays; NaN where n is 0."""
    k, n = np.asarray(k, float), np.asarray(n, float)
    return proportion_confint(k, np.where(n > 0, n, np.nan), alpha=1 - level, method="wilson")
