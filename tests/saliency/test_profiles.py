"""Radial profiles against closed forms, literal loops and simulation."""

import numpy as np
import pandas as pd
import pytest

from lib.saliency.profiles import mean_profile, zero_crossing
from lib.saliency.profiles import rings as measured_rings

DISTANCE = np.arange(-2.5, 12)


def test_mean_profile_averages_lesions_and_counts_them():
    rows = [
        {"subject": subject, "scan": subject, "label": label, "distance_mm": 0.5, "value": value}
        for subject, label, value in (("a", 1, 1.0), ("a", 2, 2.0), ("b", 1, 6.0))
    ]
    radial = pd.DataFrame(rows).assign(method="smoothgrad_max", sequence="FLAIR", kind="TP")
    table = mean_profile(radial, n_resamples=100, generator=np.random.default_rng(0))
    assert table[["mean", "lesions", "patients"]].to_numpy().tolist() == [[3.0, 3, 2]]
    assert table[["low", "high"]].to_numpy().tolist() == [[1.5, 6.0]]


def radial(values, lesions=2, sequence="FLAIR"):
    """Profiles of lesions; values: (patients, shells), or one row a lesion in turn."""
    rows = [
        (f"{i // lesions}", f"sub-{i // lesions}", i, *pair)
        for i, profile in enumerate(values)
        for pair in zip(DISTANCE, profile, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["subject", "scan", "label", "distance_mm", "value"])
    return table.assign(method="smoothgrad_max", sequence=sequence, kind="TP")


def rings(table, n_resamples=200):
    found = measured_rings(table, n_resamples=n_resamples, generator=np.random.default_rng(0))
    return found.set_index("quantity")[["value", "low", "high", "found", "lesions", "patients"]]


def hat(r, zero=2.0, width=1.5):
    """(1 - u) exp(-u), u = (r + 2) / (zero + 2) squared over width: a positive disc with a negative ring around it."""
    u = ((r + 2) / (zero + 2)) ** 2
    return (1 - u) * np.exp(-width * (u - 1))


@pytest.mark.parametrize("sign", [1, -1])
def test_ring_of_a_hat_is_where_and_as_deep_as_in_closed_form(sign):
    """(1 - u) exp(-w (u - 1)) is lowest at u = 1 + 1 / w, with -exp(-1) / w."""
    found = rings(radial([sign * hat(DISTANCE)] * 6))
    assert found.loc["zero_crossing_mm", "value"] == pytest.approx(2, abs=0.2)
    place = 4 * np.sqrt(1 + 1 / 1.5) - 2
    assert found.loc["ring_mm", "value"] == pytest.approx(place, abs=0.5)
    assert found.loc["ring", "value"] == pytest.approx(-sign * np.exp(-1) / 1.5, rel=0.05)
    np.testing.assert_allclose(found[["low", "high"]], found[["value", "value"]])
    assert found[["found", "lesions", "patients"]].to_numpy().tolist() == [[1, 6, 3]] * 3


def test_crossing_of_noisy_profiles_is_that_of_the_literal_loop():
    generator = np.random.default_rng(0)
    noisy = hat(DISTANCE) + generator.normal(0, 0.3, (200, len(DISTANCE)))
    noisy[::7, 0] = np.nan
    expected = []
    for profile in noisy:
        i, found = int(np.nanargmax(profile)), np.nan
        while i < len(profile) - 1 and np.isnan(found):
            if profile[i] >= 0 > profile[i + 1]:
                found = DISTANCE[i] + profile[i] / (profile[i] - profile[i + 1])
            i += 1
        expected.append(found)
    assert np.isfinite(expected).sum() > 10
    np.testing.assert_allclose(zero_crossing(DISTANCE, noisy), expected)


def test_a_profile_that_stays_positive_has_no_crossing():
    found = rings(radial([np.exp(-DISTANCE)] * 4))
    assert np.isnan(found.loc["zero_crossing_mm", ["value", "low", "high"]].astype(float)).all()
    assert found.loc["zero_crossing_mm", "found"] == 0
    assert found.loc["ring", "value"] > 0


def test_noise_around_zero_makes_no_ring():
    """The lowest of twelve shells of noise is below 0; in the shell that the other half chooses the mean is 0."""
    generator, naive, covered = np.random.default_rng(1), [], []
    for _ in range(60):
        patients = np.repeat(generator.normal(size=(10, len(DISTANCE))), 2, axis=0)
        values = patients + 0.5 * generator.normal(size=patients.shape)
        values[:, DISTANCE < 0] = 5
        naive.append(values.mean(0).min())
        row = rings(radial(values)).loc["ring"]
        covered.append(row["low"] <= 0 <= row["high"])
    assert np.mean(naive) < -0.4
    assert np.mean(covered) > 0.78  # 0.885 in 200 simulations: ten patients, and halves that share their data


def test_one_patient_has_values_without_intervals():
    found = rings(radial([hat(DISTANCE)] * 2))
    assert found.loc["zero_crossing_mm", "value"] == pytest.approx(2, abs=0.2)
    assert found[["low", "high"]].isna().all(axis=None)
    assert np.isnan(found.loc["ring", "value"])


def test_profiles_that_begin_outside_are_refused():
    table = radial([hat(DISTANCE)] * 4)
    with pytest.raises(ValueError, match="begin below 0 mm"):
        measured_rings(table[table["distance_mm"] > 0], n_resamples=5, generator=np.random.default_rng(0))


def test_without_a_profile_the_tables_are_empty():
    table = radial([hat(DISTANCE)] * 4)
    options = {"n_resamples": 5, "generator": np.random.default_rng(0)}
    for measure in (mean_profile, measured_rings):
        full, nothing = measure(table, **options), measure(table.iloc[:0], **options)
        assert list(nothing) == list(full)
        assert nothing.empty


def test_profiles_without_a_number_outside_have_no_ring():
    table = radial([hat(DISTANCE)] * 4)
    found = rings(table[table["distance_mm"] < 0])
    assert found.loc[["ring_mm", "ring"], ["value", "low", "high"]].isna().all(axis=None)
