# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8 · Explainers compared
#
# Explains the same detected lesions with several methods, and shows how many noisy copies a SmoothGrad map needs. The score that is
# explained is one function, the mean lesion logit over the lesion's voxels; methods of captum take it as it is. The same score is shared out
# between the sequences, and between the lesion, its rim and the rest in each.
#
# **Reads** scans (notebook 1), weights (notebook 2, or those given), the lesion table and maps (notebook 3).
# **Writes** a figure of the maps of one lesion, tables of how alike the methods are and how much of each map lies in the lesion, and the standard
# error of SmoothGrad maps against the number of copies (table and figure), and the shares of sequences and places in the score (tables and figure).

# %%
import warnings
from functools import lru_cache, partial
from itertools import product

import numpy as np
import pandas as pd
import torch

from lib.context import SHARES, mean_image, mean_shares, share_lesion
from lib.exact import find_window
from lib.figures import plot_convergence, plot_methods, plot_shares
from lib.lesions import cut_labels, detected_lesions, select_lesions, signed_distance
from lib.network import explained_unit, load_weights, loaded_scan, seen_sequences
from lib.run import Run
from lib.saliency import (
    compare_lesion,
    converge,
    correlate_methods,
    lesion_generator,
    measure_concentration,
    seconds_a_voxel,
    smoothgrad_until,
)
from lib.scans import load_map, load_scan

warnings.filterwarnings("ignore", message="Setting forward, backward hooks")  # captum's DeepLift says what it does

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
weights = ""  # weights trained before; empty: those of notebook 2
seed = 0
device = "cpu"
n_lesions = 3  # detected lesions, spread over patients
min_volume_mm3 = 40.0
max_volume_mm3 = 120.0
max_voxels = 2000  # lesions with more are named and left out: the time goes with the voxels
patch = 0  # voxels a side, of the part of a scan around a lesion that the network is given (for one that sees all of it); 0: the whole scan
n_samples = 8  # noisy copies; the paper's: 50
statistics = "exact"  # of instance normalisation; or an error, such as 1e-3 of a map's peak, which is faster
n_steps = 16  # of integrated gradients
occluded_voxels = 8  # edge and step of the cube that occlusion replaces by the mean of the brain,
most_cubes = 1000  # or larger: a deep network sees so far that more of them would take hours
layer = ""  # of Grad-CAM++ and HiResCAM; empty: the decoder one level below the output
largest_n_samples = 50  # of the convergence curve
tolerance = 0.05  # of the standard error, where SmoothGrad stops
n_shared = 12  # detected lesions whose score is shared out between sequences and places
n_resamples = 2000  # of patients, for the intervals

# %%
run = Run("08_explainers", globals())
model, description = load_weights(run.weights(weights), device)
scans = run.scans().set_index("scan", drop=False)
load = lru_cache(1)(lambda name: loaded_scan(scans.loc[name], description))
predicted = lru_cache(1)(lambda name: load_map(run.map(name, "desc-pred_dseg")))
cut = lru_cache(1)(lambda name, label: cut_labels(load(name).image, predicted(name), label, patch))
baseline = lru_cache(1)(lambda name, label: cut_labels(mean_image(load(name)), predicted(name), label, patch)[0])
scene = lru_cache(1)(
    lambda name, label: (cut(name, label)[0], baseline(name, label), cut(name, label)[1], load(name).spacing_mm)
)
unit = explained_unit(description)
if unit != "logit":
    print(f"explained: {description['explained']}, which is meant where a text says logit")

# %%
found = detected_lesions(run.table("03_lesions"))  # of scans without annotation, all that are predicted
selected = select_lesions(
    found, n_per_kind=n_lesions, min_volume_mm3=min_volume_mm3, max_volume_mm3=max_volume_mm3,
    max_voxels=max_voxels, generator=np.random.default_rng(seed),
)  # fmt: skip
selected[["scan", "label", "voxels", "volume_mm3", "mean_probability"]]

# %% [markdown]
# ## Methods
# SmoothGrad and Grad-CAM++ as in notebook 4. Integrated gradients, DeepLift and occlusion share out the score above that of the
# baseline, a brain of the scan's mean everywhere: their unit is the logit, that of SmoothGrad the logit per z-score. HiResCAM (Draelos and Carin 2020) is the gradient times the activation at each position
# of the layer of Grad-CAM++, signed and in logits; Grad-CAM++ loses the size of the gradient and has no unit. Guided backpropagation is defined for ReLU: with
# the PReLU of the paper's U-Net it would be the plain gradient, and is left out, as is DeepLift where it has no rule (`dynunet`, `swinunetr`). All see the lesion's exact
# window, the whole scan for a network without one, or the `patch`, which then takes the place of the scan.

# %%
for row in selected.sort_values("voxels").tail(1).itertuples():  # none, if there is no lesion
    image, labels = cut(row.scan, row.label)
    voxels, noise = selected["voxels"].sum(), {"n_samples": n_samples, "statistics": statistics}
    minutes = voxels * seconds_a_voxel(model, image, labels == row.label, **noise) / 60
    print(f"{voxels:,} voxels: about {minutes:.1f} minutes for their maps by SmoothGrad, "
          f"{minutes * largest_n_samples / n_samples:.1f} for its convergence")  # fmt: skip

# %%
compare = partial(
    compare_lesion, model=model, scene=scene, seed=seed, n_samples=n_samples, n_steps=n_steps,
    occluded_voxels=occluded_voxels, most_cubes=most_cubes, layer=layer, statistics=statistics,
)  # fmt: skip
explained = run.compute_each(compare, selected[["scan", "label"]].to_dict("records"), desc="methods")

