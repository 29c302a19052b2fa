"""Instance SmoothGrad of one lesion: the signed maximum (eq. 3) and the average (eq. 2) of gradients over noisy copies.

Spagnolo et al. 2024, "Instance-level quantitative saliency in multiple sclerosis lesion segmentation".
All maps are computed on the exact input window of the lesion and equal those of the whole volume. A network without
exact windows is explained on all of the volume it is given: give it a patch of the scan if it is used on patches.
With statistics=1e-3, say, one with instance or group normalisation is explained much faster, to that error.
"""

import math
import warnings
from contextlib import suppress
from copy import copy
from itertools import chain

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
    of_each,
    pad_far,
    usable,
)
from lib.saliency.scores import class_logit
from lib.threads import in_order

BATCH_VOXELS = 2**20  # of copies at once; a voxel holds 100 (adjoint) or 400 bytes a channel of the first level
COPIES_PER_THREAD = 4  # a few small copies together are faster than one by one, more are hardly


def smoothgrad(model, volume, lesion, *, aggregate="max", n_samples=50, **options):
    """Signed saliency of one lesion, averaged over noisy copies of the input: the mean of `copy_maps`.

    The other arguments, and the errors raised, are those of `copy_maps`.
    Returns (2, X, Y, Z) in score unit (logit) per unit z-score, zero outside the lesion's window.
    """
    ((saliency,),) = smoothgrads(model, volume, [[(lesion, aggregate)]], n_samples=n_samples, **options)
    return saliency


def smoothgrads(model, volume, wanted, *, n_samples=50, **options):
    """Maps of `smoothgrad` of several lesions of one scan, over the same noisy copies.

    wanted: of each lesion, the maps that are wanted: a list of (mask, aggregate). The first mask is the lesion, (X, Y, Z)
    bool, and holds the others; each of its voxels is differentiated once.
    A copy is passed through the network once for all lesions: on the window that holds them, or on the whole volume where
    the network has no windows. No map depends on the other lesions but by that window, which is where noise is drawn.
    measured: called for each copy and lesion.  Returns the maps, a list for each lesion.
    """
    copies = _Copies(model, volume, wanted, n_samples=n_samples, **options)
    totals = [[0] * len(maps) for maps in wanted]
    for lesion, maps in copies.maps():
        totals[lesion] = [total + one for total, one in zip(totals[lesion], maps, strict=True)]
    return [[copies.window.paste(total / n_samples, volume.shape[2:]) for total in maps] for maps in totals]


def copy_maps(model, volume, lesion, *, aggregate="max", **options):
    """Yield the map of each noisy copy of the input on the lesion's window, (2, *window.shape).

    What is known of the network is found on this call: on what parts of the grid its logits depend, and whether the
    adjoint has its gradients. Without the adjoint they are computed by automatic differentiation on the window.

    volume: (1, C, X, Y, Z), z-scored FLAIR and MPRAGE unless the network takes others.  lesion: (X, Y, Z) bool.
    noise_fraction: standard deviation of the noise as a fraction of each channel's range over the volume, or of
    FLAIR's for both channels (noise_range="first", as in the authors' scripts).
    aggregate: "max" keeps, for each input voxel, the gradient of largest magnitude over the lesion's voxels with its
    sign; "mean" averages the gradients over the lesion's voxels.
    n_samples: how many copies.  generator: torch.Generator on the CPU.  score: a score function of `lib.saliency.scores`.
    statistics: of instance and group normalisation, which depend on the whole patch. "exact" differentiates the patch
    for every voxel; a number lets signed maxima differ by so much, as a fraction of the largest gradient: local
    gradients with the statistics held, and as many of the whole patch as that takes (`NormalisedGradients`); a warning
    says where none are held, and maps are exact. Where a positive and a negative extreme tie within it, the signed maximum
    may take the other one. Averages are exact alone, and to the tolerance, of their own largest value, where
    `smoothgrads` computes them with signed maxima.
    measured: function that is called for each copy with its error, measured on voxels of the first copy and expected
    from there on the others; 0 where nothing is approximated.
    Raises ValueError if the lesion is empty, shapes differ, an option is unknown or the network gives no logit for each
    voxel.
    """
    for _, (saliency,) in _Copies(model, volume, [[(lesion, aggregate)]], **options).maps():
        yield saliency


