"""Does a saliency map depend on the weights? Maps of the network with layers drawn anew, against the trained one's.

Adebayo et al. 2018, "Sanity checks for saliency maps", NeurIPS.
"""

import re
from itertools import zip_longest

import numpy as np
import pandas as pd
import torch

from lib.exact import copied, find_window, frozen, like_model
from lib.provenance import digest
from lib.sanity.checks import correlate_maps, seeded_map


def weight_randomisation(model, image, lesion, where, *, most_layers, **noise):
    """Rank correlation of a lesion's signed-maximum map with its map by networks whose weights are drawn anew.

    image: (2, X, Y, Z) z-scored.  lesion: (X, Y, Z) bool.  where: `regions` of its window.  most_layers: that are
    looked at, evenly spread over the network.  noise: of `seeded_map`, the same for all maps; its seed names the draws.
    Returns mode ("cascading": all layers from the output up to this one are drawn, "independent": this one alone),
    depth (1: the layer at the output), layer, region, of ("magnitude", "signed"), value.  The model is not changed.
    """
    network, trained, tables = copied(model), model.state_dict(), []
    layers = layers_from_output(model, find_window(model, lesion, lesion.shape).crop(torch.as_tensor(image)[None]))
    reference = seeded_map(model, image, lesion, **noise)
    for depth in np.unique(np.linspace(1, len(layers), min(most_layers, len(layers))).round().astype(int)):
        for mode, drawn in (("cascading", layers[:depth]), ("independent", layers[depth - 1 : depth])):
            network.load_state_dict(trained)
            draw_layers(network, drawn, noise["seed"])
            alike = correlate_maps(seeded_map(network, image, lesion, **noise), reference, where)
            tables.append(alike.assign(mode=mode, depth=depth, layer=layers[depth - 1][0]))
    return pd.concat(tables)[["mode", "depth", "layer", "region", "of", "value"]]


def layers_from_output(model, volume):
    """Names of the modules of each layer, the layer that is computed last first: [["model.2.conv"], ...].

    A layer is a module with a matrix or kernel that can be drawn anew (`reset_parameters`), with the normalisation and
    activation that follow it; of networks that are averaged, those as far from the output are one layer.
    volume: (1, 2, X, Y, Z) that the network accepts.
    """
    called, hooks = [], []
    for name, module in model.named_modules():
        if hasattr(module, "reset_parameters"):
            hooks.append(module.register_forward_hook(lambda *_, name=name: called.append(name)))
    try:
        with frozen(model), torch.no_grad():
            model(like_model(model, volume))
    finally:
        for hook in hooks:
            hook.remove()
    layers = []
    for name in dict.fromkeys(called):
        if not layers or any(weight.ndim > 1 for weight in model.get_submodule(name).parameters(recurse=False)):
            layers.append([])
        layers[-1].append(name)
    of_networks = {}
    for names in layers[::-1]:
        of_networks.setdefault(re.match(r"((network\.)?networks\.\d+\.)?", names[0])[0], []).append(names)
    return [sum(together, []) for together in zip_longest(*of_networks.values(), fillvalue=[])]


def draw_layers(network, layers, seed):
    """Draw layers (lists of module names) of a network anew, as at initialisation; batch statistics start at 0 and 1.

    The draw of a layer depends on the seed (JSON-like) and on its first name alone. Torch's generator is as before.
    """
    with torch.random.fork_rng():
        for names in layers:
            torch.manual_seed(int(digest(seed, names[0]), 16) % 2**63)
            for name in names:
                network.get_submodule(name).reset_parameters()
