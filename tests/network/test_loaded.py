"""What is kept in memory between items of work: the same object again, until a file changes."""

import json
import os
from contextlib import nullcontext
from functools import lru_cache

import nibabel as nib
import numpy as np
import pytest
import torch

from lib.network.architectures import build_network
from lib.network.loaded import loaded_network, loaded_scan, main, own_scan
from lib.network.published import lst_ai
from lib.network.weights import load_weights, record_thresholds, save_weights
from lib.scans.images import load_scan
from lib.scans.table import FILES


@pytest.fixture
def rows(tmp_path):
    generator = np.random.default_rng(0)
    rows = [{"scan": scan} | {name: str(tmp_path / f"{scan}_{name}.nii.gz") for name in FILES} for scan in "ab"]
    for path in (row[name] for row in rows for name in FILES):
        nib.save(nib.Nifti1Image(generator.integers(0, 2, (5, 4, 3)).astype(np.int16), np.eye(4)), path)
    return rows


def test_a_scan_is_kept_until_another_is_wanted_or_a_file_changes(rows):
    first = loaded_scan(rows[0])
    assert (first.image == load_scan(rows[0]).image).all()
    assert loaded_scan(rows[0]) is first
    assert loaded_scan(rows[1]).id == rows[1]["scan"]
    again = loaded_scan(rows[0])
    os.utime(rows[0]["lesions"])
    assert loaded_scan(rows[0]) is not again


def test_voxels_of_another_size_than_the_network_s_are_refused(rows):
    description = {"spacing_mm": [1.0, 1.0, 0.7]}
    with pytest.raises(ValueError, match="scan a: its voxels are 1.00 x 1.00 x 1.00 mm, those of the network"):
        loaded_scan(rows[0], description)
    with pytest.raises(ValueError, match="resample the scan"):
        own_scan(load_scan(rows[0], normalised=False), description)  # as the explorer opens it
    assert loaded_scan(rows[0], {"spacing_mm": [1.0] * 3}) is not loaded_scan(rows[0])


def test_what_is_derived_from_a_kept_scan_can_be_kept_too(rows):
    derived = lru_cache(1)(lambda scan: [scan.image.sum()])
    first = derived(loaded_scan(rows[0]))
    assert derived(loaded_scan(rows[0])) is first
    os.utime(rows[0]["flair"])
    assert derived(loaded_scan(rows[0])) is not first


def test_weights_written_anew_are_read_anew(tmp_path):
    path, architecture = tmp_path / "unet.safetensors", {"name": "unet", "channels": [2, 4], "strides": [2]}
    for _ in range(2):
        trained = build_network(**architecture)
        save_weights(trained, path, architecture=architecture, window=16)
        model, description = loaded_network(path, "cpu")
        assert loaded_network(path, "cpu")[0] is model
        for expected, found in zip(trained.parameters(), model.parameters(), strict=True):
            assert torch.equal(expected, found)
    record_thresholds(path, 0.25, 0.2)
    assert loaded_network(path, "cpu")[1] == description | {"threshold": 0.25, "outline": 0.2}


def test_the_network_of_a_function_is_loaded_anew(tmp_path):
    """What it reads may lie anywhere, and have kept its date and size."""
    weights, folder = tmp_path / "kernel.pt", tmp_path / "code"
    folder.mkdir()
    (folder / "networks.py").write_text(
        "import torch\nfrom torch import nn\ndef build():\n    network = nn.Conv3d(2, 2, 1)\n"
        f"    network.load_state_dict(torch.load({str(weights)!r}))\n    return network\n"
    )
    for value in (1.0, 2.0):
        torch.save({"weight": torch.full((2, 2, 1, 1, 1), value), "bias": torch.zeros(2)}, weights)
        os.utime(weights, (0, 0))
        model, description = loaded_network(folder / "networks:build", "cpu")
        assert model.weight[0, 0].item() == value
        assert description["digest"] == load_weights(folder / "networks:build")[1]["digest"]


