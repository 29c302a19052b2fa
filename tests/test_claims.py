"""The claims table: every number is read from the tables of a run."""

import pandas as pd
import pytest

from lib import claims
from lib.provenance import ROOT

TABLES = {
    "03_metrics": pd.DataFrame(
        [(name, value, value - 0.1, value + 0.1) for name, value in zip(
            ("Dice", "nDSC", "F1", "TPR", "PPV", "FDR", "FNR", "TP", "FP", "FN"),
            (0.5, 0.6, 0.7, 0.8, 0.65, 0.35, 0.2, 80, 40, 20), strict=True)],
        columns=["metric", "value", "low", "high"],
    ),
    "04_saliency": pd.DataFrame(
        [("sub-1", label, kind, "smoothgrad_max", sequence, peak, inside, around)
         for label, kind, sequence, peak, inside, around in (
            (1, "TP", "FLAIR", 3.0, 1.0, -0.5), (1, "TP", "MPRAGE", -1.0, -0.2, 0.1), (2, "TP", "FLAIR", 1.0, 0.5, 0.2),
            (2, "TP", "MPRAGE", -2.0, -0.2, 0.1), (1, "FP", "FLAIR", 2.5, 0.5, 0.0), (1, "FN", "FLAIR", 0.5, 0.1, 0.0))],
        columns=["scan", "label", "kind", "method", "sequence", "peak", "mean_inside", "mean_perilesional"],
    ),
    "04_profile": pd.DataFrame(
        [("smoothgrad_max", "FLAIR", "TP", distance, mean, mean - 0.1, mean + 0.1)
         for distance, mean in ((-1.5, 0.4), (-0.5, 0.8), (0.5, 0.1), (1.5, -0.2), (2.5, 0.0))],
        columns=["method", "sequence", "kind", "distance_mm", "mean", "low", "high"],
    ),
    "04_tests": pd.DataFrame({"method": "smoothgrad_max", "sequence": "FLAIR", "p_holm": [0.0001, 0.5, float("nan")]}),
    "05_response": pd.DataFrame(
        {"contrast": [0.0, 3.0, 3.0, 3.0, 3.0], "sequences": ["FLAIR", "FLAIR", "FLAIR", "MPRAGE", "both"]}
        | {"detected": [0.0, 0.5, 1.0, 0.0, 1.0], "n": [10, 10, 10, 20, 20]}
    ),
    "05_changes": pd.DataFrame({"change": ["none", "FLAIR removed", "FLAIR removed"], "detected": [True, False, True]}),
    "06_plateau": pd.DataFrame(
        {"scan": ["sub-1", "all", "all"], "label": ["1", "fraction", "score"]}
        | {"radius95_mm": [3.0, 4.0, 9.0], "low": [float("nan"), 3, 8], "high": [float("nan"), 5, 10]}
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ("C1", "Dice 0.50 (0.40 to 0.60), nDSC 0.60 (0.50 to 0.70)"),
        ("C2", "80 TP, 40 FP, 20 FN; TPR 0.80 (0.70 to 0.90)"),
        (
            "C3",
            "+0.800 (+0.700 to +0.900) logit per z-score just inside the border; lowest outside -0.200 (-0.300 to -0.100)",
        ),
        ("C4", "2.000 in FLAIR, 1.500 in MPRAGE; larger in FLAIR in 1 of 2 lesions"),
        ("C5", "FP 2.500 > TP 2.000 > FN 0.500; 1 of 2 pairs differ"),
        ("C6", "inserted at 3 z-scores, detected: FLAIR 15 of 20, MPRAGE 0 of 20, both 20 of 20"),
        ("C6", "FLAIR removed 1 of 2"),
        ("C7", "4 (3 to 5) mm (detected lesions), 9 (8 to 10) mm (mean score)"),
    ],
)
def test_each_claim_says_what_the_tables_say(claim, expected):
    table = claims.claims_table(TABLES.__getitem__).set_index("claim")
    assert expected in table.loc[claim, "this_run"]


def test_the_readme_shows_the_committed_default_run():
    folder = ROOT / "figures" / "demo"
    if not (folder / "claims.csv").exists():
        pytest.skip("needs figures/demo of `make paper`")
    table = claims.claims_table(lambda name: pd.read_csv(folder / f"{name}.csv", dtype={"subject": str}))
    assert claims.markdown(table, "figures/demo/") in (ROOT / "README.md").read_text()
