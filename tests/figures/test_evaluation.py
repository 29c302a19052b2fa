"""Statistical figures: what is drawn is what the tables say, at journal width, with units."""

import numpy as np
import pandas as pd
import pytest
from drawn import assert_fits_the_double_column, lines
from matplotlib.colors import to_hex

from lib.figures.evaluation import plot_detection, plot_split, plot_training


def cohort():
    scans = pd.DataFrame(
        {
            "scan": ["sub-1", "sub-2_ses-1", "sub-2_ses-2", "sub-3", "sub-4"],
            "subject": ["1", "2", "2", "3", "4"],
            "split": ["train", "train", "train", "validation", "test"],
            "lesion_volume_ml": [0.0, 1.5, 2.0, 12.0, 4.0],
        }
    )
    split = ["train"] * 3 + ["validation", "test", "test"]
    lesions = pd.DataFrame({"split": split, "volume_mm3": [3.0, 20.0, 400.0, 60.0, 8.0, 9.0]})
    frequency = np.zeros((10, 12, 8), int)
    frequency[3, 4, 5], frequency[3, 4, 2] = 3, 2
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -10, -12, -8
    return scans, lesions, frequency, affine, np.ones(frequency.shape, bool)


def training():
    loss = pd.DataFrame({"step": range(1, 201), "loss": 1 / np.arange(1, 201), "learning_rate": 1e-3})
    return loss, pd.DataFrame(
        {"step": [50, 100, 150], "ndsc": [0.3, 0.6, 0.5], "dice": [0.2, 0.4, 0.5], "f1": [0.1, 0.3, 0.4]}
    )


def detection():
    columns = ["volume_low_mm3", "volume_high_mm3", "annotated", "detected", "fraction", "low", "high"]
    bins = pd.DataFrame([(4, 9, 10, 4, 0.4, 0.2, 0.7), (9, 100, 5, 5, 1.0, 0.6, 1.0)], columns=columns)
    metrics = pd.DataFrame(
        [("Dice", 0.6, 0.5, 0.7), ("FDR", 0.3, 0.2, 0.4), ("TP", 30, 20, 40)],
        columns=["metric", "value", "low", "high"],
    )
    curve = pd.DataFrame(
        {"threshold": [0.1, 0.3, 0.5], "outline": [0.1, 0.3, 0.5], "ndsc": [0.5, 0.7, 0.6], "dice": [0.4, 0.5, 0.6]}
        | {"f1": [0.3, 0.4, 0.4]}
    )
    return bins, metrics, curve, 0.3


FIGURES = {
    "cohort": lambda: plot_split(*cohort()),
    "training": lambda: plot_training(*training(), 4),
    "detection": lambda: plot_detection(*detection()),
}


@pytest.fixture(scope="module")
def figures():
    return {name: draw() for name, draw in FIGURES.items()}


