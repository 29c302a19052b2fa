"""The numbers of a sweep's figure against the statistics they stand for, and what the figure shows of them."""

import numpy as np
import pandas as pd
import pytest
from drawn import assert_fits_the_double_column

from lib.figures.sweep import plot_side_by_side, plot_sweep, sweep_numbers
from lib.statistics.comparisons import bootstrap_cliffs_delta
from lib.statistics.intervals import bootstrap_mean

PLOT = {"x": "noise", "x_label": "noise (fraction)", "y": "peak", "y_label": "peak (logit per z-score)"}
COMPARED = PLOT | {"compare": {"column": "kind", "pairs": [["TP", "FP"], ["FP", "FN"]]}, "panel": "method"}


@pytest.fixture
def table():
    draw = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [[0.1, 0.2, 0.4], ["max", "mean"], ["TP", "FP", "FN"], range(4), range(3)],
        names=["noise", "method", "kind", "subject", "lesion"],
    )
    rows = index.to_frame(index=False)
    return rows.assign(peak=draw.normal(size=len(rows)) + (rows["kind"] == "TP"))


def test_rows_of_patients_are_averaged_with_intervals_over_patients(table):
    found = sweep_numbers(table, PLOT | {"panel": "method", "hue": "kind"}).set_index(["method", "noise", "kind"])
    assert len(found) == 2 * 3 * 3
    here = table.query("method == 'mean' and noise == 0.2 and kind == 'FN'")
    wanted = bootstrap_mean(here, ["peak"], generator=np.random.default_rng(0))
    row = found.loc[("mean", 0.2, "FN")]
    np.testing.assert_allclose(row[["value", "low", "high"]].astype(float), np.ravel(wanted))
    assert (row["lesions"], row["patients"]) == (12, 4)


def test_kinds_are_compared_by_cliffs_delta(table):
    table.loc[(table["noise"] == 0.2).idxmax(), "peak"] = np.nan
    found = sweep_numbers(table, COMPARED).set_index(["method", "noise", "compared"])
    here = table.query("method == 'max' and noise == 0.2 and kind in ['TP', 'FP']").dropna()
    options = {"n_resamples": 2000, "generator": np.random.default_rng(0)}
    row = found.loc[("max", 0.2, "TP over FP")]
    assert tuple(row[["value", "low", "high"]]) == bootstrap_cliffs_delta(here, "peak", "kind", "TP", "FP", **options)
    assert (row["lesions"], row["patients"]) == (23, 4)


def test_rows_without_patients_keep_their_own_interval():
    table = pd.DataFrame(
        {"noise": [0.0, 0.1], "peak": [1.0, 2.0], "low": [0.5, 1.5], "high": [2.0, 3.0], "patients": 8}
    )
    found = sweep_numbers(table, PLOT)
    pd.testing.assert_frame_equal(found[["low", "high", "patients"]], table[["low", "high", "patients"]])
    assert found["value"].tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="2 rows of peak at one place"):
        sweep_numbers(table.assign(noise=0.0), PLOT)
    with pytest.raises(ValueError, match="no column kind in the table"):
        sweep_numbers(table, PLOT | {"hue": "kind"})


def test_numbers_are_drawn_along_an_axis_and_texts_below_another(table):
    found = sweep_numbers(table, COMPARED)
    along = plot_sweep(found, COMPARED | {"x_scale": "log"})
    assert [ax.get_title() for ax in along.axes] == [
        "max\nn = 24 lesions, 4 patients",
        "mean\nn = 24 lesions, 4 patients",
    ]
    assert along.axes[0].get_xscale() == "log"
    line, band = along.axes[0].lines[0], along.axes[0].patches[0]
    assert line.get_xdata().tolist() == [0.1, 0.2, 0.4]
    here = found.query("method == 'max' and compared == 'TP over FP'")
    np.testing.assert_allclose(line.get_ydata(), here["value"])
    corners = band.get_xy()
    for x, low, high in here[["noise", "low", "high"]].itertuples(index=False):
        assert {low, high} <= set(corners[corners[:, 0] == x, 1])

    below = plot_sweep(found.assign(noise=found["noise"].map("noise {}".format)), COMPARED)
    assert [label.get_text() for label in below.axes[0].get_yticklabels()] == ["noise 0.1", "noise 0.2", "noise 0.4"]
    assert below.axes[0].yaxis_inverted()
    bars, points = below.axes[0].collections
    np.testing.assert_allclose(points.get_offsets()[::2, 0], here["value"])  # of two pairs by turns
    np.testing.assert_allclose([segment[:, 0] for segment in bars.get_segments()[:3]], here[["low", "high"]])


