"""Sweeps: notebooks run again over values of their parameters, which ends in one table and one figure.

A sweep is a YAML file with

    name       of its folder, figures/<run>/sweeps/<name>/
    question   that it answers, for the reader of the figure
    grid       {parameter: [values]}, every combination; or points, a list of {parameter: value}, {} for none changed.
               A parameter is named as for `make paper SET=...`: name or notebook.name
    common     optional, {parameter: value} of all points
    table      collected from every point, such as 03_metrics, for the figure; where: which rows of it, as for pandas'
               query; tables: more of them, collected whole
    plot       x, y and more: see lib.figures.sweep
    side_by_side   optional, a swept parameter: a second figure of this name, what the claims rest on by its values, from
               the tables SIDES of lib.figures.sweep

Points share the results of the notebooks that their parameters do not touch, and those of the run of `make paper`.
"""

import argparse
import json
import signal
import subprocess
import sys
from collections import namedtuple
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lib.figures import SIDES, check_plot, plot_side_by_side, plot_sweep, sweep_numbers
from lib.provenance import digest, run_record
from lib.run.paper import check_weights, one_at_a_time
from lib.run.parameters import with_changes
from lib.run.paths import read_table, save_figure, save_table
from lib.run.runner import NOTEBOOKS
from lib.run.settings import Settings
from lib.run.stages import adopt_stages, plan_stages, run_stages, unfinished

NEEDED = ("name", "question", "table", "plot")
KNOWN = (*NEEDED, "grid", "points", "where", "tables", "common", "side_by_side")
Sweep = namedtuple(
    "Sweep", "name question points table plot where tables common side_by_side", defaults=["", (), {}, ""]
)  # points: as above, also of a grid


