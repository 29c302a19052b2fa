"""Which tool made what is named as weights: found from what lies there, and loaded by that tool's own rules."""

import importlib
import os
import sys
from hashlib import sha256

import torch
from torch import nn

from lib.network.published import authors, bundle, lst_ai, nnunet
from lib.network.published.normalisation import NORMALISATION
from lib.provenance import digest, names_function, weight_files

TOOLS = (
    (nnunet.is_nnunet, nnunet.load_nnunet),
    (lst_ai.is_lst, lst_ai.load_lst),
    (bundle.is_bundle, bundle.load_bundle),
    (authors.is_authors, authors.load_authors),
)


def load_published(path):
    """Network and description (as the JSON beside weights) of what a tool published; None if it is of none.

    path: an archive or file of the authors' checkpoints, a nnU-Net v2 results folder, a folder of LST-AI's networks, a
    MONAI bundle, or <folder>/<package.module>:<function>.  The network is what the tool builds, its weights loaded and
    yet to be adapted.  Raises ValueError that names the file and what to do if it is not complete or asks for what is
    not done here.
    """
    if names_function(path):
        return _of_function(path)
    for is_of_tool, load in TOOLS:
        if is_of_tool(path):
            network, description = load(path)
            return network, description | {"digest": digest(*weight_files(path))}
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder, but of no tool that is known: a nnU-Net v2 results folder has plans.json and "
            f"fold_0/, LST-AI's has {lst_ai.FILES[0]}, a MONAI bundle has configs/inference.json"
        )
    return None


def _of_function(path):
    """The network that a function of the user's own code returns.  path: <folder>/<package.module>:<function>."""
    module, _, name = path.name.partition(":")
    before, found = list(sys.path), None
    sys.path.insert(0, os.fspath(path.parent))
    try:
        found = getattr(importlib.import_module(module), name)()
    except Exception as error:  # of the user's code
        raise ValueError(f"{path.name} cannot be called: {type(error).__name__}: {error}") from error
    finally:
        sys.path[:] = before
    if not isinstance(found, nn.Module):
        raise ValueError(f"{path.name} returns a {type(found).__name__}: let it return a torch.nn.Module")
    values = [
        [name, str(value.dtype), sha256(value.cpu().flatten().view(torch.uint8).numpy()).hexdigest()]
        for name, value in found.state_dict().items()
    ]
    description = {"architecture": {"name": path.name}, "normalisation": NORMALISATION, "threshold": 0.5, "window": 96}
    return found, description | {"digest": digest(values)}
