"""Different explanations of the same lesion: how alike they are, and how much of each lies in and near the lesion."""

import math
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
from captum.attr import DeepLift, IntegratedGradients, Occlusion
from scipy import stats

from lib.exact import like_model
from lib.lesions import signed_distance
from lib.saliency.attribution import LesionScore
from lib.saliency.cam import grad_cam, hires_cam, layer_activations
from lib.saliency.gradients import smoothgrad
from lib.saliency.maps import lesion_generator
from lib.saliency.measures import PERILESIONAL_MM


def compare_methods(
    model, volume, lesion, baseline, *, n_samples, n_steps, occluded_voxels, most_cubes, layer, seed, statistics="exact"
):
    """Maps of one lesion by method, each (C, X, Y, Z) numpy: C = 2 sequences, 1 for Grad-CAM++ and HiResCAM.

    volume: (1, 2, X, Y, Z).  baseline: as volume, with the mean of the brain in its place: that of integrated gradients,
    DeepLift and occlusion.  n_samples: noisy copies.  n_steps: of integrated gradients.  occluded_voxels: edge of the
    cube that occlusion replaces in one sequence, and its step; larger where the window has more than `most_cubes` of
    them, each of which is a pass of the network.  seed: JSON-like items that name the noise.
    statistics: of `smoothgrad`.
    Guided backpropagation is not among them: it has no rule for the network's PReLU. DeepLift is left out, with a warning, where
    it has none, as for DynUNet and Swin UNETR, which use a module of their activations twice.
    """
    target, found = LesionScore(model, lesion, volume.shape[2:]), {}
    for name in ("max", "mean"):
        noise = {"n_samples": n_samples, "generator": lesion_generator(*seed), "statistics": statistics}
        found[f"SmoothGrad {name}"] = smoothgrad(model, volume, lesion, aggregate=name, **noise)
    baselines = target.window.crop(like_model(model, baseline))
    cube = _cube(target.window.shape, occluded_voxels, most_cubes)
    occlusion = {"sliding_window_shapes": cube, "strides": cube, "perturbations_per_eval": 4}
    for name, method, options in (
        ("Integrated gradients", IntegratedGradients, {"n_steps": n_steps, "internal_batch_size": 4}),
        ("DeepLift", DeepLift, {}),
        ("Occlusion", Occlusion, occlusion),
    ):
        try:
            found[name] = target.attribute(method(target), volume, baselines=baselines, **options)
        except ValueError as error:
            warnings.warn(f"{name} is left out: {error}", stacklevel=2)
    activations = layer_activations(model, volume, layer)
    for name, method in (("Grad-CAM++", grad_cam), ("HiResCAM", hires_cam)):
        found[name] = method(model, volume, lesion, layer=layer, activations=activations)[None]
    return {name: values.cpu().numpy() for name, values in found.items()}


def _cube(window, edge, most):
    """Shape (1, x, y, z) of the smallest cube, at least this edge, of which at most `most` cover both sequences."""
    while 2 * math.prod(math.ceil(side / edge) for side in window) > max(most, 2):
        edge += 1
    return (1, *(min(edge, side) for side in window))


def correlate_methods(maps, regions):
    """Spearman's rho of every two methods over the voxels of a region: table region, method_a, method_b, rho.

    Of a voxel's magnitude, summed over sequences: the sign of a gradient and that of a gradient times an input are not
    of the same thing, and Grad-CAM++ and HiResCAM have one map for both sequences.  regions: (X, Y, Z) bool by name.
    """
    rows = []
    for region, inside in regions.items():
        magnitudes = {name: np.abs(values[:, inside]).sum(0) for name, values in maps.items()}
        for a, b in combinations(maps, 2):
            rows.append((region, a, b, stats.spearmanr(magnitudes[a], magnitudes[b]).statistic))
    return pd.DataFrame(rows, columns=["region", "method_a", "method_b", "rho"])


def measure_concentration(maps, lesion, spacing_mm):
    """Fraction of each map's absolute values inside the lesion, and within 3 mm of it (with the lesion): table method,
    inside, within_3mm; NaN for a map of zeros."""
    near, rows = signed_distance(lesion, spacing_mm) <= PERILESIONAL_MM, []
    for name, values in maps.items():
        magnitude = np.abs(values.astype(float)).sum(0)
        total = magnitude.sum() or np.nan
        rows.append((name, magnitude[lesion].sum() / total, magnitude[near].sum() / total))
    return pd.DataFrame(rows, columns=["method", "inside", "within_3mm"])