# %% [markdown]
# **Figure.** Maps of the first of these lesions over FLAIR and MPRAGE, in the axial slice where it is largest. The methods differ in unit, so
# each has its own scale. Grad-CAM++ and HiResCAM have one map, drawn over FLAIR (over MPRAGE, if the network takes T1w alone).

# %%
figure = plot_methods({})  # without a lesion
for first in explained[:1]:
    image, _ = cut(first["scan"], first["label"])
    figure = plot_methods(first["maps"], image, first["mask"], first["spacing_mm"], seen_sequences(description)[0])
run.save_figure(figure, "methods")

# %% [markdown]
# **Table.** Spearman's rank correlation of two methods, of the magnitude summed over sequences: mean over lesions. Over the whole window every
# method falls with the distance from the lesion, which alone makes them alike; within 3 mm of the lesion (with it) they are compared in earnest.

# %%
agreement = []
for one in explained:
    window = find_window(model, one["mask"], one["mask"].shape)
    regions = {
        "window": window.paste(torch.ones(window.shape, dtype=bool), one["mask"].shape).numpy(),
        "within 3 mm": signed_distance(one["mask"], one["spacing_mm"]) <= 3,
    }
    table = correlate_methods(one["maps"], regions)
    agreement.append(table.assign(scan=one["scan"], label=one["label"]))
agreement = agreement or [pd.DataFrame(columns=["region", "method_a", "method_b", "rho", "scan", "label"], dtype=float)]
agreement = run.save_table(pd.concat(agreement, ignore_index=True), "agreement")
print(agreement.pivot_table(index=["method_a", "method_b"], columns="region", values="rho", sort=False).round(2))

# %% [markdown]
# **Table.** Fraction of the absolute values of a map that lies inside the lesion, and within 3 mm of it: mean over lesions.

# %%
concentration = [
    measure_concentration(one["maps"], one["mask"], one["spacing_mm"]).assign(scan=one["scan"], label=one["label"])
    for one in explained
] or [pd.DataFrame(columns=["method", "inside", "within_3mm", "scan", "label"], dtype=float)]
concentration = run.save_table(pd.concat(concentration, ignore_index=True), "concentration")
concentration.groupby("method", sort=False)[["inside", "within_3mm"]].mean().round(3)

# %% [markdown]
# ## What N copies buy
# The standard error over copies, of the voxel where it is largest, as a fraction of the map's largest magnitude.

# %%
options = {"n_samples": largest_n_samples, "statistics": statistics}
errors_of = partial(converge, model=model, scene=scene, seed=seed, **options)
curves = run.compute_each(errors_of, list(product(explained, ("max", "mean"))), desc="convergence")
curves = curves or [pd.DataFrame(columns=["copies", "standard_error", "scan", "label", "method"], dtype=float)]
curves = run.save_table(pd.concat(curves, ignore_index=True), "convergence")
shown = curves[curves["copies"].isin([2, 5, 10, 20, 50, 100, 200])]
shown.pivot_table(index="copies", columns="method", values="standard_error", aggfunc="median").round(3)

# %% [markdown]
# **Figure.** Grey: each lesion; black: their median; dotted: the decrease with the square root of N; dashed: the tolerance.

# %%
run.save_figure(plot_convergence(curves, tolerance), "convergence")

# %% [markdown]
# SmoothGrad can stop by itself when the tolerance is reached: the average map of the first lesion, with the number of copies it took and the
# standard error reached.

# %%
for first in explained[:1]:
    _, n_used, error = smoothgrad_until(
        model, torch.as_tensor(cut(first["scan"], first["label"])[0])[None], first["mask"], tolerance=tolerance,
        n_samples=largest_n_samples, aggregate="mean", generator=lesion_generator(seed, first["scan"], first["label"]),
    )  # fmt: skip
    print(n_used, round(error, 4))

# %% [markdown]
# ## Which sequence found the lesion?
# A gradient says what a small change would do. Here a whole sequence is replaced, in both at once or in one alone: the Shapley value of a sequence is what it adds to the
# score, on average over both orders of showing them. With the lesion, its rim (3 mm) and the rest in each sequence as six parts, it is the
# average over all orders, from the score of each of the 64 coalitions (with the mean in place of the rest). Values are in logits and sum to the score above that of a scan in which all is replaced,
# by the mean of the scan, by air or by blurred healthy tissue, as in notebook 6.

# %%
shared = select_lesions(
    found, n_per_kind=n_shared, min_volume_mm3=min_volume_mm3, max_volume_mm3=max_volume_mm3,
    max_voxels=max_voxels, generator=np.random.default_rng(seed),
)  # fmt: skip
share = partial(
    share_lesion, model=model, scene=scene, patch=patch,
    scan_of=lambda name: (load(name), load_scan(scans.loc[name], normalised=False), predicted(name)),
)  # fmt: skip
shares = run.compute_each(share, shared[["scan", "subject", "label"]].to_dict("records"), desc="shares")

# %%
shares = shares or [pd.DataFrame(columns=[*SHARES, "scan", "subject", "label"], dtype=float)]
shares = run.save_table(pd.concat(shares, ignore_index=True), "shares")
means = mean_shares(shares, unit, n_resamples=n_resamples, generator=np.random.default_rng(seed))
run.save_table(means, "sequences").round(2)

# %% [markdown]
# **Figure.** Shapley values of the two sequences by what is put in place of the rest (a), and of their parts with the first of these (b). Dots: lesions; black: mean with
# patient-bootstrap 95 % interval. Bears on claim C4.

# %%
run.save_figure(plot_shares(shares, means, unit), "shares")