def read_sweep(path):
    """Read a sweep file. Raises ValueError that names the file and what is wrong in it."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no sweep {path}: say which, such as SWEEP=notebooks/sweeps/noise.yml")
    try:
        return _parse(yaml.safe_load(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _parse(given):
    given = given if isinstance(given, dict) else {}
    lacking = [name for name in NEEDED if name not in given]
    unknown = [str(name) for name in given if name not in KNOWN]
    one_of_two = ("grid" in given) != ("points" in given)
    grid, points = given.pop("grid", {}), given.pop("points", [])
    lists = isinstance(grid, dict) and all(isinstance(values, list) for values in grid.values())
    mappings = isinstance(points, list) and all(isinstance(point, dict) for point in points)
    right = {
        f"needs {', '.join(lacking)}": not lacking,
        f"has {', '.join(unknown)}; known are {', '.join(KNOWN)}": not unknown,
        "needs either grid, {parameter: [values]}, or points, a list of {parameter: value}": one_of_two,
        "grid needs a list of values for each parameter": lists,
        "points need to be a list of {parameter: value}": mappings,
        "common needs to be {parameter: value}": isinstance(given.get("common", {}), dict),
        "tables need to be a list of names": isinstance(given.get("tables", []), list),
    }
    if wrong := [text for text, is_so in right.items() if not is_so]:
        raise ValueError(wrong[0])
    points = points or [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    if not any(points):
        raise ValueError("no parameter is varied")
    if (by := given.get("side_by_side", "")) and (
        by not in _swept(points) or set(SIDES) - set(given.get("tables", []))
    ):
        raise ValueError(f"side_by_side needs a swept parameter, and {', '.join(SIDES)} among tables")
    check_plot(given["plot"], _swept(points))
    return Sweep(points=points, **given)


def _swept(points):
    """Names of the parameters that points change, as they are written."""
    return list(dict.fromkeys(name for point in points for name in point))


def chain_of(table, first, notebooks):
    """Notebooks to run for a table: those of `first` (names) that come before its own, and its own; as paths."""
    own = [path for path in notebooks if path.stem[:2] == table[:2]]
    if not own or f'"{table[3:]}"' not in own[0].read_text():
        raise ValueError(f"no notebook writes table {table!r}")
    return [path for path in notebooks if path.stem in first and path.stem < own[0].stem] + own


def resolve_points(sweep, base, chain):
    """Parameters at every point: a list of {notebook: parameters}, as base, those of all notebooks without the sweep.

    Raises ValueError on a name that no notebook has, a value of another type, and one on which the table cannot depend.
    """
    source = f"sweep {sweep.name}"
    resolved = [
        with_changes(base, [(*change, source) for change in (sweep.common | point).items()]) for point in sweep.points
    ]
    if idle := [name for name in _swept(sweep.points) if not _values_of(name, base, chain)]:
        run = ", ".join(path.stem for path in chain)
        raise ValueError(f"{source}: {sweep.table} does not depend on {', '.join(idle)}; notebooks run: {run}")
    return resolved


def _values_of(name, parameters, chain):
    """Values, as a table holds them, of a parameter given as name or notebook.name, in the notebooks that have it."""
    section, _, name = name.rpartition(".")
    meant = [parameters[path.stem] for path in chain if section in ("", path.stem)]
    return [_plain(one[name]) for one in meant if name in one]


def _plain(value):
    return json.dumps(value) if isinstance(value, list | dict) else value


def swept_values(sweep, resolved, chain):
    """Values of the swept parameters at every point as a table, one column each, and what it changes in words."""
    changes = [[f"{name.rpartition('.')[2]} {_plain(value)}" for name, value in one.items()] for one in sweep.points]
    names = _swept(sweep.points)
    values = {name: [_values_of(name, parameters, chain)[0] for parameters in resolved] for name in names}
    return pd.DataFrame({"point": [", ".join(texts) or "none changed" for texts in changes]} | values)


def collect(name, where, values, stages):
    """Rows of a table at every finished point, after its row of values. stages: the last of each point."""
    parts = []
    for number, stage in enumerate(stages):
        if stage.done:
            table = read_table(stage.folder / "figures" / f"{name}.csv", stage.notebook.stem)
            if clash := set(values) & set(table):
                raise ValueError(f"{name} has a column {', '.join(clash)}: write the parameter as notebook.name")
            try:
                rows = table.query(where) if where else table
            except (NameError, SyntaxError) as error:
                raise ValueError(f"where {where!r}: {error} (columns: {', '.join(table)})") from None
            parts.append(values.iloc[[number]].infer_objects().merge(rows, how="cross"))
    collected = pd.concat(parts, ignore_index=True)
    if where and collected.empty:
        raise ValueError(f"no row of {name} is one where {where}")
    return collected


def run_sweep(sweep, base, first, notebooks, build, figures, jobs):
    """Run what is missing, collect and save. Returns the number of points that failed, whose logs are printed."""
    chains = {name: chain_of(name, first, notebooks) for name in (sweep.table, *sweep.tables)}
    chain = sorted({path for paths in chains.values() for path in paths})
    resolved = resolve_points(sweep, base, chain)
    values = swept_values(sweep, resolved, chain)
    runs = [[(path, point[path.stem]) for path in paths] for paths in chains.values() for point in resolved]
    last = np.reshape(plan_stages(runs, build / "sweeps"), (len(chains), -1))  # (tables, points)
    with one_at_a_time(build):
        adopt_stages(unfinished(last.flat), build, figures)
    missing = unfinished(last.flat)
    print(f"{sweep.name}: {len(resolved)} points, {len(missing)} notebooks to run for them", file=sys.stderr)
    failed = run_stages(missing, jobs)
    for stage in failed:
        points = [
            text for text, of in zip(values["point"], last.T, strict=True) if any(stage in one.lineage for one in of)
        ]
        print(f"failed: {stage.notebook.stem} of {'; '.join(points)}: see {stage.log}", file=sys.stderr)
    stages = dict(zip(chains, last, strict=True))
    made = [_made(dict(zip(chains, of_point, strict=True))) for of_point in last.T]
    folder, places = figures / "sweeps" / sweep.name, {"build": str(build), "figures": str(figures)}
    record = run_record(f"sweep {sweep.name}", {path.stem: base[path.stem] | places for path in chain})
    record |= {"sweep": sweep._asdict(), "points": values.join(pd.DataFrame(made)).to_dict("records")}
    there = {name for name, of_points in stages.items() if any(stage.done for stage in of_points)}
    if sweep.table in there:
        table = collect(sweep.table, sweep.where, values, stages[sweep.table])
        plotted = sweep_numbers(table, sweep.plot)
        save_figure(plot_sweep(plotted, sweep.plot), folder / "sweep", record)
        save_table(plotted, folder / "plotted", record)
    collected = {name: collect(name, "", values, stages[name]) for name in sorted(there.intersection(sweep.tables))}
    for name, rows in collected.items():
        save_table(rows, folder / name, record)
    if sweep.side_by_side and collected.keys() >= set(SIDES):
        save_figure(plot_side_by_side(collected, sweep.side_by_side), folder / "side_by_side", record)
    if sweep.table in there:
        save_table(table, folder / "sweep", record)  # last: a sweep that has it is finished
        print(f"table and figure: {folder}")
    return sum(one["folder"] == "failed" for one in made)


def _made(stages):
    """What a record says of a point, {table: its last stage}: the folder of its first table, and digests of all."""
    if not all(stage.done for stage in stages.values()):
        return {"folder": "failed", "tables": {}}
    files = {name: stage.folder / "figures" / f"{name}.csv" for name, stage in stages.items()}
    return {
        "folder": str(next(iter(stages.values())).folder),
        "tables": {name: digest(file) for name, file in files.items()},
    }


def main():
    parser = argparse.ArgumentParser(prog="python -m lib.run.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("sweep", help="YAML file, such as notebooks/sweeps/noise.yml")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sweep, settings = read_sweep(given.sweep), Settings.given()
        base, build = settings.parameters(), settings.build
        check_weights(base)
        first = [path.stem for path in settings.notebooks if ("01" if settings.data else "00") < path.stem < "04"]
        with one_at_a_time(build / "sweeps"):
            failed = run_sweep(sweep, base, first, NOTEBOOKS, build, settings.figures, int(settings.jobs))
    except ValueError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:  # it has said why
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on from here")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
