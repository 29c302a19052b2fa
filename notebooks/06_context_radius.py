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
# How much of the tissue around a lesion does the network need? Of each detected lesion only the tissue near it is kept, in mm or in dilation
# steps, the rest of both channels is replaced (by 0, the mean of a z-scored scan; by air; by the scan's own blurred tissue), and the
# lesion is predicted again. Bears on claim C7 of the paper.
#
# **Reads** scans (notebook 1), weights (notebook 2, or those given), the lesion table and maps (notebook 3).
# **Writes** the response of each lesion and of all, where 95 % of the plateau is reached, overall and for each lesion, what that radius goes
# with (size, place, reach of the saliency), and figures.

# %%
from functools import partial

import numpy as np
import pandas as pd

from lib.context import (
    NO_RADII,
    NO_RESPONSES,
    check_names,
    hide_surroundings,
    lesion_plateaus,
    mean_response,
    measure_radii,
    overall_plateaus,
)
from lib.figures import plot_context, plot_fills, plot_radii
from lib.lesions import select_lesions
from lib.network import loaded_network, recorded_threshold
from lib.run import Run, compute_each, group_by_scan
from lib.statistics import bland_altman, bootstrap_spearman

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
weights = ""  # weights trained before; empty: those of notebook 2
seed = 0
device = "cpu"
scheduler = ""  # address of a Dask scheduler whose workers compute; empty: this process
n_lesions = 32  # detected lesions, spread over patients
min_volume_mm3 = 20.0  # the paper: 91 to 119 voxels of 1 mm
max_volume_mm3 = 200.0
max_voxels = 2000  # lesions with more are named and left out: the time goes with the voxels
largest_step = 34  # tissue is kept up to 0, 1, 2, ... mm, or for as many dilations
other_fills = ["air", "blurred"]  # in place of the rest, beside the mean
blend_window = 0  # side of the patches of a blended sliding window, as in notebook 3 without mirror images; 0: the whole volume in one pass
noise_copies = 3  # of the scan, for the interval of each lesion's radius
n_samples = 2  # noisy copies of the saliency map; the paper's: 50
noise_fraction = 0.05  # of each channel's range, for the saliency map
n_resamples = 2000  # of patients, for the intervals

# %%
run = Run("06_context_radius", globals())
generator = np.random.default_rng(seed)
_, description = loaded_network(run.weights(weights), device)
threshold = recorded_threshold(description, run.weights(weights))
check_names(other_fills)
scans = run.scans().set_index("scan", drop=False).to_dict("index")

# %%
found = run.table("03_lesions")
selected = select_lesions(
    found[found["kind"] == "TP"], n_per_kind=n_lesions, min_volume_mm3=min_volume_mm3, max_volume_mm3=max_volume_mm3,
    max_voxels=max_voxels, generator=generator,
)  # fmt: skip
selected["volume_mm3"].describe().round(1)

# %% [markdown]
# ## Response
# Detected: any voxel of the lesion reaches the threshold; score: mean probability over its voxels. The radius is the Euclidean distance
# from the lesion's nearest voxel centre; a dilation step is the paper's, which goes farther along diagonals. The rest is 0 in the
# paper; air is the intensity 0 before z-scoring; blurred tissue is the healthy brain of the scan smoothed with a standard deviation of 8 mm. Logits are
# those of the whole masked volume, computed on the lesion's exact window; or, with `blend_window`, of the patches that cover the lesion,
# blended as in notebook 3: patches end the context at their borders.

# %%
variants = [("mean", "euclidean"), ("mean", "dilation"), *((fill, "euclidean") for fill in other_fills)]
given = {"weights": run.weights(weights), "device": device, "path": run.map}
given |= {"steps": range(largest_step + 1), "window": blend_window or None}
items = group_by_scan(selected.to_dict("records"), scans)
hide = partial(hide_surroundings, **given, variants=variants, threshold=threshold)
responses = compute_each(hide, items, scheduler=scheduler, desc="context")
responses = pd.concat(responses or [NO_RESPONSES], ignore_index=True)

# %%
run.save_table(responses, "context")
resampling = {"n_resamples": n_resamples, "generator": generator}
curve = run.save_table(mean_response(responses, **resampling), "curve")
curve.pivot_table("score", "step", ["fill", "growth"]).iloc[::3].round(3)

# %% [markdown]
# ## Plateau
# The smallest step from which on the response stays at 95 % or more of its plateau, the mean over the last quarter of the steps: of the mean
# curves over lesions, with patient-bootstrap 95 % intervals.

# %%
overall = run.save_table(overall_plateaus(responses, **resampling), "plateau")
overall.round(2)

# %% [markdown]
# **Figure.** Detected lesions (a, c) and mean score (b, d) against the tissue that is kept, in mm (a, b) and in the paper's dilation steps (c,
# d), with patient-bootstrap 95 % intervals; the rest is the mean. Grey: each lesion; shaded: mean and standard deviation over lesions.
# Dashed: 95 % of the plateau with its interval. Bears on claim C7.

# %%
run.save_figure(plot_context(responses, curve, overall), "context")

# %% [markdown]
# **Figure.** What the answer owes to the fill: detected lesions (a) and mean score (b) against the radius kept, and the radius at which 95 % of
# the plateau is reached (c), with patient-bootstrap 95 % intervals, by what is put in place of the rest. Bears on claim C7.

# %%
run.save_figure(plot_fills(curve, overall), "fills")

# %% [markdown]
# ## Each lesion
# The context radius of a lesion: where its own score reaches 95 % of its plateau. Its interval is a parametric bootstrap: the radius in copies
# of the scan with as much noise again as the scan has (percentiles 2.5 and 97.5; their range, if they are few). Beside it the lesion's size, its
# distance from the nearest lesion, the brain's surface and the ventricles, and the reach of its saliency (signed maximum, eq. 3): the radius
# beyond which the mean magnitude of 1 mm shells stays below 5 % of the largest.

# %%
noise = {"n_samples": n_samples, "noise_fraction": noise_fraction}
measure = partial(measure_radii, **given, n_copies=noise_copies, noise=noise, seed=seed)
each = pd.concat(compute_each(measure, items, scheduler=scheduler, desc="radii") or [NO_RADII], ignore_index=True)

# %%
table = lesion_plateaus(responses, other_fills).merge(each, on=["scan", "label"])
table = run.save_table(table, "lesions")
table.describe().round(1)

# %%
places = ["volume_mm3", "nearest_lesion_mm", "surface_mm", "ventricle_mm"]
correlations = run.save_table(bootstrap_spearman(table, "radius95_mm", places, **resampling), "correlations")
correlations.round(2)

# %% [markdown]
# Agreement of the context radius with the reach of the saliency, and with the radius that other fills give.

# %%
others = ["reach5_flair_mm", "reach5_mprage_mm", *(f"{fill}_mm" for fill in other_fills)]
agreement = run.save_table(bland_altman(table, "radius95_mm", others, **resampling), "agreement")
agreement.round(2)

# %% [markdown]
# **Figure.** Context radius of each lesion against its size and place (a-d), with its interval and Spearman's correlation (patient-bootstrap 95 %
# interval); against the reach of its saliency in FLAIR (e, f) and MPRAGE (g, h): scatter with the line of identity, and difference against
# mean (Bland and Altman), with mean difference (solid, grey: its 95 % interval) and limits of agreement (dashed). Bears on claim C7.

# %%
run.save_figure(plot_radii(table, correlations, agreement), "radii")
