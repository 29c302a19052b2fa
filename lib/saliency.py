"""Instance-level saliency of one lesion: SmoothGrad (signed maximum and average) and Grad-CAM++.

Spagnolo et al. 2024, "Instance-level quantitative saliency in multiple sclerosis lesion segmentation".
What is explained (a score of the logits at the lesion's voxels) is separate from how. All maps are computed on the
exact input window of the lesion and equal those of the whole volume. A network without exact windows is explained on all
of the volume it is given: give it a patch of the scan if it is used on patches (`windows.find_window` tells the reason).
"""

import math
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F

from lib.adjoint import AdjointGradients, build_steps, unsupported_reason
from lib.reach import CHANNELS, frozen, like_model, measure_reach
from lib.threads import in_order
from lib.windows import at_voxels, find_window, lesion_voxels, pad_far

BATCH_VOXELS = 2**20  # of copies at once; a voxel holds 100 (adjoint) or 400 bytes a channel of the first level
COPIES_PER_THREAD = 4  # a few small copies together are faster than one by one, more are hardly


def class_logit(logits):
    """Lesion-class logit, as in the paper: (B, 2, n) -> (B, n)."""
    return logits[:, 1]


def logit_difference(logits):
    """Lesion minus background logit: (B, 2, n) -> (B, n)."""
    return logits[:, 1] - logits[:, 0]


def probability(logits):
    """Lesion probability: (B, 2, n) -> (B, n)."""
    return logits.softmax(1)[:, 1]


SCORES = {"logit": class_logit, "difference": logit_difference}  # those in logits, as the figures say


def smoothgrad(
    model, volume, lesion, *, n_samples=50, noise_fraction=0.05, aggregate="max", generator, noise_range="channel",
    score=class_logit,
):  # fmt: skip
    """Signed saliency of one lesion, averaged over noisy copies of the input.

    volume: (1, 2, X, Y, Z) z-scored FLAIR and MPRAGE.  lesion: (X, Y, Z) bool.
    noise_fraction: standard deviation of the noise as a fraction of each channel's range over the volume, or of
    FLAIR's for both channels (noise_range="first", as in the authors' scripts).
    aggregate: "max" keeps, for each input voxel, the gradient of largest magnitude over the lesion's voxels with its
    sign (eq. 3); "mean" averages the gradients over the lesion's voxels (eq. 2).
    generator: torch.Generator on the CPU.  score: one of the score functions above.
    Returns (2, X, Y, Z) in score unit (logit) per unit z-score, zero outside the lesion's window.
    Raises ValueError if the lesion is empty, shapes differ or an option is unknown.
    """
    maps = copy_maps(
        model, volume, lesion, n_samples=n_samples, noise_fraction=noise_fraction, aggregate=aggregate,
        generator=generator, noise_range=noise_range, score=score,
    )  # fmt: skip
    total = sum(maps)  # in the order of the copies
    return find_window(model, lesion, volume.shape[2:]).paste(total / n_samples, volume.shape[2:])


