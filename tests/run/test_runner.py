"""The runner: parameters written only when they change, notebooks that count as done only when every cell succeeded."""

import json
import os
import time
from types import SimpleNamespace

import nbformat
import pytest

from lib.run import runner
from lib.run.runner import run_notebook

NOTEBOOK = """# %% tags=["parameters"]
build = ""
figures = ""
n = 1

# %%
from pathlib import Path

from lib.lesions import dice

Path(figures).mkdir(exist_ok=True)
Path(figures, "07_numbers.csv").write_text(f"n,rate\\n{n},{1 / n}\\n")
"""


@pytest.fixture
def place(tmp_path):
    notebook = tmp_path / "07_test.py"
    notebook.write_text(NOTEBOOK)

    def run(n):
        build, figures = tmp_path / "build", tmp_path / "figures"
        parameters = build / "parameters" / "07_test.json"
        parameters.parent.mkdir(parents=True, exist_ok=True)
        parameters.write_text(json.dumps({"build": str(build), "figures": str(figures), "n": n}))
        run_notebook(notebook, build, figures)

    return tmp_path, run


def test_a_notebook_leaves_its_output_provenance_and_dependencies(place):
    folder, run = place
    stale = folder / "figures" / "07_stale.csv"
    stale.parent.mkdir()
    stale.write_text("old")
    os.utime(stale, (time.time() - 60,) * 2)
    run(2)
    executed = nbformat.read(folder / "build" / "07_test.ipynb", 4)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
    assert (folder / "figures" / "07_numbers.csv").read_text() == "n,rate\n2,0.5\n"
    assert not stale.exists()
    record = json.loads((folder / "figures" / "provenance" / "07_test.json").read_text())
    assert record["parameters"]["n"] == 2
    assert list(record["tables"]) == ["07_numbers.csv"]
    assert record["wall_seconds"] > 0
    rule = (folder / "build" / "dependencies" / "07_test.d").read_text().splitlines()[0]
    assert "lib/lesions/metrics.py" in rule
    assert "lib/lesions/instances.py" in rule
    assert "lib/lesions/evaluation.py" not in rule


def test_a_failing_notebook_is_not_taken_for_done(place, capsys):
    folder, run = place
    with pytest.raises(SystemExit) as stop:
        run(0)
    assert "ZeroDivisionError" in str(stop.value)
    assert "07_test.failed.ipynb" in str(stop.value)
    assert sorted(path.name for path in (folder / "build").glob("*.ipynb")) == ["07_test.failed.ipynb"]
    assert not (folder / "figures" / "07_numbers.csv").exists()


INTERRUPTED = """# %% tags=["parameters"]
build = ""
figures = ""
n = 1

# %%
import os
from pathlib import Path

from lib.run.workers import compute_each

started = Path(build, "started")
failing = [] if Path(build, "mended").exists() else [3]


def square(item):
    with started.open("a") as file:
        file.write(f"{item} ")
    if item in failing:
        raise ValueError(f"{item} fails")
    return n * item * item


squares = compute_each(square, [1, 2, 3], desc="squares", kept=os.environ["INSTANCE_SALIENCY_KEPT"])
Path(figures).mkdir(exist_ok=True)
Path(figures, "07_numbers.csv").write_text(str(squares))
"""


def test_what_an_interrupted_notebook_has_computed_is_used_if_it_was_made_from_the_same(place):
    folder, run = place
    (folder / "07_test.py").write_text(INTERRUPTED)
    (folder / "figures").mkdir()
    for earlier in "ab":
        (folder / "figures" / "03_lesions.csv").write_text(earlier)
        with pytest.raises(SystemExit, match="3 fails"):
            run(1)
    (folder / "build" / "mended").touch()
    (folder / "figures" / "05_beside.csv").write_text("of a notebook that runs at the same time")
    run(1)
    assert (folder / "build" / "started").read_text() == "1 2 3 1 2 3 3 "
    assert (folder / "figures" / "07_numbers.csv").read_text() == "[1, 4, 9]"


@pytest.mark.parametrize(("platform", "kept"), [("linux", 3 * 2**20), ("darwin", 3 * 2**30)])
def test_peak_memory_is_in_gib_whichever_unit_the_system_counts(platform, kept, monkeypatch):
    monkeypatch.setattr(runner.sys, "platform", platform)
    monkeypatch.setattr(runner.resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=kept))
    assert runner.peak_memory_gib(runner.resource.RUSAGE_SELF) == 3
