"""Detection of errors: closed forms, and nothing found where there is nothing to find."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from lib.errors import classifier
from lib.errors.classifier import (
    ADDED,
    WITH,
    WITHOUT,
    best_removal,
    fit_classifier,
    judge_predictors,
    reason_not_to_judge,
    removal_rates,
    resampled_aucs,
)

RESAMPLING = {"n_resamples": 200}


def lesions(seed, patients=6, each=12, apart=0.0):
    """Rows of drawn lesions with predictors x, whose means of TP and FP are so far apart, and noise; and missed lesions."""
    generator = np.random.default_rng(seed)
    subject = np.repeat([f"{seed}-{number}" for number in range(patients)], each)
    true = np.tile(np.arange(each) % 2 == 0, patients)
    x, noise = generator.normal(size=(2, len(true)))
    table = pd.DataFrame(
        {"subject": subject, "kind": np.where(true, "TP", "FP"), "x": x + apart * true, "noise": noise}
    )
    missed = pd.DataFrame({"subject": np.unique(subject), "kind": "FN"})
    table = pd.concat([table.assign(drawn=True), missed.assign(drawn=False)], ignore_index=True)
    return table.assign(weight=1.0)


def judged(apart, predictors, n_permutations=1):
    given = {"n_permutations": n_permutations, "n_resamples": 200, "generator": np.random.default_rng(0)}
    scores, detection, models, coefficients = judge_predictors(
        lesions(1, 4, apart=apart), lesions(2, 8, apart=apart), predictors, **given
    )
    return detection.set_index(["predictors", "measure"]), models, coefficients


def test_separable_lesions_are_told_apart_and_removing_the_false_leaves_the_true(monkeypatch):
    monkeypatch.setattr(classifier, "PENALTIES", [0.1, 1.0])
    found, models, coefficients = judged(50.0, {WITHOUT: ["noise"], WITH: ["noise", "x"]})
    rows = found.loc[WITH]
    assert rows.loc[["AUC", "AUC within patients", "PPV, after"], "value"].tolist() == [1, 1, 1]
    assert rows.loc["PPV, after - before", "value"] == pytest.approx(0.5)
    assert rows.loc["F1, before", "value"] == pytest.approx(2 * 48 / (2 * 48 + 48 + 8))
    assert rows.loc["F1, after", "value"] == pytest.approx(2 * 48 / (2 * 48 + 8))
    assert rows.loc[ADDED, "value"] == pytest.approx(1 - found.loc[(WITHOUT, "AUC"), "value"])
    assert rows.loc["AUC", "patients"] == 8 and rows.loc["AUC", "lesions"] == 96
    assert coefficients.query("predictors == @WITH and predictor == 'x'")["coefficient"].item() > 0
    assert models["offered"].tolist() == [1, 2]


def test_without_a_predictor_there_is_no_interval_and_no_p(monkeypatch):
    monkeypatch.setattr(classifier, "PENALTIES", [1e-6])
    found, models, _ = judged(0.0, {"noise": ["noise"]})
    assert models["used"].tolist() == [0]
    for measure in ("AUC", "AUC within patients"):
        assert found.loc[("noise", measure), "value"] == 0.5
        assert found.loc[("noise", measure), ["low", "high", "p"]].isna().all()


def test_nothing_is_found_in_shuffled_kinds_though_there_is_something_to_find(monkeypatch):
    monkeypatch.setattr(classifier, "PENALTIES", [0.1, 1.0])
    found, _, _ = judged(1.5, {"saliency": ["x", "noise"]}, n_permutations=25)
    auc = found.loc[("saliency", "AUC")]
    assert auc["value"] > 0.75 and auc["p"] == pytest.approx(1 / 26)
    for measure in ("AUC", "AUC within patients"):
        assert found.loc[("saliency", measure), "shuffled"] == pytest.approx(0.5, abs=0.05)


def test_a_patient_is_predicted_by_a_classifier_that_has_not_seen_it(monkeypatch):
    """Its own kinds change nothing of its predictions, those of others do."""
    monkeypatch.setattr(classifier, "PENALTIES", [1.0])
    table = lesions(3, apart=1.0).query("drawn")
    own = table["subject"] == "3-0"
    changed = table.assign(kind=table["kind"].where(~own, table["kind"].map({"TP": "FP", "FP": "TP"})))
    (_, before), (_, after) = (fit_classifier(one, ["x", "noise"]) for one in (table, changed))
    np.testing.assert_array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).all()


def test_auc_is_that_of_scikit_learn_with_ties_and_in_a_resample_that_of_its_rows():
    generator = np.random.default_rng(4)
    subject, true = np.repeat(["a", "b", "c"], 10), generator.random(30) < 0.5
    scores = generator.integers(0, 4, size=(2, 30)) + true
    given = {"within": False, "n_resamples": 5}
    values, resampled = resampled_aucs(scores, true, subject, **given, generator=np.random.default_rng(0))
    assert values == pytest.approx([roc_auc_score(true, score) for score in scores])
    drawn = np.random.default_rng(0).multinomial(3, [1 / 3] * 3, 5)
    rows = [np.concatenate([np.flatnonzero(subject == name) for name in np.repeat(["a", "b", "c"], n)]) for n in drawn]
    expected = [[roc_auc_score(true[sample], score[sample]) for score in scores] for sample in rows]
    np.testing.assert_allclose(resampled, expected)


def test_within_patients_only_pairs_of_one_patient_count():
    """All lesions of a are above all of b, and say nothing of which are true in either."""
    subject, true = np.repeat(["a", "b"], 4), np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    score = np.where(subject == "a", 10.0, 0.0)
    given = {"n_resamples": 10, "generator": np.random.default_rng(0)}
    assert resampled_aucs([score], true, subject, within=True, **given)[0] == [0.5]
    assert resampled_aucs([score], true, subject, within=False, **given)[0] > [0.5]


@pytest.fixture
def weighted():
    """Two drawn TP and FP, one of each not to keep, which stand for two and three; a large FP and a missed lesion."""
    return pd.DataFrame({
        "subject": ["a", "a", "b", "b", "b", "a"],
        "kind": ["TP", "TP", "FP", "FP", "FP", "FN"],
        "drawn": [True, True, True, True, False, False],
        "weight": [2.0, 2.0, 3.0, 3.0, 1.0, 1.0],
    })  # fmt: skip


def test_a_removed_true_lesion_is_missed_and_what_is_not_drawn_is_kept(weighted):
    kept = pd.Series([True, False, True, False])
    found = removal_rates(weighted, kept, **RESAMPLING, generator=np.random.default_rng(0))
    values = {name: numbers[0] for name, numbers in found.items()}
    assert values["F1, before"] == pytest.approx(8 / (8 + 7 + 1)) and values["PPV, before"] == pytest.approx(4 / 11)
    assert values["F1, after"] == pytest.approx(4 / (4 + 4 + 3)) and values["PPV, after"] == pytest.approx(2 / 6)
    assert values["F1, after - before"] == pytest.approx(values["F1, after"] - values["F1, before"])


def test_the_threshold_removes_what_improves_f1_and_no_more(weighted):
    assert best_removal(weighted, pd.Series([0.9, 0.6, 0.5, 0.1])) == 0.6
    assert best_removal(weighted, pd.Series([0.1, 0.1, 0.5, 0.9])) == 0.0


def test_what_cannot_be_judged_says_why():
    fitted, tested = lesions(1), lesions(2)
    assert reason_not_to_judge(fitted, tested) == ""
    one = fitted[fitted["subject"] == "1-0"]
    said = reason_not_to_judge(one, tested)
    assert said.endswith("TP of 1 validation and 6 test patients and FP of 1 validation and 6 test patients")
    for bare in (fitted.iloc[:0], fitted[fitted["kind"] != "FP"]):
        assert reason_not_to_judge(bare, tested) and reason_not_to_judge(fitted, bare)


def test_within_patients_those_of_both_kinds_count_and_without_any_there_is_no_p(monkeypatch):
    monkeypatch.setattr(classifier, "PENALTIES", [1.0])
    fitted, tested = lesions(1), lesions(2)
    first, second, *_ = tested["subject"].unique()
    kinds = tested["kind"].mask((tested["subject"] != first) & (tested["kind"] == "TP"), "FN")
    for kept, patients in ((True, 1), (False, 0)):
        one = tested.assign(kind=kinds if kept else kinds.mask((tested["subject"] == first) & (kinds == "FP"), "FN"))
        one = one.assign(drawn=one["drawn"] & (one["kind"] != "FN"))
        options = {**RESAMPLING, "n_permutations": 2, "generator": np.random.default_rng(0)}
        _, found, *_ = judge_predictors(fitted, one, {"saliency": ["x"]}, **options)
        within = found.set_index("measure").loc["AUC within patients"]
        assert within["patients"] == patients
        assert np.isnan(within[["value", "p"]].astype(float)).tolist() == [not patients] * 2
