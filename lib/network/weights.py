"""Saving and loading weights with the JSON that describes them."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model

from lib.network.architectures import build_network
from lib.provenance import digest, write_atomically
from lib.scans import SEQUENCES

NORMALISATION = "z-score over the non-zero voxels of each channel; background 0"


def save_weights(model, path, **description):
    """Write weights (safetensors), and a JSON beside them: architecture, channel order, normalisation, and `description`.

    description: needs `architecture`, the arguments of `build_network`; thresholds are added by who knows.
    """
    write_atomically(path, lambda file: save_model(model, str(file)))
    _write_description(path, {"channels": SEQUENCES, "normalisation": NORMALISATION, **description})


def record_thresholds(path, threshold, outline):
    """Write threshold and outline of `segment`, picked on validation scans, into the JSON beside weights."""
    description = json.loads(Path(path).with_suffix(".json").read_text())
    _write_description(path, description | {"threshold": threshold, "outline": outline})


def _write_description(path, description):
    text = json.dumps(description, indent=1) + "\n"
    write_atomically(Path(path).with_suffix(".json"), lambda file: file.write_text(text))


def recorded_threshold(description, path):
    """Threshold that came with weights. Raises ValueError if none was recorded."""
    if description.get("threshold") is None:
        file = Path(path).with_suffix(".json")
        raise ValueError(f"{file} has no threshold: evaluate the weights on validation scans first")
    return float(description["threshold"])


def recorded_outline(description, path):
    """Outline that came with weights: the threshold if none was recorded. Raises as `recorded_threshold`."""
    return float(description.get("outline", recorded_threshold(description, path)))


def prediction_settings(description):
    """Keyword arguments of `predict` that came with weights: window, and mirrored (False if not recorded)."""
    return {"window": description["window"], "mirrored": description.get("mirrored", False)}


def load_weights(path, device="cpu"):
    """Network in evaluation mode with frozen weights, and the description that lies beside them (with their digest).

    path: safetensors, or a PyTorch state dict (.pt, .pth); the prefix "module." that DataParallel leaves is taken off.
    Raises ValueError if the weights or their JSON are missing, or the channels are not FLAIR, MPRAGE.
    """
    path, beside = Path(path), Path(path).with_suffix(".json")
    for file, what in {path: "weights", beside: "description of the weights (architecture, thresholds)"}.items():
        if not file.exists():
            raise ValueError(f"{file} is missing: the {what}; train first, or give the file of a finished training")
    description = json.loads(beside.read_text())
    if description["channels"] != list(SEQUENCES):
        raise ValueError(f"{path}: trained on {description['channels']}, but scans are given as {list(SEQUENCES)}")
    model = build_network(**description["architecture"])
    if path.suffix == ".safetensors":
        load_model(model, path)  # tensors that a network shares are kept once
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    return model.eval().requires_grad_(False).to(device), description | {"digest": digest(path)}
