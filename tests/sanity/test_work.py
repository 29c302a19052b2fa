"""Items of work of notebook 7: what each check finds of one lesion, under its own seed, with its facts."""

import numpy as np
import pandas as pd
import pytest
from literal import SHAPE, block, random_unet, scan

from lib.saliency.maps import lesion_generator
from lib.sanity.checks import explain_lesion, infidelity
from lib.sanity.randomisation import weight_randomisation
from lib.sanity.relabelling import compare_networks
from lib.sanity.work import compare_labels, draw_weights, explain_case, leak, measure_infidelity, perturb

MODEL, IMAGE, SPACING_MM = random_unet(), scan(SHAPE)[0].numpy(), (1.0, 1.0, 2.0)
BASELINE, LABELS = 0 * IMAGE, 3 * block(SHAPE, (10, 11, 12)) + 4 * block(SHAPE, (4, 4, 4))
FACTS = {"subject": "1", "scan": "sub-1", "label": 3}
NOISE = {"n_samples": 2, "noise_fraction": 0.05, "statistics": "exact"}


def scene(name, label):
    assert (name, label) == ("sub-1", 3)
    return IMAGE, BASELINE, LABELS, SPACING_MM


GIVEN = {"scene": scene, "noise": NOISE, "seed": 7}


@pytest.fixture(scope="module")
def case():
    return explain_case(FACTS, model=MODEL, layer="model.1.submodule.2.conv", **GIVEN)


def assert_told(table, expected):
    """The table of a check, and the facts behind it."""
    assert list(table)[-3:] == list(FACTS)
    assert table[list(FACTS)].drop_duplicates().to_dict("records") == [FACTS]
    pd.testing.assert_frame_equal(table.drop(columns=list(FACTS)), expected)


def test_a_case_is_the_lesion_of_the_label_under_its_own_seed(case):
    given = MODEL, IMAGE, LABELS == 3, BASELINE, SPACING_MM
    expected = explain_lesion(*given, **NOISE, layer="model.1.submodule.2.conv", seed=[7, "sub-1", 3])
    np.testing.assert_array_equal(case["first"][0], expected["first"][0])
    np.testing.assert_array_equal(case["second"][1], expected["second"][1])
    assert (case["facts"], case["spacing_mm"]) == (FACTS, SPACING_MM)


def test_weights_and_networks_are_compared_under_the_seed_of_the_lesion(case):
    given, seed = (IMAGE, LABELS == 3, case["where"]), [7, "sub-1", 3]
    expected = weight_randomisation(MODEL, *given, most_layers=1, seed=seed, **NOISE)
    assert_told(draw_weights(case, model=MODEL, most_layers=1, **GIVEN), expected)
    networks = {"true": MODEL, "mirrored": random_unet(seed=1)}
    expected = compare_networks(case["first"][0], networks, *given, seed=seed, **NOISE)
    assert_told(compare_labels(case, networks=networks, **GIVEN), expected)


def test_scores_and_changes_are_of_the_maps_of_the_case(case):
    values = np.random.default_rng(0).permutation(case["first"][0].ravel())
    found = measure_infidelity((case, values), model=MODEL, n_perturbations=3, seed=7)
    maps = {
        "SmoothGrad": case["first"][0],
        "shuffled": values.reshape(case["first"][0].shape),
        "lesion mask": np.stack([case["lesion"]] * 2).astype(np.float32),
    }
    given = {"sigma": case["sigma"], "n_perturbations": 3, "generator": lesion_generator(9, "1", "sub-1", 3)}
    assert_told(found, infidelity(MODEL, case["volume"], case["lesion"], maps, **given))
    order = np.random.default_rng(1).random((2, *case["lesion"].shape))
    curves = perturb((case, order), model=MODEL, fractions=[0.1, 1], unit="log-odds")
    assert set(curves["of"]) == {"probability", "log-odds"}
    assert set(curves["order"]) == {"SmoothGrad", "Grad-CAM++", "distance", "random"}
    leaked = leak(case, model=MODEL, scene=scene)
    assert set(leaked["map"]) == {"SmoothGrad", "Grad-CAM++", "lesion mask"}
    assert (leaked["label"] == 3).all()
