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
# # 7 · Sanity checks
#
# Asks of the saliency maps of detected lesions whether they depend on the network's weights, whether the score follows what they mark, whether
# they are stable, how much of them the lesion mask alone would have told, and how much of them acts on other lesions. Nothing is decided here: a map that fails a check has it in the table.
#
# **Reads** scans (notebook 1), weights (notebook 2, or those given), the lesion table and maps (notebook 3).
# **Writes** a table of each check, of every lesion and (scan "all") the mean over lesions with patient-bootstrap 95 % intervals, and figures.

# %%
from functools import lru_cache, partial

import numpy as np

from lib.context import mean_image
from lib.figures import plot_leakage, plot_sanity
from lib.lesions import cut_labels, detected_lesions, select_lesions
from lib.network import explained_unit, load_weights, loaded_scan
from lib.run import Run
from lib.saliency import seconds_a_voxel
from lib.sanity import (
    LESION,
    add_means,
    compare_labels,
    curve_areas,
    draw_weights,
    explain_case,
    explained_by_mask,
    leak,
    measure_infidelity,
    mirror_masks,
    perturb,
    stability,
    train_control,
)
from lib.scans import load_map

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
weights = ""  # weights trained before; empty: those of notebook 2
seed = 0
device = "cpu"
n_lesions = 5  # detected lesions, spread over patients
min_volume_mm3 = 40.0
max_volume_mm3 = 120.0
max_voxels = 2000  # lesions with more are named and left out: the time goes with the voxels
patch = 0  # voxels a side, of the part of a scan around a lesion that the network is given (for one that sees all of it); 0: the whole scan
n_samples = 4  # noisy copies; the paper's: 50
noise_fraction = 0.05  # of each channel's range
statistics = "exact"  # of instance normalisation; or an error, such as 1e-3 of a map's peak, which is faster
layer = ""  # of Grad-CAM++; empty: the decoder one level below the output
most_layers = 5  # that are drawn anew, evenly spread over the network
control_steps = (
    0  # of training a network on mirrored and one on true masks; 0: not done, a control costs as much as any training
)
control_patch = 96  # voxels
smallest_fraction = 1e-4  # of the window's tissue that is deleted or inserted
n_fractions = 13
n_random = 3  # random orders of voxels
n_perturbations = 50  # of infidelity
n_resamples = 2000  # of patients, for the intervals

# %%
run = Run("07_sanity_checks", globals())
model, description = load_weights(run.weights(weights), device)
scans = run.scans().set_index("scan", drop=False)
load = lru_cache(1)(lambda name: loaded_scan(scans.loc[name], description))
predicted = lru_cache(1)(lambda name: load_map(run.map(name, "desc-pred_dseg")))
cut = lru_cache(1)(lambda name, label: cut_labels(load(name).image, predicted(name), label, patch))
noise = {"n_samples": n_samples, "noise_fraction": noise_fraction, "statistics": statistics}
intervals = {"n_resamples": n_resamples, "generator": np.random.default_rng(seed)}
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
print(f"{len(selected)} lesions of {selected['subject'].nunique()} patients")
selected[["scan", "label", "voxels", "volume_mm3", "mean_probability"]]

# %% [markdown]
# ## Maps
# The signed-maximum SmoothGrad map of each lesion, of N and of 2N noisy copies and under two seeds, and its Grad-CAM++ map, on the lesion's
# exact window (the whole volume for a network without one, or the `patch`, which then takes the place of the scan). Maps are compared over the window, where every map falls with the distance from
# the lesion, which alone makes maps alike, and within 3 mm of the lesion (with it), where they are compared in earnest; and in the sequences that the
# network takes: in one that it does not take every map is 0.

# %%
for row in selected.sort_values("voxels").tail(1).itertuples():  # none, if there is no lesion
    image, labels = cut(row.scan, row.label)
    voxels = selected["voxels"].sum()
    minutes = voxels * seconds_a_voxel(model, image, labels == row.label, **noise) / 60  # of N copies
    print(f"{voxels:,} voxels: about {4 * minutes:.1f} minutes for their maps, "
          f"{(1 + 2 * most_layers) * minutes:.1f} for those by other weights")  # fmt: skip

