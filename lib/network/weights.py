"""Saving and loading weights with the JSON that describes them, also weights of other tools.

python -m lib.network.weights data=... weights=<file> 02_training.initial=<file> ...   # are those that are named usable?
"""

import copy
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_model

from lib.exact import check_network
from lib.network.architectures import build_network
from lib.network.checkpoints import load_checkpoint
from lib.provenance import ROOT, digest, write_atomically
from lib.scans import SEQUENCES

NORMALISATION = "z-score over the non-zero voxels of each channel; background 0"
LARGEST_WINDOW = 512  # voxels
RECORD = ("step", "parameters", "validation_dice", "split", "seed", "initial")  # of the training, for the reader


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
    threshold, outline = recorded_threshold(description, path), description.get("outline")
    return threshold if outline is None else float(outline)


def prediction_settings(description):
    """Keyword arguments of `predict` that came with weights: window, and mirrored (False if not recorded)."""
    return {"window": description["window"], "mirrored": description.get("mirrored", False)}


def load_weights(path, device="cpu"):
    """Network in evaluation mode with frozen weights, and the description that lies beside them (with their digest).

    path: safetensors or a PyTorch checkpoint (`load_checkpoint`), whatever its suffix; the JSON has its name.
    Raises ValueError if a file is missing or not usable, if the JSON asks for what is not done here, if the weights are
    not those of its architecture or not finite, or if the network is none for these scans (`check_network`).
    """
    path, beside = Path(path), Path(path).with_suffix(".json")
    for file, what in {path: "weights", beside: "description of the weights (architecture, thresholds)"}.items():
        if not file.exists():
            raise ValueError(f"{file} is missing: the {what}; train first, or give the file of a finished training")
    description = _read_description(beside)
    try:
        model = build_network(**description["architecture"]).eval()
    except Exception as error:  # MONAI's are of many kinds
        raise ValueError(f"{beside}: architecture {description['architecture']} cannot be built: {error}") from None
    window = description.get("window")
    if window:
        _check_window(model, window, beside)
    load_checkpoint(model, path)
    try:
        check_network(model, (window or 96,) * 3)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return model.requires_grad_(False).to(device), description | {"digest": digest(path)}


def _read_description(file):
    """The JSON beside weights as a dict. Raises ValueError that names the file, the key, its value and what is allowed."""
    try:
        description = json.loads(file.read_bytes())
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} cannot be read as JSON in UTF-8: {error}") from None
    if not isinstance(description, dict):
        raise ValueError(f'{file} holds a {type(description).__name__}: write {{"architecture": ..., "channels": ...}}')
    rules = _rules(description)
    if unknown := [key for key in description if key not in (*rules, *RECORD)]:
        raise ValueError(f"{file} has {', '.join(unknown)}: leave out what is none of {', '.join((*rules, *RECORD))}")
    for key, (right, allowed) in rules.items():
        if not right:
            found = f"is {json.dumps(description[key])}" if key in description else "is missing"
            raise ValueError(f"{file}: {key} {found}, but must be {allowed}")
    return description


def _rules(description):
    """{key: (whether its value is right, what is)} of the JSON beside weights. Those of a training that is not evaluated
    have no threshold and outline, or null."""
    architecture, threshold, outline, window = map(description.get, ("architecture", "threshold", "outline", "window"))

    def fraction(value):
        return value is None or (type(value) in (int, float) and 0 < value <= 1)

    return {
        "architecture": (
            isinstance(architecture, dict) and isinstance(architecture.get("name"), str),
            'the arguments of lib.network.build_network, such as {"name": "unet", "channels": [...], "strides": [...]}',
        ),
        "channels": (description.get("channels") == list(SEQUENCES), f"{json.dumps(SEQUENCES)}, as scans are given"),
        "normalisation": (description.get("normalisation") == NORMALISATION, f'"{NORMALISATION}", as scans are given'),
        "threshold": (fraction(threshold), "a lesion probability above 0, at most 1"),
        "outline": (
            fraction(outline) and not (fraction(threshold) and outline and threshold and outline > threshold),
            f"a lesion probability above 0, at most the threshold ({threshold})",
        ),
        "window": (
            type(window) is int and 0 < window <= LARGEST_WINDOW if window or threshold else window is None,
            f"the side of the cubic patches of the training, 1 to {LARGEST_WINDOW} voxels",
        ),
        "mirrored": (type(description.get("mirrored", False)) is bool, "true or false"),
    }


@torch.no_grad()
def _check_window(model, window, file):
    """Raises ValueError if a network does not take patches of `window` voxels a side: tried on shapes, without values."""
    patch = torch.empty(1, len(SEQUENCES), *(window,) * 3, device="meta")
    try:
        found = tuple(copy.deepcopy(model).to("meta")(patch).shape)
    except Exception as error:  # of the network's own kind
        found = error
    if found != tuple(patch.shape):
        raise ValueError(
            f"{file}: window is {window}, but of {tuple(patch.shape)} the network makes: {found}; "
            "choose a multiple of its strides"
        )


def main(settings):
    """Load the files of "weights=<file>" and "initial=<file>", which a run does before its first notebook.

    Raises ValueError as `load_weights`, and if weights that are to predict have no threshold."""
    for name, _, file in (text.partition("=") for text in settings):
        _, description = load_weights(ROOT / file)
        if name == "weights":
            recorded_threshold(description, file)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(str(error))
