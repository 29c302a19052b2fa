"""The model card says what the tables say."""

import json

import pandas as pd
import pytest
import torch

from lib.network.architectures import build_network
from lib.network.weights import load_weights, save_weights
from lib.run.model_card import write_card

ARCHITECTURE = {"name": "unet", "channels": [4, 8], "strides": [2]}


@pytest.fixture
def run(tmp_path):
    """Build and figures of a finished training, as notebooks 1 to 3 leave them."""
    build, figures = tmp_path / "build", tmp_path / "figures"
    figures.mkdir()
    torch.manual_seed(0)
    save_weights(
        build_network(**ARCHITECTURE), build / "weights" / "unet.safetensors", architecture=ARCHITECTURE, threshold=0.35, outline=0.2,
        parameters=1234, step=40, validation_dice=0.6125, initial=None, window=48, mirrored=True,
    )  # fmt: skip
    parameters = {"steps": 60, "scans_per_step": 2, "patches_per_scan": 3, "patch_sizes": [32], "loss": "dice_ce"}
    record = {
        "parameters": parameters | {"learning_rate": 0.002, "seed": 5, "averaged_steps": 20},
        "commit": "abc",
        "versions": {"torch": "9.1", "monai": "8.2"},
    }
    (figures / "02_loss.json").write_text(json.dumps(record))
    pd.DataFrame({"split": ["train", "test"], "scans": [17, 2]}).to_csv(figures / "01_split.csv", index=False)
    scans = {"scan": ["sub-1", "sub-2"], "subject": ["1", "2"], "session": "", "dice": [0.5, 0.7], "ndsc": [0.4, 0.6]}
    pd.DataFrame(scans | {"tp": [8, 1], "fp": [2, 3], "fn": [2, 0]}).to_csv(figures / "03_scans.csv", index=False)
    return build, figures


def test_the_card_carries_training_and_tests(run, tmp_path):
    write_card(*run, tmp_path / "out", run[1])
    card = (tmp_path / "out" / "README.md").read_text()
    for text in (
        "1,234 weights",
        "reaches a probability of 0.35",
        "outlined at 0.2",
        "patches of 48 voxels, each also with left and right exchanged.",
        "17 scans",
        "60 steps of 6 patches of 32 voxels",
        "loss `dice_ce`",
        "over the last 20 the rate is a third",
        "step 40",
        "Commit abc",
    ):
        assert text in card
    assert card.count("| sub-1 | 0.50 | 0.40 | 0.80 | 8 | 2 | 2 |") == 2  # synthetic scans, and those given as real
    assert card.count("| mean; sum | 0.60 | 0.50 | 0.72 | 9 | 5 | 2 |") == 2
    assert "{" not in card.replace('{"name"', "").replace("[2]}", "")


def test_the_card_names_the_weights_that_a_training_went_on_from(run, tmp_path):
    file = run[0] / "weights" / "unet.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"initial": "12ab"}))
    write_card(*run, tmp_path)
    assert "From earlier weights (digest 12ab): 60 steps" in (tmp_path / "README.md").read_text()


def test_the_weights_are_copied_with_their_description(run, tmp_path):
    write_card(*run, tmp_path / "out")
    copied, description = load_weights(tmp_path / "out" / "unet.safetensors")
    original, _ = load_weights(run[0] / "weights" / "unet.safetensors")
    assert description["threshold"] == 0.35
    for one, other in zip(copied.state_dict().values(), original.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert "Scans of patients" not in (tmp_path / "out" / "README.md").read_text()
