"""Weights that come back as they were saved, with their description."""

import json

import pytest
import torch

from lib.network.architectures import build_network
from lib.network.weights import load_weights, record_thresholds, recorded_outline, recorded_threshold, save_weights


@pytest.fixture
def saved(small, tmp_path):
    torch.manual_seed(0)
    model = build_network(**small).eval()
    path = tmp_path / "unet.safetensors"
    save_weights(model, path, architecture=small, threshold=None)
    return model, path


def test_weights_come_back_frozen_and_predict_the_same(saved):
    model, path = saved
    loaded, description = load_weights(path)
    x = torch.randn(1, 2, 8, 8, 8)
    assert torch.equal(loaded(x), model(x))
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert not loaded.training
    assert description["channels"] == ["FLAIR", "MPRAGE"]


def test_a_dataparallel_checkpoint_is_read(saved, tmp_path):
    model, path = saved
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save(state, tmp_path / "authors.pth")
    (tmp_path / "authors.json").write_text(path.with_suffix(".json").read_text())
    loaded, _ = load_weights(tmp_path / "authors.pth")
    x = torch.randn(1, 2, 8, 8, 8)
    assert torch.equal(loaded(x), model(x))


def test_the_threshold_is_recorded_without_touching_the_weights(saved):
    _, path = saved
    before = load_weights(path)[1]
    with pytest.raises(ValueError, match="has no threshold"):
        recorded_threshold(before, path)
    record_thresholds(path, 0.35, 0.2)
    after = load_weights(path)[1]
    assert (recorded_threshold(after, path), recorded_outline(after, path)) == (0.35, 0.2)
    assert recorded_outline({"threshold": 0.35}, path) == 0.35
    assert before["digest"] == after["digest"]


def test_a_network_with_shared_tensors_comes_back(tmp_path):
    architecture = {"name": "dynunet", "channels": [2, 2, 2]}
    torch.manual_seed(0)
    model = build_network(**architecture).eval()
    save_weights(model, tmp_path / "dynunet.safetensors", architecture=architecture)
    loaded, _ = load_weights(tmp_path / "dynunet.safetensors")
    x = torch.randn(1, 2, 8, 8, 8)
    assert torch.equal(loaded(x), model(x))


def test_missing_files_and_swapped_channels_are_refused(saved):
    _, path = saved
    with pytest.raises(ValueError, match="none.safetensors is missing"):
        load_weights(path.with_name("none.safetensors"))
    description = path.with_suffix(".json")
    description.write_text(json.dumps(json.loads(description.read_text()) | {"channels": ["MPRAGE", "FLAIR"]}))
    with pytest.raises(ValueError, match="trained on"):
        load_weights(path)
