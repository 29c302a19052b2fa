"""Instance SmoothGrad of one lesion: the signed maximum (eq. 3) and the average (eq. 2) of gradients over noisy copies.

Spagnolo et al. 2024, "Instance-level quantitative saliency in multiple sclerosis lesion segmentation".
All maps are computed on the exact input window of the lesion and equal those of the whole volume. A network without
exact windows is explained on all of the volume it is given: give it a patch of the scan if it is used on patches.
With statistics=1e-3, say, one with instance or group normalisation is explained much faster, to that error.
"""

import math
from contextlib import suppress

import torch
from tqdm import tqdm

from lib.exact import (
    AdjointGradients,
    NormalisedGradients,
    WholeGradients,
    at_voxels,
    checked_steps,
    find_window,
    frozen,
    lesion_voxels,
    like_model,
    n_channels,
    pad_far,
    usable,
)
from lib.saliency.scores import class_logit
from lib.threads import in_order

BATCH_VOXELS = 2**20  # of copies at once; a voxel holds 100 (adjoint) or 400 bytes a channel of the first level
COPIES_PER_THREAD = 4  # a few small copies together are faster than one by one, more are hardly


def smoothgrad(
    model, volume, lesion, *, n_samples=50, noise_fraction=0.05, aggregate="max", generator, noise_range="channel",
    score=class_logit, statistics="exact", measured=None,
):  # fmt: skip
    """Signed saliency of one lesion, averaged over noisy copies of the input: the mean of `copy_maps`.

    volume: (1, C, X, Y, Z), z-scored FLAIR and MPRAGE unless the network takes others.  lesion: (X, Y, Z) bool.  The other arguments, and the errors
    raised, are those of `copy_maps`.
    Returns (2, X, Y, Z) in score unit (logit) per unit z-score, zero outside the lesion's window.
    """
    maps = copy_maps(
        model, volume, lesion, n_samples=n_samples, noise_fraction=noise_fraction, aggregate=aggregate,
        generator=generator, noise_range=noise_range, score=score, statistics=statistics, measured=measured,
    )  # fmt: skip
    total = sum(maps)  # in the order of the copies
    return find_window(model, lesion, volume.shape[2:]).paste(total / n_samples, volume.shape[2:])


