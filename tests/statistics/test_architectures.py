"""Claim C8: the claims of three networks judged by the code that judges a run, and compared, on made-up tables."""

import json

import pandas as pd
import pytest
import yaml

from lib.provenance import ROOT, digest
from lib.statistics.claims import JUDGED, judge_architectures, ledger, main, markdown, same_of_all
from tests.statistics.test_claims import tables

NAMES = {"unet": "U-Net", "dynunet": "nnU-Net", "swinunetr": "Swin UNETR"}
SWEEP = yaml.safe_load((ROOT / "notebooks" / "sweeps" / "architectures.yml").read_text())
FLAIR = "share found, inserted in FLAIR only - MPRAGE only"


def write(folder, given):
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in given.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")


def contradicting():
    """Tables in which lesions inserted in MPRAGE alone are found more often than those in FLAIR."""
    effects = tables()["05_effects"]
    effects.loc[effects["effect"] == "FLAIR - MPRAGE", ["value", "low", "high"]] = -0.5, -0.6, -0.4
    return tables(**{"05_effects": effects})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run and its sweep of architectures, of which the second contradicts a measure of C6."""
    place, points, parts = tmp_path_factory.mktemp("run"), [], {}
    write(place, tables())
    for name, given in {"unet": tables(), "dynunet": contradicting(), "swinunetr": tables()}.items():
        given = {table: given[table] for table in SWEEP["tables"] if table in given}
        write(place / name, given)
        point = {"point": f"architecture {name}", "02_training.architecture": name}
        files = {table: digest(place / name / f"{table}.csv") for table in given}
        points.append(point | {"folder": name, "tables": files})
        for table, rows in given.items():
            parts.setdefault(table, []).append(rows.assign(**point))
    write(place / JUDGED.parent, {name: pd.concat(rows) for name, rows in parts.items()})
    (place / JUDGED.parent / "sweep.json").write_text(json.dumps({"points": points}))
    return place


@pytest.fixture(scope="module")
def judged(run):
    return judge_architectures(run)


def test_each_network_is_judged_by_the_code_that_judges_a_run(judged):
    assert list(dict.fromkeys(judged["network"])) == list(NAMES.values())
    alone = ledger(contradicting().__getitem__).set_index("measure").drop("Shapley value, FLAIR - MPRAGE")
    here = judged[judged["network"] == "nnU-Net"].set_index("measure")
    numbers = ["value", "low", "high"]
    pd.testing.assert_frame_equal(here[numbers], alone[numbers], rtol=1e-4)
    assert here["verdict"].tolist() == alone["verdict"].tolist() and here.loc[FLAIR, "verdict"] == "not reproduced"


def holding(judged, *of_each):
    """The measure of C6 holds (True), is contradicted (False) or open (None) for each of the networks."""
    rows = (judged["measure"] == FLAIR).to_numpy()
    return judged.assign(holds=judged["holds"].where(~rows, pd.Series(of_each, judged.index[rows], object)))


@pytest.mark.parametrize(
    "of_each, verdict, said",
    [
        ((True, True, True), "reproduced", "12 measures of C3 to C7: alike in 12, opposite in none, open in 0"),
        ((False, False, False), "reproduced", "alike in 12, opposite in none, open in 0"),
        ((True, False, True), "not reproduced", f"alike in 11, opposite in {FLAIR}, open in 0"),
        ((True, False, None), "not reproduced", f"alike in 11, opposite in {FLAIR}, open in 0"),
        ((True, None, True), "inconclusive", "alike in 11, opposite in none, open in 1"),
    ],
)
def test_networks_are_compared_measure_by_measure(judged, of_each, verdict, said):
    found, text = same_of_all(holding(judged, *of_each))
    assert found == verdict and text.endswith(said)
    assert text.startswith("U-Net / nnU-Net / Swin UNETR: C1 reproduced; ")
    assert "C6 reproduced / not reproduced / reproduced; C7 reproduced" in text


def test_segmentation_is_told_and_not_compared(judged):
    alike = holding(judged, True, True, True)
    alike.loc[alike["claim"].isin(["C1", "C2"]) & (alike["network"] == "nnU-Net"), "holds"] = False
    assert same_of_all(alike)[0] == "reproduced"


def test_without_one_of_the_networks_nothing_is_the_same_of_all(judged):
    verdict, text = same_of_all(holding(judged, True, True, True).query("network != 'nnU-Net'"))
    assert verdict == "inconclusive" and text.startswith("U-Net / Swin UNETR: C1")


def test_the_ledger_has_one_row_more_with_the_sweep_and_is_as_before_without(run, judged, monkeypatch):
    (run / "document.md").write_text("<!-- claims: written by make paper -->\n<!-- end of claims -->")
    monkeypatch.setattr("lib.statistics.claims.checks", lambda *_: "checks")
    monkeypatch.setattr("sys.argv", ["claims", str(run), str(run / "document.md")])
    main()
    pd.testing.assert_frame_equal(pd.read_csv(run / JUDGED)[["claim", "measure"]], judged[["claim", "measure"]])
    before = markdown(ledger(tables().__getitem__), "").splitlines()
    assert not any("C8" in line for line in before) and "C8" not in (run / "claims.csv").read_text()
    *kept, row = (run / "claims.md").read_text().splitlines()
    assert kept == before and row.count("|") == kept[0].count("|")
    assert row.startswith("| C8 The same for nnU-Net and Swin UNETR | ") and "| **not reproduced** |" in row
    assert f"({JUDGED.as_posix()})" in row and f"{JUDGED.as_posix()})" in (run / "document.md").read_text()


def test_a_sweep_of_another_training_is_left_out(run, tmp_path, capsys):
    (tmp_path / "sweeps").symlink_to(run / "sweeps")
    write(tmp_path, tables() | {"03_metrics": tables()["03_metrics"].assign(patients=7)})
    assert judge_architectures(tmp_path) is None and "left out" in capsys.readouterr().err


def test_the_sweep_collects_every_table_that_is_judged_but_what_is_only_reported():
    read = set()
    ledger(lambda name: read.add(name) or tables()[name])
    assert read - set(SWEEP["tables"]) == {"08_sequences"}
