"""The sentence on the sanity checks says what the tables say."""

import pandas as pd

from lib.statistics.checks import checks

INFIDELITY = pd.DataFrame(
    [
        ("all", "SmoothGrad", "relative", 0.931, 0.9, 0.96, 5, 4),
        ("all", "lesion mask", "relative", 0.926, 0.87, 0.97, 5, 4),
        ("all", "shuffled", "relative", 0.98, 0.96, 1.0, 5, 4),
        ("all", "SmoothGrad", "infidelity", 8.0, 7.0, 9.0, 5, 4),
        ("sub-1", "SmoothGrad", "relative", 0.5, None, None, None, None),
    ],
    columns=["scan", "map", "of", "value", "low", "high", "lesions", "patients"],
)
CONVERGENCE = pd.DataFrame(
    [
        (6, 0.157, "SmoothGrad max"),
        (6, 0.187, "SmoothGrad max"),
        (6, 0.5, "SmoothGrad mean"),
        (8, 0.1, "SmoothGrad max"),
    ],
    columns=["copies", "standard_error", "method"],
)


def found(infidelity=INFIDELITY, n_samples=6):
    return checks({"07_infidelity": infidelity, "08_convergence": CONVERGENCE}.__getitem__, n_samples, "figures/demo/")


def test_the_sentence_has_the_numbers_of_the_tables():
    for text in (
        "[infidelity](figures/demo/07_infidelity.csv)",
        "0.93 (0.90 to 0.96) for SmoothGrad, 0.93 (0.87 to 0.97) for the bare lesion mask and 0.98",
        "(5 lesions, 4 patients)",
        "With the 6 noisy copies",
        "is 16 to 19 % of its largest value (2 lesions)",
    ):
        assert text in found()


def test_nothing_is_said_where_no_lesion_was_checked():
    assert found(INFIDELITY.iloc[:0]) == found(n_samples=7) == ""