# %%
given = {"scene": scene, "noise": noise, "seed": seed}
facts = selected[["subject", "scan", "label"]].to_dict("records")
cases = run.compute_each(partial(explain_case, model=model, layer=layer, **given), facts, desc="maps")

# %% [markdown]
# ## Do the maps depend on the weights?
# Layers are drawn anew, as at initialisation: in a cascade from the output towards the input, and one layer alone. Spearman's rank correlation
# with the map of the trained network under the same noise, of magnitudes and of signed values (Adebayo et al. 2018, NeurIPS). Each lesion has
# a draw of its own.

# %%
drawn = run.compute_each(partial(draw_weights, model=model, **given, most_layers=most_layers), cases, desc="weights")
drawn = run.save_table(add_means(drawn, ["mode", "depth", "layer", "region", "of"], **intervals), "randomisation")
shown = drawn[drawn["scan"] == "all"]
shown.pivot(index=["mode", "depth", "layer"], columns=["region", "of"], values="value").astype(float).round(2)

# %% [markdown]
# ## Do the maps depend on the labels?
# Two networks of the same initial weights, trained on the same patches: one with the true lesion masks, one with masks mirrored left to right, which
# do not belong to the scan (Adebayo et al. 2018). Maps that tell what a network has learnt are unlike between the two (*true, mirrored*); how much
# two trainings on the same labels differ is told by *this run, true*. Done where `control_steps` is above 0 and there are training scans.

# %%
splits = {split: table.to_dict("records") for split, table in scans.groupby("split")}
labelled, networks = {}, {}
if control_steps and len(selected) and {"train", "validation"} <= set(splits):
    labelled = {"true": splits["train"], "mirrored": mirror_masks(splits["train"], run.build / "mirrored")}
for labels, rows in labelled.items():
    networks[labels], ndsc = train_control(
        rows, splits["validation"][0], description["architecture"], run.build / f"control-{labels}.ckpt",
        steps=control_steps, patch_sizes=[control_patch], window=description["window"], seed=seed,
    )  # fmt: skip
    print(f"{labels} masks: nDSC {ndsc:.3f} on {splits['validation'][0]['scan']}")

# %%
alike = run.compute_each(partial(compare_labels, networks=networks, **given), cases if networks else [], desc="labels")
alike = run.save_table(add_means(alike, ["networks", "region", "of"], **intervals), "labels")
alike[alike["scan"] == "all"].drop(columns=LESION).round(2)

# %% [markdown]
# ## Are they stable?
# Correlation of two maps of the same network that differ in the noise. *Expected* is Pearson's correlation as it follows from that of two maps
# of N copies, if the copies' independent noise is all that differs; *difference* is the root mean square of the difference over that of the mean.

# %%
stable = [stability(case["first"], case["second"], case["where"]).assign(**case["facts"]) for case in cases]
stable = run.save_table(add_means(stable, ["maps", "region", "of"], **intervals), "stability")
shown = stable[stable["scan"] == "all"]
shown.pivot(index=["region", "maps"], columns="of", values="value").astype(float).round(3)

# %% [markdown]
# ## Does the score follow the voxels that a map marks?
# The voxels of the window's tissue take the mean of the brain in both sequences (deletion), or are revealed in a brain of that mean (insertion): in
# the order of a map's magnitude summed over sequences, from the middle of the lesion outwards, or at random (mean of several orders). A good order
# has a small area under the deletion curve and a large one under the insertion curve; areas are over the logarithm of the fraction.

# %%
fractions = np.geomspace(smallest_fraction, 1, n_fractions)
random = np.random.default_rng(seed)
items = [(case, random.random((n_random, *case["lesion"].shape))) for case in cases]
curves = run.compute_each(
    partial(perturb, model=model, fractions=fractions, unit=unit), items, desc="deletion, insertion"
)

# %%
areas = [curve_areas(curve).assign(**curve[LESION].iloc[0]) for curve in curves]
areas = run.save_table(add_means(areas, ["order", "mode", "of"], **intervals), "areas")
curves = run.save_table(add_means(curves, ["order", "mode", "of", "fraction"], **intervals), "curves")
areas[areas["scan"] == "all"].drop(columns=LESION).round(3)

