"""Intervals over patients against simulation, literal loops and hand calculation."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from scipy.stats import t as student_t

from lib.statistics.intervals import (
    bootstrap_mean,
    bootstrap_patients,
    draw_patients,
    percentile_interval,
    proportion_interval,
    resampled_means,
)


def mean_x(rows):
    return rows["x"].mean()


def test_interval_covers_the_truth_where_one_that_ignores_patients_does_not(correlated_lesions):
    generator = np.random.default_rng(0)
    covered, naive = [], []
    for _ in range(60):
        table = correlated_lesions(generator)
        value, low, high = bootstrap_patients(table, mean_x, n_resamples=120, generator=generator)
        covered.append(low <= 0 <= high)
        naive.append(abs(value) <= 1.96 * table["x"].std() / np.sqrt(len(table)))
    assert np.mean(naive) < 0.75
    assert np.mean(covered) > 0.86  # nominal 0.95, standard error 0.03


def resampled_statistics(generator, simulations, patients=8, lesions=3, icc=0.5):
    """Resampled means, and Cliff's deltas of two kinds, of patients' lesions whose truth is 0: (2000, simulations) each."""
    own = generator.normal(scale=np.sqrt(icc), size=(simulations, patients, 1, 1))
    values = own + generator.normal(scale=np.sqrt(1 - icc), size=(simulations, patients, 2, lesions))
    a, b = values[:, :, 0], values[:, :, 1]
    pairs = np.sign(a[:, :, None, :, None] - b[:, None, :, None]).mean((-1, -2)).reshape(simulations, -1)
    drawn = draw_patients(patients, 2000, generator) / patients
    of_pairs = (drawn[:, :, None] * drawn[:, None]).reshape(2000, -1)
    return drawn @ values.mean((-1, -2)).T, of_pairs @ pairs.T


def test_with_eight_patients_the_interval_covers_what_plain_percentiles_miss():
    generator, covered, plain = np.random.default_rng(0), [], []
    for _ in range(4):
        for resampled in resampled_statistics(generator, 200):
            for ends, found in ((percentile_interval(resampled, 8), covered),
                                (np.quantile(resampled, [0.025, 0.975], axis=0), plain)):  # fmt: skip
                found.append(np.mean((ends[0] <= 0) & (ends[1] >= 0)))
    assert np.mean(covered[::2]) > 0.92 and np.mean(covered[1::2]) > 0.92  # 800 simulations: standard error 0.008
    assert np.mean(plain) < 0.91


def test_the_percentiles_are_as_far_out_as_students_t():
    """Of a normal distribution with the variance of resampled means of 8, s2 7 / 64, the ends are those of Student."""
    sd = np.sqrt(7 / 64)
    low, high = percentile_interval(norm(0, sd).ppf((np.arange(200_000) + 0.5) / 200_000), 8)
    assert [low, high] == pytest.approx(student_t(7, scale=1 / np.sqrt(8)).interval(0.95), rel=2e-3)


def test_ends_beyond_the_range_are_infinite():
    resampled = np.r_[np.zeros(1000), np.full(1000, np.inf)]
    assert percentile_interval(resampled, 8) == (0, np.inf)


def test_resamples_hold_whole_patients_and_count_a_repeated_one_twice():
    table = pd.DataFrame({"subject": list("abbcccc"), "origin": list("abbcccc")})
    drawn = []

    def check(rows):
        patients = rows.groupby("subject")["origin"]
        assert len(patients) == 3
        assert (patients.nunique() == 1).all()
        assert (patients.size() == patients.first().map({"a": 1, "b": 2, "c": 4})).all()
        drawn.append("".join(sorted(patients.first())))
        return len(rows)

    bootstrap_patients(table, check, n_resamples=200, generator=np.random.default_rng(0))
    assert len(set(drawn)) == 10  # all multisets of three out of three


def test_the_interval_of_two_patients_ends_at_them():
    """Means 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4."""
    table = pd.DataFrame({"subject": ["a", "b", "b"], "x": [0.0, 1.0, 1.0]})

    def mean_of_patients(rows):
        return rows.groupby("subject")["x"].mean().mean()

    result = bootstrap_patients(table, mean_of_patients, n_resamples=400, generator=np.random.default_rng(0))
    assert result == (0.5, 0, 1)


def test_same_seed_same_interval_and_arrays_as_scalars(correlated_lesions):
    table = correlated_lesions(np.random.default_rng(1))
    scalar = bootstrap_patients(table, mean_x, n_resamples=50, generator=np.random.default_rng(2))
    array = bootstrap_patients(
        table, lambda rows: [mean_x(rows), -mean_x(rows)], n_resamples=50, generator=np.random.default_rng(2)
    )
    assert [part[0] for part in array] == pytest.approx(scalar)
    assert [part[1] for part in array] == pytest.approx([-scalar[0], -scalar[2], -scalar[1]])


def test_the_table_is_left_as_it_was(correlated_lesions):
    table = correlated_lesions(np.random.default_rng(1))
    before = table.copy()
    bootstrap_patients(table, mean_x, n_resamples=5, generator=np.random.default_rng(2))
    pd.testing.assert_frame_equal(table, before)


def test_resamples_without_a_value_are_left_out():
    table = pd.DataFrame({"subject": list("abc"), "x": [1.0, np.nan, 1.0]})
    assert bootstrap_patients(table, mean_x, n_resamples=200, generator=np.random.default_rng(0)) == (1, 1, 1)


def test_one_patient_has_no_interval():
    value, low, high = bootstrap_patients(
        pd.DataFrame({"subject": ["a", "a"], "x": [1.0, 3.0]}), mean_x, generator=np.random.default_rng(0)
    )
    assert value == 2 and np.isnan(low) and np.isnan(high)


@pytest.mark.parametrize("subjects", [[], ["a", None]])
def test_rows_need_a_patient(subjects):
    table = pd.DataFrame({"subject": subjects, "x": [1.0] * len(subjects)})
    with pytest.raises(ValueError, match="subject"):
        bootstrap_patients(table, mean_x, generator=np.random.default_rng(0))


def test_wilson_interval_of_none_and_of_half():
    z2 = 1.959964**2
    assert proportion_interval(0, 10) == pytest.approx((0, z2 / (10 + z2)))
    half = 0.5 * np.sqrt(z2 / (10 + z2))
    assert proportion_interval(5, 10) == pytest.approx((0.5 - half, 0.5 + half))


def test_wilson_interval_of_arrays_is_nan_where_nothing_was_tried():
    low, high = proportion_interval([0, 5], [0, 10])
    assert low == pytest.approx([np.nan, 0.2366], abs=1e-4, nan_ok=True)
    assert high == pytest.approx([np.nan, 0.7634], abs=1e-4, nan_ok=True)


def test_bootstrap_mean_is_the_patient_bootstrap_of_means():
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"subject": generator.integers(8, size=200), "a": generator.normal(size=200)})
    table["b"] = table["a"] + table["subject"]
    mean, low, high = bootstrap_mean(table, ["a", "b"], n_resamples=20000, generator=np.random.default_rng(1))
    slow = bootstrap_patients(
        table, lambda rows: rows[["a", "b"]].mean().to_numpy(), n_resamples=2000, generator=np.random.default_rng(2)
    )
    np.testing.assert_allclose(mean, table[["a", "b"]].mean(), rtol=1e-12)
    spread = slow[2] - slow[1]
    assert (np.abs(low - slow[1]) < 0.1 * spread).all()
    assert (np.abs(high - slow[2]) < 0.1 * spread).all()


def test_bootstrap_mean_of_a_column_is_as_wide_as_the_patients_that_have_a_number_allow():
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"subject": np.arange(40) % 8, "a": generator.normal(size=40)})
    for name, patients in (("b", 4), ("c", 1), ("d", 0)):
        table[name] = table["a"].where(table["subject"] < patients)
    columns = ["a", "b", "c", "d"]
    _, low, high = bootstrap_mean(table, columns, n_resamples=500, generator=np.random.default_rng(1))
    _, resampled = resampled_means(table, columns, n_resamples=500, generator=np.random.default_rng(1))
    assert (low[0], high[0]) == percentile_interval(resampled[:, 0], 8)
    assert (low[1], high[1]) == percentile_interval(resampled[:, 1], 4)
    assert np.isnan([low[2:], high[2:]]).all()


def test_resampled_means_are_those_of_drawn_patients():
    """Two patients with means 0 and 1 of one and three lesions: 0, 3/4 or 1, half of the time both."""
    table = pd.DataFrame({"subject": list("abbb"), "x": [0.0, 1.0, 1.0, 1.0], "y": [1.0, np.nan, np.nan, 3.0]})
    mean, resampled = resampled_means(table, ["x", "y"], n_resamples=4000, generator=np.random.default_rng(0))
    assert mean.tolist() == [0.75, 2]
    values, counts = np.unique(resampled, axis=0, return_counts=True)
    assert values.tolist() == [[0, 1], [0.75, 2], [1, 3]]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_a_resample_has_as_many_patients_and_one_patient_alone_tells_nothing():
    drawn = draw_patients(5, 400, np.random.default_rng(0))
    assert drawn.shape == (400, 5) and (drawn.sum(1) == 5).all()
    assert drawn.mean(0) == pytest.approx(np.ones(5), abs=0.15)
    assert np.isnan(draw_patients(1, 3, np.random.default_rng(0))).all()


def test_percentile_interval_leaves_out_what_is_missing():
    resampled = np.array([[np.nan, np.nan], [0.0, np.nan], [1.0, np.nan]])
    low, high = percentile_interval(resampled, 2)
    assert (low[0], high[0]) == (0, 1)
    assert np.isnan([low[1], high[1]]).all()


def test_bootstrap_mean_of_one_patient_has_no_interval():
    table = pd.DataFrame({"subject": ["a", "a"], "x": [1.0, 3.0]})
    mean, low, high = bootstrap_mean(table, ["x"], generator=np.random.default_rng(0))
    assert mean.tolist() == [2.0]
    assert np.isnan([low, high]).all()


def test_bootstrap_mean_of_no_rows_is_nan():
    table = pd.DataFrame({"subject": ["a"], "x": [1.0]})[:0]
    assert np.isnan(bootstrap_mean(table, ["x"], generator=np.random.default_rng(0))).all()
