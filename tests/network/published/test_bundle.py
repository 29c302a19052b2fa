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
        (UNET | {"dropout": "$__import__('os').system('exit')"}, r"has \$__import__.*, which runs code"),
        (UNET | {"dropout": "@hidden"}, "refers to @hidden"),
        (UNET | {"_requires_": "$exit()"}, "has _requires_"),
        (UNET | {"_mode_": "debug"}, "has _mode_"),
        (UNET | {"depth": 3}, "cannot be built"),
    ],
)
def test_a_bundle_that_would_run_code_is_refused(tmp_path, definition, said):
    bundle_of(tmp_path, definition, hidden="$exit()")
    with pytest.raises(ValueError, match=f"inference.json: network_def {said}"):
        load_weights(tmp_path)
