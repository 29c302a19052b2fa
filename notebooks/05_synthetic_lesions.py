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
# # 5 · Synthetic lesions
#
# What does the network need to see? Artificial lesions of several sizes and contrasts are inserted into healthy white matter, in FLAIR only,
# in MPRAGE only, or in both, deep in it or beside cortex and ventricles; and detected lesions are changed: their contrast is taken away in one
# sequence or both, exchanged between the sequences, or they are moved next to grey matter; the same is done to missed lesions and to healthy tissue.
# And of what noise alone invents: lesions that are predicted under one realisation of it and not under another. Bears on claim C6 of the paper.
#
# **Reads** scans (notebook 1), weights (notebook 2, or those given), the lesion table and maps (notebook 3).
# **Writes** tables of detection, score and saliency for every condition, of the contrast and the size at which one half is detected, of what is found
# where in the brain, of lesions that noise invents, and figures.

# %%
from functools import lru_cache, partial

import numpy as np
import pandas as pd

from lib.figures import (
    nothing_judged,
    plot_changes,
    plot_places,
    plot_psychometric,
    plot_response,
    plot_synthetic_panels,
)
from lib.lesions import detected_lesions, label_instances, select_lesions
from lib.network import loaded_network, map_unit, recorded_outline, recorded_threshold
from lib.run import Run, group_by_scan
from lib.scans import load_scan
from lib.statistics import check_levels, psychometric_table
from lib.synthetic import (
    CONDITION,
    DEEP,
    NO_CHANGES,
    NO_COUNTS,
    RISE,
    change_lesions,
    effects_table,
    explain_insertions,
    find_sites,
    insert_lesion,
    invented_table,
    predict_changes,
    predict_insertions,
    predict_twice,
    recall_by_place,
    response_table,
    rising_contrasts,
)

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
weights = ""  # weights trained before; empty: those of notebook 2
seed = 0
device = "cpu"
scheduler = ""  # address of a Dask scheduler whose workers compute; empty: this process
scans_used = 8  # test scans, one a patient
sites_per_scan = 4  # in each kind of surroundings
sites_per_third = 3  # others, in each kind of surroundings and each third of the brain's height
margin_mm = 6.0  # of white matter around a site deep in it
diameters_mm = [3.0, 4.0, 5.0, 6.0, 8.0]
contrasts = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0]  # z-scores: added in FLAIR, subtracted in MPRAGE
surroundings = ["beside cortex", "beside ventricle"]  # compared with deep white matter
compared_diameter_mm = 5.0  # at this diameter
explained_diameters_mm = [3.0, 5.0]  # saliency is computed for insertions of these diameters
explained_every = 4  # for every fourth contrast
explained_sites = 1  # and at this many sites a scan
changed_lesions = 16  # detected lesions that are changed
compared_lesions = 8  # missed lesions that are changed in the same way, and as many healthy volumes
min_volume_mm3 = 10.0  # of a lesion that is changed
max_volume_mm3 = 80.0
max_voxels = 2000  # lesions with more are named and left out: the time goes with the voxels
patch = 0  # voxels a side, of the part of a scan around a lesion that the network is given (for one that sees all of it); 0: the whole scan
n_samples = 3  # noisy copies; the paper's: 50; 0: lesions are predicted, not explained
noise_fraction = 0.05  # of each channel's range
statistics = "exact"  # of instance normalisation; or an error, such as 1e-3 of a map's peak, which is faster
neighbours = 18  # instances of predictions under noise: as in notebook 3
merged_mm = 0.0
smallest_mm3 = 0.0
predicted_twice = 8  # of these scans, to see what noise invents: the time goes with the network
size_edges_mm3 = [5.0, 20.0, 100.0]  # volumes that part small from large ones
n_resamples = 2000  # of patients, for the intervals
n_refits = 300  # resamples of patients in which the psychometric curves are fitted again

# %%
run = Run("05_synthetic_lesions", globals())
generator = np.random.default_rng(seed)
check_levels(contrasts)
check_levels(diameters_mm)
_, description = loaded_network(run.weights(weights), device)
threshold, outline = (read(description, run.weights(weights)) for read in (recorded_threshold, recorded_outline))
instances = {"neighbours": neighbours, "merged_mm": merged_mm, "smallest_mm3": smallest_mm3}
label_instances(np.zeros((1, 1, 1), bool), **instances, affine=np.eye(4))  # they are possible
scans = run.scans().set_index("scan", drop=False)
used = scans[scans["split"] == "test"].drop_duplicates("subject").head(scans_used)
rows = used.to_dict("index")
load = lru_cache(1)(lambda name: load_scan(rows[name]))
len(used)

