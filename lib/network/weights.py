"""Saving and loading weights with the JSON that describes them, also weights of other tools."""

import json
from pathlib import Path

from safetensors.torch import save_model

from lib.exact import check_network
from lib.network.architectures import build_network, check_side
from lib.network.checkpoints import load_checkpoint
from lib.network.published import NORMALISATION, OUTPUTS, RANGE, Adapter, adapted, load_published, scan_channels
from lib.provenance import description_file, digest, write_atomically
from lib.scans import SEQUENCES

LARGEST_WINDOW = 512  # voxels
OF_PUBLISHED = ("channels", "output", "lesion_class", "threshold", "outline", "window", "mirrored")
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
        raise ValueError(
            f"{description_file(Path(path))} has no threshold: evaluate the weights on validation scans first"
        )
    return float(description["threshold"])


def recorded_outline(description, path):
    """Outline that came with weights: the threshold if none was recorded. Raises as `recorded_threshold`."""
    threshold, outline = recorded_threshold(description, path), description.get("outline")
    return threshold if outline is None else float(outline)


def prediction_settings(description):
    """Keyword arguments of `predict` that came with weights: window, mirrored (False if not recorded), and blend, if
    they are predicted as another tool does."""
    settings = {"window": description["window"], "mirrored": description.get("mirrored", False)}
    return settings | ({"blend": description["blend"]} if "blend" in description else {})


def explained_unit(description):
    """Unit of what is explained: "logit", or "log-odds" where the network gives a probability alone."""
    return description.get("explained", "logit").partition(" of ")[0]


def map_unit(description):
    """Unit of gradients: `explained_unit` per unit of the network's input."""
    ranged = description["normalisation"] == RANGE  # between two percentiles of a scan
    return f"{explained_unit(description)} per {'range' if ranged else 'z-score'}"


def load_weights(path, device="cpu"):
    """Network in evaluation mode with frozen weights, and what is known of it (with the digest of its files).

    path: safetensors or a PyTorch checkpoint (`load_checkpoint`), whatever its suffix, with a JSON of its name beside it;
    or what another tool published (`load_published`), which such a JSON may describe further. A network of other
    channels, classes or values is adapted (`adapted`); "explained" then says what its logits are.
    Raises ValueError if a file is missing or not usable, if the JSON asks for what is not done here, if the weights are
    not those of its architecture or not finite, or if the network is none for these scans (`check_network`).
    """
    path, beside = Path(path), description_file(Path(path))
    if published := load_published(path):
        model, description = published[0], _read_description(beside, published[1])
    else:
        model, description = _load_described(path, beside)
    options = _adaptation(description)
    try:
        if published or options:
            model = adapted(model, **options)
        window = description.get("window") or 96
        check_network(model, (window,) * 3 if isinstance(window, int) else tuple(window))
    except ValueError as error:
        raise ValueError(f"{path}: {error} (what it takes and gives is said in {beside.name} beside it)") from None
    if hasattr(model, "explained"):
        description = description | {"explained": model.explained}
    return model.requires_grad_(False).to(device), description


def _load_described(path, beside):
    """Network of `build_network` with its weights, and the JSON beside them."""
    for file, what in {path: "weights", beside: "description of the weights (architecture, thresholds)"}.items():
        if not file.exists():
            raise ValueError(f"{file} is missing: the {what}; train first, or give the file of a finished training")
    description = _read_description(beside)
    architecture, options = description["architecture"], _adaptation(description)
    try:
        model = build_network(**{"in_channels": len(description["channels"])} | architecture).eval()
    except Exception as error:  # MONAI's are of many kinds
        raise ValueError(f"{beside}: architecture {architecture} cannot be built: {error}") from None
    if description.get("window"):
        check_side(Adapter(model, **options) if options else model, description["window"], f"{beside}: window")
    load_checkpoint(model, path)
    return model, description | {"digest": digest(path)}