def test_a_missing_file_is_named(rows, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.nii.gz"):
        loaded_scan(rows[0] | {"flair": str(tmp_path / "none.nii.gz")})
    with pytest.raises(ValueError, match="none.safetensors is missing"):
        loaded_network(tmp_path / "none.safetensors", "cpu")


@pytest.fixture
def weights(small, tmp_path):
    """Makes weights whose JSON has other values; None for a key that is taken out."""

    def make(**changes):
        path = tmp_path / "unet.safetensors"
        save_weights(build_network(**small), path, architecture=small, window=16, threshold=0.5)
        description = json.loads(path.with_suffix(".json").read_text()) | changes
        path.with_suffix(".json").write_text(json.dumps({k: v for k, v in description.items() if v is not None}))
        return path

    return make


@pytest.mark.parametrize(
    "name, taken_out, said",
    [
        ("weights", "threshold", "unet.json has no threshold"),
        ("weights", "window", "unet.json: window is missing, but must be"),
        ("initial", "channels", "channels is missing"),
        ("initial", "threshold", None),
        ("weights", "nothing", None),
    ],
)
def test_the_weights_of_a_run_are_tried(weights, name, taken_out, said):
    with pytest.raises(ValueError, match=said) if said else nullcontext():
        main([f"{name}={weights(**{taken_out: None})}"])


@pytest.mark.parametrize(("layer", "has"), [("", True), ("model.2.conv", True), ("decoder", False)])
def test_the_layer_of_grad_cam_is_tried_with_the_weights_of_a_run(weights, layer, has):
    with nullcontext() if has else pytest.raises(ValueError, match="no layer 'decoder': name one of its modules"):
        main([f"layer={layer}", f"weights={weights()}"])


@pytest.fixture
def lst(tmp_path):
    """A folder of networks for voxels of 1 mm alone."""
    config = {"n_filters": 2, "n_conv_blocks": 2, "bottleneck_filters": 4, "ds_layers": []}
    (folder := tmp_path / "lst").mkdir()
    for file in lst_ai.FILES:
        torch.save({"config": config, "state_dict": lst_ai.LstUNet(**config).state_dict()}, folder / file)
    (tmp_path / "lst.json").write_text('{"window": 16}')
    return folder


def test_voxels_of_all_scans_are_tried_with_the_weights_of_a_run(rows, lst, weights, tmp_path):
    """Of their headers, in any orientation; a file that cannot be read is for notebook 1 to name."""
    turned = nib.Nifti1Image(np.ones((3, 50, 40), np.int16), [[0, -1, 0, 0], [0, 0, 1, 0], [2, 0, 0, 0], [0, 0, 0, 1]])
    nib.save(turned, tmp_path / "turned.nii.gz")
    names = {"a": rows[0]["flair"], "b": str(tmp_path / "turned.nii.gz"), "c": str(tmp_path / "none.nii.gz")}
    lines = [f"{name}\t{file}\t{rows[1]['t1w']}" for name, file in names.items()]
    for scans, said in (
        ("ac", None),
        ("abc", "^scan sub-b: its voxels are 1.00 x 1.00 x 2.00 mm, .* 1.00 x 1.00 x 1.00"),
    ):
        text = "\n".join(["subject\tflair\tt1w", *(line for line in lines if line[0] in scans)])
        (tmp_path / "scans.tsv").write_text(text + "\n")
        with pytest.raises(ValueError, match=said) if said else nullcontext():
            main([f"weights={lst}", f"data={tmp_path / 'scans.tsv'}", "choose="])
        main([f"weights={weights()}", f"data={tmp_path / 'scans.tsv'}", "choose="])  # takes voxels of any size


@pytest.mark.parametrize(("spacing_mm", "fit"), [("1.0", True), ("3.0", False), ("1.01", False)])
def test_voxels_of_a_cohort_are_tried_before_it_is_drawn(lst, spacing_mm, fit):
    said = "the cohort: its voxels are .*: set 00_cohort.spacing_mm"
    with nullcontext() if fit else pytest.raises(ValueError, match=said):
        main([f"weights={lst}", f"spacing_mm={spacing_mm}"])
