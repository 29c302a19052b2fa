"""Sweeps: notebooks run again over values of their parameters, which ends in one table and one figure.

    python -m lib.run.sweep notebooks/sweeps/noise.yml --profile demo \\
        --build build/demo --figures figures/demo --first 00_cohort 01_data_split ...

A sweep is a YAML file with

    name       of its folder, figures/<run>/sweeps/<name>/
    question   that it answers, for the reader of the figure
    grid       {parameter: [values]}, every combination; or points, a list of {parameter: value}, {} for none changed.
               A parameter is named as for `make paper SET=...`: name or notebook.name
    table      collected from every point, such as 03_metrics; where: which rows of it, as for pandas' query
    plot       x, y and more: see lib.figures.sweep

Points share the results of the notebooks that their parameters do not touch, and those of the run of `make paper`.
"""

import argparse
import json
import signal
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd
import yaml

from lib.figures import check_plot, plot_sweep, sweep_numbers
from lib.provenance import ROOT, run_record
from lib.run.parameters import resolve, with_changes
from lib.run.paths import read_table, save_figure, save_table
from lib.run.runner import NOTEBOOKS
from lib.run.stages import adopt_stages, one_at_a_time, plan_stages, run_stages, unfinished

NEEDED = ("name", "question", "table", "plot")


@dataclass
class Sweep:
    """What a sweep file says. points: list of {parameter: value}."""

    name: str
    question: str
    points: list
    table: str
    plot: dict
    where: str = ""

    @property
    def swept(self):
        """Names of the parameters that a point changes, as they are written."""
        return list(dict.fromkeys(name for point in self.points for name in point))