# %% [markdown]
# ## Healthy tissue, sites, and real lesions
# White matter, grey matter and ventricles are estimated from the scan, without any annotated or predicted voxel. Sites deep in white matter
# have a margin of it; beside cortex or ventricle, the lesion lies in white matter and nearly touches them. The contrast of the annotated
# lesions (mean z-score less that of the white matter within 5 mm) is what inserted contrasts are to be compared with; scans without annotation
# have none to compare.

# %%
find = partial(
    find_sites, path=run.map, surroundings=surroundings, n=sites_per_scan, n_per_third=sites_per_third,
    margin_mm=margin_mm, beside_margin_mm=compared_diameter_mm / 2, seed=seed,
)  # fmt: skip
found, spread, where, contrast = zip(*run.compute_each(find, rows.values(), desc="tissue"), strict=True)
places = dict(zip(rows, found, strict=True))

# %%
contrast = run.save_table(pd.concat(contrast, ignore_index=True), "contrast")
if not used["lesions"].any():
    print("the contrast of annotated lesions needs annotation: the table is empty, and figures have no dotted line")
contrast[["flair", "mprage"]].astype(float).describe().round(2)

# %%
if not any(len(found[DEEP]) for found in places.values()):
    raise ValueError(
        f"no scan has {margin_mm} mm of healthy white matter around any voxel: choose a smaller margin_mm, or see in notebook 3 how much was predicted"
    )
pd.DataFrame(places).map(len)

# %% [markdown]
# ## Insertions
# A soft-edged ball is added to the scan, so that its noise and texture stay: each voxel takes the share of it that the ball fills, blurred as
# borders of lesions are. Detected: any voxel of the ball reaches the threshold; score: mean probability over its voxels.

# %%
network = {"weights": run.weights(weights), "device": device, "patch": patch}
diameters = dict.fromkeys(surroundings, [compared_diameter_mm])
diameters[DEEP] = sorted({*diameters_mm, compared_diameter_mm})
items = [(rows[name], kind, at) for name in places for kind, at in places[name].items() if len(at)]
insert = partial(predict_insertions, **network, threshold=threshold, diameters_mm=diameters, contrasts=contrasts)
insertions = pd.concat(run.compute_each(insert, items, desc="inserting"), ignore_index=True)

# %% [markdown]
# Saliency along the same axes, deep in white matter (`n_samples` 0: none).

# %%
noise = {"n_samples": n_samples, "noise_fraction": noise_fraction, "statistics": statistics}
explain = partial(
    explain_insertions, **network, noise=noise, seed=seed,
    diameters_mm=explained_diameters_mm, contrasts=contrasts[::explained_every],
)  # fmt: skip
deep = [(row, kind, at[:explained_sites]) for row, kind, at in items if kind == DEEP and n_samples]
peaks = run.compute_each(explain, deep, desc="explaining")

# %%
if peaks:
    insertions = insertions.merge(pd.concat(peaks), how="left", on=["scan", "surroundings", *CONDITION])
else:
    insertions = insertions.assign(peak_flair=np.nan, peak_mprage=np.nan)
insertions.insert(0, "subject", insertions["scan"].map(used["subject"]))
run.save_table(insertions, "insertions")
table = run.save_table(response_table(insertions, n_resamples=n_resamples, generator=generator), "response")
table.pivot_table("detected", ["surroundings", "sequences", "diameter_mm"], "contrast").round(2)

# %% [markdown]
# ## How much contrast, how large
# Detection against contrast: a logistic curve for each diameter, sequence and surroundings, with a guess and a lapse rate of at most 0.1, fitted by maximum
# likelihood. Its 50 % point has a patient-bootstrap 95 % interval; it is infinite where one half is not reached at any contrast that was
# tried. Where fewer than two contrasts lie on the rise of the curve, it is known only between which two one half is found, `bracket_low` and `bracket_high`
# (with one on the rise, its neighbours), and the interval counts these ends. The same against diameter at a given contrast: the smallest lesion that is found.
# Where more than one half of the smallest are found already, `bracket_high` is the smallest diameter that was tried; where less than one half of the largest are
# found, `bracket_low` is the largest.

# %%
refits = {"n_resamples": n_refits, "generator": generator}
curves = psychometric_table(insertions, "contrast", ["surroundings", "sequences", "diameter_mm"], **refits)
curves = run.save_table(curves.rename(columns={"level50": "contrast50"}), "psychometric")
curves.loc[:, :"high"].assign(deviance_explained=curves["deviance_explained"]).round(2)

# %%
deep = insertions[(insertions["surroundings"] == DEEP) & (insertions["contrast"] > 0)]
smallest = psychometric_table(deep, "diameter_mm", ["sequences", "contrast"], one_sided=True, **refits)
smallest = run.save_table(smallest.rename(columns={"level50": "diameter50_mm"}), "smallest")
smallest.loc[:, :"high"].assign(deviance_explained=smallest["deviance_explained"]).round(2)

