"""Measures over networks and patients against simulation, closed forms and records."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student_t

from lib.provenance import ROOT, digest
from lib.statistics.claims import judge, ledger
from lib.statistics.documents import markdown, summary
from lib.statistics.networks import network_readers, over_networks
from tests.statistics.test_claims import tables

SEEDS = range(5)


def test_without_variation_between_networks_the_interval_is_that_of_the_patients():
    mean, low, high = over_networks(*np.tile([[0.5], [0.3], [0.6]], (1, 5))[..., None])
    assert [mean[0], low[0], high[0]] == pytest.approx([0.5, 0.3, 0.6])


def test_without_variation_between_patients_the_interval_is_students():
    values = np.array([1.0, 2.0, 4.0, 3.0, 9.0])
    expected = student_t(4, loc=values.mean(), scale=values.std(ddof=1) / np.sqrt(5)).interval(0.95)
    assert over_networks(values, values, values)[1:] == pytest.approx(expected)


@pytest.mark.parametrize("odd", [np.inf, np.nan])
def test_a_network_without_a_finite_number_leaves_the_measure_open(odd):
    values = np.array([[1.0, 1.0], [2.0, odd], [3.0, 3.0]])
    mean, low, high = over_networks(values, values - 1, values + 1)
    assert np.isfinite([mean[0], low[0], high[0]]).all() and np.isnan([mean[1], low[1], high[1]]).all()


def test_a_network_without_a_finite_interval_leaves_the_mean_and_takes_the_interval():
    values = np.array([1.0, 2.0, 3.0])
    mean, low, high = over_networks(values, values - 1, np.array([2.0, np.inf, 4.0]))
    assert mean == 2 and np.isnan([low, high]).all()


def measured(seed, **changed):
    """The measures of a run as a table, in which numbers of Dice are changed."""
    given = tables()
    rows = given["03_metrics"]["metric"] == "Dice"
    given["03_metrics"].loc[rows, list(changed)] = list(changed.values())
    given["03_metrics"].loc[rows, ["value", "low", "high"]] += 0.01 * seed
    return given.__getitem__


def over(networks):
    return ledger(measured(0), networks).set_index("measure").loc["Dice"]


def test_a_network_whose_interval_has_no_width_leaves_the_measure_open():
    networks = [measured(seed) for seed in SEEDS]
    assert over(networks)["networks_holds"] is True
    found = over([*networks[:4], measured(4, low=0.6, high=0.6)])
    assert found["networks_value"] == pytest.approx(0.62) and found["networks_holds"] is None
    assert found["networks_text"] == "Dice 0.62, SD 0.02, an interval in 4 of 5 networks"


def test_there_is_nothing_to_judge_only_if_no_network_has_a_lesion():
    def without(seed):
        read = measured(seed)
        return lambda name: read(name).iloc[:0] if name == "03_annotated" else read(name)

    networks = [measured(seed) for seed in SEEDS]
    assert over([without(0), *networks[1:]])["networks_verdict"] == "reproduced"
    assert over([without(seed) for seed in SEEDS])["networks_verdict"] == "nothing to judge"


@pytest.mark.parametrize("interaction", [0.0, 1.0])
def test_the_interval_covers_the_mean_of_all_networks_and_patients(interaction):
    """Crossed random effects of 5 networks and 8 patients; patients alone cover too little."""
    generator, simulations = np.random.default_rng(0), 2000
    networks, patients = (generator.normal(size=(simulations, *shape)) for shape in ((5, 1), (1, 8)))
    values = networks + patients + interaction * generator.normal(size=(simulations, 5, 8))
    mean = values.mean(2)
    margin = student_t.ppf(0.975, 7) * values.std(2, ddof=1) / np.sqrt(8)
    _, low, high = over_networks(mean.T, (mean - margin).T, (mean + margin).T)
    assert np.mean((low <= 0) & (high >= 0)) > 0.94
    assert np.mean(np.abs(mean[:, 0]) <= margin[:, 0]) < 0.9


def run_of(folder, seed, change=0.0):
    """Tables of a run whose Dice depends on the seed of its network, as `make paper` writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    given = tables()
    rows = given["03_metrics"]["metric"] == "Dice"
    given["03_metrics"].loc[rows, ["value", "low", "high"]] += 0.02 * seed + change
    for name, table in given.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    return given


