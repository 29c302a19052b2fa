"""The paper's network and others of MONAI, by name; saving and loading weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model

from lib.provenance import digest, write_atomically

NORMALISATION = "z-score over the non-zero voxels of each channel; background 0"
CHANNELS = ["FLAIR", "MPRAGE"]


def build(name="unet", **architecture):
    """A 3D segmentation network with input (B, 2, X, Y, Z) and logits (B, 2, X, Y, Z) of background and lesion.

    "unet" with channels (32, 64, 128, 256, 512) and strides (2, 2, 2, 2) is the paper's network: batch normalisation, PReLU,
    no residual units, convolutions initialised Xavier-normal.
    "dynunet" is the nnU-Net-like network of the paper's third version, with its channels and strides as defaults.
    "swinunetr" takes the arguments of MONAI's SwinUNETR; sizes are multiples of 32, at least one of them larger than 32.
    Raises ValueError for an unknown name.
    """
    builders = {"unet": _unet, "dynunet": _dynunet, "swinunetr": _swinunetr}
    if name not in builders:
        raise ValueError(f"unknown network {name!r}: choose one of {', '.join(builders)}")
    return builders[name](**architecture)


def _unet(**architecture):
    from monai.networks.nets import UNet

    network = UNet(spatial_dims=3, in_channels=2, out_channels=2, norm="batch", num_res_units=0, **architecture)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            torch.nn.init.xavier_normal_(module.weight)
    return network


def _dynunet(channels=(16, 32, 64), strides=(1, 2, 2)):
    """Residual blocks of kernel 3, instance normalisation, leaky ReLU, dropout 0.1; no deep supervision."""
    from monai.networks.nets import DynUNet

    return DynUNet(
        spatial_dims=3, in_channels=2, out_channels=2, kernel_size=[3] * len(channels), strides=strides,
        upsample_kernel_size=strides[1:], filters=channels, dropout=0.1, res_block=True,
    )  # fmt: skip


def _swinunetr(**architecture):
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(in_channels=2, out_channels=2, **architecture)


def save_weights(model, path, **description):
    """Write weights (safetensors) and, beside them, a JSON: architecture, channel order, normalisation, and `description`.

    description: needs `architecture`, the keyword arguments of `build`; thresholds, split and training are added by who knows.
    """
    path = Path(path)
    write_atomically(path, lambda file: save_model(model, str(file)))
    _write_description(path, {"channels": CHANNELS, "normalisation": NORMALISATION, **description})


def record_thresholds(path, threshold, outline):
    """Write threshold and outline of `lesions.segment`, picked on validation scans, into the JSON beside weights."""
    description = json.loads(Path(path).with_suffix(".json").read_text())
    _write_description(path, description | {"threshold": threshold, "outline": outline})


def recorded_threshold(description, path):
    """Threshold that came with weights. Raises ValueError if none was recorded."""
    if description.get("threshold") is None:
        raise ValueError(
            f"{Path(path).with_suffix('.json')} has no threshold: evaluate the weights on validation scans first"
        )
    return float(description["threshold"])


def recorded_outline(description, path):
    """Outline that came with weights: the threshold if none was recorded. Raises as `recorded_threshold`."""
    return float(description.get("outline", recorded_threshold(description, path)))


def prediction_settings(description):
    """Keyword arguments of `inference.predict` that came with weights: window, and mirrored (False if not recorded)."""
    return {"window": description["window"], "mirrored": description.get("mirrored", False)}


def load_weights(path, device="cpu"):
    """Network in evaluation mode with frozen weights, and the description that lies beside them (with their digest).

    path: safetensors, or a PyTorch state dict (.pt, .pth); the prefix "module." that DataParallel leaves is taken off.
    Raises ValueError if the weights or their JSON are missing, or the channels are not FLAIR, MPRAGE.
    """
    path = Path(path)
    for file, what in (
        (path, "weights"),
        (path.with_suffix(".json"), "description of the weights (architecture, thresholds)"),
    ):
        if not file.exists():
            raise ValueError(f"{file} is missing: the {what}; train first, or give the file of a finished training")
    description = json.loads(path.with_suffix(".json").read_text())
    if description["channels"] != CHANNELS:
        raise ValueError(f"{path}: trained on {description['channels']}, but scans are given as {CHANNELS}")
    model = build(**description["architecture"])
    if path.suffix == ".safetensors":
        load_model(model, path)  # tensors that a network shares are kept once
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    return model.eval().requires_grad_(False).to(device), description | {"digest": digest(path)}


def _write_description(path, description):
    text = json.dumps(description, indent=1) + "\n"
    write_atomically(Path(path).with_suffix(".json"), lambda file: file.write_text(text))
