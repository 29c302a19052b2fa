"""Comparisons of groups against simulation, literal loops, other libraries and hand calculation."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from statsmodels.stats.multitest import multipletests

from lib.statistics.comparisons import bootstrap_cliffs_delta, clustered_tests, pairwise_tests
from lib.statistics.intervals import bootstrap_patients, percentile_interval


def test_cliffs_delta_equals_the_pairwise_loop():
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 6, 23), generator.integers(1, 8, 17)
    loop = sum(int(a > b) - int(a < b) for a in x for b in y) / (23 * 17)
    assert loop < -0.1
    table = pd.DataFrame({"kind": ["a"] * 23 + ["b"] * 17, "peak": np.r_[x, y]})
    assert pairwise_tests(table, "peak", "kind", ["a", "b"])["cliffs_delta"].item() == pytest.approx(loop)


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


def test_holm_is_that_of_another_library():
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"kind": generator.choice(list("abcdef"), 80), "peak": generator.integers(0, 9, 80)})
    tests = pairwise_tests(table, "peak", "kind", list("abcdef"))
    assert tests["p_holm"].tolist() == multipletests(tests["p"], method="holm")[1].tolist()


def test_groups_without_rows_are_not_tested_nor_corrected_for():
    tests = pairwise_tests(separated(), "peak", "kind", ["a", "b", "d"])
    assert tests["n_b"].tolist() == [4, 0, 0]
    assert tests["p_holm"].tolist() == pytest.approx([2 / 70, np.nan, np.nan], nan_ok=True)
    assert np.isnan(tests["cliffs_delta"][1])


def test_interval_of_cliffs_delta_is_that_of_the_patient_bootstrap(correlated_lesions):
    generator = np.random.default_rng(0)
    table = correlated_lesions(generator, patients=10, lesions=5)
    table["kind"] = generator.choice(["a", "b"], len(table))

    def delta(rows):
        x, y = (rows.loc[rows["kind"] == kind, "x"].to_numpy() for kind in "ab")
        return 2 * mannwhitneyu(x, y).statistic / (len(x) * len(y)) - 1 if len(x) and len(y) else np.nan

    fast = bootstrap_cliffs_delta(table, "x", "kind", "a", "b", n_resamples=4000, generator=generator)
    slow = bootstrap_patients(table, delta, n_resamples=1500, generator=generator)
    assert fast[0] == pytest.approx(slow[0])
    assert fast[1:] == pytest.approx(slow[1:], abs=0.05)


def test_the_interval_of_cliffs_delta_is_of_the_patients_of_the_smaller_group():
    """Group b in 3 of 8 patients: the ends are the percentiles that 3 patients need."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"subject": np.arange(40) % 8, "x": generator.normal(size=40), "kind": "a"})
    table.loc[table["subject"].isin([1, 4, 6]) & (table.index >= 20), "kind"] = "b"
    patients, resampled = [rows for _, rows in table.groupby("subject")], []
    for drawn in np.random.default_rng(1).multinomial(8, np.full(8, 1 / 8), 300):
        rows = pd.concat([patients[i] for i, times in enumerate(drawn) for _ in range(times)])
        x, y = (rows.loc[rows["kind"] == kind, "x"].to_numpy() for kind in "ab")
        resampled.append(np.sign(x[:, None] - y).mean() if len(y) else np.nan)
    found = bootstrap_cliffs_delta(table, "x", "kind", "a", "b", n_resamples=300, generator=np.random.default_rng(1))
    assert found[1:] == pytest.approx(percentile_interval(np.array(resampled), 3))
    one = table[(table["kind"] == "a") | (table["subject"] == 1)]
    assert np.isnan(bootstrap_cliffs_delta(one, "x", "kind", "a", "b", generator=generator)[1:]).all()


def test_clustered_tests_keep_their_error_where_mann_whitney_does_not(correlated_lesions):
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


def test_the_gee_keeps_its_error_with_eight_patients(correlated_lesions):
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


def test_clustered_tests_find_a_difference_and_see_through_a_proxy(correlated_lesions):
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


def test_a_group_of_one_patient_alone_has_a_difference_without_interval(correlated_lesions):
    """What is left of that patient has no variance to be told from: its correction would divide by 0."""
    generator = np.random.default_rng(0)
    table = correlated_lesions(generator, patients=6, lesions=4)
    table["kind"] = np.where((table["subject"] == 2) & (np.arange(len(table)) % 4 > 1), "b", "a")
    (row,) = clustered_tests(table, "x", "kind", ["a", "b"], n_resamples=50, generator=generator).to_dict("records")
    assert np.isfinite(row["difference"]) and np.isnan([row[name] for name in ("difference_low", "p", "p_holm")]).all()


def test_clustered_tests_without_patients_or_rows_are_nan():
    table = pd.DataFrame({"subject": ["1"] * 4, "x": [1.0, 2.0, 3.0, 4.0], "kind": list("aabb")})
    tests = clustered_tests(table, "x", "kind", ["a", "b", "c"], n_resamples=5, generator=np.random.default_rng(0))
    assert len(tests) == 3
    assert tests[["delta_low", "p", "p_holm", "difference_low", "adjusted_p"]].isna().all(axis=None)
    assert tests["delta"].tolist() == pytest.approx([-1, np.nan, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("x", "size", "difference", "adjusted"),
    [
        ([0.0, 0.0], [1, 2, 4], 0.0, 0.0),  # such as Grad-CAM++ that is zero in both groups
        ([3.0, 1.0], [1, 2, 4], 2.0, 2.0),
        ([3.0, 1.0], [2, 2, 2], 2.0, np.nan),  # a covariate that is constant
    ],
)
def test_groups_without_spread_have_a_difference_and_no_interval(x, size, difference, adjusted):
    subject, values = np.repeat(np.arange(8), 6), np.tile(np.repeat(x, 3), 8)
    table = pd.DataFrame({"subject": subject, "x": values, "kind": list("aaabbb") * 8, "size": np.tile(size, 16)})
    options = {"covariates": ["size"], "n_resamples": 20, "generator": np.random.default_rng(0)}
    (row,) = clustered_tests(table, "x", "kind", ["a", "b"], **options).to_dict("records")
    assert row["delta"] == np.sign(difference)
    assert [row["difference"], row["adjusted"]] == pytest.approx([difference, adjusted], nan_ok=True)
    assert np.isnan([row[name] for name in ("difference_low", "p", "p_holm", "adjusted_low", "adjusted_p")]).all()


def test_cliffs_delta_leaves_nan_out():
    table = pd.DataFrame({"subject": list("abab"), "x": [2.0, np.nan, 1.0, np.nan], "kind": list("ttff")})
    assert bootstrap_cliffs_delta(table, "x", "kind", "t", "f", generator=np.random.default_rng(0))[0] == 1
