"""MONAI bundles: their network is built, and nothing else that they ask for is run."""

import json

import pytest
import torch
from monai.networks import nets

from lib.network import load_weights

UNET = {
    "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2],
}  # fmt: skip


def volume(shape=(32, 32, 32)):
    return torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0))


def bundle_of(folder, definition, **others):
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    (folder / "configs/inference.json").write_text(json.dumps({"network_def": definition} | others))
    torch.manual_seed(0)
    network = nets.UNet(3, 1, 2, (4, 8), (2,)).eval()
    torch.save(network.state_dict(), folder / "models/model.pt")
    return network


def beside(folder, **said):
    folder.with_suffix(".json").write_text(json.dumps(said))
    return folder


def test_a_bundle_is_built_and_adapted_to_its_channel(tmp_path):
    others = {"classes": 2, "inferer": {"roi_size": [16] * 3}, "device": "$exit()"}
    network = bundle_of(tmp_path, UNET | {"out_channels": "@classes"}, **others)
    model, description = load_weights(beside(tmp_path, channels=["FLAIR"], threshold=0.4))
    assert (description["window"], description["threshold"]) == (16, 0.4)
    assert torch.equal(model(volume()), network(volume()[:, :1]))


@pytest.mark.parametrize(
    "definition, said",
    [
        (UNET | {"_target_": "os.system", "command": "exit"}, "asks for os.system: only the networks of monai"),
        (UNET | {"_target_": "monai.networks.utils.torch.load"}, "asks for monai.networks.utils.torch.load"),
        (UNET | {"_target_": "monai.networks.nets.unet.torch.load"}, "asks for monai.networks.nets.unet"),
        (UNET | {"act": {"_target_": "subprocess.run"}}, "asks for subprocess.run"),
        (UNET | {"dropout": "$__import__('os').system('exit')"}, r"is \$__import__.*, which runs code"),
        (UNET | {"dropout": "@hidden"}, r"is \$exit\(\), which runs code: write"),
        (UNET | {"dropout": "@hidden::0"}, r"is \$exit\(\), which runs code: write"),
        (UNET | {"dropout": "@none"}, "refers to @none, which is not there: write the value"),
        (UNET | {"dropout": "@network_def::dropout"}, "or inferer refers to itself"),
        ({"spatial_dims": 3}, "names no network"),
        ("@hidden", r"is \$exit\(\), which runs code"),
        (UNET | {"_requires_": "$exit()"}, "has _requires_"),
        (UNET | {"_mode_": "debug"}, "has _mode_"),
        (UNET | {"depth": 3}, "cannot be built"),
    ],
)
def test_a_bundle_that_would_run_code_is_refused(tmp_path, definition, said):
    bundle_of(tmp_path, definition, hidden="$exit()")
    with pytest.raises(ValueError, match=f"inference.json: .*network_def.* {said}"):
        load_weights(tmp_path)


def test_references_are_followed_to_what_they_are_of(tmp_path):
    definition = UNET | {"channels": "@sizes::channels", "strides": ["@sizes#strides::0"], "out_channels": "@out"}
    others = {
        "sizes": {"channels": [4, "@eight"], "strides": "@strides"},
        "strides": [2],
        "eight": 8,
        "out": "@two",
        "two": 2,
    }
    network = bundle_of(
        tmp_path, "@net", net=definition, inferer={"roi_size": "@roi"}, roi=["@side"] * 3, side=32, **others
    )
    model, description = load_weights(beside(tmp_path, channels=["FLAIR"]))
    assert (description["window"], description["architecture"]) == (32, {"name": "bundle UNet"})
    assert torch.equal(model(volume()), network(volume()[:, :1]))


@pytest.mark.parametrize("roi", ["$exit()", ["$exit()"] * 3, "@roi"])
def test_a_window_that_would_run_code_is_refused(tmp_path, roi):
    bundle_of(tmp_path, UNET, inferer={"roi_size": roi}, roi="$exit()")
    with pytest.raises(
        ValueError, match=r"inference.json: .*inferer::roi_size is \$exit\(\), which runs code: write the value"
    ):
        load_weights(beside(tmp_path, channels=["FLAIR"]))


def test_a_window_that_is_no_cube_is_said_not_to_be_used(tmp_path):
    bundle_of(tmp_path, UNET, inferer={"roi_size": [16, 16, 8]})
    with pytest.warns(UserWarning, match=r"roi_size \[16, 16, 8\] is no cube: the window is 96"):
        assert load_weights(beside(tmp_path, channels=["FLAIR"]))[1]["window"] == 96
