"""The training of notebook 2: by torchrun in two processes, and taken up by the notebook's own process."""

import json
import subprocess
import sys

import pytest
import torch

from lib.cohort.phantom import make_cohort
from lib.network import training
from lib.network.architectures import build_network
from lib.network.distributed import build_batches, fit, starting_network
from lib.network.patches import ScanPatches, SubjectPatches
from lib.network.weights import load_weights, save_weights
from lib.provenance import ROOT
from lib.run.parameters import defaults
from lib.run.paths import Run
from lib.scans.images import with_digests
from lib.scans.table import find_scans


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run after notebook 1, with the parameters of notebook 2 written as `make paper` writes them."""
    folder = tmp_path_factory.mktemp("run")
    small = {"channels": [4, 8], "strides": [2], "patch_sizes": [16], "window": 16, "steps": 4, "validate_every": 2}
    small |= {"build": str(folder / "build"), "figures": str(folder / "figures"), "workers": 0, "seed": 3}
    parameters = defaults(ROOT / "notebooks" / "02_training.py") | small
    run = Run("02_training", parameters)
    make_cohort(run.cohort, n_subjects=3, n_two_sessions=0, seed=0, spacing_mm=4.0, workers=1)
    run.save_scans(find_scans(run.cohort).assign(split=["train", "train", "validation"]))
    (folder / "02_training.json").write_text(json.dumps(parameters))
    return run


def test_the_notebook_takes_up_what_torchrun_has_trained(run, capsys, monkeypatch):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "lib.network.distributed",
    ]
    parameters = run.build.parent / "02_training.json"
    done = subprocess.run([*command, parameters], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    trained = torch.load(run.checkpoint)["progress"]
    assert [row["step"] for row in trained["loss"]] == [1, 2, 3, 4]
    assert [row["step"] for row in trained["validation"]] == [2, 4]

    rows = {split: table.to_dict("records") for split, table in run.scans().groupby("split")}
    batches = build_batches(run.parameters, rows["train"])
    model, _ = starting_network(run.parameters, "cpu")
    monkeypatch.setattr(training, "validation_scores", None)  # nothing is left to do
    loss, validation = fit(run, model, batches, rows["validation"])
    assert "training goes on from step 4" in capsys.readouterr().out
    assert (loss, validation) == (trained["loss"], trained["validation"])
    for name, expected in trained["best"].items():
        assert torch.equal(model.state_dict()[name], expected)


def test_a_training_has_the_threads_of_its_parameters_and_leaves_those_of_the_process(run, tmp_path, monkeypatch):
    rows = {split: table.to_dict("records") for split, table in run.scans().groupby("split")}
    other = Run("02_training", run.parameters | {"build": str(tmp_path), "steps": 2, "threads": 3})
    other.save_scans(run.scans())
    seen, before = [], torch.get_num_threads()
    monkeypatch.setattr(training, "validation_scores", lambda *_: seen.append(torch.get_num_threads()) or {"dice": 0.5})
    model, _ = starting_network(other.parameters, "cpu")
    fit(other, model, build_batches(other.parameters, rows["train"]), rows["validation"])
    assert (seen, torch.get_num_threads()) == ([3], before)


def test_a_training_does_not_go_on_with_exchanged_images(run, tmp_path, capsys):
    scans = run.scans()
    rows = {split: table.to_dict("records") for split, table in scans.groupby("split")}
    other = Run("02_training", run.parameters | {"build": str(tmp_path), "steps": 2})
    started = []
    for flair_digest in ("1", "1", "2"):
        other.save_scans(with_digests(scans).assign(flair_digest=flair_digest))
        model, _ = starting_network(other.parameters, "cpu")
        fit(other, model, build_batches(other.parameters, rows["train"]), rows["validation"])
        started.append("goes on from step 2" in capsys.readouterr().out)
    assert started == [False, True, False]


def test_the_network_and_its_batches_follow_from_the_parameters(run):
    rows = run.scans().query("split == 'train'").to_dict("records")
    torch.manual_seed(3)
    expected = build_network("unet", channels=[4, 8], strides=[2]).state_dict()
    for name, value in starting_network(run.parameters, "cpu")[0].state_dict().items():
        assert torch.equal(value, expected[name])
    assert isinstance(build_batches(run.parameters, rows).source, SubjectPatches)
    stored = build_batches(run.parameters | {"fresh_appearance": False}, rows)
    assert isinstance(stored.source, ScanPatches)
    assert [tuple(patches.shape) for patches in stored[0]] == [(2, 2, 16, 16, 16), (2, 1, 16, 16, 16)]


def test_a_dynunet_is_trained_saved_and_read_again(run, tmp_path, monkeypatch):
    sizes = {"architecture": "dynunet", "channels": [4, 6, 8], "strides": [2, 2]}
    changed = sizes | {"build": str(tmp_path), "steps": 2, "validate_every": 2, "scans_per_step": 1}
    other = Run("02_training", run.parameters | changed)
    other.save_scans(run.scans())
    monkeypatch.setattr(training, "validation_scores", lambda *_: {"dice": 0.5})
    model, built = starting_network(other.parameters, "cpu")
    assert built == {"name": "dynunet", "channels": [4, 6, 8], "strides": [1, 2, 2]}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = {split: table.to_dict("records") for split, table in run.scans().groupby("split")}
    losses, _ = fit(other, model, build_batches(other.parameters, rows["train"]), rows["validation"])
    assert len(losses) == 2 and losses[0]["loss"] > 0
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert_read_again(model, other, built)


def test_a_swin_unetr_is_built_saved_and_read_again(run, tmp_path):
    sizes = {"architecture": "swinunetr", "feature_size": 12, "window": 64, "build": str(tmp_path)}
    other = Run("02_training", run.parameters | sizes)
    model, built = starting_network(other.parameters, "cpu")
    assert built == {"name": "swinunetr", "feature_size": 12}
    assert_read_again(model.eval(), other, built)


def assert_read_again(model, run, built):
    save_weights(model, run.weights(), architecture=built, threshold=0.5, window=run.parameters["window"])
    read, _ = load_weights(run.weights())
    patch = torch.randn(1, 2, 64, 32, 32)
    with torch.no_grad():
        assert torch.equal(read(patch), model(patch))
