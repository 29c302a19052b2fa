"""`make verify`: what it says of two folders of tables, and with which status it ends."""

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from lib.provenance import ROOT
from lib.run.verify import compare_tables, conditions, report, take_committed

LESIONS = pd.DataFrame(
    {"scan": ["a", "b", "c"], "kind": ["TP", "FP", "FN"], "peak": [0.5, -2.0, 0.0], "volume": [8, 9, 10]}
)
CLAIMS = pd.DataFrame(
    {"claim": ["C1", "C1", "C2"], "value": [0.6, 0.5, 0.7], "verdict": ["reproduced"] * 2 + ["inconclusive"]}
)


@pytest.fixture
def runs(tmp_path):
    """Two folders with the same tables."""
    for name in ("committed", "found"):
        folder = tmp_path / name
        folder.mkdir()
        LESIONS.to_csv(folder / "04_saliency.csv", index=False)
        CLAIMS.to_csv(folder / "claims.csv", index=False)
    return tmp_path / "committed", tmp_path / "found"


def test_the_same_tables_are_identical(runs):
    lines, cells, status = report(*runs)
    assert lines == ["2 of 2 tables identical", "2 of 2 verdicts the same"]
    assert (len(cells), status) == (0, 0)


def test_a_changed_digit_is_told_with_its_place_and_size(runs):
    changed = LESIONS.assign(peak=[0.5, -2.002, 0.0], kind=["TP", "TN", "FN"])
    changed.to_csv(runs[1] / "04_saliency.csv", index=False)
    lines, cells, status = report(*runs)
    place = "(peak in line 3: -2.002, committed -2.0)"
    assert lines[0] == f"04_saliency.csv: 2 cells differ, the largest by 1.0e-03 of it {place}"
    assert lines[1:] == ["1 of 2 tables identical", "2 of 2 verdicts the same"]
    assert status == 1
    texts, numbers = cells.to_dict("records")
    assert (texts["column"], texts["committed"], texts["found"]) == ("kind", "FP", "TN")
    assert (numbers["table"], numbers["row"]) == ("04_saliency.csv", 3)
    assert (numbers["difference"], numbers["relative"]) == pytest.approx((-0.002, 0.001))


def test_a_number_that_was_zero_is_told_by_its_difference(runs):
    LESIONS.assign(peak=[0.5, -2.0, 0.25]).to_csv(runs[1] / "04_saliency.csv", index=False)
    lines, *_ = report(*runs)
    assert lines[0] == "04_saliency.csv: 1 cells differ, the largest by 0.25 (peak in line 4: 0.25, committed 0.0)"


def test_a_verdict_that_differs_ends_with_another_status(runs):
    CLAIMS.assign(verdict=["reproduced", "reproduced", "not reproduced"]).to_csv(runs[1] / "claims.csv", index=False)
    lines, _, status = report(*runs)
    assert lines[-2:] == ["C2: not reproduced, committed inconclusive", "1 of 2 verdicts the same"]
    assert status == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.unlink(), "04_saliency.csv: was not made"),
        (lambda file: LESIONS[:2].to_csv(file, index=False), "04_saliency.csv: 2 rows, 3 committed"),
        (
            lambda file: LESIONS.drop(columns="peak").to_csv(file, index=False),
            "columns peak are in one of the two alone",
        ),
        (lambda file: LESIONS.to_csv(file.with_name("05_new.csv")), "05_new.csv: is not committed"),
    ],
)
def test_tables_that_cannot_be_compared_are_named(runs, change, said):
    change(runs[1] / "04_saliency.csv")
    lines, _, status = report(*runs)
    assert said in lines[0]
    assert status == 2


def test_columns_in_another_order_are_compared_by_name(runs):
    file = runs[1] / "04_saliency.csv"
    LESIONS[["volume", "peak", "kind", "scan"]].to_csv(file, index=False)
    assert compare_tables(runs[0] / "04_saliency.csv", file).empty


@pytest.mark.parametrize("which", [0, 1])
def test_a_ledger_with_networks_is_compared_with_one_without_by_the_columns_of_both(runs, which):
    CLAIMS.assign(networks=5, networks_value=0.6).to_csv(runs[which] / "claims.csv", index=False)
    said = "claims.csv: compared without its columns networks*, which one run has alone: the sweep of networks is not computed anew"
    lines, cells, status = report(*runs)
    assert (lines[0], len(cells), status) == (said, 0, 0)
    CLAIMS.assign(verdict="inconclusive").to_csv(runs[1 - which] / "claims.csv", index=False)
    assert report(*runs)[2] == 2


def test_other_packages_and_commits_are_named(runs):
    for folder, version in zip(runs, ("2.1", "2.2"), strict=True):
        record = {"commit": "abc", "versions": {"numpy": "1", "torch": version}}
        (folder / "03_metrics.json").write_text(json.dumps(record))
    assert conditions(*runs) == ["made with torch 2.2, committed with 2.1"]


def verify(against):
    words = ["make", "--no-print-directory", "--old-file=.venv/.complete", "verify", f"AGAINST={against}"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_make_verify_takes_a_run_made_elsewhere(tmp_path):
    """The committed tables against themselves and, with one digit changed, not."""
    committed, _ = take_committed(tmp_path / "committed")
    found = Path(shutil.copytree(committed, tmp_path / "found"))
    done = verify(found)
    assert done.returncode == 0, done.stderr
    assert "verdicts the same" in done.stdout
    table = pd.read_csv(found / "03_metrics.csv")
    table.assign(value=table["value"] + 1e-3).to_csv(found / "03_metrics.csv", index=False)
    done = verify(found)
    assert done.returncode != 0
    assert "03_metrics.csv: " in done.stdout
    assert "differences.csv" in done.stdout


def test_a_folder_without_tables_is_named(tmp_path):
    done = verify(tmp_path)
    assert done.returncode != 0
    assert f"AGAINST={tmp_path}: there are no tables of a run" in done.stderr
