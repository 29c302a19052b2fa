"""Results folders of nnU-Net v2: plans.json, dataset.json and fold_*/checkpoint_final.pth.

nnU-Net itself is not needed: its networks are those of `dynamic_network_architectures`. It keeps images with the axes in
the order Z, Y, X; the networks are turned, kernels and all, so that they take X, Y, Z.
"""

import json
import re

import numpy as np
import torch
from torch import nn
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from lib.network.checkpoints import load_checkpoint, read_checkpoint
from lib.network.published.adapter import MeanLogits
from lib.network.published.normalisation import BOX, HEAD

CHECKPOINT = "checkpoint_final.pth"
NEEDED = "dynamic-network-architectures"
LIBRARY = "dynamic_network_architectures.architectures."
U_NETS = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
INSTEAD = "name a function of yours that returns the network, <folder>/<package.module>:<function>"
TORCH_PARTS = ("torch.nn.modules.conv.", "torch.nn.modules.instancenorm.", "torch.nn.modules.batchnorm.")
TORCH_PARTS += ("torch.nn.modules.dropout.", "torch.nn.modules.activation.", "torch.nn.")
SIZES = ("kernel_size", "stride", "padding", "output_padding", "dilation")


def is_nnunet(path):
    return path.is_dir() and (path / "plans.json").exists()


def load_nnunet(path):
    """The mean of the folds of a results folder, and its description.

    Raises ValueError if a file is missing, the plans are of an old nnU-Net v2, the configuration is 2D or a cascade, an
    intensity scheme is not the z-score, a scheme differs between channels, or the network is none of the library's U-Nets.
    """
    plans, dataset = (_json(path / name) for name in ("plans.json", "dataset.json"))
    files = sorted(file for file in path.glob(f"fold_*/{CHECKPOINT}") if file.parent.name != "fold_all")
    files = files or sorted(path.glob(f"fold_*/{CHECKPOINT}"))
    if not files:
        raise ValueError(f"{path} has no fold_*/{CHECKPOINT}: copy the folder of a finished training")
    kept = read_checkpoint(files[0])
    try:
        settings = _configuration(plans, kept["init_args"]["configuration"])
        if "architecture" not in settings and "UNet_class_name" in settings:
            raise ValueError(
                f"{path / 'plans.json'} is older than what is read here: it has UNet_class_name in place of architecture. "
                f"Plan and train again with a newer nnU-Net v2, or {INSTEAD}"
            )
        order = [2 - axis for axis in plans["transpose_forward"]]  # axis of (X, Y, Z) of each axis of the network
        names = [dataset["channel_names"][key] for key in sorted(dataset["channel_names"], key=int)]
        description = {
            "architecture": {"name": f"nnU-Net, {settings['architecture']['network_class_name'].rpartition('.')[2]}"},
            "channels": names,
            "normalisation": _normalisation(settings, path),
            "threshold": 0.5,
            "window": _in_xyz(settings["patch_size"], order),
            "mirrored": sorted(order[axis] for axis in kept.get("inference_allowed_mirroring_axes") or ()),
            "blend": "logits",
            "spacing_mm": _in_xyz(settings["spacing"], order),
        }
        description |= _classes(dataset["labels"], path)
        build = (settings["architecture"], len(names), len(dataset["labels"]), path)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: plans, dataset and checkpoint are not as nnU-Net v2 writes them: no {error}"
        ) from None
    folds = []
    for file in files:
        network = _build(*build)
        load_checkpoint(network, file, "in plans.json")
        folds.append(turned(network, order))
    return MeanLogits(folds).eval() if len(folds) > 1 else folds[0].eval(), description


def turned(network, order):
    """A network for volumes (X, Y, Z) made of one for axes in another order: its kernels, strides and paddings turned.

    order: the axis of (X, Y, Z) that each axis of the network is.  The network is changed in place, and returned.
    """
    places = np.argsort(order).tolist()
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.weight.data = module.weight.data.permute(0, 1, *(2 + place for place in places)).contiguous()
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d | _AvgPoolNd | _MaxPoolNd):
            for name in SIZES:
                if isinstance(size := getattr(module, name, None), list | tuple) and len(size) == 3:
                    setattr(module, name, tuple(size[place] for place in places))
    return network


def _json(file):
    try:
        return json.loads(file.read_bytes())
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} cannot be read as JSON: {error}; copy the whole results folder") from None


def _in_xyz(values, order):
    return [values[place] for place in np.argsort(order)]


def _configuration(plans, name):
    """Of one configuration, with what it inherits.  Raises ValueError for one that takes more, or less, than a scan."""
    settings = dict(plans["configurations"][name])
    while parent := settings.pop("inherits_from", None):
        settings = plans["configurations"][parent] | settings
    if len(settings["patch_size"]) != 3:
        raise ValueError(f"the configuration {name} is 2D: train 3d_fullres, for lesions are explained in 3D")
    if settings.get("previous_stage"):
        raise ValueError(f"the configuration {name} needs the prediction of another: train 3d_fullres")
    return settings


def _normalisation(settings, path):
    schemes, masks = settings["normalization_schemes"], settings["use_mask_for_norm"]
    if set(schemes) != {"ZScoreNormalization"} or len(set(masks)) > 1:
        raise ValueError(f"{path} normalises by {', '.join(schemes)} ({masks}): only one z-score for all is done here")
    return HEAD if masks[0] else BOX


def _classes(labels, path):
    """Which class is the lesion: the one beside the background, or the one whose name says so."""
    if any(isinstance(value, list) for value in labels.values()) or "ignore" in labels:
        raise ValueError(f"{path} was trained on regions or with voxels to ignore: only classes are explained")
    found = {name: int(value) for name, value in labels.items() if int(value)}
    named = [value for name, value in found.items() if re.search("lesion|wmh|wml|ms", name, re.IGNORECASE)]
    number = [*found.values()] if len(found) == 1 else named
    return {"lesion_class": number[0]} if len(number) == 1 else {}


def _build(architecture, in_channels, classes, path):
    """The network of plans, untrained; nothing is imported but parts of torch and of the library of architectures."""
    name, arguments = architecture["network_class_name"], dict(architecture["arch_kwargs"])
    parts = [arguments[key] for key in architecture["_kw_requires_import"] if arguments[key]]
    unknown = [part for part in parts if not part.startswith(TORCH_PARTS)] + [name] * (not name.startswith(LIBRARY))
    if unknown:
        raise ValueError(
            f"{path / 'plans.json'} asks for {', '.join(unknown)}: only parts of torch and of {NEEDED} are built"
        )
    for key in architecture["_kw_requires_import"]:
        if arguments[key]:
            arguments[key] = getattr(nn, arguments[key].rpartition(".")[2])
    if (kind := name.rpartition(".")[2]) not in U_NETS:
        raise ValueError(
            f"{path / 'plans.json'} asks for the network {kind}: only {', '.join(U_NETS)} are built here; {INSTEAD}"
        )
    try:
        from dynamic_network_architectures.architectures import unet
    except ImportError as error:
        raise ValueError(
            f"{path} needs the networks of nnU-Net ({error}): .venv/bin/pip install --no-deps {NEEDED}"
        ) from None
    with torch.random.fork_rng():
        return getattr(unet, kind)(
            input_channels=in_channels, num_classes=classes, **arguments | {"deep_supervision": False}
        )
