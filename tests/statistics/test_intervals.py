"""Statistics against simulation, literal loops and hand calculation."""

import numpy as np
import pandas as pd
import pytest

from lib.context.plateau import plateau_radius
from lib.statistics.comparisons import bootstrap_cliffs_delta, cliffs_delta, clustered_tests, pairwise_tests
from lib.statistics.intervals import (
    bootstrap_mean,
    bootstrap_patients,
    percentile_interval,
    proportion_interval,
    resampled_means,
)


def mean_x(rows):
    return rows["x"].mean()


def correlated_lesions(generator, patients=25, lesions=8):
    """Lesions share their patient's effect: intraclass correlation 0.8, true mean 0."""
    subject = np.repeat(np.arange(patients), lesions)
    x = generator.normal(size=patients)[subject] + 0.5 * generator.normal(size=len(subject))
    return pd.DataFrame({"subject": subject, "x": x})


def test_interval_covers_the_truth_where_one_that_ignores_patients_does_not():
    generator = np.random.default_rng(0)
    covered, naive = [], []
    for _ in range(100):
        table = correlated_lesions(generator)
        value, low, high = bootstrap_patients(table, mean_x, n_resamples=80, level=0.9, generator=generator)
        covered.append(low <= 0 <= high)
        naive.append(abs(value) <= 1.645 * table["x"].std() / np.sqrt(len(table)))
    assert np.mean(naive) < 0.65
    assert 0.78 < np.mean(covered) < 0.98  # nominal 0.90, standard error 0.03


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


@pytest.mark.parametrize(("level", "interval"), [(0.95, (0, 1)), (0.2, (0.5, 0.5))])
def test_two_patients_have_a_known_resampling_distribution(level, interval):
    """Means 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4."""
    table = pd.DataFrame({"subject": ["a", "b", "b"], "x": [0.0, 1.0, 1.0]})

    def mean_of_patients(rows):
        return rows.groupby("subject")["x"].mean().mean()

    result = bootstrap_patients(
        table, mean_of_patients, n_resamples=400, level=level, generator=np.random.default_rng(0)
    )
    assert result == (0.5, *interval)


def test_same_seed_same_interval_and_arrays_as_scalars():
    table = correlated_lesions(np.random.default_rng(1))
    scalar = bootstrap_patients(table, mean_x, n_resamples=50, generator=np.random.default_rng(2))
    array = bootstrap_patients(
        table, lambda rows: [mean_x(rows), -mean_x(rows)], n_resamples=50, generator=np.random.default_rng(2)
    )
    assert [part[0] for part in array] == pytest.approx(scalar)
    assert [part[1] for part in array] == pytest.approx([-scalar[0], -scalar[2], -scalar[1]])


def test_the_table_is_left_as_it_was():
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


def test_cliffs_delta_equals_the_pairwise_loop():
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 6, 23), generator.integers(1, 8, 17)
    loop = sum(int(a > b) - int(a < b) for a in x for b in y) / (23 * 17)
    assert loop < -0.1
    assert cliffs_delta(x, y) == pytest.approx(loop)


def separated():
    """Groups a < b < c of 4, 4 and 3 values, with one missing value that must not count."""
    return pd.DataFrame({"kind": list("aaaabbbbccc") + ["a"], "peak": [*range(11), np.nan]})


def test_mann_whitney_of_separated_groups_counts_arrangements():
    tests = pairwise_tests(separated(), "peak", "kind", ["c", "a", "b"])
    assert list(zip(tests["a"], tests["b"], strict=True)) == [("c", "a"), ("c", "b"), ("a", "b")]
    assert tests["n_b"].tolist() == [4, 4, 4]
    assert tests["U"].tolist() == [12, 12, 0]
    assert tests["cliffs_delta"].tolist() == [1, 1, -1]
    assert tests["p"].tolist() == pytest.approx([2 / 35, 2 / 35, 2 / 70])  # C(7, 3) and C(8, 4) arrangements


def test_holm_multiplies_the_smallest_by_three_and_never_falls():
    tests = pairwise_tests(separated(), "peak", "kind", ["a", "b", "c"])
    assert tests["p_holm"].tolist() == pytest.approx([3 * 2 / 70, 2 * 2 / 35, 2 * 2 / 35])