@pytest.fixture
def figures(tmp_path):
    """A run, and the sweep of networks of which it is one."""
    points = []
    of_all = {name: [] for name in run_of(tmp_path / "run", 0)}
    for seed in SEEDS:
        given = run_of(tmp_path / f"{seed}", seed)
        files = {name: digest(tmp_path / f"{seed}" / f"{name}.csv") for name in given}
        points.append({"point": f"seed {seed}", "folder": f"{seed}", "tables": files})
        for name, table in given.items():
            of_all[name].append(table.assign(**{"point": f"seed {seed}", "02_training.seed": seed}))
    sweep = tmp_path / "run" / "sweeps" / "networks"
    sweep.mkdir(parents=True)
    for name, parts in of_all.items():
        pd.concat(parts).to_csv(sweep / f"{name}.csv", index=False, float_format="%.6g")
    (sweep / "sweep.json").write_text(json.dumps({"points": points}))
    return tmp_path / "run"


def test_the_ledger_gives_the_run_and_the_mean_of_its_networks_side_by_side(figures):
    rows = judge(figures).set_index("measure")
    alone = ledger(tables().__getitem__).set_index("measure")
    assert rows["text"].tolist() == alone["text"].tolist() and rows["verdict"].tolist() == alone["verdict"].tolist()
    dice, values = rows.loc["Dice"], 0.6 + 0.02 * np.array(SEEDS)
    margin = np.hypot(0.05, student_t.ppf(0.975, 4) * values.std(ddof=1) / np.sqrt(5))
    found = dice[["networks_value", "networks_low", "networks_high", "networks_sd"]].tolist()
    assert found == pytest.approx([0.64, 0.64 - margin, 0.64 + margin, values.std(ddof=1)])
    assert (dice["holds"], dice["networks_holds"], dice["networks"]) == (True, None, 5)
    assert dice["networks_text"] == "Dice 0.64 (0.58 to 0.70), SD 0.03"
    assert rows.loc["TP over FP", "networks_high"] <= 1
    half = "MPRAGE contrast that finds half of 5 mm lesions"
    assert rows.loc[half, "networks_text"] == f"{half} no common mean, an interval in 0 of 5 networks"
    assert rows.loc["TP", "networks_text"] == "TP 80 lesions (80 to 80), SD 0"


def test_the_table_leads_with_the_verdict_over_networks(figures):
    lines = markdown(judge(figures), "").splitlines()
    assert lines[0].startswith(
        "| claim | paper | mean of 5 networks, SD between them | verdict | this run | n | verdict |"
    )
    assert lines[1].count("---") == lines[0].count("|") - 1
    first = lines[2].split(" | ")
    assert first[3] == "inconclusive" and first[6] == "reproduced"
    names, _, first, *_ = summary(judge(figures), "").splitlines()
    assert names.startswith("| claim | paper | mean of 5 networks (95 % interval) | verdict | this run alone |")
    assert first.split(" | ")[2:5] == ["Dice 0.64 (0.58 to 0.70)", "**inconclusive**", "reproduced"]


def test_a_sweep_of_another_run_is_left_out_and_said(figures, capsys):
    run_of(figures, 0, change=0.001)
    assert network_readers(figures) == {}
    assert "left out: none of its networks has the tables of this run" in capsys.readouterr().err
    assert "networks" not in judge(figures)


def test_a_claim_whose_notebook_the_sweep_has_not_run_is_judged_by_this_run_alone(figures):
    record = json.loads((figures / "sweeps" / "networks" / "sweep.json").read_text())
    for point in record["points"]:
        del point["tables"]["09_detection"]
    (figures / "sweeps" / "networks" / "sweep.json").write_text(json.dumps(record))
    rows = judge(figures)
    errors = rows[rows["claim"] == "C9"]
    assert set(errors["networks_verdict"]) == set(errors["networks_text"]) == {"not in the sweep"}
    *_, first, line = markdown(rows, "").splitlines()
    assert line.split(" | ")[2:4] == ["not in the sweep"] * 2 and " | reproduced | " in line
    assert line.count("|") == first.count("|")
    assert " | this run: F1, after - before " in summary(rows, "").splitlines()[-1]


def test_a_network_that_failed_is_not_counted(figures):
    record = json.loads((figures / "sweeps" / "networks" / "sweep.json").read_text())
    record["points"][3] |= {"folder": "failed", "tables": {}}
    (figures / "sweeps" / "networks" / "sweep.json").write_text(json.dumps(record))
    assert set(judge(figures)["networks"]) == {4}


def test_the_sweep_of_networks_collects_every_table_that_is_judged():
    import yaml

    read = set()
    ledger(lambda name: read.add(name) or tables()[name])
    assert read <= set(yaml.safe_load((ROOT / "notebooks" / "sweeps" / "networks.yml").read_text())["tables"])