# %% [markdown]
# ## Does a map predict how the score changes?
# Infidelity (Yeh et al. 2019, NeurIPS) under Gaussian noise as of SmoothGrad, each map at its best scale: 0 if the sum of noise times map is the
# change of the mean logit, 1 for a map of zeros. The scale is fitted to the same `n_perturbations`: a map that tells nothing has one less 1 / `n_perturbations` on
# average. *Shuffled*: the values of the SmoothGrad map in random places; *lesion
# mask*: 1 in the lesion, in both sequences.

# %%
measure = partial(measure_infidelity, model=model, n_perturbations=n_perturbations, seed=seed)
items = [(case, random.permutation(case["first"][0].ravel())) for case in cases]
unfaithful = run.compute_each(measure, items, desc="infidelity")
unfaithful = run.save_table(add_means(unfaithful, ["map", "of"], **intervals), "infidelity")
unfaithful[unfaithful["scan"] == "all"].drop(columns=LESION).round(4)

# %% [markdown]
# ## How much would the lesion mask alone have told?
# R² of regressions of each map's signed values on the mask, on mask and signed distance from the lesion's border, and on any profile: the mean of each
# shell of 1 mm.

# %%
explained = [
    explained_by_mask(saliency, case["lesion"], case["spacing_mm"], case["where"]).assign(**case["facts"])
    for case in cases
    for saliency in (case["first"][0], case["cam"])
]
explained = run.save_table(add_means(explained, ["sequence", "region", "model"], **intervals), "explained")
shown = explained[explained["scan"] == "all"]
shown.pivot(index=["sequence", "region"], columns="model", values="value").astype(float).round(3)

# %% [markdown]
# **Figure.** **a** Rank correlation with the trained network's map, when layers are drawn anew in a cascade from the output (left) or one alone (right);
# open at 0: two maps of the trained network under other noise. **b** Infidelity relative to a map of zeros. **c** Mean lesion probability
# against the fraction of the window's tissue that is deleted (left) or inserted (right). **d** R² of each map on what the mask tells; filled: within 3 mm
# of the lesion, open: over the window; Grad-CAM++ has one map for both sequences. Lines and large dots: means over lesions; bands and bars:
# patient-bootstrap 95 % intervals (none with one patient); grey dots: each lesion. How many lesions of how many patients stands below the figure.

# %%
run.save_figure(plot_sanity(drawn, stable, unfaithful, curves, explained), "sanity")

# %% [markdown]
# ## Does a map act on other lesions?
# The voxels of the window's tissue where a map's magnitude, summed over sequences, is largest, in the lesion or not, take the mean of the brain in both sequences, as
# in deletion: as many as the lesion has, or all where the map is not 0 if these are fewer. The mean logit of each predicted lesion of the scan is
# computed again. The off-target share is the sum of the magnitudes of the changes of all other lesions, over this sum and the
# magnitude of the lesion's own change: 0 if it alone answers, near 1 if it hardly does. *Lesion mask*: its own voxels are replaced, which says how much
# its neighbours need it whatever the map. Lesions whose logits cannot depend on a replaced voxel change by exactly 0; `reached` counts the others.

# %%
leaked = run.compute_each(partial(leak, model=model, scene=scene), cases, desc="leakage")
intervals["generator"] = np.random.default_rng(seed)
leaked = run.save_table(add_means(leaked, ["map", "of"], **intervals), "leakage")
leaked[leaked["scan"] == "all"].drop(columns=LESION).round(3)

# %% [markdown]
# **Figure.** What replacing a map's strongest voxels, as many as the lesion has, does to the lesion and to the other lesions of its scan. **a** Off-target
# share of the change. **b** Change of the lesion's own mean logit (filled), and the magnitudes of the changes of all others, summed (open). Large
# dots: means over lesions; bars: patient-bootstrap 95 % intervals (none with one patient); grey dots: each lesion.

# %%
run.save_figure(plot_leakage(leaked, unit), "leakage")