def test_groups_without_rows_are_not_tested_nor_corrected_for():
    tests = pairwise_tests(separated(), "peak", "kind", ["a", "b", "d"])
    assert tests["n_b"].tolist() == [4, 0, 0]
    assert tests["p_holm"].tolist() == pytest.approx([2 / 70, np.nan, np.nan], nan_ok=True)
    assert np.isnan(tests["cliffs_delta"][1])


def test_wilson_interval_of_none_and_of_half():
    z2 = 1.959964**2
    assert proportion_interval(0, 10) == pytest.approx((0, z2 / (10 + z2)))
    half = 0.5 * np.sqrt(z2 / (10 + z2))
    assert proportion_interval(5, 10) == pytest.approx((0.5 - half, 0.5 + half))


def test_wilson_interval_of_arrays_is_nan_where_nothing_was_tried():
    low, high = proportion_interval([0, 5], [0, 10])
    assert low == pytest.approx([np.nan, 0.2366], abs=1e-4, nan_ok=True)
    assert high == pytest.approx([np.nan, 0.7634], abs=1e-4, nan_ok=True)


RADII = np.arange(1.0, 21.0)


@pytest.mark.parametrize(
    ("response", "fraction", "expected"),
    [
        (RADII >= 7, 0.95, 7),
        (np.minimum(RADII / 10, 1), 0.95, 10),
        (np.minimum(RADII / 10, 1), 0.5, 5),
        (1 - np.exp(-RADII / 2), 0.95, 6),  # 1 - exp(-3) = 0.9502, plateau within 1e-3 of 1
        (np.full(20, 3.0), 0.95, 1),
        (np.where(RADII == 2, 5.0, RADII >= 9), 0.95, 9),  # an early overshoot is not the plateau
        (1 + 0.2 * (RADII == 18) - 0.2 * (RADII == 19), 0.95, 1),  # the plateau's own scatter does not count
        (np.zeros(20), 0.95, np.nan),
        (-RADII, 0.95, np.nan),
    ],
)
def test_plateau_radius_of_known_curves(response, fraction, expected):
    assert plateau_radius(RADII, response, fraction) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("radius", "response"), [([], []), ([1, 2], [1]), ([2, 1], [1, 1])])
def test_plateau_needs_increasing_radii_with_responses(radius, response):
    with pytest.raises(ValueError, match="increasing radii"):
        plateau_radius(radius, response)


def test_bootstrap_mean_is_the_patient_bootstrap_of_means():
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"subject": generator.integers(8, size=200), "a": generator.normal(size=200)})
    table["b"] = np.where(table["subject"] < 6, table["a"] + table["subject"], np.nan)
    mean, low, high = bootstrap_mean(table, ["a", "b"], n_resamples=20000, generator=np.random.default_rng(1))
    slow = bootstrap_patients(
        table, lambda rows: rows[["a", "b"]].mean().to_numpy(), n_resamples=2000, generator=np.random.default_rng(2)
    )
    np.testing.assert_allclose(mean, table[["a", "b"]].mean(), rtol=1e-12)
    spread = slow[2] - slow[1]
    assert (np.abs(low - slow[1]) < 0.1 * spread).all()
    assert (np.abs(high - slow[2]) < 0.1 * spread).all()


def test_resampled_means_are_those_of_drawn_patients():
    """Two patients with means 0 and 1 of one and three lesions: 0, 3/4 or 1, half of the time both."""
    table = pd.DataFrame({"subject": list("abbb"), "x": [0.0, 1.0, 1.0, 1.0], "y": [1.0, np.nan, np.nan, 3.0]})
    mean, resampled = resampled_means(table, ["x", "y"], n_resamples=4000, generator=np.random.default_rng(0))
    assert mean.tolist() == [0.75, 2]
    values, counts = np.unique(resampled, axis=0, return_counts=True)
    assert values.tolist() == [[0, 1], [0.75, 2], [1, 3]]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_percentile_interval_leaves_out_what_is_missing():
    resampled = np.array([[np.nan, np.nan], [0.0, np.nan], [1.0, np.nan]])
    low, high = percentile_interval(resampled, 0.5)
    assert (low[0], high[0]) == (0.25, 0.75)
    assert np.isnan([low[1], high[1]]).all()


