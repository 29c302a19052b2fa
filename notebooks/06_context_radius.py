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
# # 6 · Context radius
#
# How much of the tissue around a lesion does the network need? Of each detected lesion only the tissue within a radius is kept, the rest of both
# channels is set to 0 (the mean of a z-scored scan), and the lesion is predicted again. Bears on claim C7 of the paper.
#
# **Reads** scans (notebook 1), weights (notebook 2, or those given), the lesion table and maps (notebook 3).
# **Writes** the response of each lesion and of all against the radius in mm, the radius at which 95 % of the plateau is reached, and a figure.

# %%
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from lib import context, lesions, maps, response_plots, unet
from lib.paths import Run
from lib.scans import load_scan

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
weights = ""  # weights trained before; empty: those of notebook 2
seed = 0
device = "cpu"
n_lesions = 60  # detected lesions, spread over patients
min_volume_mm3 = 20.0  # the paper: 91 to 119 voxels of 1 mm
max_volume_mm3 = 200.0
largest_radius_mm = 34  # radii are 0, 1, 2, ... mm
blend_window = 0  # side of the patches of a blended sliding window, as in notebook 3; 0: the whole volume in one pass
n_resamples = 2000  # of patients, for the intervals

# %%
run = Run("06_context_radius", globals())
generator = np.random.default_rng(seed)
model, description = unet.load_weights(run.weights(weights), device)
threshold = unet.recorded_threshold(description, run.weights(weights))
scans = run.scans().set_index("scan", drop=False)
load = lru_cache(1)(lambda name: load_scan(scans.loc[name]))

# %%
found = run.table("03_lesions")
selected = lesions.select_lesions(
    found[found["kind"] == "TP"], n_per_kind=n_lesions, min_volume_mm3=min_volume_mm3, max_volume_mm3=max_volume_mm3,
    generator=generator,
)  # fmt: skip
selected["volume_mm3"].describe().round(1)

# %% [markdown]
# ## Response
# Detected: any voxel of the lesion reaches the threshold; score: mean probability over its voxels. The radius is the Euclidean distance
# from the lesion's nearest voxel centre. Logits are those of the whole masked volume, computed on the lesion's exact window; or,
# with `blend_window`, of the patches that cover the lesion, blended as in notebook 3: patches end the context at their borders.

# %%
responses = []
for row in tqdm(selected.itertuples(), desc="context", total=len(selected), mininterval=2):
    scan, predicted = load(row.scan), maps.load_map(run.map(row.scan, "desc-pred_dseg"))
    volume, radii_mm = torch.as_tensor(scan.image)[None], range(largest_radius_mm + 1)
    lesion, blend = predicted == row.label, blend_window or None
    table = context.context_response(model, volume, lesion, radii_mm, scan.spacing_mm, threshold, window=blend)
    facts = {name: getattr(row, name) for name in ("scan", "subject", "session", "label", "voxels")}
    responses.append(table.assign(**facts)[[*facts, "radius_mm", "detected", "score"]])
responses = run.save_table(pd.concat(responses, ignore_index=True), "context")

# %%
curve = context.mean_response(responses, n_resamples=n_resamples, generator=generator)
run.save_table(curve, "curve").iloc[::3].round(3)

# %% [markdown]
# ## Plateau
# The smallest radius from which on the response stays at 95 % or more of its plateau, the mean over the last quarter of the radii: of each
# lesion's score, and overall (`scan` is "all"; `label` names the curve) with patient-bootstrap 95 % intervals.

# %%
plateau = context.plateau_table(responses, n_resamples=n_resamples, generator=generator)
run.save_table(plateau, "plateau")
print(plateau[plateau["scan"] == "all"].round(2).to_string(index=False))
plateau.loc[plateau["scan"] != "all", "radius95_mm"].describe().round(2)

# %% [markdown]
# **Figure.** Detected lesions and mean score against the radius in mm that is kept, with patient-bootstrap 95 % intervals; grey: each lesion;
# shaded: mean and standard deviation over lesions. Dashed: radius at which 95 % of the plateau is reached.

# %%
run.save_figure(response_plots.context(responses, curve, plateau), "context")
