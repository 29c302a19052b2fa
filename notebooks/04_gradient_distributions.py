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
# lesions, and for volumes of healthy white matter with the shape of the TPs (TN). Bears on claims C3, C4 and C5 of the paper.
#
# **Reads** scans (notebook 1), weights (notebook 2, or those given), the lesion table and maps (notebook 3).
# **Writes** one map a lesion and method (NIfTI, cut to its box), tables of peaks, tests and radial profiles, and figures.

# %%
from functools import lru_cache, partial

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from lib import explanation, lesions, maps, panels, plots, stats, tissue, unet, windows
from lib.paths import Run
from lib.provenance import code_digest
from lib.saliency import layer_activations
from lib.scans import load_scan

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
weights = ""  # weights trained before; empty: those of notebook 2
seed = 0
device = "cpu"
n_per_kind = 24  # lesions explained of each kind
min_volume_mm3 = 5.0  # the paper explains lesions above this
max_volume_mm3 = 200.0
n_samples = 8  # noisy copies; the paper's: 50
noise_fraction = 0.05  # of each channel's range
layer = "model.1.submodule.2.conv"  # of Grad-CAM++: the decoder one level below the output
profile_mm = [-5, 16]  # range of the radial profile, in shells of 1 mm
n_resamples = 2000  # of patients, for the intervals

# %%
run = Run("04_gradient_distributions", globals())
generator = np.random.default_rng(seed)
model, description = unet.load_weights(run.weights(weights), device)
scans = run.scans().set_index("scan", drop=False).to_dict("index")
load = lru_cache(1)(lambda name: load_scan(scans[name]))
activations = lru_cache(1)(lambda name: layer_activations(model, load(name).image[None], layer))

# %% [markdown]
# ## Which lesions
# The same number of each kind where there are as many, spread over patients.

# %%
selected = lesions.select_lesions(
    run.table("03_lesions"), n_per_kind=n_per_kind, min_volume_mm3=min_volume_mm3, max_volume_mm3=max_volume_mm3,
    generator=generator,
)  # fmt: skip
selected.groupby("kind").agg(
    lesions=("label", "size"), patients=("subject", "nunique"), volume=("volume_mm3", "median")
)

# %% [markdown]
# Every TP brings a TN: its own shape, moved to healthy white matter of its scan, away from any annotated or predicted voxel.

# %%
instances = []
for name, table in selected.groupby("scan"):
    scan = load(name)
    probability, predicted, annotated = (
        maps.load_map(run.map(name, kind)) for kind in ("desc-pred_probseg", "desc-pred_dseg", "desc-manual_dseg")
    )
    white = tissue.white_matter(scan.image, scan.brain, (predicted > 0) | (annotated > 0))
    for row in table[["scan", "subject", "session", "label", "kind", "voxels", "volume_mm3"]].itertuples(index=False):
        mask = lesions.instance_mask(row, predicted, annotated)
        instances.append(row._asdict() | {"where": np.flatnonzero(mask), "mean_probability": probability[mask].mean()})
        if row.kind == "TP" and (healthy := tissue.sample_healthy(mask, white, generator)) is not None:
            negative = {"where": np.flatnonzero(healthy), "mean_probability": probability[healthy].mean()}
            instances.append(row._asdict() | {"kind": "TN"} | negative)
pd.DataFrame(instances).groupby("kind")["mean_probability"].describe().round(3)

# %% [markdown]
# ## Maps
# Exact: each map is computed on the window of the scan that the lesion's logits depend on, and equals that of the whole volume.
# The noise depends on the seed and the lesion alone. A map that is there already, made from the same inputs, is used again.

# %%
settings = {"n_samples": n_samples, "noise_fraction": noise_fraction, "layer": layer, "seed": seed}
folder = run.folder("saliency", description["digest"], settings, code_digest(explanation))
edges_mm = np.arange(profile_mm[0], profile_mm[1] + 1)
saliency, profiles = [], []
for instance in tqdm(instances, desc="explaining", mininterval=2):
    facts = {name: value for name, value in instance.items() if name != "where"}
    identity, name = [facts[key] for key in ("scan", "kind", "label")], "{scan}_label-{kind}{label:03d}".format(**facts)
    scan = load(facts["scan"])
    mask = np.isin(np.arange(scan.brain.size), instance["where"]).reshape(scan.brain.shape)
    options = {**settings, "identity": identity, "activations": activations(facts["scan"])}
    compute = partial(explanation.lesion_maps, model, scan.image, mask, **options)
    found = explanation.saved_maps(folder / facts["scan"], name, scan.affine, scan.brain.shape, compute)
    logits = windows.predict_lesion(model, torch.as_tensor(scan.image)[None], mask)
    facts |= {"mean_logit": logits[:, 1].mean().item(), "whole_probability": logits.softmax(1)[:, 1].mean().item()}
    numbers, profile = explanation.measure(found, mask, scan.brain, scan.spacing_mm, edges_mm)
    saliency.append(numbers.assign(**facts))
    profiles.append(profile.assign(**facts))

