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
# # 0 · Explore
#
# Look at the lesions of a scan one at a time: what in FLAIR and MPRAGE made the network detect and outline this lesion, computed while you
# wait. This notebook is for the screen; it is not part of `make paper`.
#
# **Reads** a run of `make paper` (scans, weights, lesion table and maps of notebook 3), or scans of your own, which are predicted when they
# are opened. **Writes** what you save, into `<build>/explore/`: maps (NIfTI), figures (PDF, PNG) and what made them (JSON).
#
# Run all cells (Run, Run All Cells), then use the panel below.

# %%
from lib.explorer import Explorer
from lib.run import Run

# %% tags=["parameters"]
build = "build/demo"  # the run that is explored: its intermediate files
figures = "figures/demo"  # and its tables
data = ""  # BIDS folder or scans table of your own (data/README.md) to explore instead
choose = ""  # of several files that fit in a BIDS folder, as in notebook 1
weights = ""  # weights trained before; empty: those of the run, or for data the ones that come with the project
seed = 0
device = "cpu"
n_samples = 10  # noisy copies the panel starts with; the paper's: 50
noise_fraction = 0.05  # of each channel's range
statistics = "exact"  # of instance normalisation; or an error, such as 1e-3 of a map's peak, which is faster
layer = ""  # of Grad-CAM++; empty: the decoder one level below the output
largest_radius_mm = 20  # of the context curve

# %% [markdown]
# **The panel.** Choose a scan, then click a lesion in one of the three planes or pick it from the table; it is explained at once. The map is drawn over the
# sequence that is shown, both sequences at one scale, symmetric around 0: orange where a brighter voxel would raise the lesion's logits, blue where it
# would lower them. Beside it: mean saliency by distance from the lesion's border, and the lesion's probability when only the tissue
# within a radius of it is shown to the network, and the Shapley values of FLAIR and MPRAGE, and of lesion, rim (3 mm) and rest in each, for its score
# (notebook 8). Another choice while something is computed takes its place. Large lesions take long with
# the signed maximum (one gradient a voxel); the average does not.

# %%
explorer = Explorer(
    Run("00_explore", globals()), data=data, choose=choose, weights=weights, layer=layer, device=device, seed=seed,
    n_samples=n_samples, noise_fraction=noise_fraction, statistics=statistics, largest_radius_mm=largest_radius_mm,
)  # fmt: skip
explorer

# %% [markdown]
# What is on screen is at hand in Python, in a cell of your own: `explorer.opened` (scan, probability, label images, lesion table),
# `explorer.explained` (maps by sequence, mask, numbers, radial profile), `explorer.context` (the context curve) and `explorer.shares` (Shapley values).
