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
# in MPRAGE only, or in both; and detected lesions are changed: their contrast is taken away in one sequence or both, or they are moved next to
# grey matter. Bears on claim C6 of the paper.
#
# **Reads** scans (notebook 1), weights (notebook 2, or those given), the lesion table and maps (notebook 3).
# **Writes** tables of detection, score and saliency for every condition, and figures.

# %%
from functools import lru_cache, partial

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib import explanation, lesions, maps, panels, response, response_plots, synthetic, tissue, unet
from lib.paths import Run
from lib.scans import load_scan

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
weights = ""  # weights trained before; empty: those of notebook 2
seed = 0
device = "cpu"
scans_used = 8  # test scans, one a patient
sites_per_scan = 3
margin_mm = 6.0  # of white matter around a site
diameters_mm = [3.0, 5.0, 8.0]
contrasts = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0]  # z-scores: added in FLAIR, subtracted in MPRAGE
explained_diameters_mm = [3.0]  # saliency is computed for insertions of these diameters
explained_sites = 1  # and at this many sites a scan
changed_lesions = 16  # detected lesions that are changed
min_volume_mm3 = 10.0  # of a lesion that is changed
max_volume_mm3 = 80.0
n_samples = 4  # noisy copies; the paper's: 50
noise_fraction = 0.05  # of each channel's range
n_resamples = 2000  # of patients, for the intervals

# %%
run = Run("05_synthetic_lesions", globals())
generator = np.random.default_rng(seed)
model, description = unet.load_weights(run.weights(weights), device)
threshold = unet.recorded_threshold(description, run.weights(weights))
scans = run.scans().set_index("scan", drop=False)
used = scans[scans["split"] == "test"].drop_duplicates("subject").head(scans_used)
load = lru_cache(1)(lambda name: load_scan(scans.loc[name]))
len(used)

# %% [markdown]
# ## Healthy tissue and real lesions
# White and grey matter are estimated from the MPRAGE, without any annotated or predicted voxel. The contrast of the annotated lesions
# (mean z-score less that of the white matter within 5 mm) is what inserted contrasts are to be compared with.

# %%
white, grey, contrast = {}, {}, []
for name, subject in tqdm(used["subject"].items(), desc="tissue", total=len(used), mininterval=2):
    scan = load(name)
    predicted, annotated = (maps.load_map(run.map(name, f"desc-{source}_dseg")) for source in ("pred", "manual"))
    white[name] = tissue.white_matter(scan.image, scan.brain, (predicted > 0) | (annotated > 0))
    grey[name] = tissue.grey_matter(scan.image, scan.brain, (predicted > 0) | (annotated > 0))
    for label in range(1, annotated.max() + 1):
        flair, mprage = response.lesion_contrast(scan.image, annotated == label, white[name], scan.spacing_mm)
        contrast.append({"scan": name, "subject": subject, "label": label, "flair": flair, "mprage": mprage})
contrast = run.save_table(pd.DataFrame(contrast), "contrast")
contrast[["flair", "mprage"]].describe().round(2)

# %% [markdown]
# ## Insertions
# A soft-edged ball is added to the scan, so that its noise and texture stay. Detected: any voxel of the ball reaches the threshold;
# score: mean probability over its voxels.

# %%
saliency = partial(explanation.peak_saliency, model, n_samples=n_samples, noise_fraction=noise_fraction)
insertions = []
for name, subject in tqdm(used["subject"].items(), desc="inserting", total=len(used), mininterval=2):
    scan = load(name)
    sites = synthetic.healthy_sites(white[name], sites_per_scan, margin_mm, scan.spacing_mm, generator)
    conditions = {"diameters_mm": diameters_mm, "contrasts": contrasts, "spacing_mm": scan.spacing_mm}
    rows = response.insertion_response(model, scan.image, sites, **conditions, threshold=threshold)
    conditions |= {"diameters_mm": explained_diameters_mm, "saliency": partial(saliency, seed=[seed, name])}
    peaks = response.insertion_saliency(scan.image, sites[:explained_sites], **conditions)
    rows = rows.merge(peaks, how="left", on=["site", "diameter_mm", "contrast", "sequences"])
    insertions.append(rows.assign(scan=name, subject=subject))

# %%
insertions = pd.concat(insertions, ignore_index=True)
insertions = run.save_table(
    insertions[["scan", "subject", *insertions.columns.drop(["scan", "subject"])]], "insertions"
)
table = run.save_table(response.response_table(insertions, n_resamples=n_resamples, generator=generator), "response")
table.pivot_table("detected", ["sequences", "diameter_mm"], "contrast").round(2)

# %% [markdown]
# **Figure.** Detection, mean probability and peak saliency of inserted lesions against their contrast, by diameter (colour) and by the
# sequences in which they were inserted (columns), with patient-bootstrap 95 % intervals. Dotted lines: median contrast of the annotated
# lesions of these scans.

# %%
median = {"FLAIR": contrast["flair"].median(), "MPRAGE": -contrast["mprage"].median()}
run.save_figure(response_plots.synthetic_response(table, median), "response")

# %% [markdown]
# ## Changes
# Detected lesions lose their contrast in FLAIR, in MPRAGE or in both (healthy white matter is put in its place), or are moved next to
# grey matter.

# %%
found = run.table("03_lesions")
selected = lesions.select_lesions(
    found[(found["kind"] == "TP") & found["scan"].isin(used.index)], n_per_kind=changed_lesions,
    min_volume_mm3=min_volume_mm3, max_volume_mm3=max_volume_mm3, generator=generator,
)  # fmt: skip
selected["volume_mm3"].describe().round(1)

# %%
changes, example = [], None
middle = selected["volume_mm3"].sort_values().index[len(selected) // 2]
for row in tqdm(selected.itertuples(), desc="changing", total=len(selected), mininterval=2):
    scan, mask = load(row.scan), maps.load_map(run.map(row.scan, "desc-pred_dseg")) == row.label
    if not synthetic.has_healthy_surroundings(mask, white[row.scan], scan.spacing_mm):
        print(f"{row.scan} lesion {row.label}: left out, no healthy white matter nearby")
        continue
    changed = response.changed_images(scan.image, mask, white[row.scan], grey[row.scan], scan.spacing_mm, generator)
    peaks = partial(saliency, seed=[seed, row.scan, row.label])
    rows = response.change_response(model, changed, threshold=threshold, saliency=peaks)
    changes.append(rows.assign(scan=row.scan, subject=row.subject, label=row.label, volume_mm3=row.volume_mm3))
    if example is None or row.Index == middle:
        example = changes[-1], changed, scan.spacing_mm

# %%
changes = pd.concat(changes, ignore_index=True)
first = ["scan", "subject", "label", "volume_mm3"]
changes = run.save_table(changes[[*first, *changes.columns.drop(first)]], "changes")
changes.groupby("change")[["detected", "score", "peak_flair", "peak_mprage"]].mean().round(3)

# %% [markdown]
# **Figure.** Detection, score and peak saliency of detected lesions after each change; grey: each lesion, black: mean with its
# patient-bootstrap 95 % interval.

# %%
run.save_figure(response_plots.changes(changes, generator), "changes")

# %% [markdown]
# **Figure.** One of these lesions (of median volume), unchanged and after each change, with the network's score.

# %%
rows, changed, spacing = example
scores = rows.set_index("change")["score"]
cases = [
    {"image": image, "mask": mask, "score": scores[change], "spacing_mm": spacing, "title": change}
    for change, (image, mask) in changed.items()
]
run.save_figure(panels.synthetic_panels(cases), "panels")
