"""The claims ledger: measures read from the tables of a run, judged by a rule that does not know them."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from lib import claims
from lib.claims import NEGATIVE, POSITIVE, Measure
from lib.provenance import ROOT


def saliency(kinds, flair, mprage, inside=1.0, around=-0.5):
    """Rows of 04_saliency: three lesions of each kind in each of four patients, with the peaks given for the kind."""
    rows = []
    for patient in range(4):
        for kind in kinds:
            for label in range(3):
                for sequence, peak in (("FLAIR", flair[kind]), ("MPRAGE", mprage)):
                    step = 0.01 * (label + patient)
                    rows.append(
                        (
                            f"{patient}",
                            f"sub-{patient}",
                            f"{kind}{label}",
                            kind,
                            sequence,
                            peak + step,
                            inside + step,
                            around - step,
                        )
                    )
    names = ["subject", "scan", "label", "kind", "sequence", "peak", "mean_inside", "mean_perilesional"]
    return pd.DataFrame(rows, columns=names).assign(method="smoothgrad_max")


def tables(**changes):
    """Tables of a run in which every claim of the paper holds."""
    rates = {
        "Dice": 0.6,
        "nDSC": 0.71,
        "F1": 0.7,
        "TPR": 0.79,
        "PPV": 0.63,
        "FDR": 0.37,
        "FNR": 0.2,
        "TP": 80,
        "FP": 40,
        "FN": 20,
    }
    sites = [(f"{patient}", f"sub-{patient}", site, 3.0, 3.0, sequences, sequences != "MPRAGE")
             for patient in range(3) for site in range(2) for sequences in ("FLAIR", "MPRAGE", "both")]  # fmt: skip
    detected = {
        "none": True,
        "FLAIR removed": False,
        "MPRAGE removed": True,
        "both removed": False,
        "moved to grey matter": False,
    }
    changed = [
        (f"{patient}", f"sub-{patient}", 1, change, value) for patient in range(3) for change, value in detected.items()
    ]
    given = {
        "03_metrics": pd.DataFrame([(name, value, value - 0.05, value + 0.05, 4) for name, value in rates.items()],
                                   columns=["metric", "value", "low", "high", "patients"]),
        "03_annotated": pd.DataFrame({"scan": ["sub-1"] * 100}),
        "04_saliency": saliency(("TP", "FP", "FN", "TN"), {"TP": 4.0, "FP": 3.0, "FN": 2.0, "TN": 1.0}, -0.5),
        "04_ring": pd.DataFrame([("zero_crossing_mm", 1.2, 1.0, 1.4), ("ring_mm", 1.5, 1.5, 2.5), ("ring", -0.2, -0.3, -0.1)],
                                columns=["quantity", "value", "low", "high"]).assign(
                                    method="smoothgrad_max", sequence="FLAIR", kind="TP", lesions=12, patients=4),
        "05_insertions": pd.DataFrame(sites, columns=["subject", "scan", "site", "diameter_mm", "contrast", "sequences", "detected"]),
        "05_changes": pd.DataFrame(changed, columns=["subject", "scan", "label", "change", "detected"]),
        "06_plateau": pd.DataFrame({"scan": ["sub-1", "all", "all"], "label": ["1", "fraction", "score"], "radius95_mm": [3.0, 7.0, 13.0],
                                    "low": [np.nan, 6, 12], "high": [np.nan, 8, 14]}),
        "06_curve": pd.DataFrame({"lesions": [60], "patients": [8]}),
    }  # fmt: skip
    return given | changes


def verdicts(given):
    return claims.ledger(given.__getitem__).groupby("claim")["verdict"].first().to_dict()


def test_a_run_in_which_everything_is_as_in_the_paper_reproduces_it():
    assert set(verdicts(tables()).values()) == {"reproduced"}


def test_a_run_that_contradicts_a_claim_does_not_reproduce_it():
    reverse = saliency(("TP", "FP", "FN", "TN"), {"TP": 1.0, "FP": 2.0, "FN": 3.0, "TN": 4.0}, -9.0, inside=-1.0)
    plateau = tables()["06_plateau"].assign(radius95_mm=2.0, low=1.0, high=3.0)
    found = verdicts(tables(**{"04_saliency": reverse, "06_plateau": plateau}))
    assert {claim for claim, verdict in found.items() if verdict == "not reproduced"} == {"C3", "C4", "C5", "C7"}


def test_a_claim_without_enough_patients_or_kinds_is_inconclusive():
    one = tables()["04_saliency"].query("scan == 'sub-0' and kind == 'TP'")
    found = verdicts(tables(**{"04_saliency": one}))
    assert found["C3"] == found["C4"] == found["C5"] == "inconclusive"
    still = tables()["05_changes"].query("change != 'moved to grey matter'")
    assert verdicts(tables(**{"05_changes": still}))["C6"] == "inconclusive"


@pytest.mark.parametrize(
    ("low", "high", "expected", "covers", "holds"),
    [
        (0.1, 0.3, POSITIVE, False, True),
        (-0.1, 0.3, POSITIVE, False, None),
        (-0.3, -0.1, POSITIVE, False, False),
        (0.0, 0.0, POSITIVE, False, False),
        (-0.3, -0.1, NEGATIVE, False, True),
        (0.5, 0.7, (0.6, 0.6), True, True),
        (0.61, 0.7, (0.6, 0.6), True, False),
        (5, 7, (6, 8), True, True),
        (np.nan, np.nan, (6, 8), True, None),
        (0.1, 0.3, None, False, None),
    ],
)
def test_the_rule(low, high, expected, covers, holds):
    assert Measure("m", 0.0, low, high, 1, 1, expected=expected, covers=covers).holds is holds


def test_measures_say_what_the_tables_say():
    rows = claims.ledger(tables().__getitem__).set_index("measure")
    assert rows.loc["TPR", "text"] == "TPR 0.79 (0.74 to 0.84)"
    assert rows.loc["mean inside", "value"] == pytest.approx(
        1 + 0.01 * np.mean([label + patient for label in range(3) for patient in range(4)])
    )
    assert rows.loc["mean inside", ["lesions", "patients"]].tolist() == [12, 4]
    assert rows.loc["lowest shell outside, at 1.5 mm,", "value"] == -0.2
    assert "larger in FLAIR in 12 of 12 lesions" in rows.loc["absolute peak, FLAIR - MPRAGE,", "text"]
    assert rows.loc["Cliff's delta TP over FP", "value"] == 1
    assert rows.loc["changes sign at (mm)", "text"] == "changes sign at (mm) 1.2 (1.0 to 1.4)"
    steps = [0.01 * (label + patient) for label in range(3) for patient in range(4)]
    p = mannwhitneyu(4 + np.array(steps), 3 + np.array(steps)).pvalue  # the same for each of the six pairs
    assert f"Holm p = {6 * p:.2g}" in rows.loc["Cliff's delta TP over FP", "test"]
    assert rows.loc["FLAIR - MPRAGE", "value"] == 1
    assert rows.loc["moved to grey matter - unchanged", "value"] == -1


def test_every_row_of_the_markdown_has_its_verdict_and_file():
    text = claims.markdown(claims.ledger(tables().__getitem__), "figures/demo/").splitlines()
    assert len(text) == 2 + len(claims.CLAIMS)
    assert all("**reproduced**" in line and "](figures/demo/0" in line for line in text[2:])


def test_the_readme_shows_the_committed_default_run():
    folder = ROOT / "figures" / "demo"
    if not (folder / "claims.csv").exists():
        pytest.skip("needs figures/demo of `make paper`")
    table = claims.ledger(lambda name: pd.read_csv(folder / f"{name}.csv", dtype={"subject": str}))
    assert claims.markdown(table, "figures/demo/") in (ROOT / "README.md").read_text()
