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
# # 1 · Data and split
#
# Finds the scans, checks every one of them, and splits them **by patient** into training, validation and test.
#
# **Reads** a BIDS folder or a scans table (`data`); without one, the embedded synthetic cohort that notebook 0 made.
# **Writes** the list of scans with their split for the notebooks that follow, and tables and a figure of the cohort.

# %%
import numpy as np
import pandas as pd

from lib.cohort import frequency_map, instance_volumes
from lib.figures import needs_annotation, plot_split
from lib.run import Run
from lib.scans import SPLITS, check_scans, find_scans, load_masks, split_patients, with_digests

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
data = ""  # BIDS folder or scans table (TSV); empty: the synthetic cohort
choose = (
    ""  # of several files that fit in a BIDS folder: parts of paths, such as "acq-3D,derivatives/lesions,desc-rater1"
)
weights = ""  # weights trained before: every scan is a test scan then
fractions = [0.55, 0.15, 0.3]  # share of patients for training, validation, test
seed = 0

# %%
run = Run("01_data_split", globals())
generator = np.random.default_rng(seed)

# %% [markdown]
# ## The scans
# Found in the BIDS folder or listed in the table, one row a scan. A scan need not be annotated to be explained: what is predicted in it is
# then neither TP nor FP. For training, and the validation and test of what was trained, scans without annotation are left out.

# %%
table = find_scans(data or run.cohort, choose)
bare = table["lesions"] == ""
if bare.any():
    print(
        f"{bare.sum()} of {len(table)} scans without annotation"
        + ("" if weights else f", left out: {', '.join(table.loc[bare, 'scan'])}")
    )
if bare.all() and not weights:
    raise ValueError(
        f"{data}: no scan has an annotation, and training needs them: list masks as lesions, or leave TRAIN out"
    )
table = table[~bare | bool(weights)].reset_index(drop=True)
table[["scan", "subject", "session"]].head()

# %% [markdown]
# Every file is read and checked before anything is computed. Errors stop here, all together; warnings do not. What the notebooks that
# follow keep is kept by the contents of the files as they are now.

# %%
facts, warnings = check_scans(table)
table = with_digests(table)
print("\n".join(warnings) or "no warnings")

# %% [markdown]
# ## The split
# All sessions of one patient stay together. Patients are dealt to the splits in the order of their lesion load, so that each
# split spans the whole range of it.

# %%
shares = [0.0, 0.0, 1.0] if weights else fractions
load_ml = facts.groupby("subject")["lesion_volume_ml"].mean()
split = split_patients(load_ml, shares, generator)
facts.insert(3, "split", facts["subject"].map(split))
run.save_scans(table.assign(split=facts["split"]))
run.save_table(facts, "scans").head()

# %%
summary = facts.groupby("split").agg(
    patients=("subject", "nunique"),
    scans=("scan", "size"),
    lesions=("lesions", "sum"),
    lesion_volume_ml=("lesion_volume_ml", "sum"),
    median_load_ml=("lesion_volume_ml", "median"),
)
summary = summary.reindex([name for name in SPLITS if name in summary.index])
if table["lesions"].eq("").all():
    summary[["lesions", "lesion_volume_ml"]] = np.nan
    print("lesions, their volume and the load need annotation: none of these scans has a lesion mask")
run.save_table(summary.reset_index(), "split")

# %% [markdown]
# ## The lesions
# One row a lesion instance (18-connected component of the annotation).

# %%
marked = table[table["lesions"] != ""]
volumes = [instance_volumes(np.zeros((1, 1, 1)), np.eye(4)).assign(scan="")]  # none, where no scan is annotated
for row in marked.to_dict("records"):
    annotated, _, affine = load_masks(row)
    volumes.append(instance_volumes(annotated, affine).assign(scan=row["scan"]))
lesions = pd.concat(volumes, ignore_index=True).merge(facts[["scan", "subject", "split"]], on="scan")
lesions = run.save_table(lesions[["scan", "subject", "split", "label", "volume_mm3"]], "lesions")
lesions.groupby("split")["volume_mm3"].describe(percentiles=[0.1, 0.25, 0.5, 0.75, 0.9]).round(1)

# %% [markdown]
# **Figure.** Lesion load of each scan and volume of each lesion, by split; number of scans with a lesion at each place, in
# the scans' own world coordinates (a common space only where the scans were registered to one; the synthetic cohort is).

# %%
grid_mm = max(2.0, facts["voxel_mm"].max())
figure = needs_annotation()
if len(marked):
    frequency, brain, affine = frequency_map(map(load_masks, marked.to_dict("records")), grid_mm, marked["scan"])
    figure = plot_split(facts[table["lesions"] != ""], lesions, frequency, affine, brain)
run.save_figure(figure, "cohort")
