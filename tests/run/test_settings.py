"""What a run is asked for: folders of its own, parameters as they were written, inputs whose change is noticed."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from lib.provenance import ROOT
from lib.run import settings
from lib.run.runner import NOTEBOOKS
from lib.run.settings import Settings, inputs_of, write_parameters
from lib.scans.images import FILES

ODD = ["two words", "it's", 'a "b"', "[1]", "a$b", "$(x)", "a&b", "a#b", "a%b", "a;b", "a:b", "a, b: {c}", "123", "été"]


def written(folder):
    return {path.stem: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.fixture
def scans(tmp_path):
    """A scans table and its first FLAIR."""
    row = {"subject": "1", "session": ""} | {name: str(tmp_path / f"{name}.nii.gz") for name in FILES}
    for name in FILES:
        nib.save(nib.Nifti1Image(np.eye(5, dtype=np.int16)[None].repeat(5, 0), np.eye(4)), row[name])
    pd.DataFrame([row]).to_csv(tmp_path / "scans.tsv", sep="\t", index=False)
    return tmp_path / "scans.tsv", Path(row["flair"])


@pytest.mark.parametrize("name", ODD)
def test_any_path_of_data_and_weights_arrives_as_it_was_written(name):
    given = Settings("smoke", data=f"/data/{name}.tsv", weights=f"/data/{name}.pth").parameters()
    assert given["01_data_split"]["data"] == f"/data/{name}.tsv"
    assert {one["weights"] for one in given.values() if "weights" in one} == {f"/data/{name}.pth"}
    assert Settings("smoke", data=f"/data/{name}.tsv").name.isascii() or name == "été"
    assert not set(Settings("smoke", data=f"/data/{name}.tsv").name) & set(" '\"[]$()&#%;:,{}")


@pytest.mark.parametrize("out", ["two words", "it's", "a$b", "[1]", "a&b", "a:b", "a%b", "a#b", "a=b", "a\nb"])
def test_a_folder_that_make_cannot_have_is_refused_by_name(out):
    with pytest.raises(ValueError, match="(?s)OUT=.*make takes no .* choose another folder"):
        Settings(out=out)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [({"jobs": "0"}, "JOBS=0"), ({"jobs": "two"}, "JOBS=two"), ({"only": "03"}, "ONLY=03: .*03_evaluation"),
     ({"only": "02_training", "weights": "a.pth"}, "ONLY=02_training")],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_can(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        Settings(**given)


def test_a_quote_that_is_not_closed_in_a_parameter_is_named():
    with pytest.raises(ValueError, match="SET=layer='a: No closing quotation"):
        Settings(set="layer='a").parameters()


def test_data_of_the_same_name_in_two_places_are_two_runs(monkeypatch, tmp_path):
    one, other = (Settings(data=f"/{place}/scans.tsv") for place in "ab")
    assert one.name != other.name
    assert one.name.startswith("demo-scans-")
    monkeypatch.chdir(tmp_path)
    assert Settings(data="scans.tsv").name == Settings(data=f"{tmp_path}/x/../scans.tsv").name
    assert Settings().figures.as_posix() == "figures/demo"


def test_a_public_data_set_keeps_its_name_and_each_rater_is_a_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    one, other = (Settings("smoke", data=f"{name}:x/../isbi") for name in ("isbi2015", "isbi2015-rater2"))
    assert one.parameters()["01_data_split"]["data"] == f"isbi2015:{tmp_path}/isbi"
    assert one.name != other.name
    assert one.name == Settings("smoke", data=f"isbi2015:{tmp_path}/isbi").name
    assert one.name.startswith("smoke-isbi-")


def test_the_files_of_a_public_data_set_are_inputs_also_beside_the_checkout(tmp_path):
    folder = tmp_path / "train" / "P1" / "T1"
    folder.mkdir(parents=True)
    files = [folder / f"P1_T1_{kind}.nii.gz" for kind in ("FLAIR", "T1", "MASK")]
    for file in files:
        file.touch()
    for data in (f"mslesseg:{tmp_path}", f"mslesseg:{os.path.relpath(tmp_path, ROOT)}"):
        found = {os.path.normpath(file) for file in inputs_of({"data": data})["data"]}
        assert found == set(map(str, files))


@pytest.mark.parametrize(
    ("given", "weights", "trains"),
    [({}, "", True), ({"data": "a.tsv"}, "weights/unet.safetensors", False), ({"data": "a.tsv", "train": "yes"}, "", True),
     ({"data": "a.tsv", "weights": "b.pth"}, "b.pth", False)],
)  # fmt: skip
def test_scans_of_ones_own_are_explained_with_the_weights_of_the_project_unless_told_otherwise(given, weights, trains):
    assert Settings(**given).network == weights
    assert ("02_training" in [path.stem for path in Settings(**given).notebooks]) == trains


def test_only_what_changes_is_written(tmp_path):
    write_parameters(Settings("smoke").parameters(), tmp_path)
    before = written(tmp_path / "parameters")
    assert len(before) == len(NOTEBOOKS) >= 6
    write_parameters(Settings("smoke", set="06_context_radius.n_lesions=4").parameters(), tmp_path)
    after = written(tmp_path / "parameters")
    assert {name for name in before if before[name] != after[name]} == {"06_context_radius"}
    before = after
    there = "tcp://127.0.0.1:8786"
    write_parameters(Settings("smoke", set="06_context_radius.n_lesions=4", scheduler=there).parameters(), tmp_path)
    assert written(tmp_path / "parameters") == before  # where numbers are computed runs nothing again
    assert json.loads((tmp_path / "parameters" / "03_evaluation.json").read_text())["scheduler"] == there


def test_a_scan_that_is_corrected_in_place_or_other_weights_run_what_reads_them_again(tmp_path, scans):
    (table, flair), weights = scans, tmp_path / "unet.pth"
    weights.write_text("1")
    resolved = Settings("smoke", data=str(table), weights=str(weights)).parameters()

    def changed():
        before = written(tmp_path / "inputs") if (tmp_path / "inputs").exists() else {}
        write_parameters(resolved, tmp_path)
        return {name for name, date in written(tmp_path / "inputs").items() if before.get(name) != date}

    assert changed() == {path.stem for path in NOTEBOOKS}
    assert changed() == set()
    dates = flair.stat().st_atime_ns, flair.stat().st_mtime_ns
    flair.write_bytes(flair.read_bytes() + b"0")
    os.utime(flair, ns=dates)  # as a copy that preserves dates leaves it
    assert changed() == {"00_cohort", "01_data_split"}
    weights.touch()  # the contents count
    assert changed() == set()
    weights.with_suffix(".json").write_text('{"threshold": 0.5}')
    of_network = {name for name, parameters in resolved.items() if parameters.get("weights")}
    assert changed() == of_network >= {"03_evaluation", "04_gradient_distributions"}


def test_a_function_is_tried_for_what_its_network_is_now(monkeypatch, tmp_path):
    """Its weights may lie anywhere."""
    parameters, called = {"weights": str(tmp_path / "net:trained")}, []

    def run(command, **_):
        called.append(command[-1])
        return SimpleNamespace(stdout=f"loaded\nabc{len(called)}\n")

    monkeypatch.setattr(settings.subprocess, "run", run)
    assert [inputs_of(parameters)["weights"] for _ in range(2)] == [["abc1"]] * 2
    assert called == [f"digest={tmp_path / 'net:trained'}"]  # once a command
    settings._digest_of_function.cache_clear()  # as in the next
    assert inputs_of(parameters)["weights"] == ["abc2"]


def test_another_version_of_a_package_runs_everything_again(monkeypatch):
    parameters = Settings("smoke").parameters()["03_evaluation"]
    before = inputs_of(parameters)
    monkeypatch.setattr(settings, "versions", lambda: {"torch": "1.0"})
    assert inputs_of(parameters) != before


def test_the_panel_is_no_part_of_the_chain():
    assert [path.stem[:2] for path in Settings().notebooks] == [f"{number:02d}" for number in range(10)]
    assert "00_explore" not in {path.stem for path in Settings().notebooks}
    assert (ROOT / "notebooks" / "00_explore.py").exists()


@pytest.mark.parametrize("profile", ["smoke", "demo", "pretrain", "paper"])
def test_every_profile_resolves(profile):
    assert set(Settings(profile).parameters()) == {path.stem for path in NOTEBOOKS}
