"""Tables of an evaluation, against hand calculations."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from lib.lesions.evaluation import (
    THRESHOLDS,
    best_threshold,
    count_instances,
    detection_by_volume,
    metrics_table,
    threshold_curve,
    threshold_scores,
)
from lib.lesions.instances import label_instances, segment
from lib.lesions.metrics import scan_metrics

NONE = pd.DataFrame({"volume_mm3": [], "detected": [], "subject": []})


def resampling():
    return {"n_resamples": 500, "generator": np.random.default_rng(0)}


def test_counts_of_other_instances_are_those_of_their_tables():
    annotation, probability = np.zeros((2, 9, 9, 9))
    annotation[1, 1, 1] = annotation[2, 2, 2] = annotation[6, 6, 6] = 1  # the first two touch by a corner
    probability[1, 1, 1] = probability[1, 1, 4] = 0.9
    usual = {"neighbours": 18, "merged_mm": 0.0, "smallest_mm3": 0.0}
    definitions = [usual, usual | {"neighbours": 26}, usual | {"merged_mm": 3.0}, usual | {"smallest_mm3": 2.0}]
    scans = [(probability, annotation > 0, np.eye(4)), (probability, None, np.eye(4))]
    table = count_instances(scans, definitions, 0.5, 0.5)
    columns = ["predicted", "annotated", "TP", "FP", "FN"]
    assert table[columns].to_numpy().tolist() == [[4, 3, 1, 1, 2], [4, 2, 1, 1, 1], [2, 2, 1, 0, 1], [0, 0, 0, 0, 0]]
    assert table["neighbours"].tolist() == [18, 26, 18, 18]


def test_without_an_annotated_scan_there_is_no_metric_and_no_bin():
    scans = pd.DataFrame(columns=["subject", "dice", "ndsc", "ndsc_whole_volume", "tp", "fp", "fn"])
    table = metrics_table(scans, n_resamples=10, generator=np.random.default_rng(0))
    assert list(table) == ["metric", "value", "low", "high", "patients", "scans"]
    assert table.empty
    assert detection_by_volume(NONE, [1.0, 10.0], **resampling()).empty


def test_threshold_curve_is_the_mean_over_scans():
    annotation = np.zeros((10, 10, 10), bool)
    annotation[0, 0, :4] = True
    probability = np.zeros(annotation.shape)
    probability[0, 0, :2] = 0.9
    probability[0, 0, 2:4] = 0.4
    cases = [(probability, annotation), (probability * 0, annotation * False)]  # the second is empty in both: 1
    curve = threshold_curve(threshold_scores(*case, ~annotation) for case in cases)
    dice = curve["dice"][np.searchsorted(THRESHOLDS, [0.3, 0.45, 0.8, 0.95])]
    assert dice.tolist() == pytest.approx([1, (2 / 3 + 1) / 2, (2 / 3 + 1) / 2, (0 + 1) / 2])


def test_scores_are_those_of_the_segmentation_at_each_threshold():
    generator = np.random.default_rng(0)
    probability = ndimage.gaussian_filter(generator.random((16, 17, 18)), 1)
    probability = ((probability - probability.min()) / np.ptp(probability)) ** 2
    annotation = probability + 0.2 * generator.random(probability.shape) > 0.55
    annotated = label_instances(annotation)
    brain = generator.random(probability.shape) > 0.1
    scores = threshold_scores(probability, annotation, brain)
    curve = threshold_curve([scores])
    for j in (1, 7, 11, 13, 17, 23):
        threshold, outline = curve.loc[j, ["threshold", "outline"]]
        assert outline == min(threshold, 0.5)
        mask = segment(probability, threshold, outline)
        expected = scan_metrics(mask, annotation, brain) | {"tp": len(np.unique(annotated[mask & annotation]))}
        del expected["ndsc_whole_volume"]
        assert scores[j].tolist() == pytest.approx(list(expected.values()))
    assert len(np.unique(scores[12:, 0])) > 3


def test_a_lesion_predicted_in_pieces_is_found_once():
    annotation = np.zeros((10, 5, 5), bool)
    annotation[1:8, 2, 2] = True
    probability = np.where(annotation, 0.9, 0.0)
    probability[4, 2, 2] = 0.3
    at = np.searchsorted(THRESHOLDS, [0.2, 0.8])
    assert threshold_scores(probability, annotation, annotation)[at, 2:].tolist() == [[1, 0, 0]] * 2


def test_the_best_threshold_has_the_best_mean_of_dice_and_f1():
    curve = pd.DataFrame(
        {"threshold": [0.3, 0.9, 0.5, 0.99], "outline": [0.3, 0.5, 0.5, 0.5], "dice": [0.4, 0.5, 0.3, 0.1]}
        | {"ndsc": [0.9, 0.6, 0.9, 0.1], "f1": [0.5, 0.45, 0.6, 0.1]}
    )
    assert best_threshold(curve) == {"threshold": 0.9, "outline": 0.5, "dice": 0.5, "ndsc": 0.6, "f1": 0.45}


def test_of_thresholds_as_good_to_three_decimals_the_highest_is_the_best():
    curve = pd.DataFrame({"threshold": [0.3, 0.7, 0.9], "dice": [0.5004, 0.5, 0.5], "f1": [0.6, 0.6, 0.598]})
    assert best_threshold(curve)["threshold"] == 0.7


@pytest.mark.parametrize(("f1", "edge"), [([0.9, 0.5, 0.4], "0.3"), ([0.4, 0.5, 0.9], "0.9")])
def test_a_best_threshold_at_an_edge_of_those_tried_warns(f1, edge):
    with pytest.warns(UserWarning, match=f"the best threshold, {edge}, is at an edge .* 0.3 to 0.9"):
        best_threshold(pd.DataFrame({"threshold": [0.3, 0.7, 0.9], "dice": 0.5, "f1": f1}))


def test_a_threshold_between_saturated_probabilities_is_found():
    """True lesions of 0.9999, false ones of 0.999: no threshold on a scale of probability up to 0.99 parts them."""
    annotation = np.zeros((12, 5, 5), bool)
    annotation[1, 2, 2] = annotation[4, 2, 2] = True
    probability = np.where(annotation, 0.9999, 0.0)
    probability[7, 2, 2] = probability[10, 2, 2] = 0.999
    best = best_threshold(threshold_curve([threshold_scores(probability, annotation, ~annotation)]))
    assert 0.999 < best["threshold"] <= 0.9999
    assert (best["f1"], best["dice"], best["outline"]) == (1, 1, 0.5)


def test_f1_is_of_the_lesions_of_all_scans_and_no_lesion_is_no_error():
    annotation = np.zeros((12, 6, 6), bool)
    annotation[1, 1, 1] = annotation[4, 1, 1] = annotation[7, 1, 1] = True
    probability = np.where(annotation, 0.9, 0.0)
    probability[7, 1, 1], probability[10, 1, 1] = 0.0, 0.9  # one missed, one false
    empty = np.zeros(annotation.shape)
    brain = ~annotation
    curve = threshold_curve([threshold_scores(probability, annotation, brain), threshold_scores(empty, empty, brain)])
    f1 = curve["f1"][np.searchsorted(THRESHOLDS, [0.5, 0.95])]
    assert f1.tolist() == pytest.approx([2 * 2 / (2 * 2 + 1 + 1), 0])


def test_metrics_are_means_of_scans_and_rates_of_summed_counts():
    scans = pd.DataFrame(
        {"subject": ["a", "a", "b"], "dice": [0.2, 0.4, 0.9], "ndsc": [0.3, 0.5, 1.0], "ndsc_whole_volume": 0.8}
        | {"tp": [1, 2, 7], "fp": [1, 0, 4], "fn": [0, 5, 0]}
    )
    table = metrics_table(scans, n_resamples=200, generator=np.random.default_rng(0)).set_index("metric")
    expected = {
        "Dice": 0.5,
        "nDSC": 0.6,
        "nDSC, whole volume": 0.8,
        "F1": 20 / 30,
        "TPR": 10 / 15,
        "PPV": 10 / 15,
        "FDR": 5 / 15,
        "FNR": 5 / 15,
    }
    for name, value in (expected | {"TP": 10, "FP": 5, "FN": 5}).items():
        assert table.loc[name, "value"] == pytest.approx(value)
        assert table.loc[name, "low"] <= value <= table.loc[name, "high"]
    assert table.loc["Dice", ["low", "high"]].tolist() == pytest.approx([0.3, 0.9])  # patient a twice, patient b twice
    assert table[["patients", "scans"]].drop_duplicates().to_numpy().tolist() == [[2, 3]]


def test_detection_by_volume_counts_each_bin():
    annotated = pd.DataFrame({"volume_mm3": [1, 4, 5, 6, 30, 40], "detected": [False, True, True, True, True, False]})
    table = detection_by_volume(annotated.assign(subject=list("abcabc")), [0.5, 5, 10, 20, 50], **resampling())
    assert table["annotated"].tolist() == [3, 1, 2]
    assert table["detected"].tolist() == [2, 1, 1]
    assert table["volume_low_mm3"].tolist() == [0.5, 5, 20]
    assert table["patients"].tolist() == [3, 1, 2]
    varied = table.iloc[[0, 2]]
    assert ((varied["low"] < varied["fraction"]) & (varied["fraction"] <= varied["high"])).all()
    assert table.loc[1, ["low", "high"]].isna().all()  # one patient


def test_lesions_of_a_patient_that_are_alike_tell_less():
    detected = np.repeat([True, False, True, True, False, True, False, False], 10)
    table = pd.DataFrame({"volume_mm3": 7.0, "detected": detected})
    clustered, apart = (
        detection_by_volume(table.assign(subject=subject), [5, 10], **resampling()).iloc[0]
        for subject in (np.repeat(list("abcdefgh"), 10), np.arange(80).astype(str))
    )
    assert clustered["high"] - clustered["low"] > 2 * (apart["high"] - apart["low"])


@pytest.mark.parametrize("volume", [0.001, 0.008, 0.3, 100_001.0, 250_000.0])
def test_lesions_outside_the_bins_are_counted_in_bins_of_their_own(volume):
    annotated = pd.DataFrame({"volume_mm3": [1.0, 7.0, volume], "detected": [False, True, True], "subject": "a"})
    table = detection_by_volume(annotated, [0.5, 5, 10, 100_000], **resampling())
    assert table["annotated"].tolist() == [1, 1, 1]
    assert (table["volume_low_mm3"] > 0).all()
    row = table[table["volume_low_mm3"].le(volume) & table["volume_high_mm3"].ge(volume)]
    assert row[["annotated", "fraction"]].to_numpy().tolist() == [[1, 1]]


def test_without_a_lesion_there_is_no_bin():
    table = detection_by_volume(NONE, [0.5, 5, 10], **resampling())
    assert list(table)[:4] == ["volume_low_mm3", "volume_high_mm3", "annotated", "detected"]
    assert table.empty