class _Copies:
    """Noisy copies of one volume, and the maps that are wanted of its lesions; arguments as of `smoothgrads`."""

    def __init__(
        self, model, volume, wanted, *, n_samples, noise_fraction=0.05, generator, noise_range="channel",
        score=class_logit, statistics="exact", measured=None,
    ):  # fmt: skip
        aggregates = [aggregate for maps in wanted for _, aggregate in maps]
        if unknown := set(aggregates) - {"max", "mean"}:
            raise ValueError(f'aggregate is {unknown.pop()!r}: choose "max" or "mean"')
        with suppress(ValueError, TypeError):
            statistics = float(statistics)  # of a command line
        if statistics != "exact" and not (isinstance(statistics, float) and 0 <= statistics < 1):
            raise ValueError(
                f'statistics is {statistics!r}: choose "exact" or an error, such as 1e-4 of the largest gradient'
            )
        if n_samples < 1:
            raise ValueError(f"n_samples is {n_samples}: at least one copy is needed")
        self.lesions = [check_lesion(model, volume, maps[0][0]) for maps in wanted]
        self.wanted = [
            [(torch.as_tensor(mask).cpu()[tuple(voxels.T)].bool(), aggregate) for mask, aggregate in maps]
            for voxels, maps in zip(self.lesions, wanted, strict=True)
        ]
        self.model, self.volume, shape = model, like_model(model, volume).detach(), volume.shape[2:]
        together = torch.zeros(shape).bool().index_put(tuple(torch.cat(self.lesions).T), torch.tensor(True))
        self.window = find_window(model, together, shape)
        self.sigma = noise_sigma(self.volume, noise_fraction, noise_range)
        self.n_samples, self.generator, self.score, self.measured = n_samples, generator, score, measured
        self.tolerance, self.shown = None, [()] * len(wanted)  # tolerance: where statistics are held
        if self.window.reason and statistics != "exact" and "max" in aggregates:
            field = find_window(model, together, shape, held=True).field
            self.steps, reason = checked_steps(model, field, WholeGradients)
            self.tolerance = self.steps and statistics
            if reason:
                warnings.warn(f"statistics={statistics}, but none are held: {reason}", stacklevel=3)
        else:
            self.steps, _ = checked_steps(model, self.window.field)

    @torch.inference_mode(False)
    @torch.enable_grad()
    def maps(self):
        """Yield the number of a lesion and its maps of one copy, each (2, *window.shape): for each lesion in the order of
        the copies."""
        window, held, n_voxels = self.window, self.tolerance is not None, sum(map(len, self.lesions))
        # A network without windows may mix the copies of a batch.
        together = 1 if window.reason else max(1, BATCH_VOXELS // math.prod(window.shape))
        in_threads = self.steps and not held and self.volume.device.type == "cpu"  # held: one copy fills memory
        if in_threads:  # not as many as there are processors: the last digits depend on the size of a batch
            together = min(together, COPIES_PER_THREAD, math.ceil(self.n_samples / 2))
        self.bar = tqdm(desc="voxels", total=n_voxels * self.n_samples, delay=10, mininterval=2, leave=False)
        batches = noisy_copies(self.volume, window, self.sigma, self.n_samples, self.generator, together)
        with frozen(self.model), self.bar:
            found = in_order(lambda copies: list(self._of(copies)), batches) if in_threads else map(self._of, batches)
            for lesion, maps, error in chain.from_iterable(found):
                if self.measured:
                    self.measured(error)
                for of_copy in zip(*maps, strict=True):
                    yield lesion, of_copy

    def _of(self, copies):
        """Yield for each lesion its number, its maps of some copies (B, 2, *window.shape), and their error."""
        gradients_of = self._passes(copies)
        for lesion, wanted in enumerate(self.wanted):
            gradients = gradients_of(self.lesions[lesion], self.shown[lesion])
            maps = _aggregate(gradients, wanted, self.score, lambda: self.bar.update(len(copies)))
            self.shown[lesion] = getattr(gradients, "measured", ())
            yield lesion, maps, getattr(gradients, "error", 0.0)

    def _passes(self, copies):
        """Passes of the network that lesions share: function of a lesion's voxels that has their gradients."""
        if self.tolerance is not None:
            whole = WholeGradients.of_copy(self.steps, copies)
            return lambda voxels, shown: NormalisedGradients(whole, voxels, self.tolerance, shown)
        if self.steps:
            shape, box = self.window.field.shape, self.window.box
            return lambda voxels, _: AdjointGradients(self.steps, shape, copies, voxels, box)
        passes = AutogradGradients(self.model, copies, self.window)
        return lambda voxels, _: passes.of_lesion(voxels)


def _aggregate(gradients, wanted, score, after_voxel):
    """Maps of some copies, (B, 2, *window.shape) each, from the gradients of the logits at a lesion's n voxels.

    wanted: list of (which of the voxels, (n,) bool; aggregate).
    """
    logits = usable(gradients.logits.detach()).requires_grad_()
    (seeds,) = torch.autograd.grad(score(logits).sum(), logits)
    none = gradients.copies.new_zeros
    extremes = [(chosen, *none(2, *gradients.copies.shape)) for chosen, aggregate in wanted if aggregate == "max"]
    for number in range(seeds.shape[2]) if extremes else ():
        for gradient, part in gradients.of_voxel(number, seeds):
            for chosen, highest, lowest in extremes:
                if chosen[number]:
                    torch.maximum(highest[part], gradient, out=highest[part])
                    torch.minimum(lowest[part], gradient, out=lowest[part])
        after_voxel()
    strongest = (torch.where(highest > -lowest, highest, lowest) for _, highest, lowest in extremes)
    return [
        next(strongest) if aggregate == "max" else gradients.of_sum(seeds * chosen.to(seeds) / int(chosen.sum()))
        for chosen, aggregate in wanted
    ]


class AutogradGradients:
    """`AdjointGradients` by automatic differentiation through the whole window, for any network."""

    def __init__(self, model, copies, window):
        self.copies, self.window = copies.requires_grad_(), window
        self.window_logits = of_each(model(self.copies.clone()), self.copies)
        if not self.window_logits.requires_grad:
            raise ValueError("the logits have no gradient: the network detaches them or runs under torch.no_grad")

    def of_lesion(self, voxels):
        """The same pass for the voxels (n, 3) of a lesion: their logits, (B, 2, n), and gradients."""
        lesion = copy(self)
        lesion.logits = at_voxels(self.window_logits, voxels, self.window)
        return lesion

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
            raise ValueError("the network checkpoints activations: let it do so with use_reentrant=False") from error


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
