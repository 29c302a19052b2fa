"""A run's files: tables with their record, figures with their metadata, folders that never hold stale results."""

import json
import re

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from PIL import Image

from lib import threads
from lib.provenance import ROOT, digest, write_json
from lib.run.parameters import defaults
from lib.run.paths import Run, foreign_tables
from lib.run.runner import NOTEBOOKS
from lib.threads import processors


@pytest.fixture
def run(tmp_path):
    values = defaults(ROOT / "notebooks" / "01_data_split.py")
    return Run("01_data_split", values | {"build": str(tmp_path / "b"), "figures": str(tmp_path / "f"), "other": 1})


def test_a_table_comes_back_and_carries_the_parameters(run):
    table = pd.DataFrame(
        {"scan": ["sub-01"], "subject": ["01"], "session": [""], "value": [0.5], "none": [float("nan")]}
    )
    run.save_table(table, "things")
    read = run.table("01_things")
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    record = json.loads((run.figures / "01_things.json").read_text())
    assert record["parameters"]["fractions"] == run.parameters["fractions"]
    assert "other" not in record["parameters"]


def test_a_notebook_computes_every_number_with_one_thread_and_as_many_at_once_as_before(run, monkeypatch):
    monkeypatch.setattr(threads, "_at_first", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    Run(run.notebook, run.parameters)
    assert (torch.get_num_threads(), processors()) == (1, 3)
    torch.set_num_threads(before)


def test_a_missing_table_names_the_notebook_to_run(run):
    with pytest.raises(FileNotFoundError, match="03_lesions.csv is missing: run notebook number 03"):
        run.table("03_lesions")


def test_a_figure_carries_the_parameters_and_is_300_dpi(run):
    figure = plt.figure(figsize=(1, 1))
    figure.text(0.1, 0.5, "text")
    run.save_figure(figure, "picture")
    plt.close(figure)
    with Image.open(run.figures / "01_picture.png") as image:
        assert json.loads(image.text["Description"])["parameters"] == run.parameters
        assert image.size == (300, 300)
    pdf = (run.figures / "01_picture.pdf").read_bytes()
    assert b"01_data_split" in pdf
    assert b"/CIDFontType2" in pdf  # TrueType, as journals ask for; matplotlib's default is Type 3


def test_a_table_of_other_scans_than_those_of_the_run_is_refused(run):
    scans = pd.DataFrame(
        {"scan": ["sub-01"], "flair": ["a.nii"], "t1w": ["b.nii"], "lesions": ["c.nii"], "flair_digest": ["1e5"]}
    )
    run.save_scans(scans)
    run.save_table(pd.DataFrame({"value": [1]}), "things")
    run.save_scans(scans.assign(flair="moved.nii"))
    assert run.table("01_things")["value"].tolist() == [1]
    run.save_scans(scans.assign(flair_digest="100000"))
    with pytest.raises(
        ValueError, match="01_things.csv was made before the scans changed: run notebook number 01 again"
    ):
        run.table("01_things")


def test_maps_are_named_as_bids_derivatives(run):
    path = run.map("sub-01_ses-2", "desc-pred_dseg")
    assert path.relative_to(run.build).as_posix() == "derivatives/sub-01/ses-2/anat/sub-01_ses-2_desc-pred_dseg.nii.gz"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_keeps_of_one_computation_is_not_that_of_another(notebook):
    names = re.findall(r'run\.compute_each\(.*?desc="(.*?)"', notebook.read_text(), re.DOTALL)
    assert len(names) == notebook.read_text().count("run.compute_each(")
    assert len(set(names)) == len(names)


@pytest.fixture
def explained(tmp_path):
    """A table of lesions, and one of notebook 6 with the record of the execution that wrote it."""
    values = defaults(ROOT / "notebooks" / "06_context_radius.py")
    run = Run("06_context_radius", values | {"build": str(tmp_path / "b"), "figures": str(tmp_path / "f")})
    run.figures.mkdir()
    (run.figures / "03_lesions.csv").write_text("label\n1\n")
    run.save_table(pd.DataFrame({"label": [1], "radius": [7]}), "lesions")
    written = {"06_lesions.csv": digest(run.figures / "06_lesions.csv")}
    write_json(run.figures / "provenance" / "06_context_radius.json", {"tables": written})
    return run


def test_a_table_of_other_lesions_is_refused(explained):
    assert explained.table("06_lesions")["radius"].tolist() == [7]
    assert foreign_tables(explained.figures) == {}
    (explained.figures / "03_lesions.csv").write_text("label\n1\n2\n")
    with pytest.raises(ValueError, match="06_lesions.csv was made before the lesions changed: run notebook number 06"):
        explained.table("06_lesions")
    assert foreign_tables(explained.figures) == {"06_context_radius": ["06_lesions.csv"]}


def test_a_table_that_somebody_else_wrote_is_foreign(explained):
    explained.save_table(pd.DataFrame({"label": [1], "radius": [2]}), "lesions")
    assert foreign_tables(explained.figures) == {"06_context_radius": ["06_lesions.csv"]}
