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
# # 3 · Evaluation
#
# Predicts the test scans by sliding window, picks the thresholds on the validation scans, and lists every lesion: detected (TP),
# invented (FP) or missed (FN), or in a scan without annotation predicted, which may be either of the first two. Bears on claims C1 and C2 of the paper.
#
# **Reads** scans and split (notebook 1), weights (notebook 2, or those given).
# **Writes** probability and instance maps in the space of each input scan (BIDS derivatives), the lesion table, the metrics with
# patient-bootstrap intervals, and figures.

# %%
from functools import partial

import numpy as np
import pandas as pd

from lib.figures import needs_annotation, plot_detection, plot_examples
from lib.lesions import (
    best_threshold,
    count_instances,
    detection_by_volume,
    label_instances,
    largest_instance,
    metrics_table,
    threshold_curve,
)
from lib.network import (
    evaluate_scan,
    loaded_network,
    predict_scan,
    record_thresholds,
    recorded_outline,
    recorded_threshold,
    scan_scores,
)
from lib.run import Run
from lib.scans import load_labels, load_map, load_scan

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
weights = ""  # weights trained before; empty: those of notebook 2
seed = 0
device = "cpu"
fixed_threshold = 0.0  # lesion probability that detects and outlines; 0: the best on the validation scans
scheduler = ""  # address of a Dask scheduler whose workers compute; empty: this process
n_resamples = 2000  # of patients, for the intervals
neighbours = 18  # of a voxel that are of its instance: 6 (faces), 18 (and edges) or 26 (and corners)
merged_mm = 0.0  # components whose voxels lie at most so far apart are one instance; 0: never
smallest_mm3 = 0.0  # instances of a smaller volume count as no lesion, predicted or annotated
# bins of lesion volume; there is one more for what lies outside
volume_edges_mm3 = [0.5, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 100000.0]
shown_scans = 3  # in the figure of examples

# %%
run = Run("03_evaluation", globals())
if weights and fixed_threshold:
    raise ValueError(f"fixed_threshold {fixed_threshold}: given weights keep theirs, in the JSON beside {weights}")
generator = np.random.default_rng(seed)
instances = {"neighbours": neighbours, "merged_mm": merged_mm, "smallest_mm3": smallest_mm3}
label_instances(np.zeros((1, 1, 1), bool), **instances, affine=np.eye(4))  # they are possible
_, description = loaded_network(run.weights(weights), device)
scans = run.scans()
rows = {split: table.to_dict("records") for split, table in scans.groupby("split")}
if "test" not in rows:
    raise ValueError("no scan is in the test split: give it a share of the patients (01_data_split.fractions)")
{split: len(found) for split, found in rows.items()}

# %% [markdown]
# ## Predictions
# One probability map a scan. A map that is there already, made from the same images, weights and code, is used again.

# %%
predict = partial(predict_scan, weights=run.weights(weights), device=device, path=run.map)
predicted = rows.get("validation", []) + rows["test"]
len(run.compute_each(predict, predicted, desc="predicting"))

# %% [markdown]
# ## Threshold
# A lesion is outlined where its probability is at least 0.5, and detected if it reaches the threshold somewhere: the one with the best mean
# of Dice and lesion F1 on the validation scans, to three decimals, and of equals the highest. Thresholds are tried in even steps of the logit, as
# probabilities of lesions lie close to 1; the paper has 0.3. This F1 counts annotated lesions: one that is predicted in pieces is found once. A
# threshold below 0.5, and `fixed_threshold`, outline too. Weights given from outside come with theirs.

# %%
if weights:
    threshold, outline = (read(description, weights) for read in (recorded_threshold, recorded_outline))
    curve = pd.DataFrame(columns=["threshold", "outline", "dice", "ndsc", "f1"])
else:
    score = partial(scan_scores, path=run.map, instances=instances)
    curve = threshold_curve(run.compute_each(score, rows["validation"], desc="threshold"))
    best = best_threshold(curve)
    threshold, outline = (fixed_threshold or best[name] for name in ("threshold", "outline"))
    record_thresholds(run.weights(), threshold, outline)
run.save_table(curve, "threshold")
print(f"threshold {threshold:.6g}, outline {outline:.6g}")

# %% [markdown]
# ## Lesions
# Instances are components of voxels that touch (`neighbours`), as a rule by faces and edges; components that lie close together may be one lesion (`merged_mm`), and small
# ones none (`smallest_mm3`). The tables and maps of all later notebooks are of these; only notebook 1 describes the annotation by 18-connected components whatever is chosen. A predicted one is a TP if it touches the annotation, else an FP; an annotated one without any
# predicted voxel is an FN. Where nobody has annotated the scan, all are "predicted". Instance maps go beside the probability maps; the labels in the tables are theirs.

