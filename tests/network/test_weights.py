"""Weights that come back as they were saved, with their description."""

import json
import os
import subprocess

import pytest
import torch

from lib.network.architectures import build_network
from lib.network.weights import (
    load_weights,
    record_thresholds,
    recorded_outline,
    recorded_threshold,
    save_weights,
    seen_sequences,
)
from lib.provenance import ROOT


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
    record_thresholds(described(path, threshold=None), 0.35, 0.2)
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


def test_missing_files_are_named(saved, tmp_path):
    _, path = saved
    with pytest.raises(ValueError, match="none.safetensors is missing"):
        load_weights(path.with_name("none.safetensors"))
    path.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match="unet.json is missing: the description"):
        load_weights(path)


def described(path, **changes):
    """Weights whose JSON has other values; None for a key that is taken out."""
    file = path.with_suffix(".json")
    description = json.loads(file.read_text()) | {"window": 16, "threshold": 0.5} | changes
    file.write_text(json.dumps({key: value for key, value in description.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("channels", "seen"),
    [(["T1w"], ["MPRAGE"]), (["T1w", "FLAIR"], ["FLAIR", "MPRAGE"]), (None, ["FLAIR", "MPRAGE"])],
)
def test_the_sequences_that_a_network_sees_have_the_order_and_names_of_a_scan(channels, seen):
    assert seen_sequences({"channels": channels}) == seen
    assert seen_sequences({}) == ["FLAIR", "MPRAGE"]


UNET = {"name": "unet", "channels": [4, 8], "strides": [2]}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"channels": ["FLAIR", "T2w"]}, r'channels is \["FLAIR", "T2w"\], but must be .*: a scan has no T2w'),
        ({"channels": ["T1", "MPRAGE"]}, r'channels is \["T1", "MPRAGE"\], but must be .* each once'),
        ({"channels": []}, r"channels is \[\], but must be some or all"),
        ({"channels": None}, 'channels is missing, but must be some or all of "FLAIR" and "MPRAGE"'),
        ({"output": "probability"}, 'output is "probability", but must be what the network gives, one of logits, sig'),
        ({"lesion_class": "lesion"}, 'lesion_class is "lesion", but must be the number of the lesion'),
        ({"normalisation": "min-max"}, 'normalisation is "min-max", but must be "z-score over'),
        ({"normalisation": None}, 'normalisation is missing, but must be "z-score over'),
        ({"architecture": None}, "architecture is missing, but must be the arguments of"),
        ({"architecture": "unet"}, 'architecture is "unet", but must be the arguments of'),
        (
            {"architecture": UNET | {"name": "resnet"}},
            "architecture .*'resnet'.* choose one of unet, dynunet, swinunetr",
        ),
        ({"architecture": {"name": "unet"}}, "architecture .* cannot be built: .*'channels' and 'strides'"),
        ({"architecture": UNET | {"depth": 4}}, "architecture .* cannot be built: .*'depth'"),
        ({"threshold": 35}, "threshold is 35, but must be a lesion probability above 0, at most 1"),
        ({"threshold": 0}, "threshold is 0, but"),
        ({"threshold": float("nan")}, "threshold is NaN, but"),
        ({"threshold": "0.5"}, 'threshold is "0.5", but'),
        ({"outline": 0.6}, r"outline is 0.6, but must be a lesion probability above 0, at most the threshold \(0.5\)"),
        (
            {"window": [16, 16, 16]},
            r"window is \[16, 16, 16\], but must be the side of the cubic patches of the training, 1 to 512 voxels",
        ),
        ({"window": 1000}, "window is 1000, but"),
        ({"window": 15}, r"window is 15, but .* makes: \(1, 2, 16, 16, 16\); choose a multiple of its strides"),
        ({"mirrored": "no"}, 'mirrored is "no", but must be true or false'),
        ({"treshold": 0.4}, "has treshold: leave out what is none of architecture, .* threshold"),
    ],
)
def test_a_description_that_is_not_that_of_the_run_is_refused(saved, changes, said):
    with pytest.raises(ValueError, match=f"unet.json:? {said}"):
        load_weights(described(saved[1], **changes))


@pytest.mark.parametrize("content", [b"{", b"", '{"é": 1}'.encode("latin-1"), b"[1]"])
def test_a_description_that_is_no_json_is_refused(saved, content):
    saved[1].with_suffix(".json").write_bytes(content)
    with pytest.raises(ValueError, match="unet.json (cannot be read as JSON in UTF-8|holds a list)"):
        load_weights(saved[1])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_description_as_editors_save_it_is_read(saved, encoding):
    file = described(saved[1], step=7).with_suffix(".json")
    file.write_text(file.read_text(), encoding=encoding)
    assert load_weights(saved[1])[1]["step"] == 7


def test_a_network_whose_output_is_not_finite_is_refused(saved):
    model, path = saved
    model.get_buffer("model.0.adn.N.running_var").fill_(-1)
    save_weights(model, path, architecture=UNET)
    with pytest.raises(ValueError, match="unet.safetensors: the network gives NaN or infinite values"):
        load_weights(path)


@pytest.mark.parametrize("words", [["paper"], ["sweep", "SWEEP=notebooks/sweeps/noise.yml"]])
def test_weights_that_cannot_be_used_end_a_run_before_its_first_notebook(words, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    given = f"SET=02_training.initial={tmp_path / 'my net.pth'}".replace("my net", r"my\ net")
    words = ["make", "--old-file=.venv/.complete", f"OUT={tmp_path}", "PROFILE=smoke", *words, given]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "my net.pth is missing" in done.stderr
    assert not list(tmp_path.rglob("*.ipynb"))
