"""Sweeps: what a file says, checked before anything runs; every point collected once; failures listed, not hidden."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lib.provenance import ROOT
from lib.run.parameters import resolve
from lib.run.runner import NOTEBOOKS
from lib.run.stages import plan_stages
from lib.run.sweep import chain_of, read_sweep, resolve_points, run_sweep
from lib.statistics.intervals import bootstrap_mean

FIRST = """# %% tags=["parameters"]
build = ""
figures = ""
seed = 0

# %%
from pathlib import Path

Path(build, "drawn.txt").write_text(str(seed))
"""
SECOND = """# %% tags=["parameters"]
build = ""
figures = ""
scale = 1.0
sizes = [1]

# %%
from pathlib import Path

Path(figures).mkdir(exist_ok=True)
seed = int(Path(build, "drawn.txt").read_text())
rows = [f"s{patient},{kind},{1 / scale + patient + seed}" for patient in range(3) for kind in ("TP", "FP")]
Path(figures, "04_values.csv").write_text("\\n".join(["subject,kind,peak", *rows]))  # as save_table(table, "values")
"""
THIRD = (
    FIRST.replace("seed", "other")
    + """
Path(figures).mkdir(exist_ok=True)
Path(figures, "05_others.csv").write_text(f"subject,double\\n007,{2 * other}\\n")  # as save_table(table, "others")
"""
)
PLOT = {"x": "scale", "x_label": "scale", "y": "peak", "y_label": "peak", "hue": "kind"}
SWEEP = {
    "plot": PLOT,
    "name": "tiny",
    "question": "Does it work?",
    "grid": {"scale": [1.0, 0.0, 4.0], "seed": [0, 7]},
    "table": "04_values",
    "where": "kind == 'TP'",
}


@pytest.fixture
def place(tmp_path, plain_runner):
    for name, text in (("00_first", FIRST), ("04_second", SECOND), ("05_third", THIRD)):
        (tmp_path / f"{name}.py").write_text(text)
    notebooks = sorted(tmp_path.glob("0*.py"))
    (tmp_path / "tiny.yml").write_text("")

    def run(**changes):
        given = {name: value for name, value in (SWEEP | changes).items() if value is not None}
        (tmp_path / "sweep.yml").write_text(json.dumps(given))
        read, base = read_sweep(tmp_path / "sweep.yml"), resolve(notebooks, tmp_path / "tiny.yml")
        folders = tmp_path / "build", tmp_path / "figures"
        return run_sweep(read, base, ["00_first"], notebooks, *folders, 2)

    return tmp_path / "figures" / "sweeps" / "tiny", run


def test_a_sweep_ends_in_one_table_and_a_figure_and_lists_the_points_that_failed(place, capsys):
    folder, run = place
    assert run(plot=PLOT | {"hue": "seed"}) == 2
    table = pd.read_csv(folder / "sweep.csv")
    assert list(table) == ["point", "scale", "seed", "subject", "kind", "peak"]
    expected = [1 / scale + patient + seed for scale in (1, 4) for seed in (0, 7) for patient in range(3)]
    np.testing.assert_allclose(table["peak"], expected)
    assert table["scale"].tolist() == [1.0] * 6 + [4.0] * 6
    assert set(table["kind"]) == {"TP"}
    said = capsys.readouterr()
    assert said.err.count("failed: 04_second of scale 0.0, seed") == 2
    log = said.err.rsplit("see ", 1)[1].strip()
    assert "ZeroDivisionError" in Path(log).read_text()

    plotted = pd.read_csv(folder / "plotted.csv").set_index(["scale", "seed"]).loc[(4.0, 7)]
    here = table[(table["scale"] == 4) & (table["seed"] == 7)]
    wanted = bootstrap_mean(here, ["peak"], generator=np.random.default_rng(0))
    np.testing.assert_allclose(plotted[["value", "low", "high"]], np.ravel(wanted), rtol=1e-5)
    assert plotted[["lesions", "patients"]].tolist() == [3, 3]
    assert {"sweep.pdf", "sweep.png", "sweep.json", "plotted.json"} <= {path.name for path in folder.iterdir()}
    record = json.loads((folder / "sweep.json").read_text())
    assert [point["folder"] == "failed" for point in record["points"]] == [False, False, True, True, False, False]
    assert record["parameters"]["04_second"]["scale"] == 1.0
    assert record["parameters"]["04_second"]["build"] == str(folder.parents[2] / "build")


def test_a_further_value_runs_only_what_is_new(place, capsys):
    folder, run = place
    assert run(grid={"scale": [1.0, 2.0]}) == 0
    assert "2 points, 3 notebooks to run" in capsys.readouterr().err
    before = (folder / "sweep.csv").read_text()
    assert run(grid={"scale": [1.0, 2.0]}) == 0
    assert "2 points, 0 notebooks to run" in capsys.readouterr().err
    assert (folder / "sweep.csv").read_text() == before
    run(grid={"scale": [1.0, 2.0, 4.0]})
    assert "3 points, 1 notebooks to run" in capsys.readouterr().err
    assert (folder / "sweep.csv").read_text().startswith(before)


def test_points_change_one_thing_at_a_time_and_lists_are_named(place):
    folder, run = place
    points = [{}, {"sizes": [2, 3]}, {"04_second.scale": 2}]
    assert run(grid=None, points=points, plot=PLOT | {"x": "point"}) == 0
    table = pd.read_csv(folder / "sweep.csv").drop_duplicates("point")
    assert table["point"].tolist() == ["none changed", "sizes [2, 3]", "scale 2"]
    assert table["sizes"].tolist() == ["[1]", "[2, 3]", "[1]"]
    assert table["04_second.scale"].tolist() == [1.0, 1.0, 2.0]


def test_tables_of_several_notebooks_are_collected_from_every_point(place, capsys):
    folder, run = place
    assert run(grid={"scale": [1.0, 0.0], "other": [1, 2]}, tables=["04_values", "05_others"]) == 2
    assert "4 points, 5 notebooks to run" in capsys.readouterr().err  # one, one a scale, one of the others
    others = pd.read_csv(folder / "05_others.csv", dtype={"subject": str})
    assert others["point"].tolist() == [f"scale {scale}, other {n}" for scale in (1.0, 0.0) for n in (1, 2)]
    assert others["double"].tolist() == [2, 4, 2, 4] and set(others["subject"]) == {"007"}
    whole = pd.read_csv(folder / "04_values.csv")
    assert set(whole["kind"]) == {"TP", "FP"} and set(pd.read_csv(folder / "sweep.csv")["kind"]) == {"TP"}
    points = json.loads((folder / "sweep.json").read_text())["points"]
    assert [point["folder"] == "failed" for point in points] == [False, False, True, True]
    assert points[1]["tables"]["05_others"] != points[0]["tables"]["05_others"]
    assert points[1]["tables"]["04_values"] == points[0]["tables"]["04_values"] and points[2]["tables"] == {}
    assert run(grid={"scale": [1.0], "other": [1, 2]}, tables=["05_others"]) == 0
    assert "2 points, 0 notebooks to run" in capsys.readouterr().err


def test_what_is_common_to_all_points_is_changed_and_not_swept(place):
    folder, run = place
    assert run(grid={"scale": [1.0, 2.0]}, common={"seed": 7}) == 0
    table = pd.read_csv(folder / "sweep.csv")
    assert "seed" not in table and table["point"].unique().tolist() == ["scale 1.0", "scale 2.0"]
    np.testing.assert_allclose(table["peak"], [1 / scale + patient + 7 for scale in (1, 2) for patient in range(3)])


def test_a_second_figure_is_drawn_of_whole_tables(place, monkeypatch):
    folder, run = place
    drawn = []
    monkeypatch.setattr("lib.run.sweep.SIDES", ["04_values"])
    monkeypatch.setattr("lib.run.sweep.plot_side_by_side", lambda *given: drawn.append(given) or Figure())
    assert run(grid={"scale": [1.0, 2.0]}, tables=["04_values"], side_by_side="scale") == 0
    ((tables, by),) = drawn
    assert by == "scale" and set(tables["04_values"]["kind"]) == {"TP", "FP"} and (folder / "side_by_side.png").exists()


@pytest.mark.parametrize(("table", "collected"), [("04_values", "05_others"), ("05_others", "04_values")])
def test_a_table_that_failed_at_every_point_is_left_out_and_named(place, capsys, table, collected):
    """04_values fails, as the table of the figure and as one that is collected beside it."""
    folder, run = place
    plot = {"x": "other", "x_label": "other", "y": "peak" if table == "04_values" else "double", "y_label": "value"}
    grid = {"other": [1, 2], "04_second.scale": [0.0]}
    assert run(grid=grid, plot=plot, table=table, tables=[collected], where=None) == 2
    assert "failed: 04_second of other 1, scale 0.0; other 2, scale 0.0: see " in capsys.readouterr().err
    made = "05_others" if table == "04_values" else "sweep"
    assert {path.stem for path in folder.glob("*.csv")} >= {made} and not (folder / "04_values.csv").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"grid": {"scal": [1.0]}, "plot": PLOT | {"x": "scal"}}, "no notebook has parameter 'scal'; did you mean 'scale'"),
        ({"grid": {"scale": ["large"]}}, "04_second.scale must be of type float like 1.0, not str: 'large'"),
        ({"grid": {"other": [1]}, "plot": PLOT | {"x": "other"}}, "04_values does not depend on other"),
        ({"table": "04_volumes"}, "no notebook writes table '04_volumes'"),
        ({"points": [{}]}, "either grid"),
        ({"grid": {"scale": 1.0}}, "grid needs a list of values for each parameter"),
        ({"grid": ["scale"]}, "grid needs a list of values for each parameter"),
        ({"grid": None, "points": [{}]}, "no parameter is varied"),
        ({"plott": {}}, "has plott; known are name"),
        ({"question": None}, "needs question"),
        ({"tables": "05_others"}, "tables need to be a list of names"),
        ({"grid": None, "points": ["scale"]}, "points need to be a list of"),
        ({"plot": PLOT | {"x": "sizes"}}, "x is 'sizes', which is not swept"),
        ({"plot": PLOT | {"colour": "kind"}}, "plot has colour"),
        ({"common": ["seed"]}, "common needs to be {parameter: value}"),
        ({"side_by_side": "scale", "tables": ["05_others"]}, "side_by_side needs a swept parameter, and 04_saliency"),
        ({"plot": {"x": "scale"}}, "plot needs x_label, y, y_label"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_said_by_name_before_anything_runs(place, changes, complaint):
    folder, run = place
    with pytest.raises(ValueError, match="(?s)" + complaint.replace("'", ".").replace("(", r"\(")):
        run(**changes)
    assert not folder.parents[2].joinpath("build").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"where": "kinds == 'TP'"}, "kinds.*columns: subject, kind, peak"),
     ({"where": "kind == 'TN'"}, "no row of 04_values is one where kind == 'TN'"),
     ({"plot": PLOT | {"y": "height"}}, "no column height")],
)  # fmt: skip
def test_a_wrong_column_is_named_and_nothing_runs_again_once_it_is_right(place, changes, complaint, capsys):
    _, run = place
    with pytest.raises(ValueError, match=complaint):
        run(grid={"scale": [1.0, 2.0]}, **changes)
    capsys.readouterr()
    assert run(grid={"scale": [1.0, 2.0]}) == 0
    assert "0 notebooks to run" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "sweeps").glob("*.yml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", ["smoke", "demo", "paper"])
def test_the_sweeps_that_come_with_the_project_resolve(path, profile):
    read = read_sweep(path)
    assert read.name == path.stem
    first = ["00_cohort", "01_data_split", "02_training", "03_evaluation"]
    chain = sorted({path for table in (read.table, *read.tables) for path in chain_of(table, first, NOTEBOOKS)})
    base = resolve(NOTEBOOKS, ROOT / "notebooks" / "params" / f"{profile}.yml")
    resolved = resolve_points(read, base, chain)
    changed = [parameters != base for parameters in resolved]
    assert sum(changed) >= 3


def test_other_definitions_of_an_instance_are_of_one_network(tmp_path):
    """Points share what comes before notebook 3, the training among it, and nothing after."""
    read = read_sweep(ROOT / "notebooks" / "sweeps" / "instances.yml")
    chain = chain_of(read.table, ["00_cohort", "01_data_split", "02_training", "03_evaluation"], NOTEBOOKS)
    resolved = resolve_points(read, resolve(NOTEBOOKS, ROOT / "notebooks" / "params" / "demo.yml"), chain)
    last = plan_stages([[(path, point[path.stem]) for path in chain] for point in resolved], tmp_path)
    assert [stage.notebook.stem for stage in last[0].lineage[2:]] == [
        "02_training",
        "03_evaluation",
        "04_gradient_distributions",
    ]
    assert [len(set(of_all)) for of_all in zip(*(stage.lineage for stage in last), strict=True)] == [1, 1, 1, 5, 5]
    given = [
        tuple(point["03_evaluation"][name] for name in ("neighbours", "smallest_mm3", "merged_mm"))
        for point in resolved
    ]
    assert given == [(18, 0, 0), (6, 0, 0), (26, 0, 0), (18, 3, 0), (18, 0, 2)]
