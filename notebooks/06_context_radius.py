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
# **Writes** the response of each lesion and of all, where it crosses 95 % of its plateau, overall and for each lesion, what that radius goes
# with (size, place, reach of the saliency), and figures.

# %%
from functools import partial

import numpy as np
import pandas as pd

from lib.context import (
    NO_PLACES,
    NO_RESPONSES,
    check_names,
    hide_surroundings,
    lesion_plateaus,
    mean_response,
    measure_places,
    overall_plateaus,
    spread_over_detection,
)
from lib.figures import plot_context, plot_fields, plot_fills, plot_radii
from lib.lesions import detected_lesions, select_lesions
from lib.network import loaded_network, recorded_threshold
from lib.run import Run, group_by_scan
from lib.statistics import bland_altman, bootstrap_spearman

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
weights = ""  # weights trained before; empty: those of notebook 2
seed = 0
device = "cpu"
scheduler = ""  # address of a Dask scheduler whose workers compute; empty: this process
n_lesions = 32  # detected lesions, spread over how clearly they are detected, and over patients
min_volume_mm3 = 5.0  # the paper: 91 to 119 voxels of 1 mm
max_volume_mm3 = 200.0
max_voxels = 2000  # lesions with more are named and left out: the time goes with the voxels
largest_step = 34  # tissue is kept up to 0, 1, 2, ... mm, or for as many dilations
steps_apart = 1  # of these
other_fills = ["air", "blurred"]  # in place of the rest, beside the mean
blend_window = 0  # side of the patches of a blended sliding window, as in notebook 3 without mirror images; 0: the whole volume in one pass
patch = 0  # voxels a side, of the part of a scan around a lesion that the network is given (for one that sees all of it); 0: the whole scan
n_samples = 2  # noisy copies of the saliency map; the paper's: 50
noise_fraction = 0.05  # of each channel's range, for the saliency map
statistics = "exact"  # of instance normalisation; or an error, such as 1e-3 of a map's peak, which is faster
n_resamples = 2000  # of patients, for the intervals

# %%
run = Run("06_context_radius", globals())
generator = np.random.default_rng(seed)
_, description = loaded_network(run.weights(weights), device)
threshold = recorded_threshold(description, run.weights(weights))
check_names(other_fills)
scans = run.scans().set_index("scan", drop=False).to_dict("index")

# %% [markdown]
# ## Lesions
# True positives: lesions that the network detects with all tissue shown. The detected share therefore ends near 1 whatever the tissue does, and a lesion that
# is missed *because* of its surroundings is not among them. Of scans without annotation all predicted lesions count as detected, as many of them besides. Most true positives are detected with a probability that is saturated, and
# hiding tissue seldom loses them; so lesions are drawn evenly over the logit of their peak probability, which decides detection, from those
# that are just detected to the surest: means are over this choice, not over all true positives. With volumes of 91 to 119 mm³ and all lesions taken (`PROFILE=paper`) the choice is the paper's.

# %%
found = detected_lesions(run.table("03_lesions"))
eligible = select_lesions(
    found, n_per_kind=len(found), min_volume_mm3=min_volume_mm3, max_volume_mm3=max_volume_mm3,
    max_voxels=max_voxels, generator=generator,
)  # fmt: skip
each_kind = [spread_over_detection(rows, n_lesions, generator) for _, rows in eligible.groupby("kind")]
selected = pd.concat(each_kind or [eligible])
true = selected["kind"] == "TP"
selected[["volume_mm3", "mean_probability", "peak_probability"]].describe().round(3)

# %% [markdown]
# ## Response
# Detected: any voxel of the lesion reaches the threshold; score: mean probability over its voxels. The radius is the Euclidean distance
# from the lesion's nearest voxel centre; a dilation step is the paper's, which goes farther along diagonals. The rest is 0 in the
# paper; air is the intensity 0 before z-scoring, about -3 after it (what lies around the head is 0 in a z-scored image, as the mean, so that this air is darker than any that the network has seen); blurred tissue is the healthy brain of the scan smoothed with a standard deviation of 8 mm. Logits are
# those of the whole masked volume, computed on the lesion's exact window (all of it for a network that depends on all it is given, which then also answers to
# how much of that is replaced); or, with `blend_window`, of the patches that cover the lesion,
# blended as in notebook 3, or of one `patch` around it: patches end the context at their borders. Means over lesions are those of true positives; where no scan is annotated, of the
# predicted lesions, which claim C7 does not speak of.

# %%
variants = [("mean", "euclidean"), ("mean", "dilation"), *((fill, "euclidean") for fill in other_fills)]
network = {"weights": run.weights(weights), "device": device, "path": run.map, "patch": patch}
shown = {"steps": range(0, largest_step + 1, steps_apart), "window": blend_window or None, "variants": variants}
items = group_by_scan(selected.to_dict("records"), scans)
hide = partial(hide_surroundings, **network, **shown, threshold=threshold)
responses = run.compute_each(hide, items, desc="context")
responses = pd.concat(responses or [NO_RESPONSES], ignore_index=True)