@pytest.mark.parametrize("points", [[0.0, 0.1], ["none", "some"]])
def test_values_without_an_interval_are_drawn(points):
    table = pd.DataFrame({"noise": points, "peak": [1.0, 2.0], "low": [0.5, np.nan], "high": [2.0, np.nan]})
    (ax,) = plot_sweep(sweep_numbers(table, PLOT), PLOT).axes
    drawn = ax.lines[0].get_ydata() if isinstance(points[0], float) else ax.collections[1].get_offsets()[:, 0]
    assert list(drawn) == [1.0, 2.0]


def sides():
    """Tables of two networks: the second has half of the first's saliency and finds half as much."""
    kinds, draw, found = ["TP", "FP", "FN", "TN"], np.random.default_rng(0), {}
    for name, factor in (("unet", 1.0), ("dynunet", 0.5)):
        counts = {"network": name, "lesions": 6, "patients": 3}
        names = {"method": "smoothgrad_max", "sequence": "FLAIR", "subject": "001"}
        steps, shells, interval = np.arange(5), np.arange(-1.5, 9), {"low": 0.1 * factor, "high": 2 * factor}
        inserted = {"surroundings": "deep white matter", "diameter_mm": 5.0, "contrast": steps, "n": 4, **counts}
        curve = {"fill": "mean", "growth": "euclidean", "step": steps, **counts}
        ends = {
            f"{end}_{of}": factor * part for end, part in (("low", 0.2), ("high", 1)) for of in ("fraction", "score")
        }
        parts = {
            "04_saliency": {**names, "kind": kinds * 6, "peak": factor * draw.uniform(1, 3, 24), **counts},
            "04_kinds": {
                "measure": "absolute peak, FLAIR - MPRAGE",
                "kind": kinds,
                "value": factor,
                **interval,
                **counts,
            },
            "04_profile": {
                **names,
                "kind": "TP",
                "distance_mm": shells,
                "mean": factor * np.exp(-shells),
                **interval,
                **counts,
            },
            "06_curve": {**curve, "fraction": factor * steps / 4, "score": factor * steps / 5, **ends},
        }
        of_sequence = [
            {"sequences": one, "detected": factor * steps / n, **inserted} for one, n in (("FLAIR", 4), ("MPRAGE", 8))
        ]
        parts["05_response"] = pd.concat(
            [pd.DataFrame(one).assign(low_detected=0.0, high_detected=1.0) for one in of_sequence]
        )
        for table, rows in parts.items():
            found.setdefault(table, []).append(pd.DataFrame(rows))
    return {table: pd.concat(rows) for table, rows in found.items()}


def test_networks_stand_side_by_side_in_what_claims_rest_on():
    tables = sides()
    fig = plot_side_by_side(tables, "network")
    assert_fits_the_double_column(fig)
    peaks, _, profile, inserted, fraction, score = fig.axes[:6]
    drawn = np.concatenate([line.get_ydata() for line in peaks.lines if len(line.get_ydata()) == 6])
    assert sorted(drawn) == sorted(tables["04_saliency"]["peak"])
    for ax, per_network in ((profile, 1), (inserted, 2), (fraction, 1), (score, 1)):
        curves = [line for line in ax.lines if len(line.get_xdata()) > 2]
        assert len(curves) == 2 * per_network
        for first, second in zip(curves[::2], curves[1::2], strict=True):
            assert first.get_color() != second.get_color()
            low, high = sorted([first.get_ydata(), second.get_ydata()], key=np.sum)
            np.testing.assert_allclose(2 * low, high)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["unet", "dynunet"]
