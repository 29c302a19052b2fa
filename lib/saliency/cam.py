"""Class activation maps of one lesion: instance Grad-CAM++ (Spagnolo et al. 2024, eqs. 8-10) and HiResCAM."""

from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F

from lib.exact import at_voxels, find_window, frozen, like_model, pad_far, receptive_field, usable
from lib.network import named_layer
from lib.saliency.gradients import check_lesion
from lib.saliency.scores import class_logit


def grad_cam(model, volume, lesion, *, layer="", score=class_logit, activations=None):
    """Instance Grad-CAM++ of one lesion (eqs. 8-10), with one weight per position and no global pooling.

    It tells where, not how much: a channel adds A g / (2 + S g) where its gradient g is above 0, which is A / S, its share
    of the channel's sum S, as soon as |S g| is far above 2 (1e5 in a whole scan). The size of the gradient cancels, ten
    times the score has the same map, and S grows with the volume, also with air: values have no unit and are not
    compared between scans or networks. `hires_cam` keeps the gradient.

    volume: (1, 2, X, Y, Z).  lesion: (X, Y, Z) bool.  layer: name of the module whose feature maps are weighted, of
    `network.named_layer`.
    Activations, and their sums S that enter the weights, are those of the whole volume; gradients are taken on the
    lesion's window. Position i of a layer of stride r lies at input voxel r * i (the centre of a stride-r convolution
    of odd kernel) and the map is interpolated linearly between these positions, constant beyond the last.
    activations: of `layer_activations`, which the lesions of one scan share; computed if not given.
    Returns (X, Y, Z), not negative, in arbitrary units.
    Raises ValueError if the lesion is empty, shapes differ, or the layer does not exist, is run more than once, returns
    no single tensor, has no part in the logits, or is not finite somewhere in the volume.
    """

    def weigh(gradients, activations, totals):
        # g^2 / (2 g^2 + S g^3) = g / (2 g + S g^2), zero where the denominator is zero (eq. 19 of Chattopadhay et al.)
        denominators = gradients * (2 + totals * gradients)
        alphas = torch.where(denominators == 0, 0, gradients / denominators)
        return (alphas * gradients.relu() * activations).sum(1, keepdim=True).relu()

    return _position_map(weigh, model, volume, lesion, layer, score, activations)


def hires_cam(model, volume, lesion, *, layer="", activations=None):
    """HiResCAM of one lesion: gradient of the mean logit over its voxels times activation, summed over feature maps.

    Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM", arXiv:2011.08891. Arguments, grid and errors are those of
    `grad_cam`, the score is the logit. Returns (X, Y, Z), signed, in logits: what each position of the layer adds to
    the mean logit. Over the positions of the layer, map[::r, ::r, ::r] for stride r, it sums to the mean logit less
    what the biases after the layer add, where only linear, ReLU-like (also PReLU) and pooling steps follow.
    """

    def weigh(gradients, activations, _):
        return (gradients * activations).sum(1, keepdim=True) / np.count_nonzero(lesion)

    return _position_map(weigh, model, volume, lesion, layer, class_logit, activations)


@torch.inference_mode(False)
@torch.enable_grad()
def _position_map(weigh, model, volume, lesion, layer, score, activations):
    """Map (X, Y, Z) of what `weigh` gives at each position of a layer, (1, 1, x, y, z), from the gradients of the summed
    score, the activations there, both (1, K, x, y, z), and the activations' sums over the volume, (1, K, 1, 1, 1)."""
    voxels, volume = check_lesion(model, volume, lesion), like_model(model, volume).detach()
    shape, layer = volume.shape[2:], named_layer(model, layer)
    window = find_window(model, lesion, shape)
    whole = window.field.shape
    if activations is None:
        activations = layer_activations(model, volume, layer)
    with frozen(model), _kept(model, layer) as kept:
        logits = usable(at_voxels(model(window.crop(volume).clone()), voxels, window))
        activation = _only(kept, layer)
        target, gradients = score(logits).sum(), None
        if target.requires_grad:
            (gradients,) = torch.autograd.grad(target, activation, allow_unused=True)
    if gradients is None:
        raise ValueError(f"no logit depends on layer {layer!r}: choose another one")
    grid = activations.shape[2:]
    stride = [max(1, round(size / positions)) for size, positions in zip(whole, grid, strict=True)]
    if any(positions not in (size // r, -(-size // r)) for size, r, positions in zip(whole, stride, grid, strict=True)):
        raise ValueError(f"layer {layer!r} returns {tuple(grid)}: choose one that returns (1, K, X/r, Y/r, Z/r)")
    first = [side.start // r for side, r in zip(window.input, stride, strict=True)]
    part = (..., *(slice(low, low + size) for low, size in zip(first, gradients.shape[2:], strict=True)))
    total = activations.double().sum((2, 3, 4), keepdim=True)
    if not total.isfinite().all():
        raise ValueError(
            f"layer {layer!r} gives NaN or infinite values for this scan: its weights, or the scan, are not usable"
        )
    cam = torch.zeros_like(activations[:, :1])
    cam[part] = weigh(gradients, activations[part], total.to(activations))
    last = [-(-size // r) for size, r in zip(whole, stride, strict=True)]  # position at or beyond the last voxel
    beyond = [end + 1 - positions for end, positions in zip(last, grid, strict=True)]
    cam = F.pad(cam, [side for amount in beyond[::-1] for side in (0, amount)], mode="replicate")
    size = [end * r + 1 for end, r in zip(last, stride, strict=True)]
    return F.interpolate(cam, size, mode="trilinear", align_corners=True)[0, 0][tuple(map(slice, shape))]


@torch.no_grad()
def layer_activations(model, volume, layer):
    """Feature maps (1, K, X/r, Y/r, Z/r) of a named module of a whole volume (1, 2, X, Y, Z), padded if the network
    does not accept its size.  Raises ValueError as `grad_cam`."""
    volume, layer = like_model(model, volume), named_layer(model, layer)
    padded = pad_far(volume, receptive_field(model, volume.shape[2:]).shape)
    with frozen(model), _kept(model, layer) as kept:
        model(padded.clone())
    return _only(kept, layer)


def _only(kept, layer):
    """What a layer returned, if it was run once and returned feature maps."""
    if len(kept) != 1 or kept[0].ndim != 5:
        found = f"is run {len(kept)} times" if len(kept) != 1 else f"returns {tuple(kept[0].shape)}"
        raise ValueError(f"layer {layer!r} {found}: choose one that is run once and returns (1, K, X/r, Y/r, Z/r)")
    return kept[0]


@contextmanager
def _kept(model, layer):
    """List that collects what the layer returns, each a start of gradients."""
    kept = []

    def keep(module, inputs, output):
        if not isinstance(output, torch.Tensor):
            found = f"returns a {type(output).__name__}, not one tensor"
            raise ValueError(f"layer {layer!r} {found}: choose one that returns (1, K, X/r, Y/r, Z/r)")
        kept.append(output.detach().clone().requires_grad_(torch.is_grad_enabled()))
        return kept[-1].clone()

    hook = model.get_submodule(layer).register_forward_hook(keep)
    try:
        yield kept
    finally:
        hook.remove()
