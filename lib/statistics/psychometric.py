"""Psychometric curves: detection probability against contrast or size, and the level at which one half is detected."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, logit, xlog1py, xlogy

from lib.statistics.intervals import draw_patients, percentile_interval

ROUNDING = 1e-3  # of a fitted probability: where exactly half are found at a level, the curve is on either side of it
MOST_LAPSES = 0.1  # largest probability of a detection without a lesion (guess), and of a miss at any level (lapse)


def detection_curve(level, midpoint, width, guess, lapse):
    """Detection probability: a logistic curve that rises from guess to 1 - lapse (Wichmann and Hill 2001, eq. 1)."""
    return guess + (1 - guess - lapse) * expit((level - midpoint) / width)


def fit_curve(levels, detected, n):
    """Parameters of `detection_curve` by maximum likelihood: array of midpoint, width, guess, lapse.

    levels: increasing.  detected, n: how many lesions of how many are found at each.  Guess and lapse are at most
    MOST_LAPSES; the width is at least a twentieth of the smallest gap between levels, below which they do not tell it.
    Raises ValueError as `check_levels` does.
    """
    check_levels(levels)
    levels, detected, n = (np.asarray(values, float) for values in (levels, detected, n))
    span, gap = np.ptp(levels), np.diff(levels).min()
    bounds = [(levels[0] - span, levels[-1] + span), (gap / 20, span), (0, MOST_LAPSES), (0, MOST_LAPSES)]
    share = np.maximum.accumulate(detected / n)
    middle = np.interp(0.5, share, levels) if share[0] < 0.5 < share[-1] else levels[-1 if share[-1] <= 0.5 else 0]
    starts = [(middle, width, 0.01, 0.01) for width in (span / 8, gap / 4)]  # a slow and a steep rise

    def loss(parameters):
        p = np.clip(detection_curve(levels, *parameters), 1e-9, 1 - 1e-9)
        slope = (n - detected) / (1 - p) - detected / p
        return _log_loss(p, detected, n) / n.sum(), _gradient(levels, *parameters) @ slope / n.sum()

    found = (minimize(loss, start, jac=True, bounds=bounds, method="SLSQP", tol=1e-9) for start in starts)
    return min(found, key=lambda result: result.fun).x


def check_levels(levels):
    """Raise ValueError unless there are at least 3 levels and they increase."""
    if len(levels) < 3 or (np.diff(levels) <= 0).any():
        raise ValueError(
            f"levels {np.asarray(levels).tolist()}: a detection curve needs at least 3 levels, in increasing order"
        )


def half_level(levels, parameters):
    """Level at which one half is detected, and the interval that the tested levels leave open: (level, lower, upper).

    All three are inf where the curve stays below one half at all levels, -inf where it is above at all: nothing is
    extrapolated. Where fewer than two levels lie on the rise of the curve (10 to 90 % of the way from guess to 1 -
    lapse), nothing tells its width. With one, lower and upper are its neighbours, as one half may be crossed on either
    side of it, and the level is the curve's; with none, they are the two between which the curve crosses one half, and
    the level is half-way. Otherwise all three are the curve's.
    """
    levels, (midpoint, width, guess, lapse) = np.asarray(levels, float), parameters
    p = detection_curve(levels, *parameters)
    if p[-1] < 0.5 - ROUNDING or p[0] > 0.5 + ROUNDING:
        return (np.inf if p[-1] < 0.5 else -np.inf,) * 3
    rise = expit((levels - midpoint) / width)
    rising = np.flatnonzero((rise > 0.1) & (rise < 0.9))
    level = np.clip(midpoint + width * logit((0.5 - guess) / (1 - guess - lapse)), levels[0], levels[-1])
    if len(rising) > 1:
        return (level,) * 3
    if len(rising):
        return level, levels[max(rising[0] - 1, 0)], levels[min(rising[0] + 1, len(levels) - 1)]
    lower, upper = levels[np.flatnonzero(p >= 0.5)[0] + np.array([-1, 0])]
    return (lower + upper) / 2, lower, upper


def open_bracket(levels, half):
    """`half_level`, its bracket open on one side where one half lies beyond the levels: (level, lower, upper).

    From -inf to the first level where more than one half is detected at all, from the last to inf where less is.
    """
    level, lower, upper = half
    return level, levels[-1] if level == np.inf else lower, levels[0] if level == -np.inf else upper


def deviance(levels, detected, n, parameters):
    """Deviance of the curve from the counts, and the share of the deviance of a constant that it explains.

    The share is NaN where the counts do not differ between levels.
    """
    saturated = _log_loss(detected / n, detected, n)
    constant = 2 * (_log_loss(detected.sum() / n.sum(), detected, n) - saturated)
    left = 2 * (_log_loss(detection_curve(levels, *parameters), detected, n) - saturated)
    return left, 1 - left / constant if constant > 1e-9 else np.nan


def psychometric_table(insertions, level, by, *, n_resamples, generator, one_sided=False):
    """Curve of detection against column `level` ("contrast" or "diameter_mm"), for each group of the columns `by`.

    insertions: rows of `insertion_response` with subject; every site of a group has all its levels.  Returns rows of
    `by`, n (lesions a level), patients, level50 with bracket_low and bracket_high (`half_level`) and low and high
    (`half_interval`), first and last (levels tested), and what the curve is: midpoint, width, guess, lapse, deviance,
    deviance_explained.
    one_sided: where one half lies beyond the levels tested, the bracket keeps the end that they tell (`open_bracket`);
    level50, low and high stay infinite.
    """
    rows = []
    for names, group in insertions.groupby(by, sort=False):
        counts = group.pivot_table(index="subject", columns=level, values="detected", aggfunc=["sum", "size"])
        levels = counts["size"].columns.to_numpy(float)
        detected, n = (counts[name].to_numpy(float) for name in ("sum", "size"))
        parameters = fit_curve(levels, detected.sum(0), n.sum(0))
        low, high = half_interval(levels, detected, n, n_resamples=n_resamples, generator=generator)
        left, explained = deviance(levels, detected.sum(0), n.sum(0), parameters)
        half = half_level(levels, parameters)
        half = open_bracket(levels, half) if one_sided else half
        found = int(n.sum(0).min()), len(counts), *half, low, high, levels[0], levels[-1]
        rows.append((*names, *found, *parameters, left, explained))
    found = ["n", "patients", "level50", "bracket_low", "bracket_high", "low", "high", "first", "last"]
    curve = ["midpoint", "width", "guess", "lapse", "deviance", "deviance_explained"]
    return pd.DataFrame(rows, columns=[*by, *found, *curve])


def half_interval(levels, detected, n, *, n_resamples, generator):
    """95 % interval of the level at which one half is detected, (low, high), over resamples of whole patients.

    detected, n: (patients, levels).  The curve is fitted again in each resample; where the levels leave open where it
    crosses one half (`half_level`), low counts the lower end and high the upper. Infinite where too many resamples do
    not reach one half; NaN with one patient, as nothing tells how patients vary.
    """
    if len(detected) == 1:
        return np.nan, np.nan
    drawn = draw_patients(len(detected), n_resamples, generator)
    counts, index = np.unique(np.hstack([drawn @ detected, drawn @ n]), axis=0, return_inverse=True)
    ends = np.array([half_level(levels, fit_curve(levels, *np.split(row, 2)))[1:] for row in counts])[index]
    (low, _), (_, high) = percentile_interval(ends, len(detected))
    return low, high


def _log_loss(p, detected, n):
    """Minus the binomial log-likelihood, without its constant."""
    return -(xlogy(detected, p) + xlog1py(n - detected, -p)).sum()


def _gradient(levels, midpoint, width, guess, lapse):
    """Derivatives of `detection_curve` by its parameters, (4, levels)."""
    rise = expit((levels - midpoint) / width)
    steep = (1 - guess - lapse) * rise * (1 - rise) / width
    return np.stack([-steep, -steep * (levels - midpoint) / width, 1 - rise, -rise])
