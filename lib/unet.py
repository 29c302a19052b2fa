"""The paper's network and others of MONAI, by name; saving and loading weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_model

from lib.provenance import digest, write_atomically

NORMALISATION = "z-score over the non-zero voxels of each channel; background 0"
CHANNELS = ["FLAIR", "MPRAGE"]


def build(name="unet", **architecture):
    """A 3D segmentation network with input (B, 2, X, Y, Z) and logits (B, 2, X, Y, Z) of background and lesion.

    "unet" with channels (32, 64, 128, 256, 512) and strides (2, 2, 2, 2) is the paper's network: batch normalisation, PReLU,
    no residual units, convolutions initialised Xavier-normal. Raises ValueError for an unknown name.
    """
    from monai.networks.nets import UNet

    if name != "unet":
        raise ValueError(f"unknown network {name!r}: only 'unet' is built here")
    network = UNet(spatial_dims=3, in_channels=2, out_channels=2, norm="batch", num_res_units=0, **architecture)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            torch.nn.init.xavier_normal_(module.weight)
    return network


def save_weights(model, path, **description):
    """Write weights (safetensors) and, beside them, a JSON: architecture, channel order, normalisation, and `description`.

    description: needs `architecture`, the keyword arguments of `build`; threshold, split and training are added by who knows.
    """
    path = Path(path)
    write_atomically(path, lambda file: save_model(model, str(file)))
    _write_description(path, {"channels": CHANNELS, "normalisation": NORMALISATION, **description})


def record_threshold(path, threshold):
    """Write the threshold on the lesion probability, picked on validation scans, into the JSON beside weights."""
    description = json.loads(Path(path).with_suffix(".json").read_text())
    _write_description(path, description | {"threshold": threshold})


def recorded_threshold(description, path):
    """Threshold that came with weights. Raises ValueError if none was recorded."""
    if description.get("threshold") is None:
        raise ValueError(
            f"{Path(path).with_suffix('.json')} has no threshold: evaluate the weights on validation scans first"
        )
    return float(description["threshold"])


def load_weights(path, device="cpu"):
    """Network in evaluation mode with frozen weights, and the description that lies beside them (with their digest).

    path: safetensors, or a PyTorch state dict (.pt, .pth); the prefix "module." that DataParallel leaves is taken off.
    Raises ValueError if the weights or their JSON are missing, or the channels are not FLAIR, MPRAGE.
    """
    path = Path(path)
    for file, what in (
        (path, "weights"),
        (path.with_suffix(".json"), "description of the weights (architecture, threshold)"),
    ):
        if not file.exists():
            raise ValueError(f"{file} is missing: the {what}; train first, or give the file of a finished training")
    description = json.loads(path.with_suffix(".json").read_text())
    if description["channels"] != CHANNELS:
        raise ValueError(f"{path}: trained on {description['channels']}, but scans are given as {CHANNELS}")
    model = build(**description["architecture"])
    state = (
        load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    )
    model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    return model.eval().requires_grad_(False).to(device), description | {"digest": digest(path)}


def _write_description(path, description):
    text = json.dumps(description, indent=1) + "\n"
    write_atomically(Path(path).with_suffix(".json"), lambda file: file.write_text(text))
