"""MONAI bundles: configs/inference.json (or .yaml) with `network_def`, and models/model.pt.

A configuration may run code of anyone's. Of a bundle the network alone is built, of `monai.networks.nets` and without
any expression.
"""

import json

import yaml

from lib.network.checkpoints import load_checkpoint
from lib.network.published.normalisation import NORMALISATION

CONFIGS = [f"configs/inference.{suffix}" for suffix in ("json", "yaml", "yml")]
WEIGHTS = "models/model.pt"
ALLOWED = "monai.networks.nets."


def is_bundle(path):
    return path.is_dir() and any((path / config).exists() for config in CONFIGS)


def load_bundle(path):
    """The network of a bundle with its weights, and its description.

    Raises ValueError if a file is missing, or if `network_def` asks for anything but a network of monai.networks.nets.
    """
    file = next(path / config for config in CONFIGS if (path / config).exists())
    if not (path / WEIGHTS).exists():
        raise ValueError(f"{path} has no {WEIGHTS}: download the bundle with its weights")
    try:
        config = (json.loads if file.suffix == ".json" else yaml.safe_load)(file.read_text())
        definition = config["network_def"]
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} has no network_def that can be read: {error!r}") from None
    network = _build(file, config, definition)
    load_checkpoint(network, path / WEIGHTS, f"in {file.name}")
    settings = {"architecture": {"name": f"bundle {definition['_target_']}"}, "normalisation": NORMALISATION}
    return network.eval(), settings | {"threshold": 0.5, "window": _window(config)}


def _build(file, config, definition):
    from monai.bundle import ConfigParser  # importing it takes seconds

    plain = {name: value for name, value in config.items() if isinstance(value, str | int | float)}
    try:
        return ConfigParser(plain | {"network_def": _checked(file, plain, definition)}).get_parsed_content(
            "network_def"
        )
    except _Refused as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # MONAI's are of many kinds
        raise ValueError(f"{file}: network_def cannot be built: {error}") from None


class _Refused(Exception):
    """What a configuration asks for would run code, or another program than a network of MONAI."""


def _checked(file, plain, value):
    """A part of network_def without anything that runs code; networks by their full names.  plain: what it may refer to."""
    from monai.networks import nets

    if isinstance(value, dict):
        if unknown := [name for name in value if name.startswith("_") and name not in ("_target_", "_desc_")]:
            raise _Refused(f"{file}: network_def has {', '.join(unknown)}, which is not done here: leave it out")
        value = dict(value)
        if "_target_" in value:
            target = str(value["_target_"])
            name = target.removeprefix(ALLOWED)
            if not (name.isidentifier() and isinstance(getattr(nets, name, None), type)):
                raise _Refused(f"{file}: network_def asks for {target}: only the networks of {ALLOWED}* are built")
            value["_target_"] = ALLOWED + name
        return {name: part if name == "_target_" else _checked(file, plain, part) for name, part in value.items()}
    if isinstance(value, list):
        return [_checked(file, plain, part) for part in value]
    if isinstance(value, str) and value.startswith("@"):
        if (name := value[1:]) not in plain or str(plain[name]).startswith(("@", "$", "%")):
            raise _Refused(f"{file}: network_def refers to {value}: write the value in its place")
    elif isinstance(value, str) and value.startswith(("$", "%")):
        raise _Refused(f"{file}: network_def has {value}, which runs code: write the value in its place")
    return value


def _window(config):
    """Side of the inferer's cubic patches; 96 if it says none."""
    sides = config["inferer"].get("roi_size") if isinstance(config.get("inferer"), dict) else None
    sides = {*sides} if isinstance(sides, list) else {sides}
    (side, *others) = sides
    return side if isinstance(side, int) and side > 0 and not others else 96
