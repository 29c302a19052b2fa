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
# # 4 · Gradient distributions
#
# Explains lesions one at a time: what in FLAIR and MPRAGE made the network detect and outline this lesion. Instance SmoothGrad
# (signed maximum, eq. 3, and average, eq. 2) and instance Grad-CAM++ (eqs. 8-10) for detected (TP), invented (FP) and missed (FN)
# lesions, for those that are predicted in scans without annotation, and for volumes of healthy white matter (TN) and grey matter (TN grey) with the shapes of these. Bears on claims C3, C4 and C5.
#
# **Reads** scans (notebook 1), weights (notebook 2, or those given), the lesion table and maps (notebook 3).
# **Writes** one map a lesion and method (NIfTI, cut to its box), tables of measures, tests and radial profiles, and figures.

# %%
from functools import lru_cache, partial

import numpy as np
import pandas as pd

from lib.figures import plot_orders, plot_peaks, plot_profiles, plot_proxy, plot_saliency_maps
from lib.lesions import cut_patch, select_lesions
from lib.network import explained_unit, loaded_network, map_unit, seen_sequences
from lib.run import Run, group_by_scan
from lib.saliency import (
    NO_MAPS,
    explain_instances,
    find_instances,
    map_name,
    mean_profile,
    rings,
    saved_maps,
    seconds_a_voxel,
)
from lib.scans import SEQUENCES, load_scan
from lib.statistics import compare_kinds, kinds_of, matched_differences, mean_by_kind, order_kinds

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
weights = ""  # weights trained before; empty: those of notebook 2
seed = 0
device = "cpu"
scheduler = ""  # address of a Dask scheduler whose workers compute; empty: this process
n_per_kind = 20  # lesions explained of each kind
min_volume_mm3 = 5.0  # the paper explains lesions above this
max_volume_mm3 = 200.0
max_voxels = 2000  # lesions with more are named and left out: the time goes with the voxels
apart_mm = 5.0  # least distance of a TN from every annotated or predicted voxel
patch = 0  # voxels a side, of the part of a scan around a lesion that the network is given (for one that sees all of it); 0: the whole scan
n_samples = 8  # noisy copies; the paper's: 50
noise_fraction = 0.05  # of each channel's range
statistics = "exact"  # of instance normalisation; or an error, such as 1e-3 of a map's peak, which is faster
score = "logit"  # explained: that of the lesion, as in the paper; or its "difference" from the background's
peak_voxels = 6  # of each lesion, over which peaks of lesions of different size are compared; smaller ones are left out
layer = ""  # of Grad-CAM++; empty: the decoder one level below the output
profile_mm = [-5, 16]  # range of the radial profile, in shells of 1 mm
volume_caliper = 1.5  # largest ratio of the volumes of two matched lesions
probability_caliper = 0.1  # largest difference of their mean probabilities
n_resamples = 2000  # of patients, for the intervals

# %%
run = Run("04_gradient_distributions", globals())
generator = np.random.default_rng(seed)
resampling = {"n_resamples": n_resamples, "generator": generator}
model, description = loaded_network(run.weights(weights), device)
scans = run.scans().set_index("scan", drop=False).to_dict("index")
load = lru_cache(1)(lambda name: load_scan(scans[name]))
unit, sequence = map_unit(description), seen_sequences(description)[0]  # shown alone: FLAIR, if the network takes it
if explained_unit(description) != "logit":
    print(f"explained: {description['explained']}, which is meant where a text says logit")

# %% [markdown]
# ## Which lesions
# The same number of each kind where there are as many, spread over patients.

# %%
selected = select_lesions(
    run.table("03_lesions"), n_per_kind=n_per_kind, min_volume_mm3=min_volume_mm3, max_volume_mm3=max_volume_mm3,
    max_voxels=max_voxels, generator=generator,
)  # fmt: skip
selected.groupby("kind").agg(
    lesions=("label", "size"), patients=("subject", "nunique"), volume=("volume_mm3", "median")
)

