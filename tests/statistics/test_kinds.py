"""Comparison of kinds in all measures, raw and scaled."""

import numpy as np
import pandas as pd
import pytest

from lib.statistics.comparisons import clustered_tests, pairwise_tests
from lib.statistics.kinds import MEASURES, NAMES, compare_kinds, kinds_of, mean_by_kind, order_kinds, scale_scans

LEVEL = {"TP": 4.0, "FP": 3.0, "FN": 2.0}


def saliency(gain, counts, noise=0.0):
    """Rows of 04_saliency: peaks that are the level of their kind times the gain of their scan."""
    generator, rows = np.random.default_rng(0), []
    for scan, of_kind in counts.items():
        for kind, n in of_kind.items():
            for label in range(n):
                for method, sequence, sign in (
                    ("smoothgrad_max", "FLAIR", 1),
                    ("smoothgrad_max", "MPRAGE", -0.5),
                    ("grad_cam", "both", 1),
                ):
                    value = sign * gain[scan] * LEVEL[kind] * (1 + noise * generator.normal())
                    rows.append((scan, scan, label, kind, method, sequence, *[value] * len(MEASURES), 1.0))
    columns = ["subject", "scan", "label", "kind", "method", "sequence", *MEASURES, "log_volume"]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (["TP"], ["TP", "FP", "FN", "TN", "TN grey"]),
        ([], ["TP", "FP", "FN", "TN", "TN grey"]),
        (["predicted", "TN"], ["predicted", "TN", "TN grey"]),
        (["FN", "predicted"], ["predicted", "TP", "FP", "FN", "TN", "TN grey"]),
    ],
)
def test_kinds_without_annotation_are_predicted_and_healthy_ones(present, expected):
    assert list(kinds_of(pd.DataFrame({"kind": present}))) == expected


GAIN = {"one": 1.0, "two": 3.0, "three": 0.2}
UNLIKE = {"one": {"TP": 5, "FP": 1}, "two": {"FN": 4, "FP": 3}, "three": {"TP": 2, "FN": 6}}


def test_means_by_kind_are_those_of_the_lesions_and_of_their_two_sequences():
    table = saliency(GAIN, UNLIKE, noise=0.1)
    found = mean_by_kind(table, ["TP", "FN", "TN"], n_resamples=50, generator=np.random.default_rng(0))
    value = found.set_index(["kind", "measure"])["value"]
    for kind in ("TP", "FN"):
        rows = table[(table["method"] == "smoothgrad_max") & (table["kind"] == kind)]
        flair, mprage = (rows.loc[rows["sequence"] == name, "peak"].abs().to_numpy() for name in ("FLAIR", "MPRAGE"))
        assert value[kind, "absolute peak, FLAIR - MPRAGE"] == pytest.approx((flair - mprage).mean())
        assert value[kind, "mean_inside"] == pytest.approx(rows.loc[rows["sequence"] == "FLAIR", "mean_inside"].mean())
    assert set(found["kind"]) == {"TP", "FN"}
    counts = found.drop_duplicates("kind")[["lesions", "patients"]]
    assert counts.to_numpy().tolist() == [[7, 2], [10, 2]]
    none = mean_by_kind(table.iloc[:0], ["TP"], generator=np.random.default_rng(0))
    assert none.empty and list(none) == list(found)


def test_scaling_takes_the_gain_of_a_scan_away_whatever_kinds_it_has():
    scaled = scale_scans(saliency(GAIN, dict.fromkeys(GAIN, {"TP": 2, "FP": 3, "FN": 4})))
    for _, rows in scaled.groupby(["method", "sequence", "kind"]):
        assert np.ptp(rows["peak"]) < 1e-12
    flair = scaled[scaled["sequence"] == "FLAIR"].groupby("kind")["peak"].first()
    assert (flair / flair["TP"]).to_dict() == pytest.approx({"TP": 1, "FP": 0.75, "FN": 0.5})
    alike = dict.fromkeys(GAIN, 1.0)
    raw = saliency(alike, UNLIKE)
    pd.testing.assert_frame_equal(scale_scans(raw)[list(raw)], raw)  # unlike kinds are not taken for unlike scans


def test_both_sequences_of_a_scan_have_one_scale_and_every_measure_is_divided():
    raw = saliency(GAIN, UNLIKE, noise=0.1)
    scaled = scale_scans(raw)
    by_scan = scaled[scaled["method"] == "smoothgrad_max"].groupby("scan")["scale"]
    assert (by_scan.nunique() == 1).all()
    for measure in MEASURES:
        np.testing.assert_allclose(scaled[measure] * scaled["scale"], raw[measure])


