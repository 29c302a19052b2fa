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
# # 9 · Error detection
#
# What does a lesion's saliency map know about whether the lesion is true (TP) or false (FP), that its probability, size and place do not? A classifier
# of numbers of the map, of the others, and of both is fitted on the validation scans and judged on the test scans. Bears on claim C9 of the paper.
#
# **Reads** scans (notebook 1), weights with their thresholds (notebook 2), the lesion table, maps and predictions (notebook 3).
# **Writes** tables of lesions with their predictors, of what each set of predictors finds, of the classifiers and their coefficients, and a figure; and
# the instance maps of the validation scans.

# %%
from functools import partial

import numpy as np
import pandas as pd

from lib.errors import (
    COEFFICIENTS,
    DETECTION,
    MODELS,
    OTHERS,
    bin_widths,
    describe_places,
    draw_lesions,
    judge_predictors,
    lesion_values,
    predictors_of,
    reason_not_to_judge,
    saliency_features,
)
from lib.figures import nothing_judged, plot_errors
from lib.network import evaluate_scan, loaded_network, recorded_outline, recorded_threshold
from lib.run import Run, group_by_scan

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
weights = ""  # weights trained before; empty: those of notebook 2
seed = 0
device = "cpu"
scheduler = ""  # address of a Dask scheduler whose workers compute; empty: this process
n_per_patient = 15  # TP, and as many FP, that are explained of each patient, at most
max_voxels = 200  # lesions with more are not explained, and none of them is removed: the time goes with the voxels
patch = 0  # voxels a side, of the part of a scan around a lesion that the network is given (for one that sees all of it); 0: the whole scan
n_samples = 1  # noisy copies
noise_fraction = 0.05  # of each channel's range
statistics = "exact"  # of instance normalisation; or an error, such as 1e-3 of a map's peak, which is faster
bins = 32  # grey levels that the values of a map have in and around a lesion, in the median of the validation scans
n_permutations = 50  # of TP and FP within each patient
n_resamples = 2000  # of patients, for the intervals

# %%
run = Run("09_error_detection", globals())
generator = np.random.default_rng(seed)
_, description = loaded_network(run.weights(weights), device)
scans = run.scans().set_index("scan", drop=False)
validation = scans[scans["split"] == "validation"].to_dict("records")
scans = scans.to_dict("index")
len(validation)

# %% [markdown]
# ## Lesions
# Of the test scans those of notebook 3; of the validation scans the same, found in the predictions on which it picked its threshold. Scans in which it is not known
# which lesions are true are left out.

# %%
tested = run.table("03_lesions")
tables = [tested.iloc[:0]]
if validation:
    made_with = run.made_with("03_lesions")
    instances = {name: made_with[name] for name in ("neighbours", "merged_mm", "smallest_mm3")}
    limits = {"threshold": recorded_threshold(description, run.weights(weights))}
    limits["outline"] = recorded_outline(description, run.weights(weights))
    evaluate = partial(evaluate_scan, path=run.map, instances=instances, **limits)
    tables += [table for table, _, _ in run.compute_each(evaluate, validation, desc="lesions")]
lesions = pd.concat([pd.concat(tables).assign(split="validation"), tested.assign(split="test")], ignore_index=True)
lesions = lesions[lesions["kind"] != "predicted"]
lesions.groupby(["split", "kind"]).agg(lesions=("label", "size"), patients=("subject", "nunique"))

# %% [markdown]
# ## Which are explained
# At most `n_per_patient` TP and as many FP of each patient, drawn at random, of those of at most `max_voxels`. A drawn lesion then stands for as many as there were to draw from
# for each drawn (`weight`); larger ones stand for themselves and are never removed.

# %%
lesions = draw_lesions(lesions, n_per_patient=n_per_patient, max_voxels=max_voxels, generator=generator)
reason = reason_not_to_judge(*(lesions[lesions["split"] == name] for name in ("validation", "test")))
n_predicted = lesions["kind"].isin(["TP", "FP"]).sum()
print(reason or f"{lesions['drawn'].sum()} lesions are explained, of {n_predicted} predicted")

# %% [markdown]
# ## Maps
# The signed maximum of instance SmoothGrad (eq. 3), exact, as in notebook 4.

