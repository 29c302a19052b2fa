"""Radial profiles of lesions of one kind: their mean, where it changes sign, and the ring of opposite sign around."""

import numpy as np
import pandas as pd

from lib.statistics import bootstrap_mean, percentile_interval, resampled_means

NAMES = ["method", "sequence", "kind"]
COUNTS = ["lesions", "patients"]


def mean_profile(profiles, **resampling):
    """Mean over lesions of their radial profiles, with patient-bootstrap 95 % intervals.

    profiles: those of `measure_maps` with columns subject, scan, label and kind added.  resampling: n_resamples and
    generator. Returns rows method, sequence, kind, distance_mm, mean, low, high, lesions, patients.
    """

    columns = [*NAMES, "distance_mm", "mean", "low", "high", *COUNTS]
    if profiles.empty:
        return pd.DataFrame(columns=columns)

    def summarise(rows):
        shells = _by_lesion(rows)
        found = bootstrap_mean(shells.reset_index(), list(shells), **resampling)
        present = rows.groupby("distance_mm")["subject"].agg(lesions="size", patients="nunique")
        return present.reset_index().assign(**dict(zip(("mean", "low", "high"), found, strict=True)))

    found = profiles.groupby(NAMES).apply(summarise).reset_index(NAMES).reset_index(drop=True)
    return found[columns]


def rings(profiles, **resampling):
    """Zero crossing and ring of opposite sign of the mean profiles, with patient-bootstrap 95 % intervals.

    Arguments as of `mean_profile`. A profile has the sign of its mean inside the lesion. Returns rows method, sequence,
    kind, quantity, value, low, high, found (fraction of the resamples that have a value), lesions, patients.
    Quantities: "zero_crossing_mm", see `zero_crossing`; "ring_mm", distance of the shell outside with the most opposite
    value, of opposite sign or not; "ring", the mean there, for each half of the patients in the shell that the other
    half chooses: sought in the same lesions, the lowest of several shells lies below 0 by chance.
    Raises ValueError without a shell inside.
    """
    if profiles.empty:
        return pd.DataFrame(columns=[*NAMES, "quantity", "value", "low", "high", "found", *COUNTS])
    if not (profiles["distance_mm"] < 0).any():
        raise ValueError("profiles have no shell inside the lesion: let their range begin below 0 mm")
    found = profiles.groupby(NAMES).apply(lambda rows: _ring(_by_lesion(rows), resampling))
    return found.reset_index(NAMES).reset_index(drop=True)


def zero_crossing(distance_mm, profiles):
    """Where profiles (n, shells), positive inside, first fall below 0, outwards from their largest shell: (n,), in mm.

    distance_mm: (shells,), increasing. Linear between shells; NaN where a profile does not fall below 0.
    """
    here, beyond = profiles[:, :-1], profiles[:, 1:]
    largest = np.argmax(np.nan_to_num(profiles, nan=-np.inf), axis=1)
    below = (beyond < 0) & (here >= 0) & (np.arange(len(distance_mm) - 1) >= largest[:, None])
    first, row = below.argmax(1), np.arange(len(profiles))
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = here[row, first] / (here[row, first] - beyond[row, first])
    return np.where(below.any(1), distance_mm[first] + fraction * np.diff(distance_mm)[first], np.nan)


def _by_lesion(rows):
    """Shells in columns, one row a lesion."""
    return rows.pivot(index=["subject", "scan", "label"], columns="distance_mm", values="value")


def _ring(shells, resampling):
    """The quantities of `rings` of one method, sequence and kind."""
    lesions, distance = shells.reset_index(), shells.columns.to_numpy()
    mean, resampled = resampled_means(lesions, list(shells), **resampling)
    sign = np.sign(np.nanmean(mean[distance < 0]))
    oriented = sign * np.vstack([mean, resampled])
    places = {"zero_crossing_mm": zero_crossing(distance, oriented), "ring_mm": _lowest_outside(distance, oriented)}
    patients = lesions["subject"].nunique()
    rows = [
        (name, found[0], *percentile_interval(found[1:], patients), np.isfinite(found[1:]).mean())
        for name, found in places.items()
    ]
    lesions = lesions.assign(ring=_at_the_others_lowest(shells, sign))
    value, low, high = np.ravel(bootstrap_mean(lesions, ["ring"], **resampling))
    rows.append(("ring", value, low, high, float(np.isfinite(low))))
    table = pd.DataFrame(rows, columns=["quantity", "value", "low", "high", "found"])
    return table.assign(lesions=len(lesions), patients=patients)


def _lowest_outside(distance, profiles):
    """Distance of the lowest shell outside of each profile (n, shells); NaN for one of NaN."""
    outside = np.where(distance > 0, np.nan_to_num(profiles, nan=np.inf), np.inf)
    return np.where(np.isfinite(outside).any(1), distance[outside.argmin(1)], np.nan)


def _at_the_others_lowest(shells, sign):
    """Each lesion's value in the shell outside that is lowest, times sign, in the mean of the other half."""
    values, distance, found = shells.to_numpy(), shells.columns.to_numpy(), np.full(len(shells), np.nan)
    second = np.unique(shells.index.get_level_values("subject"), return_inverse=True)[1] % 2 == 1
    for mine in (second, ~second) if second.any() else ():
        others = sign * shells[~mine].mean().to_numpy()
        lowest = distance == _lowest_outside(distance, others[None])
        found[mine] = values[mine, lowest] if lowest.any() else np.nan
    return found