def test_bootstrap_mean_of_one_patient_has_no_interval():
    table = pd.DataFrame({"subject": ["a", "a"], "x": [1.0, 3.0]})
    mean, low, high = bootstrap_mean(table, ["x"], generator=np.random.default_rng(0))
    assert mean.tolist() == [2.0]
    assert np.isnan([low, high]).all()


def test_interval_of_cliffs_delta_is_that_of_the_patient_bootstrap():
    generator = np.random.default_rng(0)
    table = correlated_lesions(generator, patients=10, lesions=5)
    table["kind"] = generator.choice(["a", "b"], len(table))

    def delta(rows):
        return cliffs_delta(*(rows.loc[rows["kind"] == kind, "x"].to_numpy() for kind in "ab"))

    fast = bootstrap_cliffs_delta(table, "x", "kind", "a", "b", n_resamples=4000, generator=generator)
    slow = bootstrap_patients(table, delta, n_resamples=1500, generator=generator)
    assert fast[0] == pytest.approx(slow[0])
    assert fast[1:] == pytest.approx(slow[1:], abs=0.05)


def test_clustered_tests_keep_their_error_where_mann_whitney_does_not():
    """Groups of patients with no true difference, lesions strongly correlated within patients."""
    generator, naive, clustered, covered = np.random.default_rng(0), [], [], []
    for _ in range(80):
        table = correlated_lesions(generator, patients=16, lesions=6)
        table["kind"] = np.where(table["subject"] < 8, "a", "b")
        naive.append(pairwise_tests(table, "x", "kind", ["a", "b"])["p"][0] < 0.05)
        (row,) = clustered_tests(table, "x", "kind", ["a", "b"], n_resamples=300, generator=generator).to_dict(
            "records"
        )
        clustered.append(row["p"] < 0.05)
        covered.append(row["delta_low"] <= 0 <= row["delta_high"])
    assert np.mean(naive) > 0.25
    assert np.mean(clustered) < 0.14  # 0.05, and what 80 simulations of 16 patients add
    assert np.mean(covered) > 0.83


def test_the_gee_keeps_its_error_with_eight_patients():
    """Both groups in every patient, who differ in the difference: p-values of a normal distribution would be too small."""
    generator, wrong = np.random.default_rng(0), []
    for _ in range(150):
        table = correlated_lesions(generator, patients=8, lesions=6)
        table["kind"] = np.where(np.arange(len(table)) % 2, "a", "b")
        table["x"] += (table["kind"] == "a") * generator.normal(size=8)[table["subject"]]
        (row,) = clustered_tests(table, "x", "kind", ["a", "b"], n_resamples=2, generator=generator).to_dict("records")
        wrong.append(row["p"] < 0.05)
        assert wrong[-1] == (not row["difference_low"] <= 0 <= row["difference_high"])
    assert np.mean(wrong) < 0.11  # 0.05, standard error 0.018


def test_clustered_tests_find_a_difference_and_see_through_a_proxy():
    generator = np.random.default_rng(1)
    table = correlated_lesions(generator, patients=20, lesions=8)
    table["kind"] = np.where(np.arange(len(table)) % 2 == 0, "a", "b")
    table["size"] = (table["kind"] == "a") + 0.3 * generator.normal(size=len(table))
    table["x"] += 2 * table["size"]  # the groups differ by their size alone
    options = {"covariates": ["size"], "n_resamples": 50, "generator": generator}
    (row,) = clustered_tests(table, "x", "kind", ["a", "b"], **options).to_dict("records")
    assert row["difference"] == pytest.approx(2, abs=0.3) and row["p_holm"] < 1e-6
    assert row["adjusted"] == pytest.approx(0, abs=0.4) and row["adjusted_p"] > 0.05
    assert row["adjusted_low"] < 0 < row["adjusted_high"] and 1.5 < row["difference_low"] < row["difference"]


def test_clustered_tests_without_patients_or_rows_are_nan():
    table = pd.DataFrame({"subject": ["1"] * 4, "x": [1.0, 2.0, 3.0, 4.0], "kind": list("aabb")})
    tests = clustered_tests(table, "x", "kind", ["a", "b", "c"], n_resamples=5, generator=np.random.default_rng(0))
    assert len(tests) == 3
    assert tests[["delta_low", "p", "p_holm", "difference_low", "adjusted_p"]].isna().all(axis=None)
    assert tests["delta"].tolist() == pytest.approx([-1, np.nan, np.nan], nan_ok=True)