# %% [markdown]
# A third of each kind brings two volumes of its own shape, away from any annotated or predicted voxel of its scan: one in healthy white matter (TN) and
# one in grey matter, cortical or deep (TN grey), where the FLAIR is bright without a lesion. Healthy volumes are so of all shapes, and about as many as lesions
# of a kind. A TN without room is left out.

# %%
with_healthy = select_lesions(
    selected, n_per_kind=-(-n_per_kind // 3), min_volume_mm3=min_volume_mm3, max_volume_mm3=max_volume_mm3, generator=generator
)  # fmt: skip
selected["healthy"] = selected.index.isin(with_healthy.index)
facts = ["scan", "subject", "session", "label", "kind", "voxels", "volume_mm3", "healthy"]
found = group_by_scan(selected[facts].to_dict("records"), scans)
find = partial(find_instances, path=run.map, apart_mm=apart_mm, seed=seed)
instances = sum(run.compute_each(find, found, desc="healthy volumes"), [])
pd.DataFrame(instances, columns=["kind", "mean_probability"]).groupby("kind").describe().round(3)

# %% [markdown]
# ## Maps
# Exact: each map is computed on the window of the scan that the lesion's logits depend on, and equals that of the whole volume, but for `statistics`. A network
# with instance normalisation or attention (`dynunet`, `swinunetr`) depends on all that it is given: its window is the whole scan, or the `patch`.
# The noise depends on the seed and the lesion alone (on the scan, for a network without windows). With `patch`, a cube of the scan around each lesion takes the place of the scan, also for the range of the noise. A map that is there already, made from the same inputs, is used again.

# %%
settings = {"n_samples": n_samples, "noise_fraction": noise_fraction, "layer": layer, "seed": seed, "score": score}
settings |= {"peak_voxels": peak_voxels, "statistics": statistics}
explain = partial(
    explain_instances, weights=run.weights(weights), device=device, folder=run.build / "saliency", settings=settings,
    edges_mm=np.arange(profile_mm[0], profile_mm[1] + 1), patch=patch,
)  # fmt: skip
items = group_by_scan(instances, scans)
sizes = [sum(len(lesion["where"]) + peak_voxels for lesion in lesions) for _, lesions in items]
for largest in sorted(instances, key=lambda lesion: len(lesion["where"]))[-1:]:  # none, if there is no lesion
    image = load(largest["scan"]).image
    mask = np.isin(np.arange(image[0].size), largest["where"]).reshape(image[0].shape)
    noise = {"n_samples": n_samples, "noise_fraction": noise_fraction, "statistics": statistics}
    seconds = sum(sizes) * seconds_a_voxel(model, *cut_patch(image, mask, patch), **noise)
    print(f"{len(instances)} volumes of {sum(sizes):,} voxels, the largest of {mask.sum():,}: {seconds / 60:.1f} minutes "
          "in one process, less for maps that are there already")  # fmt: skip
tables = run.compute_each(explain, items, desc="explaining", sizes=sizes)
saliency, radial = (pd.concat(table, ignore_index=True) for table in zip(*(tables or [NO_MAPS]), strict=True))
saliency = saliency.rename(columns={"mean_logit": f"mean_{explained_unit(description)}"})
few = sum(len(lesion["where"]) < peak_voxels for lesion in instances)
print(f"{few} volumes have fewer than {peak_voxels} voxels and are left out where as many of each are compared (C5)")

# %%
kinds = kinds_of(saliency)
if "TP" not in kinds:
    print("no scan is annotated: which of the predicted lesions are TP, and what is missed (FN), needs annotation")
run.save_table(saliency, "saliency")
saliency.groupby(["method", "sequence", "kind"])["peak"].describe(percentiles=[0.5]).round(3)

# %% [markdown]
# Lesions were found in blended sliding-window probabilities (`mean_probability`), while what is explained are the logits of the
# whole volume, or of the patch (`whole_probability` is their softmax). How far the two are apart:

# %%
once = saliency.drop_duplicates(["scan", "kind", "label"])
(once["mean_probability"] - once["whole_probability"]).abs().describe().round(4)

# %% [markdown]
# **Figure.** Maps over anatomy, one lesion of each kind: the one whose FLAIR peak is the median of its kind. Where the network takes T1w alone, it is
# the peak in MPRAGE, which is also what lies below Grad-CAM++.

# %%
shown = saliency[(saliency["method"] == "smoothgrad_max") & (saliency["sequence"] == sequence)].sort_values("peak")
cases = []
for kind in kinds:
    rows = shown[shown["kind"] == kind]
    if rows.empty:
        print(f"no lesions of kind {kind}")
        continue
    middle = rows.iloc[len(rows) // 2]
    where = next(i["where"] for i in instances if all(i[key] == middle[key] for key in ("scan", "kind", "label")))
    scan, name = load(middle["scan"]), map_name(middle)
    found = saved_maps(run.build / "saliency" / name, name, scan.affine, scan.brain.shape)
    mask = np.isin(np.arange(scan.brain.size), where).reshape(scan.brain.shape)
    cases.append(
        {"kind": kind, "label": f"{middle['scan']}, {middle['volume_mm3']:.0f} mm³", "image": scan.image}
        | {"saliency": found["smoothgrad_max"], "cam": found["grad_cam"][0], "lesion": mask}
        | {"spacing_mm": scan.spacing_mm}
    )
run.save_figure(plot_saliency_maps(cases, unit, sequence), "maps")

# %% [markdown]
# `reach5_mm`: the smallest radius around the lesion's border beyond which the mean magnitude of shells of 1 mm stays below 5 % of that of the largest
# shell (none where it is beyond the profile).

# %%
quantitative = saliency[saliency["method"] == "smoothgrad_max"]
quantitative.groupby(["sequence", "kind"])["reach5_mm"].describe()[["count", "25%", "50%", "75%"]]

# %% [markdown]
# What claims C3 and C4 say of TP, for every kind: what FN and TN have too tells nothing of lesions that are found, or of lesions at all. Means over lesions with
# patient-bootstrap 95 % intervals, of the signed-maximum map.

# %%
by_kind = run.save_table(mean_by_kind(saliency, kinds, **resampling), "kinds")
by_kind.pivot(index="kind", columns="measure", values=["value", "low", "high"]).astype(float).round(3)

# %% [markdown]
# ## Do kinds differ?
# Every pair of kinds, in every measure. Mann-Whitney U tests with Holm correction over the pairs (table of tests), as in the paper, take lesions
# as independent, though those of one patient are not. The table of clustered tests has the same pairs with patients as clusters: an interval of Cliff's
# delta, a GEE, and the same adjusted for the lesion's volume and mean probability. A maximum over more voxels is larger, whatever the kind: `smoothgrad_few` is
# the signed maximum over `peak_voxels` of each lesion's voxels, drawn at random, and decides claim C5.

# %%
described = saliency.assign(log_volume=np.log(saliency["volume_mm3"]))
covariates = ["log_volume", "mean_probability"]
tests, clustered = compare_kinds(described, kinds, covariates=covariates, **resampling)
tests, clustered = run.save_table(tests, "tests"), run.save_table(clustered, "clustered")
shown = clustered[(clustered["measure"] == "peak") & (clustered["scaling"] == "raw")]
shown.query("method in ['smoothgrad_few', 'smoothgrad_max'] and sequence == @sequence").round(3)

# %% [markdown]
# **Figure.** Peak of each map (value of largest magnitude, with its sign) by kind, method and sequence, with the Mann-Whitney tests: the order of
# kinds that claim C5 is about. Peaks of Grad-CAM++ are shares of the layer's activation, in which the size of the gradient has cancelled: they order places within a
# map, not lesions, and depend on the air around the head (notebook 8 has HiResCAM beside it, in logits). Each dot is a lesion; n lesions (patients) under each kind. p are corrected over all pairs of a panel; TN grey is
# drawn against TN alone, its other pairs are in the table.

# %%
run.save_figure(plot_peaks(saliency, tests, unit), "peaks")

# %% [markdown]
# **Figure.** Cliff's delta of every pair of kinds (1: every value of the first is larger), with patient-bootstrap 95 % intervals, in every measure of the
# signed-maximum map. Filled: as measured. Open: after each scan was divided by one number, how strong its FLAIR peaks are for their kinds
# (`statistics.scale_scans`), so that a patient whose maps are strong altogether does not decide. Signed values: above 0 in FLAIR is towards a lesion if
# it gets brighter, below 0 in MPRAGE if it gets darker. Bears on C5.

# %%
run.save_figure(plot_orders(saliency, clustered), "orders")

# %% [markdown]
# Which orders depend on that scaling: "open" where the interval of Cliff's delta covers 0. Pairs and measures that are not listed have the same
# order (or none) both ways; how many do, of how many, is said above the list.

# %%
orders = run.save_table(order_kinds(clustered), "orders")
print(f"{orders['depends'].sum()} of {len(orders)} orders depend on the scaling")
orders[orders["depends"]].drop(columns="depends")

# %% [markdown]
# ## Is the peak more than a proxy of size and probability?
# Pairs of lesions of the same patient alike in volume, and alike in volume and probability, one to one and as many as there are. `pairs`: how many.

# %%
by_volume = {"log_volume": np.log(volume_caliper)}
matchings = {"volume": by_volume, "volume and probability": by_volume | {"mean_probability": probability_caliper}}
peaks = described[described["method"] == "smoothgrad_max"]
matched = {
    name: matched_differences(
        peaks[peaks["sequence"] == name], "peak", "kind", kinds, matchings=matchings, **resampling
    )
    for name in SEQUENCES
}
matched = pd.concat(matched, names=["sequence"]).reset_index("sequence").assign(method="smoothgrad_max")
matched = run.save_table(matched, "matched")
matched[matched["sequence"] == sequence].drop(columns=["sequence", "method"]).round(3)

# %% [markdown]
# **Figure.** FLAIR peak of every lesion (MPRAGE, if the network takes T1w alone) against **a** its volume and **b** the mean probability in it. **c** Difference of the mean peaks of two kinds, with 95 %
# intervals over patients: of all lesions, over as many voxels of each, adjusted for log volume and probability in a linear GEE (may leave the panel), and within
# matched pairs (n in the table above).
# Where an interval still excludes 0 after matching, the peak tells the kinds apart beyond what is matched; where it no longer does, it may be a proxy. Kinds
# whose probabilities do not overlap have no pairs of like probability: their adjusted difference rests on the straight line alone, and the question
# has no answer in these data. Bears on C5.

# %%
run.save_figure(plot_proxy(saliency, clustered, matched, unit, sequence), "proxy")

# %% [markdown]
# ## Around the lesion
# **Figure.** Mean saliency against the signed distance from the lesion's border (negative: inside), averaged over lesions, with
# patient-bootstrap 95 % intervals; the insets enlarge what lies outside. Shells in which fewer than half of the lesions of a kind have a voxel are in the table
# alone: deep inside, a mean would be that of the few large lesions. Bears on C3.

# %%
radial = radial[radial["method"] != "smoothgrad_few"]
profile = run.save_table(mean_profile(radial, **resampling), "profile")
run.save_figure(plot_profiles(profile, unit), "profile")

# %% [markdown]
# The same in numbers, with patient-bootstrap 95 % intervals: where the mean profile changes sign, and the ring of the opposite sign around the lesion: the
# distance of the shell outside that is lowest (highest, where the lesion is negative), and the mean there, each patient's in the shell that the others choose. `found`:
# fraction of the resamples in which there is one.

# %%
ring = run.save_table(rings(radial, **resampling), "ring")
ring[ring["method"] == "smoothgrad_max"].drop(columns="method").round(4)