def copy_maps(
    model, volume, lesion, *, n_samples, noise_fraction=0.05, aggregate="max", generator, noise_range="channel",
    score=class_logit,
):  # fmt: skip
    """Yield the map of each noisy copy on the lesion's window, (2, *window.shape); arguments as of `smoothgrad`."""
    if aggregate not in ("max", "mean"):
        raise ValueError(f'aggregate is {aggregate!r}: choose "max" or "mean"')
    if n_samples < 1:
        raise ValueError(f"n_samples is {n_samples}: at least one copy is needed")
    voxels = _check(volume, lesion)
    volume = like_model(model, volume)
    shape = volume.shape[2:]
    window = find_window(model, lesion, shape)
    sigma = noise_sigma(volume, noise_fraction, noise_range)
    steps = None if window.reason or unsupported_reason(model) else build_steps(model)
    at_once = max(1, BATCH_VOXELS // math.prod(window.shape))
    in_threads = steps and volume.device.type == "cpu"
    if in_threads:  # not as many as there are processors: the last digits depend on the size of a batch
        at_once = min(at_once, COPIES_PER_THREAD, math.ceil(n_samples / 2))

    def saliency(copies):
        if steps:
            gradients = AdjointGradients(steps, measure_reach(model).padded(shape), copies, voxels, window)
        else:
            gradients = AutogradGradients(model, copies, voxels, window)
        return _aggregate(gradients, aggregate, score)

    with frozen(model):
        batches = noisy_copies(volume, window, sigma, n_samples, generator, at_once)
        for maps in (in_order if in_threads else map)(saliency, batches):
            yield from maps


def _aggregate(gradients, aggregate, score):
    """One map a copy, (B, 2, *window.shape), from the gradients of the logits at the lesion's voxels."""
    logits = gradients.logits.detach().requires_grad_()
    (seeds,) = torch.autograd.grad(score(logits).sum(), logits)
    if aggregate == "mean":
        return gradients.of_sum(seeds / seeds.shape[2])
    highest, lowest = gradients.zeros(), gradients.zeros()
    for number in range(seeds.shape[2]):
        for gradient, part in gradients.of_voxel(number, seeds[:, :, number]):
            torch.maximum(highest[part], gradient, out=highest[part])
            torch.minimum(lowest[part], gradient, out=lowest[part])
    return torch.where(highest > -lowest, highest, lowest)


class AutogradGradients:
    """Gradients by automatic differentiation through the whole window, for any network.

    logits: (B, 2, n) of the noisy copies (B, 2, *window.shape) at the n voxels of the lesion.
    """

    def __init__(self, model, copies, voxels, window):
        self.copies = copies.requires_grad_()
        self.logits = at_voxels(model(self.copies), voxels, window)

    def zeros(self):
        return torch.zeros_like(self.copies)

    def of_sum(self, seeds):
        """Gradient of sum(seeds * logits), seeds (B, 2, n): (B, 2, *window.shape)."""
        return torch.autograd.grad(self.logits, self.copies, seeds, retain_graph=True)[0]

    def of_voxel(self, number, seed):
        """Gradients of sum(seed * logits of one voxel), seed (B, 2), each with its index in (B, 2, *window.shape)."""
        yield torch.autograd.grad(self.logits[:, :, number], self.copies, seed, retain_graph=True)[0], ...


def noise_sigma(volume, noise_fraction, noise_range="channel"):
    """Standard deviation of the noise in each channel, (2,), from the ranges over the volume (1, 2, X, Y, Z)."""
    values = volume[0].flatten(1)
    ranges = values.amax(1) - values.amin(1)
    if noise_range == "first":
        ranges = ranges[:1].expand(len(ranges))
    elif noise_range != "channel":
        raise ValueError(f'noise_range is {noise_range!r}: choose "channel" or "first"')
    return noise_fraction * ranges


def noisy_copies(volume, window, sigma, n_samples, generator, at_once=1):
    """Batches (B, 2, *window.shape) of noisy copies; noise is drawn copy by copy, inside the volume only."""
    clean = volume[(..., *window.within(volume.shape[2:]))]
    for first in range(0, n_samples, at_once):
        noise = [torch.randn(clean.shape[1:], generator=generator) for _ in range(min(at_once, n_samples - first))]
        copies = clean + sigma.view(-1, 1, 1, 1) * torch.stack(noise).to(clean)
        yield pad_far(copies, window.shape)


def grad_cam(model, volume, lesion, *, layer="model.1.submodule.2.conv", score=class_logit, activations=None):
    """Instance Grad-CAM++ of one lesion (eqs. 8-10), with one weight per position and no global pooling.

    volume: (1, 2, X, Y, Z).  lesion: (X, Y, Z) bool.  layer: name of the module whose feature maps are weighted.
    Activations, and their sums S that enter the weights, are those of the whole volume; gradients are taken on the
    lesion's window. Position i of a layer of stride r lies at input voxel r * i (the centre of a stride-r convolution
    of odd kernel) and the map is interpolated linearly between these positions.
    activations: of `layer_activations`, which the lesions of one scan share; computed if not given.
    Returns (X, Y, Z), not negative.
    Raises ValueError if the lesion is empty, shapes differ or the layer does not exist.
    """
    voxels = _check(volume, lesion)
    volume = like_model(model, volume)
    shape = volume.shape[2:]
    window, whole = find_window(model, lesion, shape), measure_reach(model).padded(shape)
    if activations is None:
        activations = layer_activations(model, volume, layer)
    with frozen(model), _kept(model, layer) as kept:
        logits = at_voxels(model(window.crop(volume)), voxels, window)
        (gradients,) = torch.autograd.grad(score(logits).sum(), kept[0])
    stride = _stride(layer, activations, whole)
    part = tuple(slice(a.start // step, a.stop // step) for a, step in zip(window.input, stride, strict=True))
    total = activations.double().sum((2, 3, 4), keepdim=True).to(activations)
    # g^2 / (2 g^2 + S g^3) = g / (2 g + S g^2), zero where the denominator is zero (eq. 19 of Chattopadhay et al.)
    denominators = gradients * (2 + total * gradients)
    alphas = torch.where(denominators == 0, 0, gradients / denominators)
    cam = torch.zeros_like(activations[0, 0])
    cam[part] = (alphas * gradients.relu() * activations[(..., *part)]).sum(1)[0].relu()
    return _upsample(cam, stride)[tuple(slice(size) for size in shape)]


@torch.no_grad()
def layer_activations(model, volume, layer):
    """Feature maps (1, K, X/r, Y/r, Z/r) of a named module for a whole volume (1, 2, X, Y, Z), padded to the strides."""
    volume = like_model(model, volume)
    padded = pad_far(volume, measure_reach(model).padded(volume.shape[2:]))
    with frozen(model), _kept(model, layer) as kept:
        model(padded)
    return kept[0]


@contextmanager
def _kept(model, layer):
    """List that collects what the layer returns, each a start of gradients."""
    modules, kept = dict(model.named_modules()), []
    if layer not in modules:
        raise ValueError(f"the network has no layer {layer!r}: name one of model.named_modules()")

    def keep(module, inputs, output):
        kept.append(output.detach().clone().requires_grad_(torch.is_grad_enabled()))
        return kept[-1].clone()

    hook = modules[layer].register_forward_hook(keep)
    try:
        yield kept
    finally:
        hook.remove()


def _check(volume, lesion):
    volume = torch.as_tensor(volume)
    if volume.ndim != 5 or tuple(volume.shape[:2]) != (1, CHANNELS):
        raise ValueError(f"volume has shape {tuple(volume.shape)}: give one scan as (1, {CHANNELS}, X, Y, Z)")
    return lesion_voxels(lesion, volume.shape[2:])


def _stride(layer, activations, whole):
    stride = np.array(whole) // activations.shape[2:] if activations.ndim == 5 else 0
    if not np.array_equal(stride * activations.shape[2:], whole):
        raise ValueError(
            f"layer {layer!r} returns {tuple(activations.shape)}: choose one that returns (1, K, X/r, Y/r, Z/r)"
        )
    return stride.tolist()


def _upsample(values, stride):
    """Linear interpolation of values whose position i lies at voxel stride * i; constant beyond the last position."""
    values = F.pad(values[None, None], (0, 1) * 3, mode="replicate")
    size = (np.array(stride) * (np.array(values.shape[2:]) - 1) + 1).tolist()
    return F.interpolate(values, size=size, mode="trilinear", align_corners=True)[0, 0]