def read_sweep(path):
    """Read a sweep file. Raises ValueError that names the file and what is wrong in it."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no sweep {path}")
    given = yaml.safe_load(path.read_text())
    try:
        sweep = _parse(given)
        check_plot(sweep.plot, sweep.swept)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return sweep


def _parse(given):
    keys = list(given) if isinstance(given, dict) else []
    if lacking := [name for name in NEEDED if name not in keys]:
        raise ValueError(f"needs {', '.join(lacking)}")
    if unknown := [str(name) for name in keys if name not in (*NEEDED, "grid", "points", "where")]:
        raise ValueError(f"has {', '.join(unknown)}; known are {', '.join(NEEDED)}, grid, points, where")
    if ("grid" in keys) == ("points" in keys):
        raise ValueError("needs either grid, {parameter: [values]}, or points, a list of {parameter: value}")
    grid, points = given.pop("grid", {}), given.pop("points", [])
    if not all(isinstance(values, list) for values in grid.values()):
        raise ValueError("grid needs a list of values for each parameter")
    if not all(isinstance(point, dict) for point in points):
        raise ValueError("points need to be a list of {parameter: value}")
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    sweep = Sweep(points=points or combinations, **given)
    if not sweep.swept:
        raise ValueError("no parameter is varied")
    return sweep


def chain_of(table, first, notebooks):
    """Notebooks to run for a table: those of `first` (names) that come before its own, and its own; as paths."""
    own = [path for path in notebooks if path.stem[:2] == table[:2]]
    if not own or f'"{table[3:]}"' not in own[0].read_text():
        raise ValueError(f"no notebook writes table {table!r}")
    return [path for path in notebooks if path.stem in first and path.stem < own[0].stem] + own


def resolve_points(sweep, base, chain):
    """Parameters of the chain at every point: a list of {notebook: parameters}.

    base: resolved parameters of all notebooks. Raises ValueError on a name that no notebook has, a value of
    another type, and a parameter that the table cannot depend on.
    """
    resolved = [with_changes(base, point, f"sweep {sweep.name}") for point in sweep.points]
    if idle := [name for name in sweep.swept if _owner(name, base, chain) is None]:
        run = ", ".join(path.stem for path in chain)
        raise ValueError(
            f"sweep {sweep.name}: {sweep.table} does not depend on {', '.join(idle)}; notebooks run: {run}"
        )
    return resolved


def swept_values(sweep, resolved, chain):
    """Values of the swept parameters at every point as a table, one column each, and what the point changes in words."""
    rows = []
    for point, parameters in zip(sweep.points, resolved, strict=True):
        text = ", ".join(f"{name.rpartition('.')[2]} {_plain(value)}" for name, value in point.items())
        row = {
            name: _plain(parameters[_owner(name, parameters, chain)][name.rpartition(".")[2]]) for name in sweep.swept
        }
        rows.append({"point": text or "none changed"} | row)
    return pd.DataFrame(rows)


def collect(sweep, values, stages_done):
    """Rows of the sweep's table at every finished point, after the columns of its values.

    values: one row a point. stages_done: the last stage of each point, None where it failed.
    """
    parts = []
    for row, stage in zip(values.to_dict("records"), stages_done, strict=True):
        if stage:
            table = read_table(stage.folder / "figures" / f"{sweep.table}.csv", stage.notebook.stem)
            if clash := set(row) & set(table):
                raise ValueError(f"{sweep.table} has a column {', '.join(clash)}: write the parameter as notebook.name")
            table = _query(table, sweep.where) if sweep.where else table
            parts.append(pd.concat([pd.DataFrame([row] * len(table), index=table.index), table], axis=1))
    collected = pd.concat(parts, ignore_index=True)
    if collected.empty:
        raise ValueError(f"no row of {sweep.table} is one where {sweep.where}")
    return collected


def _query(table, where):
    try:
        return table.query(where)
    except (NameError, SyntaxError) as error:
        raise ValueError(f"where {where!r}: {error} (columns: {', '.join(table)})") from None


def save(sweep, table, record, folder):
    """Write the figure, the numbers in it and, last, the collected table, each with the record of what made it."""
    plotted = sweep_numbers(table, sweep.plot)
    save_figure(plot_sweep(plotted, sweep.plot), folder / "sweep", record)
    save_table(plotted, folder / "plotted", record)
    save_table(table, folder / "sweep", record)


def run_sweep(sweep, base, first, notebooks, build, figures, jobs):
    """Run what is missing, collect and save. Returns the number of points that failed, whose logs are printed."""
    chain = chain_of(sweep.table, first, notebooks)
    resolved = resolve_points(sweep, base, chain)
    values = swept_values(sweep, resolved, chain)
    chains = [[(path, parameters[path.stem]) for path in chain] for parameters in resolved]
    last = plan_stages(chains, build / "sweeps")
    adopt_stages(unfinished(last), build, figures)
    missing = unfinished(last)
    print(f"{sweep.name}: {len(last)} points, {len(missing)} notebooks to run for them", file=sys.stderr)
    failed = run_stages(missing, jobs)
    finished = [stage if stage.done else None for stage in last]
    folder = figures / "sweeps" / sweep.name
    if any(finished):
        places = {"build": str(build), "figures": str(figures)}
        record = run_record(f"sweep {sweep.name}", {path.stem: base[path.stem] | places for path in chain})
        folders = [{"folder": str(stage.folder) if stage else "failed"} for stage in finished]
        points = [row | folder for row, folder in zip(values.to_dict("records"), folders, strict=True)]
        record |= {"sweep": vars(sweep), "points": points}
        save(sweep, collect(sweep, values, finished), record, folder)
        print(f"table and figure: {folder}")
    for stage in failed:
        points = [text for text, one in zip(values["point"], last, strict=True) if stage in one.lineage]
        print(f"failed: {stage.notebook.stem} of {'; '.join(points)}: see {stage.log}", file=sys.stderr)
    return finished.count(None)


def _owner(name, parameters, chain):
    """The first notebook of the chain that has a parameter given as name or notebook.name; None if there is none."""
    section, _, name = name.rpartition(".")
    return next((path.stem for path in chain if section in ("", path.stem) and name in parameters[path.stem]), None)


def _plain(value):
    """A value as a table holds it: a number or text."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def main():
    parser = argparse.ArgumentParser(prog="python -m lib.run.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("sweep", help="YAML file, such as notebooks/sweeps/noise.yml")
    for name in ("profile", "build", "figures"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument(
        "--first", nargs="*", required=True, help="notebooks that the others read from, as far as they run"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time")
    given = parser.parse_args()
    if given.jobs < 1:
        parser.error(f"--jobs is {given.jobs}: at least one notebook has to run")
    build, figures = Path(given.build), Path(given.figures)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sweep = read_sweep(given.sweep)
        base = resolve(NOTEBOOKS, ROOT / "notebooks" / "params" / f"{given.profile}.yml", given.set)
        with one_at_a_time(build / "sweeps"):
            failed = run_sweep(sweep, base, given.first, NOTEBOOKS, build, figures, given.jobs)
    except ValueError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on from here")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
