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
# # 0 · The cohort
#
# Makes the embedded synthetic cohort, once, and describes it: its scans, the size, number and place of its lesions, their
# contrast, and the noise, each beside reference numbers of real scans. Scans of one's own (`data`) are described in the same way.
#
# **Reads** `data`, a BIDS folder or a scans table, if it is given; the reference numbers in `data/reference/`; and real scans to
# show beside the cohort, if there are any (`real`).
# **Writes** the synthetic cohort in BIDS layout for the notebooks that follow, tables of the measures, and three figures.

# %%
import numpy as np
import pandas as pd

from lib.cohort import load_reference, make_cohort, measure_cohort, nearest_positions, reference_distances
from lib.figures import needs_annotation, plot_cohort_contrasts, plot_cohort_distributions, plot_cohort_slices
from lib.run import Run
from lib.scans import check_scans, find_scans, load_scan

# %% tags=["parameters"]
build = "build/demo"  # intermediate files of this run
figures = "figures/demo"  # tables and figures of this run
data = ""  # BIDS folder or scans table (TSV); empty: the synthetic cohort
choose = ""  # of several files that fit in a BIDS folder, as in notebook 1
seed = 0
subjects = 28  # synthetic cohort: patients
two_sessions = 4  # synthetic cohort: patients with two sessions
spacing_mm = 1.0  # synthetic cohort: voxel size
real = ""  # BIDS folder or scans table (TSV) of real scans to show beside; empty: none
described_scans = 8  # whose images are measured; lesion masks are measured in all
shown_scans = 6  # in the figure of slices
levels_mm = [-32.0, 2.0, 20.0, 38.0]  # z of the slices: pons, basal ganglia, ventricles, centrum semiovale

# %%
run = Run("00_cohort", globals())

# %% [markdown]
# ## The scans
# The synthetic cohort is written to disk in BIDS layout and is read from there exactly as any other data is. Other scans are checked
# before anything is measured. All that is measured needs an annotation: scans without are left out.

# %%
if data:
    source = data
else:
    source = run.cohort
    make_cohort(source, n_subjects=subjects, n_two_sessions=two_sessions, seed=seed, spacing_mm=spacing_mm)
tables = {"this cohort": find_scans(source, choose)} | ({"real scans": find_scans(real)} if real else {})
for given in [name for name, path in zip(tables, (data, real), strict=False) if path]:
    check_scans(tables[given])
tables = {name: table[table["lesions"] != ""].reset_index(drop=True) for name, table in tables.items()}
if not all(map(len, tables.values())):
    print("no scan has an annotation: tables are empty, figures say so")
    tables = {}
pd.Series({name: len(table) for name, table in tables.items()}, name="scans", dtype=int)

# %% [markdown]
# ## Measures
# The same for every group: size, place and number of the lesions from the masks of all scans; their contrast against the white matter
# within 5 mm, how much brighter FLAIR shows them than the brain around (`local_contrast`, in SD of the brain; the cohort annotates lesions of
# 0.3 or more), FLAIR across their border, and the noise in white matter from the images of some. Places are those of the ICBM-152
# template: they mean something for scans in MNI space alone.

# %%
n_imaged = {"this cohort": described_scans, "real scans": None}
groups = {name: measure_cohort(table, n_imaged[name]) for name, table in tables.items()}
nothing = [pd.DataFrame(columns=["scan", "group"])]
measured, lesions = (
    pd.concat([group[part].assign(group=name) for name, group in groups.items()] or nothing, ignore_index=True)
    for part in (0, 1)
)
run.save_table(lesions, "lesions")
run.save_table(measured, "scans").drop(columns="scan").groupby("group").median().T.round(3)

# %% [markdown]
# ## Distance from real scans
# Kolmogorov-Smirnov statistic between the cohort and the reference, 0 if they are alike and 1 if they do not overlap; for lesion volume
# also the Wasserstein distance of its natural logarithm. The reference is a small sample itself: 30 patients, three of them with images.

# %%
kept = load_reference()
distances = {name: reference_distances(*group, kept[0]) for name, group in groups.items()}
compared = pd.concat([table.assign(group=name) for name, table in distances.items()] or nothing)
run.save_table(compared, "distances").round(2)

# %% [markdown]
# **Figure.** Axial slices at the same world z, two scans side by side, FLAIR above and MPRAGE with the outlines of the annotated
# lesions below. With `real`, real scans are on the right, each beside the scan of the cohort that is nearest to it in lesion load;
# else scans of the cohort, spread over its range of load. Grey from percentile 0.5 to 99.8 of each scan's brain.

# %%
chosen, loads = [], {name: group[0]["load_ml"] for name, group in groups.items()}
if loads:
    last = loads["real scans" if real else "this cohort"]
    n = min(max(shown_scans // len(loads), 1), *map(len, loads.values()))
    wanted = last.iloc[nearest_positions(last, last.quantile(np.linspace(0.1, 0.9, n)))]
    chosen = [tables[name].iloc[nearest_positions(load, wanted)].assign(turn=range(n)) for name, load in loads.items()]
    chosen = pd.concat(chosen).sort_values("turn", kind="stable").to_dict("records")
cases = [
    {"image": scan.image, "lesions": scan.lesions, "affine": scan.affine, "title": scan.id}
    for scan in (load_scan(row, normalised=False) for row in chosen)
]
run.save_figure(plot_cohort_slices(cases, levels_mm) if cases else needs_annotation(), "slices")

# %% [markdown]
# **Figure.** (a) Volume of each lesion, (b, c) load and number of lesions of each scan, (d) distance of each lesion's nearest voxel
# from the template's lateral ventricles, all cumulative (black: quantiles 1 to 99 % of the reference); share of (e) the number and (f)
# the volume of a scan's lesions at each place, median and quartiles over scans. Lesions of 3 mm³ or more; the load counts all. Over each
# panel the distance of the cohort from the reference, n of the cohort, and in brackets n of the reference.

# %%
figure = plot_cohort_distributions(groups, kept[0], distances["this cohort"]) if groups else needs_annotation()
run.save_figure(figure, "distributions")

# %% [markdown]
# **Figure.** (a) FLAIR and, dashed, MPRAGE against the signed distance from the lesion border, negative inside: thin, mean over the lesions of one scan;
# thick, over all lesions; black, reference scans. (b, c) Mean of each lesion over the white matter within 5 mm, cumulative; dotted,
# single reference scans. (d) Both together, a point a lesion; ellipses are two SD of each reference scan. (e) Darkening in MPRAGE for
# the brightening in FLAIR, the correlation of the two contrasts, and the share of lesion among voxels within 5 mm of one that FLAIR shows 1.3 times
# as bright as white matter, a point a scan. (f) Noise in white matter; thick slices make it
# small along z. Numbers over the panels as above; three reference scans are too few for a distance in a, d, e and f.

# %%
figure = plot_cohort_contrasts(groups, kept, distances["this cohort"]) if groups else needs_annotation()
run.save_figure(figure, "contrasts")