# %%
run.save_table(responses, "context")
averaged = responses if true.all() or not true.any() else responses.merge(selected.loc[true, ["scan", "label"]])
resampling = {"n_resamples": n_resamples, "generator": generator}
curve = run.save_table(mean_response(averaged, **resampling), "curve")
curve.pivot_table("score", "step", ["fill", "growth"]).iloc[::3].round(3)

# %% [markdown]
# ## Plateau
# The plateau is the mean response over the last quarter of the steps. `first` is the smallest step at which the mean curve over lesions reaches 95 % of
# it, `last` the smallest from which on it never falls below again: where they agree, so much tissue is needed. Where they differ, the curve falls in between, to
# `dip` at `dip_at`, where more tissue is worse than less: neither of the two alone is how much is needed, and claim C7 is judged by the
# bracket of both, from `low_first` to `high_last`. A first crossing at `smallest` is at most that; inf: not reached before the last quarter; NaN: the curve is the
# same at every step, or its plateau is not above 0, and tells nothing. Intervals are over resamples of patients, NaN where more than one in twenty of these has no variation.

# %%
overall = run.save_table(overall_plateaus(averaged, **resampling), "plateau")
overall.round(2)

# %% [markdown]
# **Figure.** Detected lesions (a, c) and mean score (b, d) against the tissue that is kept, in mm (a, b) and in the paper's dilation steps (c,
# d), with patient-bootstrap 95 % intervals; the rest is the mean. Grey: each lesion; shaded: mean and standard deviation over lesions.
# Where 95 % of the plateau (grey line) is reached first (dashed) and for good (dotted), with intervals. Bears on claim C7.

# %%
run.save_figure(plot_context(averaged, curve, overall), "context")

# %% [markdown]
# **Figure.** What the answer owes to the fill: detected lesions (a) and mean score (b) against the radius kept, and the radius at which 95 % of
# the plateau is reached first (filled) and for good (open) (c), with patient-bootstrap 95 % intervals, by what is put in place of the rest.
# An arrow up: not reached; no dot: no variation, or no plateau. Bears on claim C7.

# %%
run.save_figure(plot_fills(curve, overall), "fills")

# %% [markdown]
# ## Each lesion
# The context radius of a lesion: where its own score first reaches 95 % of its plateau, and beside it from where on it stays there
# (`last95_mm`). One scan does not tell how sure the radius of one lesion is, so it has no interval. With it go the lesion's size, its distance from
# the nearest lesion, the brain's surface and the ventricles, and the reach of its saliency (signed maximum, eq. 3): the radius beyond which
# the mean magnitude of 1 mm shells stays below 5 % of the largest. Two receptive fields go with them: the effective one (Luo et al. 2016), the radius within
# which half (`half_...`) and 95 % (`most_...`) of the map's summed magnitude lie; and the theoretical one (`field_mm`), how far along an axis the farthest voxel lies
# on which the lesion's logits can depend at all (inf: all that the network is given, as with instance normalisation or attention). A response cannot change with tissue beyond the latter, measured along the axes.

# %%
noise = {"n_samples": n_samples, "noise_fraction": noise_fraction, "statistics": statistics}
measure = partial(measure_places, **network, farthest_mm=largest_step, noise=noise, seed=seed)
each = pd.concat(run.compute_each(measure, items, desc="places") or [NO_PLACES], ignore_index=True)

# %%
table = lesion_plateaus(responses, other_fills).merge(each, on=["scan", "label"])
table = run.save_table(table, "lesions").replace(np.inf, np.nan)  # without those that are not reached, from here on
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
# **Figure.** Context radius of each lesion against its size and place (a-d), with Spearman's correlation (patient-bootstrap 95 %
# interval); against the reach of its saliency in FLAIR (e, f) and MPRAGE (g, h): scatter with the line of identity, and difference against
# mean (Bland and Altman), with mean difference (solid, grey: its 95 % interval) and limits of agreement (dashed). Bears on claim C7.

# %%
run.save_figure(plot_radii(table, correlations, agreement), "radii")

# %% [markdown]
# **Figure.** How far the network looks: mean score against the tissue kept, by what is put in place of the rest (a), over the radii within which 50 %
# and 95 % of the saliency lie, and the farthest voxel along an axis that the network can see (b): median (dot) and range over lesions. Where a response changes though little
# saliency is left, the network either needs tissue that its gradient does not show, or answers to the edge of what replaces it: then fills differ. Bears on claim C7.

# %%
run.save_figure(plot_fields(curve, table), "fields")