# %%
saliency, profiles = pd.concat(saliency, ignore_index=True), pd.concat(profiles, ignore_index=True)
saliency = run.save_table(saliency[[*facts, *(name for name in saliency if name not in facts)]], "saliency")
saliency.groupby(["method", "sequence", "kind"])["peak"].describe(percentiles=[0.5]).round(3)

# %% [markdown]
# Lesions were found in blended sliding-window probabilities (`mean_probability`), while what is explained are the logits of the
# whole volume (`whole_probability` is their softmax). How far the two are apart:

# %%
once = saliency.drop_duplicates(["scan", "kind", "label"])
(once["mean_probability"] - once["whole_probability"]).abs().describe().round(4)

# %% [markdown]
# **Figure.** Maps over anatomy, one lesion of each kind: the one whose FLAIR peak is the median of its kind.

# %%
flair = saliency[(saliency["method"] == "smoothgrad_max") & (saliency["sequence"] == "FLAIR")].sort_values("peak")
cases = []
for kind in [kind for kind in ("TP", "FP", "FN", "TN") if kind in set(flair["kind"])]:
    rows = flair[flair["kind"] == kind]
    middle = rows.iloc[len(rows) // 2]
    where = next(i["where"] for i in instances if all(i[key] == middle[key] for key in ("scan", "kind", "label")))
    scan, name = load(middle["scan"]), "{scan}_label-{kind}{label:03d}".format(**middle)
    found = explanation.saved_maps(folder / middle["scan"], name, scan.affine, scan.brain.shape, None)
    mask = np.isin(np.arange(scan.brain.size), where).reshape(scan.brain.shape)
    cases.append(
        {"kind": kind, "label": f"{middle['scan']}, {middle['volume_mm3']:.0f} mm³", "image": scan.image}
        | {"saliency": found["smoothgrad_max"], "cam": found["grad_cam"][0], "lesion": mask}
        | {"spacing_mm": scan.spacing_mm}
    )
run.save_figure(panels.saliency_maps(cases), "maps")

# %% [markdown]
# **Figure.** Peak of each map (value of largest magnitude, with its sign) by kind, method and sequence. Mann-Whitney U tests between kinds
# with Holm correction over the six pairs; they take lesions as independent, though those of one patient are not. The table of clustered
# tests has the same pairs with patients as clusters: an interval of Cliff's delta, a GEE, and the same adjusted for the
# lesion's volume and mean probability, of which a peak could be a mere proxy.

# %%
kinds, groups = ["TP", "FP", "FN", "TN"], ["method", "sequence"]
by_method = saliency.assign(log_volume=np.log(saliency["volume_mm3"])).groupby(groups)
clustered = {"covariates": ["log_volume", "mean_probability"], "n_resamples": n_resamples, "generator": generator}
tests = {names: stats.pairwise_tests(rows, "peak", "kind", kinds) for names, rows in by_method}
tests = run.save_table(pd.concat(tests, names=groups).reset_index(groups), "tests")
adjusted = {names: stats.clustered_tests(rows, "peak", "kind", kinds, **clustered) for names, rows in by_method}
adjusted = run.save_table(pd.concat(adjusted, names=groups).reset_index(groups), "clustered")
adjusted.query("method == 'smoothgrad_max' and sequence == 'FLAIR'").round(3)

# %%
run.save_figure(plots.peaks(saliency, tests), "peaks")

# %% [markdown]
# **Figure.** Mean saliency against the signed distance from the lesion's border (negative: inside), averaged over lesions, with
# patient-bootstrap 95 % intervals.

# %%
profile = explanation.mean_profile(profiles, n_resamples=n_resamples, generator=generator)
run.save_figure(plots.profile(run.save_table(profile, "profile")), "profile")
