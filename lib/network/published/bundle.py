"""MONAI bundles: configs/inference.json (or .yaml) with `network_def`, and models/model.pt.

A configuration may run code of anyone's. Of a bundle the network alone is built, of `monai.networks.nets` and without
any expression.
"""

import json
import warnings

import yaml

from lib.network.checkpoints import load_checkpoint
from lib.network.published.normalisation import NORMALISATION

CONFIGS = [f"configs/inference.{suffix}" for suffix in ("json", "yaml", "yml")]
WEIGHTS = "models/model.pt"
ALLOWED = "monai.networks.nets."
WINDOW = 96  # voxels, of a bundle that says none


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
    try:
        definition, window = _checked(config, definition), _window(config)
    except _Refused as error:
        raise ValueError(f"{file}: {error}") from None
    except RecursionError:
        raise ValueError(f"{file}: network_def or inferer refers to itself") from None
    network = _build(file, definition)
    load_checkpoint(network, path / WEIGHTS, f"in {file.name}")
    settings = {
        "architecture": {"name": f"bundle {definition['_target_'].removeprefix(ALLOWED)}"},
        "normalisation": NORMALISATION,
    }
    return network.eval(), settings | {"threshold": 0.5, "window": window}


def _build(file, definition):
    from monai.bundle import ConfigParser  # importing it takes seconds

    try:
        return ConfigParser({"network_def": definition}).get_parsed_content("network_def")
    except Exception as error:  # MONAI's are of many kinds
        raise ValueError(f"{file}: network_def cannot be built: {error}") from None


class _Refused(Exception):
    """What a configuration asks for would run code, or another program than a network of MONAI."""


def _checked(config, value, key="network_def"):
    """A part of network_def with what it refers to in place of references, without anything that runs code; networks by
    their full names.  key: of the part, for errors."""
    from monai.networks import nets

    value = _referred(config, value, key)
    if key == "network_def" and not (isinstance(value, dict) and "_target_" in value):
        raise _Refused(f"{key} names no network: it has no _target_")
    if isinstance(value, list):
        return [_checked(config, part, f"{key}::{number}") for number, part in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if unknown := [name for name in value if str(name).startswith("_") and name not in ("_target_", "_desc_")]:
        raise _Refused(f"{key} has {', '.join(unknown)}, which is not done here: leave it out")
    parts = {name: _checked(config, value[name], f"{key}::{name}") for name in value if name != "_target_"}
    if "_target_" not in value:
        return parts
    target = str(value["_target_"])
    name = target.removeprefix(ALLOWED)
    if not (name.isidentifier() and isinstance(getattr(nets, name, None), type)):
        raise _Refused(f"{key} asks for {target}: only the networks of {ALLOWED}* are built")
    return parts | {"_target_": ALLOWED + name}


def _referred(config, value, key):
    """A value, or what it refers to (@name, @name::part); expressions are refused.  key: of the value, for errors."""
    if not isinstance(value, str) or not value.startswith(("@", "$", "%")):
        return value
    if value[0] != "@":
        raise _Refused(f"{key} is {value}, which runs code: write the value in its place")
    found = config
    for part in value[1:].replace("#", "::").split("::"):
        found = _referred(config, found, f"{value} of {key}")
        try:
            found = found[int(part) if isinstance(found, list) else part]
        except (LookupError, TypeError, ValueError):
            raise _Refused(f"{key} refers to {value}, which is not there: write the value in its place") from None
    return _referred(config, found, f"{value} of {key}")


def _window(config):
    """Side of the inferer's cubic patches; 96 if it says none, with a warning if they are no cubes."""
    inferer = _referred(config, config.get("inferer"), "inferer")
    key, given = "inferer::roi_size", inferer.get("roi_size") if isinstance(inferer, dict) else None
    sides = _referred(config, given, key)
    sides = [_referred(config, side, key) for side in sides] if isinstance(sides, list) else [sides]
    if sides == [None]:
        return WINDOW
    if all(type(side) is int and side > 0 and side == sides[0] for side in sides) and sides:
        return sides[0]
    warnings.warn(
        f"{key} {sides} is no cube: the window is {WINDOW}, or what a JSON beside the bundle says", stacklevel=2
    )
    return WINDOW
