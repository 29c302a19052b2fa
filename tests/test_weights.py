"""The weights that come with the project: explained as the literal loop does, and as good as their card says."""

import re

import pytest
import torch
from literal import PLACES, block, generator, literal, relative_error

from lib.lesions.instances import segment
from lib.lesions.metrics import scan_metrics
from lib.network.inference import predict
from lib.network.weights import load_weights, prediction_settings
from lib.provenance import ROOT
from lib.saliency.gradients import smoothgrad
from lib.scans.images import load_scan

WEIGHTS = ROOT / "weights" / "unet.safetensors"


@pytest.fixture(scope="module")
def network():
    return load_weights(WEIGHTS)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_trained_weights_are_explained_as_by_the_literal_loop(network, place, aggregate):
    shape = (45, 41, 37)  # no multiple of the strides
    volume = torch.randn(1, 2, *shape, generator=generator(1))
    lesion = block(shape, PLACES[place], (2, 1, 2))
    options = {"n_samples": 2, "aggregate": aggregate}
    found = smoothgrad(network[0], volume, lesion, **options, generator=generator())
    assert relative_error(found, literal(network[0], volume, lesion, **options)) < 1e-5


def test_the_card_says_what_the_weights_do_on_a_real_scan(network, real_scans):
    model, description = network
    folder = real_scans / "open_ms_data" / "cross_sectional" / "MNI" / "patient19"
    files = zip(("flair", "t1w", "lesions"), ("FLAIR_*", "T1_*", "GOLD*"), strict=True)
    scan = load_scan({"scan": "sub-ljubljana19"} | {name: next(folder.glob(pattern)) for name, pattern in files})
    probability = predict(model, scan.image, **prediction_settings(description))
    found = scan_metrics(
        segment(probability, description["threshold"], description["outline"]), scan.lesions, scan.brain
    )
    dice = re.search(rf"\| {scan.id} \| ([\d.]+) \|", (WEIGHTS.parent / "README.md").read_text())
    assert found["dice"] == pytest.approx(float(dice.group(1)), abs=0.006)
