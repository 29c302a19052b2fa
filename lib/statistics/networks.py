"""Measures over networks: what several trainings of one network find on the same patients, as a value and interval."""

import json
import sys
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from lib.provenance import digest

NAMES = ["claim", "measure", "unit"]  # of a measure


def over_networks(values, lows, highs):
    """Mean over networks and its 95 % interval over networks and patients: (mean, low, high), three arrays.

    values, lows, highs: (networks, ...), of each network with its interval over the same patients.  Networks are a
    sample (Student's t of the mean of their values), patients another (the mean distance of the networks' intervals
    from their values); the two distances are squared and added (Zou and Donner 2008). What differs between networks
    from patient to patient counts in both: the interval is rather too wide. The mean is NaN where a network has no
    finite value, the interval also where one has no finite interval.
    """
    values = np.where(np.isfinite(values).all(0), values, np.nan)
    every = (np.isfinite(lows) & np.isfinite(highs)).all(0)
    lows, highs = (np.where(every, ends, np.nan) for ends in (lows, highs))
    of_networks = student_t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / np.sqrt(len(values))
    mean, below, above = values.mean(0), (values - lows).mean(0), (highs - values).mean(0)
    return mean, mean - np.hypot(of_networks, below), mean + np.hypot(of_networks, above)


def measures_over_networks(table, networks):
    """Measures of a run with value, low, high over networks and patients, sd between networks, and the most lesions and
    fewest patients of a network.

    table: measures of the run, with NAMES, digits and the bounds (least, most) of their numbers.  networks: as many
    such tables; a measure that one lacks is NaN, and an interval without width is none: it tells nothing of patients.
    """
    names, columns = pd.MultiIndex.from_frame(table[NAMES]), ["value", "low", "high", "lesions", "patients"]
    found = np.stack([one.set_index(NAMES)[columns].reindex(names).to_numpy(float) for one in networks])
    values, lows, highs, lesions, patients = np.moveaxis(found, 2, 0)
    lows, highs = (np.where(lows < highs, ends, np.nan) for ends in (lows, highs))
    value, low, high = over_networks(values, lows, highs)
    least, most = np.transpose(table["bounds"].to_list())
    sd = np.where(np.isfinite(value), values, np.nan).std(0, ddof=1)
    effect = []
    for one, digits, n in zip(sd, table["digits"], np.isfinite([values, lows, highs]).all(0).sum(0), strict=True):
        said = [f"SD {one:.{digits}f}"] if np.isfinite(one) else []
        said += [f"an interval in {n} of {len(found)} networks"] if n < len(found) else []
        effect.append(", ".join(said))
    low, high = np.clip(low, least, most), np.clip(high, least, most)
    lesions, patients = np.nan_to_num(lesions).max(0), np.nan_to_num(patients).min(0)
    return table.assign(value=value, low=low, high=high, sd=sd, effect=effect, lesions=lesions, patients=patients)


def network_readers(figures, sweep="networks", shared=""):
    """{network: function that gives a table of it by name} of a sweep in figures/sweeps; a network's name is its
    architecture, if that is swept, or what the sweep changes in words.

    Empty without the sweep. Where none of its networks has found the tables of this run, to the last digit, it is of
    other parameters or other code: it is left out, which stderr says, as is one that failed.
    shared: how the names of tables begin that a network shares with the run; empty: all that are collected. One that is
    not collected has no rows.
    """
    folder = figures / "sweeps" / sweep
    if not (folder / "sweep.json").exists():
        return {}
    points = json.loads((folder / "sweep.json").read_text())["points"]
    networks = [point for point in points if point["folder"] != "failed"]
    if len(networks) < 2 or not any(_is_of(figures, point["tables"], shared) for point in networks):
        print(
            f"{folder} is left out: none of its networks has the tables of this run, or no other finished",
            file=sys.stderr,
        )
        return {}
    read = partial(pd.read_csv, dtype={"subject": str})
    tables = {name: read(folder / f"{name}.csv") for name in networks[0]["tables"]}
    names = {point["point"]: point.get("02_training.architecture", point["point"]) for point in networks}
    return {name: partial(_rows_of, tables, figures, point) for point, name in names.items()}


def collected_tables(figures, sweep):
    """Names of the tables that a sweep in figures/sweeps has collected."""
    points = json.loads((figures / "sweeps" / sweep / "sweep.json").read_text())["points"]
    return {name for point in points for name in point["tables"]}


def _is_of(figures, tables, shared):
    files = {figures / f"{name}.csv": found for name, found in tables.items() if name.startswith(shared)}
    return all(file.exists() and digest(file) == found for file, found in files.items())


def _rows_of(tables, figures, point, name):
    """Rows of one network, in the columns of this run's table."""
    own = pd.read_csv(figures / f"{name}.csv", nrows=0)
    rows = tables.get(name, own.assign(point=""))
    return rows.loc[rows["point"] == point, list(own)].reset_index(drop=True)
