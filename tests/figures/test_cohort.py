"""Figures of a cohort: they draw what was measured, the slices that were asked for, and cohorts without lesions."""

import numpy as np
import pandas as pd
import pytest

from lib.cohort.description import DISTANCES_MM, PLACES, PROFILE
from lib.cohort.reference import OF_SCANS, reference_distances, reference_tables
from lib.figures.cohort import plot_cohort_contrasts, plot_cohort_distributions, plot_cohort_slices


def group(rng, n=40, shift=0.0):
    scans = pd.DataFrame({"scan": ["a", "b"], "lesions": [n // 2, n // 2]})
    for name in OF_SCANS:
        scans[name] = rng.uniform(0.1, 0.5, 2)
    summary = ("flair_mean", "flair_sd", "t1w_mean", "t1w_sd", "contrast_r", "t1w_to_flair", "bright_lesion")
    noise = ("flair_noise_xy", "flair_noise_z", "t1w_noise_xy", "t1w_noise_z")
    scans[[*summary, *noise]] = [[1.3, 0.1, 0.9, 0.05, -0.5, 0.4, 0.7, 0.04, 0.03, 0.02, 0.01], [np.nan] * 11]
    lesions = pd.DataFrame({"scan": ["a"] * (n // 2) + ["b"] * (n // 2), "volume_mm3": rng.uniform(3, 90, n)})
    lesions = lesions.assign(ventricle_mm=rng.uniform(0, 40, n), flair=1.2 + shift, t1w=0.9, local_contrast=1.0)
    lesions[PROFILE["flair"]] = np.linspace(1.4, 1.0, len(DISTANCES_MM)) + shift
    lesions[PROFILE["t1w"]] = np.linspace(0.7, 0.9, len(DISTANCES_MM)) + shift
    lesions.loc[lesions["scan"] == "b", ["flair", "t1w", "local_contrast", *PROFILE["flair"], *PROFILE["t1w"]]] = np.nan
    return scans, lesions


@pytest.fixture(scope="module")
def kept():
    return reference_tables(*group(np.random.default_rng(0)))


def test_each_panel_states_distance_and_number(kept):
    groups = {"this cohort": group(np.random.default_rng(1)), "real scans": group(np.random.default_rng(2))}
    distances = reference_distances(*groups["this cohort"], kept[0])
    fig = plot_cohort_distributions(groups, kept[0], distances)
    found = distances.set_index("measure")
    assert fig.axes[0].get_title() == f"KS {found.ks['volume_mm3']:.2f}, n = 40 (40)"
    assert fig.axes[1].get_title() == f"KS {found.ks['load_ml']:.2f}, n = 2 (2)"
    drawn = [line.get_xdata() for line in fig.axes[0].lines]
    volumes = groups["this cohort"][1]["volume_mm3"]
    assert any(np.array_equal(np.sort(volumes), x[1:]) for x in drawn)
    assert [text.get_text() for text in fig.legends[0].get_texts()][-1] == "reference (n in brackets)"
    stated = [label.get_text().split("\n")[1] for label in fig.axes[4].get_xticklabels()]
    assert stated == [f"KS {found.ks[f'count_{place}']:.2f}" for place in PLACES]


def test_the_edge_profile_is_the_mean_over_lesions(kept):
    groups = {"this cohort": group(np.random.default_rng(1), shift=0.1)}
    fig = plot_cohort_contrasts(groups, kept, reference_distances(*groups["this cohort"], kept[0]))
    assert fig.axes[0].get_title() == "n = 1 (1) scans"
    lines = [line.get_ydata() for line in fig.axes[0].lines]
    for expected in (np.linspace(1.4, 1.0, 8), np.linspace(0.7, 0.9, 8)):  # FLAIR, MPRAGE
        assert sum(len(y) == 8 and np.allclose(y, expected + 0.1) for y in lines) == 2  # of the scan, and of all
        assert sum(len(y) == 8 and np.allclose(y, expected) for y in lines) == 1
    assert len(fig.axes[3].patches) == 1  # an ellipse for the reference scan


def test_a_cohort_without_lesions_is_drawn(kept):
    scans, lesions = group(np.random.default_rng(1))
    groups = {"this cohort": (scans, lesions[:0])}
    distances = reference_distances(*groups["this cohort"], kept[0])
    plot_cohort_distributions(groups, kept[0], distances)
    plot_cohort_contrasts(groups, kept, distances)


def test_slices_are_those_at_the_world_heights():
    image = np.zeros((2, 20, 24, 16))
    image[:, 4:16, 4:20] = np.arange(1, 17)  # each slice has its own grey
    lesions = np.zeros((20, 24, 16), bool)
    lesions[8:11, 8:11, 5] = True
    cases = []
    for spacing in (1.0, 2.0):
        affine = np.diag([spacing, spacing, spacing, 1.0])
        affine[2, 3] = -3
        cases.append({"image": image, "lesions": lesions, "affine": affine, "title": "scan"})
    fig = plot_cohort_slices(cases, [2.0, 7.0])
    shown = [float(ax.images[0].get_array().max()) for ax in fig.axes]
    assert shown == [6, 6, 11, 11, 3, 3, 6, 6]  # index 5 and 10 at 1 mm, 2 and 5 at 2 mm
    outlined = [len(ax.collections) > 0 for ax in fig.axes]
    assert outlined == [False, True, False, False, False, False, False, True]
    assert fig.axes[0].get_title() == "z = 2 mm"
