"""Metrics against voxel loops, closed forms and the paper's own counts."""

import numpy as np
import pytest

from lib.lesions.metrics import dice, lesion_rates, normalised_dice, scan_metrics


@pytest.fixture
def masks():
    generator = np.random.default_rng(0)
    return generator.random((2, 8, 9, 10)) > np.array([0.9, 0.85])[:, None, None, None]


def counts(prediction, annotation):
    pairs = list(zip(prediction.ravel(), annotation.ravel(), strict=True))
    return [sum(1 for pair in pairs if pair == want) for want in ((True, True), (True, False), (False, True))]


def test_dice_equals_the_voxel_loop(masks):
    tp, fp, fn = counts(*masks)
    assert dice(*masks) == pytest.approx(2 * tp / (2 * tp + fp + fn))


def test_normalised_dice_equals_the_papers_formula(masks):
    tp, fp, fn = counts(*masks)
    k = 0.999 * (tp + fn) / (0.001 * (720 - tp - fn))
    assert normalised_dice(*masks) == pytest.approx(2 * tp / (2 * tp + k * fp + fn))


def test_normalised_dice_is_dice_at_the_reference_load(masks):
    assert normalised_dice(*masks, r=masks[1].mean()) == pytest.approx(dice(*masks))


def test_normalised_dice_over_the_brain_does_not_depend_on_the_air_around_it():
    """By hand: 3 TP, 2 FP, 1 FN and 1000 voxels of brain; air adds to V of the whole volume alone."""
    prediction, annotation, brain = np.zeros((3, 10, 10, 20), bool)
    brain[:, :, :10] = True
    annotation[0, 0, :4] = prediction[0, 0, 1:4] = prediction[5, 5, :2] = True
    k = 0.999 * 4 / (0.001 * (1000 - 4))
    for air in (0, 30):
        masks = [np.pad(mask, air) for mask in (prediction, annotation, brain)]
        found = scan_metrics(*masks)
        assert found["ndsc"] == pytest.approx(6 / (6 + k * 2 + 1))
        k_whole = 0.999 * 4 / (0.001 * (masks[0].size - 4))
        assert found["ndsc_whole_volume"] == pytest.approx(6 / (6 + k_whole * 2 + 1))


def test_normalised_dice_over_the_brain_counts_nothing_in_the_air():
    """A perfect prediction, and four voxels more outside the brain, of which one is annotated."""
    prediction, annotation, brain = np.zeros((3, 10, 10, 20), bool)
    brain[:, :, :10] = True
    annotation[0, 0, :4] = prediction[0, 0, :4] = annotation[5, 5, 15] = prediction[5, 5, 14:18] = True
    found = scan_metrics(prediction, annotation, brain)
    assert (found["ndsc"], found["ndsc_whole_volume"] < 1, found["dice"]) == (1, True, pytest.approx(10 / 13))


def test_normalised_dice_does_not_depend_on_load_at_equal_rates():
    """Half of the lesion found and 1 % of the rest marked, at a load of 10 % and of 1 %."""
    scores = []
    for lesion in (1000, 100):
        annotation, prediction = np.zeros((2, 10000), bool)
        annotation[:lesion] = True
        prediction[: lesion // 2] = True
        prediction[lesion : lesion + (10000 - lesion) // 100] = True
        scores.append(normalised_dice(prediction, annotation))
    assert scores[0] == pytest.approx(scores[1])


@pytest.mark.parametrize("score", [dice, normalised_dice])
@pytest.mark.parametrize(
    ("prediction", "annotation", "expected"),
    [("none", "none", 1), ("all", "none", 0), ("none", "all", 0), ("all", "all", 1), ("one", "none", 0)],
)
def test_empty_and_full_masks(score, prediction, annotation, expected):
    masks = {
        "none": np.zeros((2, 2, 2), bool),
        "all": np.ones((2, 2, 2), bool),
        "one": np.arange(8).reshape(2, 2, 2) == 1,
    }
    assert score(masks[prediction], masks[annotation]) == expected


def test_masks_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(1, 2\)"):
        dice(np.ones((2, 2)), np.ones((1, 2)))


@pytest.mark.parametrize("r", [0, 1, -0.1])
def test_reference_load_must_be_a_fraction(r):
    with pytest.raises(ValueError, match=f"r is {r}"):
        normalised_dice(np.ones(3), np.ones(3), r=r)


def test_rates_of_the_papers_counts():
    rates = lesion_rates(3050, 1818, 789)
    assert {name: round(rate, 2) for name, rate in rates.items()} == {
        "F1": 0.70,
        "TPR": 0.79,
        "PPV": 0.63,
        "FDR": 0.37,
        "FNR": 0.21,
    }
    assert rates["F1"] == pytest.approx(0.7006, abs=5e-5)
    assert rates["PPV"] == pytest.approx(0.6265, abs=5e-5)


def test_rates_without_denominator_are_nan():
    assert np.isnan(list(lesion_rates(0, 0, 0).values())).all()
    rates = lesion_rates(0, 0, 3)
    assert np.isnan(rates["PPV"]) and rates["TPR"] == 0 and rates["FNR"] == 1 and rates["F1"] == 0


def test_scan_metrics_count_instances_of_each_side():
    """Three predictions in one lesion, one prediction over two lesions, one FP, one FN."""
    prediction, annotation = np.zeros((2, 30, 5, 5), bool)
    annotation[0:6, 2, 2] = prediction[[0, 2, 5], 2, 2] = True
    prediction[10:16, 2, 2] = annotation[[10, 15], 2, 2] = True
    prediction[20, 2, 2] = True
    annotation[25, 2, 2] = True
    metrics = scan_metrics(prediction, annotation, np.ones_like(annotation))
    assert (metrics["tp"], metrics["fp"], metrics["fn"]) == (4, 1, 1)
    assert metrics["dice"] == pytest.approx(2 * 5 / (10 + 9))
    assert metrics["ndsc"] == metrics["ndsc_whole_volume"] == normalised_dice(prediction, annotation)


def test_scan_without_lesion_and_prediction_is_perfect():
    empty = np.zeros((3, 3, 3), bool)
    scores = {"dice": 1, "ndsc": 1, "ndsc_whole_volume": 1}
    assert scan_metrics(empty, empty, ~empty) == scores | {"tp": 0, "fp": 0, "fn": 0}