# %%
drawn = lesions[lesions["drawn"]] if not reason else lesions.iloc[:0]
items = group_by_scan(drawn[["scan", "kind", "label", "voxels"]].to_dict("records"), scans)
noise = {"n_samples": n_samples, "noise_fraction": noise_fraction, "statistics": statistics}
values = partial(
    lesion_values, weights=run.weights(weights), device=device, path=run.map, seed=seed, noise=noise, patch=patch
)
sizes = [sum(lesion["voxels"] for lesion in rows) for _, rows in items]
found = sum(run.compute_each(values, items, desc="explaining", sizes=sizes), [])

# %% [markdown]
# ## Predictors
# Of saliency, FLAIR and MPRAGE each: first order in the lesion and in its rim (the brain within 3 mm), as the paper has the map positive in the one and negative in the other; texture of
# the co-occurrence of grey levels in both together, as small lesions alone have hardly any neighbours. A grey level is as wide as makes `bins` of the range of a lesion's values, in the
# median of the validation scans, and the same for all: a width of 25, usual in radiomics for images, would leave nothing of maps but the sign. Of the rest: probability, size and place.

# %%
predictors = {}
if not reason:
    of_validation = {row["scan"] for row in validation}
    widths = bin_widths([one for one in found if one["scan"] in of_validation], bins)
    print("width of a grey level (FLAIR, MPRAGE):", widths.round(4))
    features = saliency_features(found, widths)
    of_map = [scans[name] for name in drawn["scan"].unique()]
    places = run.compute_each(partial(describe_places, path=run.map), of_map, desc="places")
    lesions = lesions.join(predictors_of(drawn, pd.concat(places), features))
    both = sum(OTHERS.values(), [])
    saliency = list(features.columns.drop(["scan", "label"]))
    predictors = OTHERS | {"all three": both, "saliency": saliency, "all three + saliency": both + saliency}
{name: len(columns) for name, columns in predictors.items()}

# %% [markdown]
# ## Classifiers
# Logistic regression with an L1 penalty, of standardised predictors, fitted on the validation patients. Its penalty is the one whose predictions of patients that it has not seen are
# likeliest, one validation patient (or a tenth of them) left out at a time. Of these predictions too is the threshold: lesions with a lower probability of being true are removed, so that the validation scans have the best F1.
# Nothing of the test patients is used. To see that nothing leaks, all this is done again with the kinds shuffled within each patient: AUC is then 0.5 within patients; over all pairs it may be
# more, as patients of many FP can be told by their scans.

# %%
detection, models, coefficients = (pd.DataFrame(columns=names) for names in (DETECTION, MODELS, COEFFICIENTS))
fitted, tested = (lesions[lesions["split"] == name] for name in ("validation", "test"))
if not reason:
    scores, detection, models, coefficients = judge_predictors(
        fitted, tested, predictors, n_permutations=n_permutations, n_resamples=n_resamples, generator=generator
    )
    lesions = lesions.join(scores.add_prefix("TP by "))
run.save_table(lesions, "lesions")
run.save_table(models, "models")
run.save_table(coefficients, "coefficients")
models.round(3)

# %% [markdown]
# **Table.** AUC on the test scans with 95 % intervals over patients, mean AUC of the shuffled kinds, and the permutation p; F1 and PPV of all lesions of the test scans before and after those that are called false are
# removed. A TP that is removed counts as an FN. AUC is of the drawn lesions, each counted once; in F1 and PPV they have their weights. `lesions`: that are judged (AUC), or in the table, FN too (F1, PPV).

# %%
run.save_table(detection, "detection")
detection.pivot(index="predictors", columns="measure", values="value").astype(float).round(3)

# %%
detection[detection["measure"].str.startswith("AUC")].drop(columns="lesions").round(3)

# %% [markdown]
# **Figure.** (a) AUC by set of predictors, with 95 % intervals over patients. (b) F1 and PPV of the lesions of the test scans, with intervals. (c) Coefficients of the classifier of all predictors; n: of the validation scans, on which it was fitted. Bears on claim C9.

# %%
run.save_figure(
    nothing_judged(reason) if reason else plot_errors(detection, coefficients, fitted[fitted["drawn"]]), "errors"
)
