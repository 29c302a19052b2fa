"""Matching against brute force, and matched differences against simulation with known answers."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from lib.statistics.matching import match_pairs, matched_differences


def lesions(sizes, subject="1", value=0.0):
    rows = [(subject, kind, size, value) for kind, found in sizes.items() for size in found]
    return pd.DataFrame(rows, columns=["subject", "kind", "size", "peak"])


def sizes_of(table, calipers):
    a, b = match_pairs(table, "kind", "a", "b", calipers=calipers)
    return sorted(zip(table.loc[a, "size"], table.loc[b, "size"], strict=True))


def test_as_many_pairs_as_possible_come_before_closer_ones():
    """1.0 and 1.0 are closest, but then 0.4 has no partner within 0.7."""
    table = lesions({"a": [1.0, 0.4], "b": [1.0, 1.6]})
    assert sizes_of(table, {"size": 0.7}) == [(0.4, 1.0), (1.0, 1.6)]


@pytest.mark.parametrize("seed", range(8))
def test_pairs_are_those_of_all_assignments(seed):
    generator = np.random.default_rng(seed)
    a, b = generator.random((4, 2)), generator.random((5, 2))
    table = pd.DataFrame(np.vstack([a, b]), columns=["x", "y"]).assign(subject="1", kind=list("aaaabbbbb"))
    calipers = {"x": 0.3, "y": 0.4}
    best = (0, 0.0)
    for order in permutations(range(5), 4):
        units = np.abs(a - b[list(order)]) / (0.3, 0.4)
        kept = units[(units <= 1).all(1)]
        best = max(best, (len(kept), -(kept**2).sum()))
    of_a, of_b = match_pairs(table, "kind", "a", "b", calipers=calipers)
    units = np.abs(table.loc[of_a, ["x", "y"]].to_numpy() - table.loc[of_b, ["x", "y"]].to_numpy()) / (0.3, 0.4)
    assert (len(of_a), -(units**2).sum()) == pytest.approx(best)
    assert len(set(of_a)) == len(of_a) and len(set(of_b)) == len(of_b)


def test_lesions_of_two_patients_are_not_paired():
    table = pd.concat([lesions({"a": [1.0]}, "1"), lesions({"b": [1.0]}, "2")], ignore_index=True)
    assert sizes_of(table, {"size": 1.0}) == []


def two_kinds(generator, shift, patients=12, lesions_each=6):
    """Peaks that grow with size, kind a larger in size; kind itself adds `shift`. Patients differ."""
    subject = np.repeat(np.arange(patients), 2 * lesions_each)
    kind = np.tile(np.repeat(["a", "b"], lesions_each), patients)
    size = generator.normal(size=len(subject)) + 0.8 * (kind == "a")
    own = generator.normal(size=(patients, 2))
    noise = 0.3 * generator.normal(size=len(subject)) + 0.3 * own[subject, (kind == "a").astype(int)]
    peak = 2 * size + shift * (kind == "a") + 3 * own[subject, 0] + noise
    return pd.DataFrame({"subject": subject.astype(str), "kind": kind, "size": size, "peak": peak})


def difference(table, generator):
    options = {"matchings": {"size": {"size": 0.2}}, "n_resamples": 300, "generator": generator}
    return matched_differences(table, "peak", "kind", ["a", "b"], **options).iloc[0]


def test_a_proxy_of_size_has_no_matched_difference_and_its_interval_covers_zero():
    generator, covered, naive = np.random.default_rng(0), [], []
    for _ in range(80):
        table = two_kinds(generator, shift=0)
        row = difference(table, generator)
        naive.append(table.loc[table["kind"] == "a", "peak"].mean() - table.loc[table["kind"] == "b", "peak"].mean())
        margin = 2 * row["size_gap"]  # what the matching left of the difference in size, times its effect
        covered.append(row["low"] <= margin <= row["high"])
    assert np.mean(naive) > 1.2
    assert np.mean(covered) > 0.83  # nominal 0.95, with twelve patients; standard error 0.024


def test_a_difference_beyond_size_is_found():
    row = difference(two_kinds(np.random.default_rng(1), shift=1.0, patients=20), np.random.default_rng(2))
    assert row["low"] < 1 < row["high"]
    assert row["delta_low"] > 0 and row["delta"] > 0.5
    assert row["patients"] == 20 and 40 < row["pairs"] <= 120
    assert abs(row["size_gap"]) < 0.05


def test_numbers_of_pairs_by_hand():
    a, b = lesions({"a": [1.0, 5.0], "b": [1.1]}, "1"), lesions({"a": [3.0], "b": [3.3]}, "2")
    table = pd.concat([a, b])  # the index repeats
    table["peak"] = [4.0, 9.0, 1.0, 2.0, 4.0]
    options = {"n_resamples": 200, "generator": np.random.default_rng(0)}
    found = matched_differences(
        table, "peak", "kind", ["a", "b", "c"], matchings={"size": {"size": 0.5}, "none": {"size": 0.01}}, **options
    ).set_index(["matched_on", "a", "b"])
    row = found.loc[("size", "a", "b")]
    assert row[["pairs", "patients"]].tolist() == [2, 2]
    assert row[["difference", "low", "high"]].tolist() == [0.5, -2, 3]
    assert row[["delta", "delta_low", "delta_high"]].tolist() == [0, -1, 1]
    assert row["size_gap"] == pytest.approx(-0.2)
    assert (found["pairs"].drop(("size", "a", "b")) == 0).all()
    assert found["difference"].drop(("size", "a", "b")).isna().all()