# %% [markdown]
# **Figure.** Psychometric curves. a-c: detected share of inserted lesions against their contrast, by diameter, deep in white matter; d-f: by
# surroundings, at one diameter. Points: share with its patient-bootstrap 95 % interval; lines: fitted curves; dotted: median contrast of the
# annotated lesions. g: contrast at which one half is detected, against diameter; h: diameter at which one half is detected, against contrast; i: contrast
# by surroundings; each with its 95 % interval. Open: known only between two contrasts or diameters. An arrow up: one half is not reached in the range
# that was tried; down: more than one half is found in all of it. n: lesions at each contrast, of as many patients as the table above says. Bears on claim C6.

# %%
median = contrast[["flair", "mprage"]].astype(float).median()
median = {"FLAIR": median["flair"], "MPRAGE": -median["mprage"]}
run.save_figure(plot_psychometric(table, curves, smallest, median), "psychometric")

# %% [markdown]
# ## Where in the brain
# Lesions of one diameter at other sites, as many in each third of the brain's height (from its lowest to its highest voxel) and in each kind of surroundings where
# there is room, wholly within the third. They are told apart by place, as in `make lesions`: periventricular, a voxel within 3 mm of the ventricles; juxtacortical, one at
# most 2.5 voxels from the cortex; the rest is deep or infratentorial. Contrasts are those at which 10 to 90 % of all lesions above of this diameter
# are found, for each choice of sequences; a lesion counts with the share of them at which it is detected.

# %%
rising = rising_contrasts(insertions, compared_diameter_mm)
tried = sorted({contrast for contrasts in rising.values() for contrast in contrasts})
items = [
    (rows[name], kind, at) for name, sites in zip(rows, spread, strict=True) for kind, at in sites.items() if len(at)
]
compared = {kind: [compared_diameter_mm] for kind in diameters}
insert = partial(insert, diameters_mm=compared, contrasts=tried)
spread = run.compute_each(insert, items if tried else [], desc="by place")
spread = pd.concat(spread or [insertions[:0].drop(columns="subject")], ignore_index=True)
spread.insert(0, "subject", spread["scan"].map(used["subject"]))

# %%
resampling = {"n_resamples": n_resamples, "generator": np.random.default_rng(seed)}
recall = recall_by_place(spread, pd.concat(where, ignore_index=True), rising, **resampling)
recall = run.save_table(recall, "places")
recall.pivot(index=["sequences", "contrasts", "place"], columns="height", values="value").round(2)

# %% [markdown]
# **Figure.** Share of inserted lesions that is found, by place and height, with patient-bootstrap 95 % intervals; beside each the number of lesions. In the
# titles: the sequences in which lesions were inserted, and their contrasts. A choice of sequences without a contrast at which 10 to 90 % are
# found has no panel. Bears on claim C6.

# %%
none = f"no contrast at which {RISE[0]:.0%} to {RISE[1]:.0%} of these lesions are found: nothing to show"
run.save_figure(plot_places(recall) if len(recall) else nothing_judged(none), "places")

# %% [markdown]
# **Figure.** Mean probability and peak saliency of inserted lesions against their contrast, deep in white matter, by diameter (colour) and by the
# sequences in which they were inserted (columns), with patient-bootstrap 95 % intervals. Dotted lines: median contrast of the annotated
# lesions of these scans. Bears on claim C6.

# %%
run.save_figure(plot_response(table[table["surroundings"] == DEEP], median, map_unit(description)), "response")

# %% [markdown]
# **Figure.** Lesions of the largest contrast inserted in both sequences of one scan, one in each kind of surroundings (what they are beside may lie
# above or below the slice), with the network's score.

# %%
name, strongest = next(iter(places)), max(contrasts)
scan, cases = load(name), []
shown = insertions.query("scan == @name and site == 0 and sequences == 'both' and contrast == @strongest")
for row in shown[shown["diameter_mm"] == compared_diameter_mm].itertuples():
    at = places[name][row.surroundings][row.site]
    image, mask = insert_lesion(scan.image, scan.tissue, at, row.diameter_mm, (strongest, -strongest), scan.spacing_mm)
    cases.append(
        {"image": image, "mask": mask, "score": row.score, "spacing_mm": scan.spacing_mm, "title": row.surroundings}
    )
run.save_figure(plot_synthetic_panels(cases), "inserted")