@torch.inference_mode(False)
@torch.enable_grad()
def copy_maps(
    model, volume, lesion, *, n_samples, noise_fraction=0.05, aggregate="max", generator, noise_range="channel",
    score=class_logit, statistics="exact", measured=None,
):  # fmt: skip
    """Yield the map of each noisy copy of the input on the lesion's window, (2, *window.shape).

    What is known of the network is found on this call: on what parts of the grid its logits depend, and whether the
    adjoint has its gradients. Without the adjoint they are computed by automatic differentiation on the window.

    volume: (1, C, X, Y, Z), z-scored FLAIR and MPRAGE unless the network takes others.  lesion: (X, Y, Z) bool.
    noise_fraction: standard deviation of the noise as a fraction of each channel's range over the volume, or of
    FLAIR's for both channels (noise_range="first", as in the authors' scripts).
    aggregate: "max" keeps, for each input voxel, the gradient of largest magnitude over the lesion's voxels with its
    sign; "mean" averages the gradients over the lesion's voxels.
    generator: torch.Generator on the CPU.  score: a score function of `lib.saliency.scores`.
    statistics: of instance and group normalisation, which depend on the whole patch. "exact" differentiates the patch
    for every voxel; a number lets signed maxima differ by so much, as a fraction of the largest gradient: local
    gradients with the statistics held, and as many of the whole patch as that takes (`NormalisedGradients`). Where a
    positive and a negative extreme tie within it, the signed maximum may take the other one.
    measured: function that is called for each copy with its error, measured on voxels of the first copy and expected
    from there on the others; 0 where nothing is approximated.
    Raises ValueError if the lesion is empty, shapes differ, an option is unknown or the network gives no logit for each
    voxel.
    """
    if aggregate not in ("max", "mean"):
        raise ValueError(f'aggregate is {aggregate!r}: choose "max" or "mean"')
    with suppress(ValueError, TypeError):
        statistics = float(statistics)  # of a command line
    if statistics != "exact" and not (isinstance(statistics, float) and 0 <= statistics < 1):
        raise ValueError(
            f'statistics is {statistics!r}: choose "exact" or an error, such as 1e-4 of the largest gradient'
        )
    if n_samples < 1:
        raise ValueError(f"n_samples is {n_samples}: at least one copy is needed")
    voxels, volume = check_lesion(model, volume, lesion), like_model(model, volume).detach()
    window = find_window(model, lesion, volume.shape[2:])
    sigma = noise_sigma(volume, noise_fraction, noise_range)
    held = window.reason and statistics != "exact" and aggregate == "max"
    if held:
        field = find_window(model, lesion, volume.shape[2:], held=True).field
        steps, _ = checked_steps(model, field, WholeGradients)
    else:
        steps, _ = checked_steps(model, window.field)
    held, scale = held and steps, None
    at_once = 1 if window.reason else max(1, BATCH_VOXELS // math.prod(window.shape))  # it may mix copies of a batch
    in_threads = steps and not held and volume.device.type == "cpu"  # whole patches of one copy at a time fill memory
    if in_threads:  # not as many as there are processors: the last digits depend on the size of a batch
        at_once = min(at_once, COPIES_PER_THREAD, math.ceil(n_samples / 2))

    bar = tqdm(desc="voxels", total=len(voxels) * n_samples, delay=10, mininterval=2, leave=False)  # of what takes long

    def saliency(copies):
        nonlocal scale
        if held:
            gradients = NormalisedGradients(steps, window.field.shape, copies, voxels, statistics, scale)
        elif steps:
            gradients = AdjointGradients(steps, window.field.shape, copies, voxels, window.box)
        else:
            gradients = AutogradGradients(model, copies, voxels, window)
        maps = _aggregate(gradients, aggregate, score, lambda: bar.update(len(copies)))
        if not held:
            return maps, 0.0
        scale = gradients.scale
        return maps, gradients.error

    with frozen(model), bar:
        batches = noisy_copies(volume, window, sigma, n_samples, generator, at_once)
        for maps, error in (in_order if in_threads else map)(saliency, batches):
            if measured:
                measured(error)
            yield from maps


def _aggregate(gradients, aggregate, score, after_voxel):
    """One map a copy, (B, 2, *window.shape), from the gradients of the logits at the lesion's voxels."""
    logits = usable(gradients.logits.detach()).requires_grad_()
    (seeds,) = torch.autograd.grad(score(logits).sum(), logits)
    if aggregate == "mean":
        return gradients.of_sum(seeds / seeds.shape[2])
    highest, lowest = torch.zeros_like(gradients.copies), torch.zeros_like(gradients.copies)
    for number in range(seeds.shape[2]):
        for gradient, part in gradients.of_voxel(number, seeds):
            torch.maximum(highest[part], gradient, out=highest[part])
            torch.minimum(lowest[part], gradient, out=lowest[part])
        after_voxel()
    return torch.where(highest > -lowest, highest, lowest)


class AutogradGradients:
    """`AdjointGradients` by automatic differentiation through the whole window, for any network."""

    def __init__(self, model, copies, voxels, window):
        self.copies = copies.requires_grad_()
        self.logits = at_voxels(model(self.copies.clone()), voxels, window)
        if not self.logits.requires_grad:
            raise ValueError("the logits have no gradient: the network detaches them or runs under torch.no_grad")

    def of_sum(self, seeds):
        return self._gradient(self.logits, seeds)

    def of_voxel(self, number, seeds):
        yield self._gradient(self.logits[:, :, number], seeds[:, :, number]), ...

    def _gradient(self, logits, seeds):
        try:
            return torch.autograd.grad(logits, self.copies, seeds, retain_graph=True)[0]
        except RuntimeError as error:
            if "checkpoint" not in str(error).lower():
                raise
            raise ValueError(
                "the network checkpoints its activations: let it do so with use_reentrant=False"
            ) from error


def noise_sigma(volume, noise_fraction, noise_range="channel"):
    """Standard deviation of the noise in each channel, (2,), from the ranges over the volume (1, 2, X, Y, Z)."""
    if noise_range not in ("channel", "first"):
        raise ValueError(f'noise_range is {noise_range!r}: choose "channel" or "first"')
    ranges = volume[0].amax((1, 2, 3)) - volume[0].amin((1, 2, 3))
    return noise_fraction * (ranges if noise_range == "channel" else ranges[:1].expand(len(ranges)))


def noisy_copies(volume, window, sigma, n_samples, generator, at_once=1):
    """Batches (B, 2, *window.shape) of noisy copies; noise is drawn copy by copy, inside the volume only."""
    clean = volume[(..., *window.within(volume.shape[2:]))]
    for first in range(0, n_samples, at_once):
        noise = [torch.randn(clean.shape[1:], generator=generator) for _ in range(min(at_once, n_samples - first))]
        copies = clean + sigma.view(-1, 1, 1, 1) * torch.stack(noise).to(clean)
        yield pad_far(copies, window.shape)


def check_lesion(model, volume, lesion):
    """Voxel indices (n, 3) of a lesion (X, Y, Z) in a volume. Raises ValueError if it is not the (1, C, X, Y, Z) of one
    scan that the network takes."""
    volume, channels = torch.as_tensor(volume), n_channels(model)
    if volume.ndim != 5 or tuple(volume.shape[:2]) != (1, channels):
        raise ValueError(f"volume has shape {tuple(volume.shape)}: give one scan as (1, {channels}, X, Y, Z)")
    return lesion_voxels(lesion, volume.shape[2:])
