"""Psychometric curves against exact counts, another library and simulated patients with known curves."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.api import GLM, add_constant, families

from lib.statistics.psychometric import (
    MOST_LAPSES,
    check_levels,
    detection_curve,
    deviance,
    fit_curve,
    half_interval,
    half_level,
    open_bracket,
    psychometric_table,
)

LEVELS = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])


def rows(detect, subjects, sites=4, levels=LEVELS):
    """Table of insertions: detect(subject, site, level) -> bool."""
    table = [
        (f"{s}", i, level, bool(detect(s, i, level))) for s in range(subjects) for i in range(sites) for level in levels
    ]
    return pd.DataFrame(table, columns=["subject", "site", "contrast", "detected"]).assign(sequences="FLAIR", size=5.0)


def simulated(midpoint, generator, subjects=8, spread=0.0, width=0.25):
    """Patients whose curves lie at midpoint, with that spread between patients."""
    middle = midpoint + spread * generator.standard_normal(subjects)
    return rows(lambda s, _, x: generator.random() < detection_curve(x, middle[s], width, 0, 0), subjects)


@pytest.mark.parametrize(
    "truth", [(1.2, 0.3, 0, 0), (1.7, 0.2, 0.04, 0.06), (0.6, 0.15, 0.02, 0.0), (2.2, 0.6, 0, 0.05)]
)
def test_fit_recovers_the_curve_of_exact_shares(truth):
    n = np.full(7, 1e6)
    found = fit_curve(LEVELS, n * detection_curve(LEVELS, *truth), n)
    np.testing.assert_allclose(found, truth, atol=5e-3)


def test_fit_without_lapses_is_the_logistic_regression():
    n = np.array([40, 40, 30, 40, 50, 40, 40])
    detected = np.array([0, 1, 5, 19, 39, 39, 40])
    model = GLM(np.column_stack([detected, n - detected]), add_constant(LEVELS), family=families.Binomial()).fit()
    midpoint, width, guess, lapse = fit_curve(LEVELS, detected, n)
    intercept, slope = model.params
    assert guess == pytest.approx(0, abs=1e-6) and lapse == pytest.approx(0, abs=0.01)
    assert (midpoint, width) == pytest.approx((-intercept / slope, 1 / slope), abs=0.02)


def test_fit_is_the_best_of_a_fine_grid():
    n, generator = np.full(7, 32.0), np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(0, 3.01, 0.05), np.arange(0.05, 1, 0.05), (0, 0.03, 0.1), (0, 0.03, 0.1)), -1)
    curves = detection_curve(LEVELS, *(grid.reshape(-1, 4).T[..., None])).clip(1e-9, 1 - 1e-9)
    for midpoint in (0.4, 1.0, 1.6, 2.4):
        detected = generator.binomial(32, detection_curve(LEVELS, midpoint, 0.25, 0.02, 0.03)).astype(float)
        likelihood = (detected * np.log(curves) + (n - detected) * np.log(1 - curves)).sum(1)
        fitted = detection_curve(LEVELS, *fit_curve(LEVELS, detected, n)).clip(1e-9, 1 - 1e-9)
        assert (detected * np.log(fitted) + (n - detected) * np.log(1 - fitted)).sum() > likelihood.max() - 1e-3


def test_half_level_is_where_the_curve_is_one_half():
    parameters = (1.3, 0.3, 0.05, 0.1)  # 1.0 and 1.5 lie on its rise
    level, lower, upper = half_level(LEVELS, parameters)
    assert detection_curve(level, *parameters) == pytest.approx(0.5)
    assert level == lower == upper


def test_half_level_beyond_the_range_is_not_extrapolated():
    assert half_level(LEVELS, (3.4, 0.3, 0, 0)) == (np.inf,) * 3
    assert half_level(LEVELS, (-0.2, 0.3, 0, 0)) == (-np.inf,) * 3


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ((0.503, 0.025, 0, 0), (0.503, 0.0, 1.0)),  # at 0.5, 47 % are found, elsewhere none or all
        ((0.45, 0.1, 0, 0), (0.45, 0.0, 1.0)),  # at 0.5, 62 %
        ((3.0, 0.05, 0, 0), (3.0, 2.5, 3.0)),  # the last level
        ((1.25, 0.05, 0.02, 0.02), (1.25, 1.0, 1.5)),
        ((1.0, 0.05, 0, MOST_LAPSES), (1.0 + 0.05 * np.log(5 / 4), 0.5, 1.5)),  # 0.9 from 1.5 on is no rise
    ],
)
def test_half_level_is_known_between_two_levels_with_fewer_than_two_on_the_rise(parameters, expected):
    assert half_level(LEVELS, parameters) == pytest.approx(expected)


@pytest.mark.parametrize("place", [0, 3, 6])
def test_rounding_does_not_move_the_bracket_where_exactly_half_are_found_at_a_level(place):
    around = LEVELS[place] + np.array([-1e-6, 0, 1e-6])
    found = np.array([half_level(LEVELS, (midpoint, 0.025, 0, 0)) for midpoint in around])
    assert np.ptp(found, axis=0) == pytest.approx(0, abs=1e-5)
    assert (found[0, 1:] == LEVELS[[max(place - 1, 0), min(place + 1, 6)]]).all()


def test_one_level_on_the_rise_gives_no_interval_without_width():
    """Every patient finds half of its lesions at 0.5, none below, all above: no resample differs."""
    table = rows(lambda _, site, x: x > 0.5 or (x == 0.5 and site < 2), subjects=8)
    found = psychometric_table(table, "contrast", ["sequences"], n_resamples=20, generator=np.random.default_rng(0))
    found = found.iloc[0]
    assert (found["bracket_low"], found["bracket_high"]) == (0.0, 1.0)
    assert found["bracket_low"] <= found["level50"] <= found["bracket_high"]
    assert (found["low"], found["high"]) == (found["bracket_low"], found["bracket_high"])
    finer = rows(lambda _, site, x: x > site / 8 + 0.3, subjects=8, levels=np.arange(0, 1.5, 0.125))
    found = psychometric_table(finer, "contrast", ["sequences"], n_resamples=20, generator=np.random.default_rng(0))
    assert found["bracket_low"].item() == found["bracket_high"].item() == found["level50"].item()


def test_step_between_two_levels_leaves_their_interval_open():
    n = np.full(7, 32.0)
    parameters = fit_curve(LEVELS, np.array([0, 0, 0, 32, 32, 32, 32.0]), n)
    assert half_level(LEVELS, parameters) == (1.25, 1.0, 1.5)
    detected = np.repeat([[0, 0, 0, 4, 4, 4, 4.0]], 8, axis=0)  # every patient the same: no resample differs
    interval = half_interval(LEVELS, detected, np.full((8, 7), 4.0), n_resamples=20, generator=np.random.default_rng(0))
    assert interval == (1.0, 1.5)


def test_nothing_detected_or_all():
    n = np.full(7, 32.0)
    assert half_level(LEVELS, fit_curve(LEVELS, 0 * n, n))[0] == np.inf
    assert half_level(LEVELS, fit_curve(LEVELS, n, n))[0] == -np.inf
    assert fit_curve(LEVELS, n, n)[3] <= MOST_LAPSES


def test_open_bracket_keeps_the_end_that_the_levels_tell():
    assert open_bracket(LEVELS, (np.inf,) * 3) == (np.inf, 3.0, np.inf)
    assert open_bracket(LEVELS, (-np.inf,) * 3) == (-np.inf, -np.inf, 0.0)
    assert open_bracket(LEVELS, (1.25, 1.0, 1.5)) == (1.25, 1.0, 1.5)


def test_one_sided_brackets_are_all_that_is_another_in_the_table():
    detect = {"none": lambda *_: False, "all": lambda *_: True, "some": lambda s, _, x: x > 1 + s / 8}
    table = pd.concat(rows(found, 4).assign(sequences=name) for name, found in detect.items())

    def found(**options):
        drawn = {"n_resamples": 20, "generator": np.random.default_rng(0)}
        return psychometric_table(table, "contrast", ["sequences"], **drawn, **options).set_index("sequences")

    usual, one_sided = found(), found(one_sided=True)
    brackets = ["bracket_low", "bracket_high"]
    assert one_sided.loc[["none", "all"], brackets].to_numpy().tolist() == [[3.0, np.inf], [-np.inf, 0.0]]
    pd.testing.assert_series_equal(one_sided.loc["some"], usual.loc["some"], check_exact=True)
    rest = usual.columns.difference(brackets)
    pd.testing.assert_frame_equal(one_sided[rest], usual[rest], check_exact=True)


def test_deviance_is_0_for_the_saturated_curve_and_all_for_the_constant():
    n = np.full(7, 1000.0)
    truth = (1.2, 0.3, 0.0, 0.0)
    left, explained = deviance(LEVELS, n * detection_curve(LEVELS, *truth), n, truth)
    assert left == pytest.approx(0, abs=1e-6) and explained == pytest.approx(1)
    detected = np.array([0, 0, 8, 16, 24, 32, 32.0])
    model = GLM(np.column_stack([detected, 32 - detected]), add_constant(LEVELS), family=families.Binomial()).fit()
    intercept, slope = model.params
    left, explained = deviance(LEVELS, detected, np.full(7, 32.0), (-intercept / slope, 1 / slope, 0, 0))
    assert (left, explained) == pytest.approx((model.deviance, 1 - model.deviance / model.null_deviance))
    assert np.isnan(deviance(LEVELS, 0 * n, n, (6.0, 0.1, 0, 0))[1])


def test_table_finds_the_level_of_a_simulation_and_covers_it():
    generator, covered, found = np.random.default_rng(1), 0, []
    for _ in range(12):
        table = psychometric_table(
            simulated(1.4, generator, spread=0.3),
            "contrast",
            ["sequences", "size"],
            n_resamples=30,
            generator=generator,
        )
        found.append(table["level50"].item())
        covered += table["low"].item() <= 1.4 <= table["high"].item()
    assert np.mean(found) == pytest.approx(1.4, abs=0.1)
    assert covered >= 9  # of 12, nominal 95 %; the percentile bootstrap of 8 patients covers less


def test_patients_that_differ_widen_the_interval():
    def width(spread):
        table = simulated(1.5, np.random.default_rng(4), spread=spread, width=0.5)
        options = {"n_resamples": 40, "generator": np.random.default_rng(5)}
        found = psychometric_table(table, "contrast", ["sequences"], **options)
        return (found["high"] - found["low"]).item()

    assert width(0.6) > 1.5 * width(0.0)


def test_interval_is_infinite_where_resamples_do_not_reach_one_half():
    table = rows(lambda s, _, x: s < 5 and x >= 2.5, subjects=8)  # 5 of 8 patients reach it
    found = psychometric_table(table, "contrast", ["sequences"], n_resamples=200, generator=np.random.default_rng(0))
    assert np.isfinite(found["level50"].item()) and found["high"].item() == np.inf
    assert found["low"].item() == 2.0
    assert found[["n", "patients", "first", "last"]].iloc[0].tolist() == [32, 8, 0, 3]


def test_one_patient_has_no_interval():
    table = rows(lambda s, _, x: x >= 1.4, subjects=1)
    found = psychometric_table(table, "contrast", ["sequences"], n_resamples=5, generator=np.random.default_rng(0))
    assert found["level50"].item() == 1.25 and found[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize("levels", [[0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 1.0, 1.0]])
def test_too_few_levels_are_refused(levels):
    with pytest.raises(ValueError, match="at least 3 levels, in increasing order"):
        check_levels(levels)