def _adaptation(description):
    """Options of `adapted` that differ from what networks here take and give."""
    options = {name: description[name] for name in ("output", "lesion_class") if name in description}
    channels = scan_channels(description.get("channels", SEQUENCES))
    return options if channels == SEQUENCES else options | {"channels": channels}


def seen_sequences(description):
    """Those of a scan that a network sees, in the order of SEQUENCES.  description: of the network (`load_weights`)."""
    used = scan_channels(description.get("channels") or SEQUENCES)
    return [name for name in SEQUENCES if name in used]


def _read_description(file, published=None):
    """The JSON beside weights as a dict. Raises ValueError that names the file, the key, its value and what is allowed.

    published: what is known of a network without it, if it is one that another tool published.
    """
    try:
        description = json.loads(file.read_bytes()) if file.exists() or not published else {}
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} cannot be read as JSON in UTF-8: {error}") from None
    if not isinstance(description, dict):
        raise ValueError(f'{file} holds a {type(description).__name__}: write {{"architecture": ..., "channels": ...}}')
    rules = _rules((published or {}) | description, published)
    known = OF_PUBLISHED if published else (*rules, *RECORD)
    if unknown := [key for key in description if key not in known]:
        raise ValueError(f"{file} has {', '.join(unknown)}: leave out what is none of {', '.join(known)}")
    description = (published or {}) | description
    for key, (right, allowed) in rules.items():
        if not right:
            found = f"is {json.dumps(description[key])}" if key in description else "is missing"
            raise ValueError(f"{file}: {key} {found}, but must be {allowed}")
    return description


def _rules(description, published):
    """{key: (whether its value is right, what is)} of the JSON beside weights. Those of a training that is not evaluated
    have no threshold and outline, or null; what another tool published has settings of its own."""
    architecture, threshold, outline, window = map(description.get, ("architecture", "threshold", "outline", "window"))
    channels, lesion_class = description.get("channels"), description.get("lesion_class", 1)
    mirrored, once = description.get("mirrored", False), description.get("blend") == "centre"
    named = channels if isinstance(channels, list) else []
    unknown = [str(name) for name in named if not scan_channels([name])]

    def fraction(value):
        return value is None or (type(value) in (int, float) and 0 < value <= 1)

    def own(key):
        return bool(published) and key in published and description[key] == published[key]

    return {
        "architecture": (
            isinstance(architecture, dict) and isinstance(architecture.get("name"), str),
            'the arguments of lib.network.build_network, such as {"name": "unet", "channels": [...], "strides": [...]}',
        ),
        "channels": (
            scan_channels(named) is not None or (published and channels is None),
            'some or all of "FLAIR" and "MPRAGE" (or "T1w"), each once, in the order of the network'
            + (f": a scan has no {', '.join(unknown)}" if unknown else ""),
        ),
        "output": (
            description.get("output", "logits") in OUTPUTS,
            f"what the network gives, one of {', '.join(OUTPUTS)}",
        ),
        "lesion_class": (
            type(lesion_class) is int and lesion_class >= 0,
            "the number of the lesion's class, from 0 on",
        ),
        "normalisation": (
            description.get("normalisation") == NORMALISATION or own("normalisation"),
            f'"{NORMALISATION}", as scans are given',
        ),
        "threshold": (fraction(threshold), "a lesion probability above 0, at most 1"),
        "outline": (
            fraction(outline) and not (fraction(threshold) and outline and threshold and outline > threshold),
            f"a lesion probability above 0, at most the threshold ({threshold})",
        ),
        "window": (
            own("window")
            or (type(window) is int and 0 < window <= LARGEST_WINDOW if window or threshold else window is None),
            f"the side of the cubic patches of the training, 1 to {LARGEST_WINDOW} voxels",
        ),
        "mirrored": (
            own("mirrored") or (type(mirrored) is bool and not (mirrored and once)),
            "false: the middle of a scan is predicted once" if once else "true or false",
        ),
    }
