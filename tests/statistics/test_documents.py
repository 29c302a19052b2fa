"""What documents say of the sanity checks is what the tables say."""

import pandas as pd

from lib.statistics.documents import checks, counted

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


def test_one_is_counted_in_the_singular():
    assert [counted(n, "lesion") for n in (0, 1.0, 2)] == ["0 lesions", "1 lesion", "2 lesions"]


def found(infidelity=INFIDELITY, n_samples=6):
    given = {("04_saliency", "n_samples"): n_samples}
    given |= {("07_infidelity", "n_samples"): 4, ("07_infidelity", "n_perturbations"): 50}
    tables = {"07_infidelity": infidelity, "08_convergence": CONVERGENCE}
    return checks(tables.__getitem__, lambda *names: given[names], "figures/demo/")


OF_INFIDELITY = (
    "[infidelity](figures/demo/07_infidelity.csv), 1 for a map of zeros, 0.98 on average for one that tells nothing)",
    "0.93 (0.90 to 0.96) for SmoothGrad of the 4 noisy copies of notebook 7",
    "0.93 (0.87 to 0.97) for the bare lesion mask and 0.98",
    "(5 lesions, 4 patients)",
)
OF_ERROR = ("With the 6 noisy copies of notebook 4", "is 16 to 19 % of the map's largest magnitude (2 lesions)")


def test_the_sentences_have_the_numbers_of_the_tables():
    assert all(text in found() for text in OF_INFIDELITY + OF_ERROR)


def test_one_sentence_does_without_the_other():
    assert all(text in found(n_samples=7) for text in OF_INFIDELITY) and "standard error" not in found(n_samples=7)
    without = found(INFIDELITY.iloc[:0])
    assert all(text in without for text in OF_ERROR) and "infidelity" not in without


def test_one_patient_has_no_interval():
    alone = found(INFIDELITY.assign(low=None, high=None, lesions=1, patients=1).astype({"low": float, "high": float}))
    assert "is 0.93 for SmoothGrad" in alone
    assert "0.98 for the SmoothGrad map with its values in random places (1 lesion, 1 patient)" in alone


def test_nothing_is_said_where_no_lesion_was_checked():
    assert found(INFIDELITY.iloc[:0], n_samples=7) == ""
