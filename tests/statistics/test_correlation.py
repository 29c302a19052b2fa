"""Correlation and agreement over lesions against another library, literal repetition and hand calculation."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from lib.statistics.correlation import bland_altman, bootstrap_spearman, weighted_spearman

RESAMPLING = {"n_resamples": 500}


def lesions(n=60, seed=0):
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(
        {"subject": [f"{i % 8}" for i in range(n)], "radius": generator.integers(2, 12, n).astype(float)}
    )
    return table.assign(size=table["radius"] ** 3 + generator.normal(0, 200, n), reach=table["radius"] + 1.5)


def test_rank_correlation_is_spearmans_with_ties_and_leaves_out_what_is_missing():
    table = lesions()
    table.loc[3, "size"], table.loc[7, "size"] = np.nan, np.inf
    found = bootstrap_spearman(table, "radius", ["size", "reach"], generator=np.random.default_rng(0), **RESAMPLING)
    found = found.set_index("with")
    kept = table.drop(index=[3, 7])
    assert found.loc["size", "rho"] == pytest.approx(spearmanr(kept["radius"], kept["size"]).statistic)
    assert found.loc["size", ["lesions", "patients"]].tolist() == [58, 8]
    assert found.loc["size", "low"] < found.loc["size", "rho"] < found.loc["size", "high"]
    assert found.loc["reach", ["rho", "low", "high"]].tolist() == pytest.approx([1, 1, 1])


def test_interval_of_the_correlation_is_wider_where_lesions_of_a_patient_are_alike():
    generator = np.random.default_rng(2)
    alone = pd.DataFrame({"x": generator.normal(size=80), "y": generator.normal(size=80)})
    clustered = alone.iloc[:8].loc[np.repeat(np.arange(8), 10)].reset_index(drop=True)
    widths = []
    for table in (alone, clustered):
        table = table.assign(subject=np.repeat(list("abcdefgh"), 10))
        found = bootstrap_spearman(table, "x", ["y"], generator=np.random.default_rng(0), **RESAMPLING)
        widths.append((found["high"] - found["low"]).item())
    assert widths[1] > 1.8 * widths[0]


def test_an_interval_that_would_leave_out_more_than_one_resample_in_twenty_is_none():
    table = lesions().assign(reach=3.0)
    table.loc[table["subject"] == "0", "reach"] = 4.0  # not in a third of the resamples of 8 patients
    found = bootstrap_spearman(table, "radius", ["reach"], generator=np.random.default_rng(0), **RESAMPLING)
    assert np.isfinite(found["rho"].item())
    assert found[["low", "high"]].isna().all(axis=None)


def test_weighted_spearman_is_that_of_the_repeated_sample():
    generator = np.random.default_rng(1)
    x, y = generator.integers(0, 6, 20), generator.integers(0, 6, 20)  # with ties
    times = generator.integers(0, 4, (5, 20))
    literal = [spearmanr(np.repeat(x, n), np.repeat(y, n)).statistic for n in times]
    np.testing.assert_allclose(weighted_spearman(x, y, times), literal)
    assert np.isnan(weighted_spearman(x, 0 * y, times)).all()


def test_too_few_lesions_have_no_correlation():
    found = bootstrap_spearman(lesions(2), "radius", ["size"], generator=np.random.default_rng(0), **RESAMPLING)
    assert found[["rho", "low", "high"]].isna().all(axis=None) and found["lesions"].item() == 2


def test_agreement_has_the_mean_difference_and_its_limits():
    table = lesions()
    table["other"] = table["radius"] + np.where(np.arange(60) % 2, 3.0, -1.0)
    found = bland_altman(
        table, "radius", ["reach", "other"], generator=np.random.default_rng(0), **RESAMPLING
    ).set_index("with")
    names = ["mean_difference", "difference_low", "difference_high", "limit_low", "limit_high"]
    assert found.loc["reach", names].tolist() == pytest.approx([1.5] * 5)
    sd = np.sqrt(4 * 60 / 59)
    assert found.loc["other", ["mean_difference", "limit_low", "limit_high"]].tolist() == pytest.approx(
        [1, 1 - 1.96 * sd, 1 + 1.96 * sd]
    )
    rho = spearmanr(table["radius"], table["other"]).statistic
    assert found.loc["other", "rho"] == pytest.approx(rho)