def shown(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("name", FIGURES)
def test_fits_the_double_column_with_legible_type(figures, name):
    assert_fits_the_double_column(figures[name])


@pytest.mark.parametrize(
    ("name", "units"),
    [
        (
            "cohort",
            {"lesion load (ml)", "lesion volume (mm³)", "x (mm), left to right", "z (mm), inferior to superior"},
        ),
        ("detection", {"annotated lesion volume (mm³)", "detected lesions (fraction)"}),
    ],
)
def test_axes_carry_units(figures, name, units):
    labels = {label for ax in figures[name].axes for label in (ax.get_xlabel(), ax.get_ylabel())}
    assert units <= labels


def test_cohort_shows_every_scan_and_counts_patients_once(figures):
    load = figures["cohort"].axes[0]
    assert load.get_xticklabels()[0].get_text() == "train\n3 scans\n2 patients"
    dots, medians = load.collections
    assert np.sort(dots.get_offsets()[:, 1]).tolist() == [0.0, 1.5, 2.0, 4.0, 12.0]
    assert [line[0, 1] for line in medians.get_segments()] == [1.5, 12.0, 4.0]


def test_cohort_size_histogram_is_a_percentage_of_each_split(figures):
    size = figures["cohort"].axes[1]
    tops, legend = {to_hex(line.get_color()): line.get_ydata().max() for line in size.get_lines()}, size.get_legend()
    names = zip(legend.get_texts(), legend.legend_handles, strict=True)
    heights = {text.get_text(): tops[to_hex(handle.get_color())] for text, handle in names}
    assert heights == pytest.approx({"train, n = 3": 100 / 3, "validation, n = 1": 100, "test, n = 2": 50})


def test_frequency_maps_are_maxima_placed_in_mm(figures):
    _, _, frequency, *_ = cohort()
    sagittal, coronal, axial = figures["cohort"].axes[2:5]
    for ax, along in ((sagittal, 0), (coronal, 1), (axial, 2)):
        drawn = ax.images[0].get_array()
        assert np.array_equal(drawn.filled(0), frequency.max(axis=along).T)
        assert ax.images[0].get_clim() == (0, 3)
    # voxel (3, 4) lies at x = 3 * 2 - 10, y = 4 * 2 - 12
    left, right, bottom, top = axial.images[0].get_extent()
    assert (left, right, bottom, top) == (-11, 9, -13, 11)
    assert figures["cohort"].axes[-1].get_ylabel().endswith("(scans)")


def test_the_outline_of_a_brain_that_reaches_the_border_is_closed(figures):
    (outline,) = figures["cohort"].axes[4].collections[0].get_paths()
    first, last = outline.vertices[[0, -1]]
    assert first == pytest.approx(last)
    assert outline.vertices.min(0) == pytest.approx([-11, -13])  # the outer edges of its voxels
    assert outline.vertices.max(0) == pytest.approx([9, 11])


def test_training_marks_the_best_dice_and_smooths_by_the_stated_window(figures):
    loss, _ = training()
    left, middle, right = figures["training"].axes
    assert np.array_equal(lines(left)["each step"][:, 1], loss["loss"])
    smooth = lines(left)["mean of 4 steps"][:, 1]
    assert smooth[10] == pytest.approx(loss["loss"][8:12].mean())
    assert middle.get_ylabel() == "score of 4 validation scans"
    assert lines(middle)["best: step 150, Dice 0.50"][:, 0].tolist() == [150, 150]
    assert right.get_lines()[0].get_ydata() == pytest.approx(1.0)  # learning rate in 10⁻³


def test_detection_draws_bins_at_their_geometric_mean_with_their_interval(figures):
    left = figures["detection"].axes[0]
    points, _, (bars,) = left.containers[0]
    assert points.get_xydata() == pytest.approx(np.array([[6, 0.4], [30, 1.0]]))
    assert np.array(bars.get_segments())[:, :, 1] == pytest.approx(np.array([[0.2, 0.7], [0.6, 1.0]]))
    assert shown(left) == ["10", "5"]


def test_detection_joins_bins_that_touch_alone(figures):
    def joined(ax):
        return [line.get_xydata().tolist() for line in ax.lines if line.get_linestyle() != "None"]

    bins, *rest = detection()
    assert joined(figures["detection"].axes[0]) == [[[6, 0.4], [30, 1.0]]]
    assert joined(plot_detection(bins.assign(volume_low_mm3=[4, 25]), *rest).axes[0]) == []


def test_detection_separates_counts_from_rates_and_marks_the_threshold(figures):
    _, middle, right = figures["detection"].axes
    assert [label.get_text() for label in middle.get_yticklabels()] == ["Dice", "FDR"]
    assert middle.get_title() == "TP 30"
    assert lines(right)["chosen: 0.3"][:, 0].tolist() == [0.3, 0.3]
    assert lines(right)["Dice"].tolist() == [[0.1, 0.4], [0.3, 0.5], [0.5, 0.6]]


def test_detection_without_validation_has_no_empty_panel():
    bins, metrics, curve, chosen = detection()
    assert len(plot_detection(bins, metrics, curve[:0], chosen).axes) == 2
    assert "chosen: 0.999994" in lines(plot_detection(bins, metrics, curve, 0.99999386).axes[2])


@pytest.mark.parametrize("edge", [0.0, np.inf])
def test_detection_names_a_bin_edge_that_a_log_axis_cannot_show(edge):
    bins, *rest = detection()
    bins = bins.astype({"volume_low_mm3": float})
    bins.loc[0, "volume_low_mm3"] = edge
    with pytest.raises(ValueError, match=str(edge)):
        plot_detection(bins, *rest)


def test_a_cohort_without_lesions_is_drawn():
    scans, lesions, frequency, *where = cohort()
    fig = plot_split(scans.assign(lesion_volume_ml=0.0), lesions.iloc[:0], 0 * frequency, *where)
    assert "no lesions" in shown(fig.axes[1])[0]


def test_detection_without_annotated_lesions_shows_the_metrics():
    bins, metrics, curve, threshold = detection()
    left, middle, _ = plot_detection(bins.iloc[:0], metrics, curve, threshold).axes
    assert "no lesions" in shown(left)[0]
    assert "0.60" in shown(middle)