# %%
evaluate = partial(evaluate_scan, threshold=threshold, outline=outline, path=run.map, instances=instances)
tables = zip(*run.compute_each(evaluate, rows["test"], desc="lesions"), strict=True)
found, annotated, scores = (pd.concat(table, ignore_index=True) for table in tables)
run.save_table(annotated, "annotated")
run.save_table(found, "lesions")
if len(scores) < len(rows["test"]):
    print(f"{len(rows['test']) - len(scores)} of {len(rows['test'])} scans have no annotation: their lesions are \"predicted\", "
          "and no metric counts them")  # fmt: skip
found.groupby("kind")[["volume_mm3", "mean_probability"]].describe(percentiles=[0.5]).round(2)

# %% [markdown]
# **Table.** Where instances are not the usual ones: what each choice makes of the counts, one at a time and together. Components undercount lesions that flow together, more with more
# neighbours; merging counts pieces of one as one.

# %%
usual = dict(zip(instances, label_instances.__defaults__, strict=False))
if instances != usual:
    definitions = [usual, *(usual | {name: value} for name, value in instances.items()), instances]
    definitions = pd.DataFrame(definitions).drop_duplicates().to_dict("records")
    probabilities = (load_map(run.map(row["scan"], "desc-pred_probseg")) for row in rows["test"])
    loaded = zip(probabilities, map(load_scan, rows["test"]), strict=True)
    cases = ((values, scan.lesions if scan.annotated else None, scan.affine) for values, scan in loaded)
    counts = run.save_table(count_instances(cases, definitions, threshold, outline), "instances")
    print(counts.to_string(index=False))

# %% [markdown]
# ## Metrics
# Dice and nDSC are means over scans; counts are sums over scans and the lesion-wise rates are those of the sums, as in the paper. The nDSC weighs a false-positive
# voxel by the lesion load, the annotated share of all voxels: here of those of the brain, outside which nothing counts. With those of the whole volume, as in the paper, it rises with the air around the head.
# Intervals: patients resampled with replacement, 95 %.

# %%
if scores.empty:
    print("metrics and detection by volume need annotation: their tables are empty")
run.save_table(scores, "scans")
table = metrics_table(scores, n_resamples=n_resamples, generator=generator)
run.save_table(table, "metrics").round(3)

# %% [markdown]
# **Figure.** (a) Share of annotated lesions that are detected, by volume, with patient-bootstrap 95 % intervals and the number of lesions of each
# bin; (b) test metrics with patient-bootstrap 95 % intervals; (c) validation scores against the threshold, lesions
# outlined at 0.5 or at the threshold if that is lower (not with given weights).

# %%
resampling = {"n_resamples": n_resamples, "generator": np.random.default_rng(seed)}
detection = run.save_table(detection_by_volume(annotated, volume_edges_mm3, **resampling), "detection")
figure = plot_detection(detection, table, curve, threshold) if len(scores) else needs_annotation()
run.save_figure(figure, "detection")

# %% [markdown]
# **Figure.** Annotation and prediction in the scans with the worst, the median and the best nDSC, at their largest lesion; where no scan is annotated,
# the prediction in those with the least, the median and the most of it.

# %%
order = scores.sort_values("ndsc", ignore_index=True)
order = order.assign(title=[f"nDSC {ndsc:.2f}" for ndsc in order["ndsc"]])
if order.empty:
    load_ml = (
        found.groupby("scan")["volume_mm3"].sum().reindex([row["scan"] for row in rows["test"]], fill_value=0) / 1000
    )
    order = load_ml.sort_values().reset_index()
    order["title"] = [f"{ml:.1f} ml predicted" for ml in order["volume_mm3"]]
chosen = order.iloc[np.unique(np.linspace(0, len(order) - 1, min(shown_scans, len(order))).round().astype(int))]
cases = []
for score in chosen.itertuples():
    row = next(row for row in rows["test"] if row["scan"] == score.scan)
    scan, (predicted, labels) = load_scan(row), load_labels(row, run.map)
    marked = next(mask for mask in (labels, predicted, scan.brain) if mask.any())
    centre = np.argwhere(largest_instance(marked)).mean(0).round().astype(int)
    cases.append(
        {"image": scan.image, "annotation": labels if scan.annotated else None, "prediction": predicted}
        | {"centre": centre, "spacing_mm": scan.spacing_mm, "title": f"{score.scan}\n{score.title}"}
    )
run.save_figure(plot_examples(cases), "examples")