# %% [markdown]
# ## Lesions that noise invents
# Each scan is predicted twice as in notebook 3, each time with white Gaussian noise of its own noise's size added to both sequences, drawn anew. Invented: a
# lesion of one prediction without a common voxel with any of the other. The size of the noise is taken from healthy white matter: the median absolute deviation of
# the differences of voxels two apart along an axis (neighbours share noise where a scan was interpolated), scaled to a standard deviation, over the root of 2; fine texture counts as noise.
# `each`: invented lesions a prediction; `per_100`: of 100 predicted ones; `volume_mm3`: by their size.

# %%
twice = partial(
    predict_twice, path=run.map, weights=run.weights(weights), device=device, threshold=threshold, outline=outline,
    instances=instances, edges_mm3=size_edges_mm3, seed=seed,
)  # fmt: skip
counted = run.compute_each(twice, list(rows.values())[:predicted_twice], desc="noise")
counts = pd.concat(counted or [NO_COUNTS], ignore_index=True)
if left_out := len(counted) - counts["scan"].nunique():
    print(f"{left_out} scans left out: no healthy white matter in which noise could be measured")
resampling["generator"] = np.random.default_rng(seed)
invented = run.save_table(invented_table(counts, **resampling), "invented")
invented[invented["scan"] == "all"].loc[:, "volume_mm3":].round(2)

# %% [markdown]
# ## Changes
# Detected lesions (TP, or predicted ones of scans without annotation) lose their contrast in FLAIR, in MPRAGE or in both (healthy white matter is put in its place), have the contrasts of FLAIR
# and MPRAGE exchanged, or are moved next to grey matter. They are detected before, so that detection can only be lost. Beside them the same is done to
# missed lesions (FN), and to healthy white matter in the shape of a detected one (TN), which are not: what is found of them after is made by the change. (In one
# pass through the whole volume, or the patch, as here, a few are decided otherwise than by the sliding window of notebook 3.)

# %%
found = run.table("03_lesions")
found = found[found["scan"].isin(used.index)]
limits = {"min_volume_mm3": min_volume_mm3, "max_volume_mm3": max_volume_mm3, "generator": generator}
limits |= {"max_voxels": max_voxels}
detected = select_lesions(detected_lesions(found), n_per_kind=changed_lesions, **limits)
missed = select_lesions(found[found["kind"] == "FN"], n_per_kind=compared_lesions, **limits)
healthy = select_lesions(detected, n_per_kind=compared_lesions, **limits).assign(kind="TN")
selected = pd.concat([detected, missed, healthy]).sort_values("scan", kind="stable")
if not used["lesions"].any():
    print("missed lesions (FN) need annotation, and a predicted lesion may be an FP")
selected.groupby("kind")["volume_mm3"].describe().round(1)

# %%
change = partial(predict_changes, path=run.map, **network, threshold=threshold, noise=noise, seed=seed)
found = group_by_scan(selected.to_dict("records"), rows)
changes = [table for table in run.compute_each(change, found, desc="changing") if len(table)]
changes = pd.concat(changes or [NO_CHANGES], ignore_index=True)
left_out = len(selected) - (changes["change"] == "none").sum()
print(f"{left_out} left out: no healthy white matter nearby, or no room in it for the shape of a lesion")

# %%
run.save_table(changes, "changes")
changes.groupby(["kind", "change"])[["detected", "score", "peak_flair", "peak_mprage"]].mean().round(3)

# %% [markdown]
# What decides detection: differences of the detected share between sequences, surroundings and changes. Claim C6 is judged by those of inserted lesions
# and TP; FN, TN and predicted ones stand beside.

# %%
effects = effects_table(insertions, changes, n_resamples=n_resamples, generator=generator)
run.save_table(effects, "effects").round(2)

# %% [markdown]
# **Figure.** Detection (a), score (b) and peak saliency (c, d; detected ones alone) after each change: means of each kind with their
# patient-bootstrap 95 % intervals; grey: each detected one. Where all of a kind are detected, or none, there is no interval. Bears on claim C6.

# %%
run.save_figure(plot_changes(changes, generator, map_unit(description)), "changes")

# %% [markdown]
# **Figure.** One of these lesions (of median volume), unchanged and after each change, with the network's score.

# %%
each = detected_lesions(changes[changes["change"] == "none"]).sort_values("volume_mm3", kind="stable")
cases = []
for middle in each.iloc[len(each) // 2 : len(each) // 2 + 1].to_dict("records"):  # none, if no lesion was changed
    ((_, changed),) = change_lesions((rows[middle["scan"]], [middle]), path=run.map, seed=seed)
    scores = changes.merge(pd.DataFrame([middle])[["scan", "kind", "label"]])
    scores, spacing = scores.set_index("change")["score"], load(middle["scan"]).spacing_mm
    cases += [
        {"image": image, "mask": mask, "score": scores[change], "spacing_mm": spacing, "title": change}
        for change, (image, mask) in changed.items()
    ]
run.save_figure(plot_synthetic_panels(cases), "panels")