def test_the_scale_is_the_median_relative_to_each_kind_by_hand():
    table = saliency({"one": 1.0, "two": 2.0}, {"one": {"TP": 1, "FN": 1}, "two": {"TP": 1, "FN": 1}})
    table = table[table["method"] == "smoothgrad_max"]
    scale = scale_scans(table).groupby("scan")["scale"].first()
    assert scale.to_dict() == pytest.approx({"one": 4 / 6, "two": 8 / 6})  # the median TP is 6, the median FN 3


def test_a_scan_without_saliency_has_no_scaled_values():
    scaled = scale_scans(saliency(GAIN | {"two": 0.0}, UNLIKE))
    assert scaled.loc[scaled["scan"] == "two", "peak"].isna().all()
    assert scaled.loc[scaled["scan"] != "two", "peak"].notna().all()


OPTIONS = {"covariates": (), "n_resamples": 50}


def test_tables_hold_the_tests_of_every_measure():
    table = saliency(GAIN, UNLIKE, noise=0.3)
    tests, clustered = compare_kinds(table, list(LEVEL), **OPTIONS, generator=np.random.default_rng(0))
    groups = {("smoothgrad_max", s, m) for s in ("FLAIR", "MPRAGE") for m in MEASURES} | {("grad_cam", "both", "peak")}
    for found in (tests, clustered):
        assert set(found.groupby(NAMES[:-1]).groups) == groups
        assert (found.groupby(NAMES).size() == 3).all()
        assert set(found["scaling"]) == {"raw", "scaled"}
    rows = scale_scans(table).query("method == 'smoothgrad_max' and sequence == 'MPRAGE'")
    expected = pairwise_tests(rows, "contrast", "kind", list(LEVEL))
    of = "sequence == 'MPRAGE' and measure == 'contrast' and scaling == 'scaled'"
    pd.testing.assert_frame_equal(tests.query(of)[list(expected)].reset_index(drop=True), expected)
    expected = clustered_tests(rows, "contrast", "kind", list(LEVEL), n_resamples=1, generator=np.random.default_rng(0))
    columns = ["a", "b", "delta", "difference", "p"]
    pd.testing.assert_frame_equal(clustered.query(of)[columns].reset_index(drop=True), expected[columns])


def test_an_order_that_the_gain_of_scans_hides_appears_after_scaling():
    patients = [f"{i}" for i in range(8)]
    gain = dict(zip(patients, np.geomspace(0.1, 10, 8), strict=True))
    table = saliency(gain, dict.fromkeys(patients, {"TP": 3, "FN": 3}), noise=0.05)
    _, clustered = compare_kinds(table, ["TP", "FN"], **OPTIONS, generator=np.random.default_rng(0))
    found = order_kinds(clustered).set_index(["sequence", "measure"]).loc[[("FLAIR", "peak"), ("MPRAGE", "peak")]]
    assert found["scaled"].tolist() == [">", "<"]
    same = saliency(dict.fromkeys(patients, 1.0), dict.fromkeys(patients, {"TP": 3, "FN": 3}), noise=0.05)
    _, clustered = compare_kinds(same, ["TP", "FN"], **OPTIONS, generator=np.random.default_rng(0))
    assert not order_kinds(clustered)["depends"].any()


@pytest.mark.parametrize(
    ("low", "high", "order"), [(0.1, 0.5, ">"), (-0.5, -0.1, "<"), (-0.1, 0.3, "open"), (np.nan, np.nan, "open")]
)
def test_order_of_an_interval(low, high, order):
    facts = {
        "method": "m",
        "sequence": "s",
        "measure": "peak",
        "a": "TP",
        "b": "FN",
        "delta_low": low,
        "delta_high": high,
    }
    rows = pd.DataFrame([facts | {"scaling": "raw"}, facts | {"scaling": "scaled", "delta_low": 0.1, "delta_high": 1}])
    (found,) = order_kinds(rows).to_dict("records")
    assert (found["raw"], found["scaled"], found["depends"]) == (order, ">", order != ">")


@pytest.mark.parametrize("dtype", [float, object])
def test_without_lesions_the_tables_are_empty_and_have_their_columns(dtype):
    full = saliency(GAIN, UNLIKE)
    expected = compare_kinds(full, list(LEVEL), **OPTIONS, generator=np.random.default_rng(0))
    nothing = pd.DataFrame(columns=full.columns, dtype=dtype)
    found = compare_kinds(nothing, list(LEVEL), **OPTIONS, generator=np.random.default_rng(0))
    for table, other in zip(found, expected, strict=True):
        assert table.empty
        assert list(table) == list(other)
    assert list(order_kinds(found[1])) == list(order_kinds(expected[1]))
