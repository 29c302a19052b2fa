"""Weights of other tools: the same parameters wherever they lie in a file, or one sentence that says why not."""

import argparse
import os
import pickle
from collections import defaultdict, deque
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lib.network.architectures import build_network
from lib.network.checkpoints import load_checkpoint


@pytest.fixture
def model(small):
    torch.manual_seed(1)
    return build_network(**small)


def named(state, before):
    return {before + name: value for name, value in state.items()}


def changed(state, change):
    return {name: change(value) if value.is_floating_point() else value for name, value in state.items()}


OPTIMISER = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize(
    "kept",
    [
        dict,
        lambda state: {"epoch": 3, "state_dict": named(state, "module."), "optimizer": OPTIMISER},
        lambda state: {"model_state_dict": state, "args": argparse.Namespace(lr=0.1)},
        lambda state: {"network_weights": named(state, "_orig_mod."), "logging": {"loss": [np.float64(0.5)]}},
        lambda state: {"state_dict": named(state, "model.net._orig_mod.") | {"loss.weight": torch.ones(2)}},
        lambda state: {"model": state, "seen": [np.str_("x"), np.bytes_(b"x"), np.bool_(True), np.complex64(1)]},
        lambda state: {"model": state, "log": [np.arange(3), np.array(["x"]), np.array([{}], object)]},
        lambda state: {"model": state, "random": np.random.default_rng(0).random(2).astype([("x", "f8")])},
        lambda state: {"model": state, "log": defaultdict(list, loss=[0.5]), "last": deque([1.0], maxlen=3)},
        lambda state: {"net": defaultdict(float, state)},
        lambda state: {"model": state, "options": [Path("data"), datetime.now(), frozenset({1}), range(3), slice(2)]},
        lambda state: changed(state, torch.Tensor.to_sparse),
        lambda state: named(state, "module.") | {"n_averaged": torch.tensor(9)},
        lambda state: {"deep": {"er": [named(state, "student.")]}},
        lambda state: {name: value for name, value in state.items() if "num_batches_tracked" not in name},
        partial(changed, change=torch.Tensor.double),
    ],
)
def test_parameters_are_found_wherever_they_are(model, small, tmp_path, kept):
    path = tmp_path / "weights.pth"
    torch.save(kept(model.state_dict()), path)
    network = build_network(**small)
    load_checkpoint(network, path)
    for found, expected in zip(network.parameters(), model.parameters(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_that_of_the_network(model, small, tmp_path, dtype):
    torch.save(changed(model.state_dict(), lambda value: value.to(dtype)), tmp_path / "half.pt")
    network = build_network(**small)
    load_checkpoint(network, tmp_path / "half.pt")
    for found, expected in zip(network.parameters(), model.parameters(), strict=True):
        assert torch.equal(found, expected.to(dtype).float())


@pytest.mark.parametrize("name", ["wrong.pth", "right.safetensors", "none"])
@pytest.mark.parametrize(
    "write", [save_file, torch.save, partial(torch.save, _use_new_zipfile_serialization=False)]
)  # fmt: skip
def test_the_content_tells_the_format_not_the_suffix(model, small, tmp_path, name, write):
    write(named(model.state_dict(), "module.model._orig_mod."), tmp_path / name)
    network = build_network(**small)
    load_checkpoint(network, tmp_path / name)
    assert torch.equal(next(network.parameters()), next(model.parameters()))


def test_the_average_beside_the_weights_is_not_taken_and_named(model, small, tmp_path, capsys):
    average = changed(model.state_dict(), torch.zeros_like)
    torch.save({"state_dict": named(average, "ema.") | named(model.state_dict(), "net.")}, tmp_path / "both.ckpt")
    network = build_network(**small)
    load_checkpoint(network, tmp_path / "both.ckpt")
    assert torch.equal(next(network.parameters()), next(model.parameters()))
    assert "those in state_dict.net are taken" in capsys.readouterr().out


@pytest.mark.parametrize(
    "kept, said",
    [
        (lambda state: {"model": state, "state_dict": state}, r"2 sets of weights that fit \(model, state_dict\)"),
        (lambda state: [state, state], r"2 sets of weights that fit \(0, 1\): save the one that is meant alone"),
        (
            lambda state: {"net": {name: value for name, value in state.items() if "adn" not in name}},
            "lacks model.0.adn.N.weight, model.0.adn.N.bias, model.0.adn.N.running_mean and 7 more$",
        ),
        (lambda state: state | {"model.9.weight": torch.ones(2)}, "has besides model.9.weight$"),
        (
            lambda state: {"encoder.weight": torch.ones(2)},
            "lacks model.0.conv.weight, .* and 13 more; it has besides encoder.weight",
        ),
        (lambda state: {"epoch": 3}, "lacks model.0.conv.weight"),
        (
            lambda state: state | {"model.0.conv.weight": torch.ones(4, 1, 3, 3, 3)},
            r"has model.0.conv.weight as \(4, 1, 3, 3, 3\) float32 in place of \(4, 2, 3, 3, 3\) float32$",
        ),
        (
            lambda state: state | {"model.0.conv.bias": torch.ones(4, dtype=torch.int8)},
            "model.0.conv.bias as .* int8 in place of .* float32$",
        ),
        (lambda state: changed(state, lambda value: value.to("meta")), "conv.weight without its values"),
        (
            lambda state: state | {"model.0.conv.bias": torch.tensor([0, 0, 0, torch.nan])},
            "NaN or infinite values, in model.0.conv.bias: its training",
        ),
        (
            lambda state: state | {"model.0.adn.N.running_var": torch.full((4,), 1e300, dtype=torch.float64)},
            "NaN or infinite values, in model.0.adn.N.running_var",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded_in_part(model, small, tmp_path, kept, said):
    torch.save(kept(model.state_dict()), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=f"weights.pth .*{said}"):
        load_checkpoint(build_network(**small), tmp_path / "weights.pth")


class Runs:
    """Leaves a folder when it is unpickled without care."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def save_half(model, path):
    torch.save(model.state_dict(), path)
    os.truncate(path, path.stat().st_size // 2)


def save_program(model, path):
    program = torch.export.export(torch.nn.Linear(1, 1), (torch.ones(1, 1),))
    with path.open("wb") as file:
        torch.export.save(program, file)


@pytest.mark.parametrize(
    "write, said",
    [
        (
            torch.save,
            r"Python objects \(monai.networks.nets.unet.UNet\), .* torch.save\(network.state_dict\(\), file\)",
        ),
        (
            lambda model, path: torch.save({"model": Runs(path.with_name("ran"))}, path),
            r"Python objects \(posix.mkdir\)",
        ),
        (lambda model, path: path.write_bytes(pickle.dumps(Runs(path.with_name("ran")))), "is neither safetensors nor"),
        (
            lambda model, path: torch.jit.trace(model.eval(), torch.ones(1, 2, 8, 8, 8)).save(path),
            "a TorchScript program",
        ),
        (
            lambda model, path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0"),
            "git lfs pull",
        ),
        (lambda model, path: path.write_text("/annex/objects/MD5E-s1--0.pth\n"), "git annex get"),
        (lambda model, path: path.write_text("../../.git/annex/objects/x/y/MD5E-s1--0.pth"), "git annex get"),
        (save_program, "another archive .* torch.export"),
        (lambda model, path: torch.save({"model": defaultdict(os.getcwd)}, path), r"Python objects \(posix.getcwd\)"),
        (lambda model, path: path.write_text("\n<!DOCTYPE html><html>"), "is a web page"),
        (lambda model, path: path.write_bytes(b""), "is empty"),
        (save_half, "is not complete"),
        (
            lambda model, path: (save_file(model.state_dict(), path), os.truncate(path, path.stat().st_size - 9)),
            "is not complete",
        ),
        (
            lambda model, path: path.write_text('{"architecture": {}}'),
            "is neither safetensors nor a PyTorch checkpoint",
        ),
        (lambda model, path: (path.mkdir(), (path / "fold.pth").touch()), "is a folder: .* such as fold.pth"),
    ],
)
def test_what_cannot_be_read_or_would_run_code_is_refused(model, small, tmp_path, write, said):
    write(model, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=f"weights.pth .*{said}"):
        load_checkpoint(build_network(**small), tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()
