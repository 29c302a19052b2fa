"""The maps of one lesion by every method, kept as small NIfTI files; the noise they are drawn with."""

from pathlib import Path

import numpy as np
import torch

from lib.provenance import digest
from lib.saliency.cam import grad_cam
from lib.saliency.gradients import smoothgrad
from lib.saliency.scores import SCORES
from lib.scans import load_cut, save_cut

METHODS = ["smoothgrad_max", "smoothgrad_mean", "grad_cam"]


def lesion_generator(*seed):
    """Generator of the noise for one lesion, from JSON-like items that name it: the same items, the same noise."""
    return torch.Generator().manual_seed(int(digest(*seed), 16) % 2**63)


def numpy_generator(*seed):
    """NumPy's generator of what is drawn for one scan or lesion, from JSON-like items that name it, as `lesion_generator`."""
    return np.random.default_rng(int(digest(*seed), 16))


def lesion_maps(
    model, image, lesion, *, n_samples, noise_fraction, layer, seed, identity, score="logit", activations=None
):
    """Maps of one lesion by method: "smoothgrad_max", "smoothgrad_mean" (2, X, Y, Z) and "grad_cam" (1, X, Y, Z).

    image: (2, X, Y, Z) z-scored. Both SmoothGrad maps see the same noise. Spagnolo et al. 2024, eqs. 3, 2 and 8-10.
    score: what is explained, one of `saliency.SCORES`; the paper's is the logit of the lesion class.
    activations: of `saliency.layer_activations`, which the lesions of one scan share.
    Raises ValueError for an unknown score.
    """
    if score not in SCORES:
        raise ValueError(f"score is {score!r}: choose one of {', '.join(SCORES)}")
    volume = torch.as_tensor(image)[None]
    maps = {
        f"smoothgrad_{aggregate}": smoothgrad(
            model, volume, lesion, n_samples=n_samples, noise_fraction=noise_fraction, aggregate=aggregate,
            generator=lesion_generator(seed, *identity), score=SCORES[score],
        )
        for aggregate in ("max", "mean")
    }  # fmt: skip
    maps["grad_cam"] = grad_cam(model, volume, lesion, layer=layer, score=SCORES[score], activations=activations)[None]
    return {method: saliency.cpu().numpy() for method, saliency in maps.items()}


def map_name(facts):
    """Name of a lesion's maps, from its scan, kind and label: "sub-001_label-TP003"."""
    return f"{facts['scan']}_label-{facts['kind'].replace(' ', '')}{facts['label']:03d}"


def saved_maps(folder, name, affine, shape, compute):
    """Maps of `lesion_maps` as they lie in a folder, one NIfTI a method; computed and written there if one is missing.

    name: of the lesion. affine, shape: of the scan. compute: function without arguments that returns the maps.
    """
    paths = {method: Path(folder, f"{name}_desc-{method.replace('_', '')}.nii.gz") for method in METHODS}
    if not all(path.exists() for path in paths.values()):
        for method, saliency in compute().items():
            save_cut(saliency, affine, paths[method])
    return {method: load_cut(path, affine, shape) for method, path in paths.items()}


def peak_saliency(model, image, lesion, *, n_samples, noise_fraction, seed):
    """Signed peaks of the signed-maximum map (eq. 3) of one lesion: {"peak_flair", "peak_mprage"}, logit per z-score.

    seed: JSON-like items that name the noise; the same items, the same noise.
    """
    saliency = smoothgrad(
        model, torch.as_tensor(image)[None], lesion, n_samples=n_samples, noise_fraction=noise_fraction,
        generator=lesion_generator(*seed),
    ).flatten(1)  # fmt: skip
    peaks = saliency.gather(1, saliency.abs().argmax(1, keepdim=True))[:, 0].tolist()
    return dict(zip(("peak_flair", "peak_mprage"), peaks, strict=True))
