"""Differences of the detected share, on tables small enough to count by hand."""

import numpy as np
import pandas as pd
import pytest

from lib.synthetic.effects import effects_table
from lib.synthetic.sites import DEEP

NAMES = ["subject", "scan", "surroundings", "site", "diameter_mm", "contrast", "sequences", "detected"]


def insertions(detect, places=(DEEP, "beside cortex"), subjects="ab", sites=2):
    """Every condition of every patient: detect(subject, surroundings, site, diameter, contrast, sequences)."""
    rows = []
    for subject in subjects:
        for place in places:
            for site in range(sites):
                for diameter in (3.0, 5.0) if place == DEEP else (5.0,):
                    for contrast in (0.0, 1.0, 2.0):
                        for sequences in ("FLAIR", "MPRAGE", "both"):
                            found = detect(subject, place, site, diameter, contrast, sequences)
                            row = (subject, f"sub-{subject}", place, site, diameter, contrast, sequences, found)
                            rows.append(row)
    return pd.DataFrame(rows, columns=NAMES)


def changes(detected):
    """detected: {(subject, label): {change: bool}}."""
    rows = [
        (s, f"sub-{s}", label, change, found) for (s, label), one in detected.items() for change, found in one.items()
    ]
    return pd.DataFrame(rows, columns=["subject", "scan", "label", "change", "detected"]).assign(kind="TP")


ONE = {"none": True, "FLAIR removed": False, "MPRAGE removed": True, "sequences swapped": False}


def test_changed_lesions_of_scans_without_annotation_are_a_kind_of_their_own():
    drawn = insertions(lambda *_: True)
    options = {"n_resamples": 20, "generator": np.random.default_rng(0)}
    bare = effects_table(drawn, CHANGED.assign(kind="predicted"), **options)
    assert bare["kind"].drop_duplicates().tolist() == ["inserted", "predicted", "TN"]
    expected = effects_table(drawn, CHANGED, **options)
    assert expected["kind"].drop_duplicates().tolist() == ["inserted", "TP", "FN", "TN"]
    shares = [
        table.loc[table["kind"] == kind, "value"].tolist() for table, kind in ((bare, "predicted"), (expected, "TP"))
    ]
    assert shares[0] == shares[1]


CHANGED = changes(
    {("a", 1): ONE | {"moved to grey matter": False}, ("a", 2): ONE, ("b", 1): ONE | {"MPRAGE removed": False}}
)


def effects(inserted, changed=CHANGED):
    found = effects_table(inserted, changed, n_resamples=200, generator=np.random.default_rng(0))
    return found[found["kind"].isin(["inserted", "TP"])].set_index("effect")


def test_sequences_are_compared_at_the_largest_contrast_in_deep_white_matter():
    def detect(subject, place, site, diameter, contrast, sequences):
        return place == DEEP and contrast == 2 and (sequences == "FLAIR" or (subject == "a" and diameter == 5))

    row = effects(insertions(detect)).loc["FLAIR - MPRAGE"]
    assert row["value"] == pytest.approx(1 - 2 / 8)  # of 8 lesions MPRAGE finds 2, both of patient a
    assert (row["low"], row["high"]) == pytest.approx((0.5, 1.0))
    assert (row["lesions"], row["patients"]) == (8, 2)


def test_surroundings_are_compared_within_patients_at_their_common_diameter_above_contrast_0():
    def detect(subject, place, site, diameter, contrast, sequences):
        if contrast == 0 or diameter == 3:
            return True  # not to be counted
        return place == DEEP or (subject == "b" and contrast == 2)

    found = effects(insertions(detect))
    row = found.loc[f"{DEEP} - beside cortex"]
    assert row["value"] == pytest.approx((1.0 + 0.5) / 2)
    assert (row["low"], row["high"]) == pytest.approx((0.5, 1.0))
    assert (row["lesions"], row["patients"]) == (4, 2)  # lesions beside the cortex
    missing = found.loc[f"{DEEP} - beside ventricle"]
    assert np.isnan(missing[["value", "low", "high"]].astype(float)).all() and missing["lesions"] == 0


def test_changes_are_compared_lesion_by_lesion():
    found = effects(insertions(lambda *_: False))
    assert found.loc["FLAIR removed - MPRAGE removed", "value"] == pytest.approx(-2 / 3)
    assert found.loc["sequences swapped - none", ["value", "low", "high"]].tolist() == [-1, -1, -1]
    moved = found.loc["moved to grey matter - none"]
    assert moved["value"] == -1 and (moved["lesions"], moved["patients"]) == (1, 1)
    assert np.isnan(moved["low"])  # one patient tells nothing of others


def test_missed_lesions_and_healthy_tissue_are_compared_apart():
    unseen = dict.fromkeys(ONE, False)
    missed = changes({("a", 1): unseen | {"sequences swapped": True}, ("b", 1): unseen}).assign(kind="FN")
    table = pd.concat([CHANGED, missed])
    found = effects_table(insertions(lambda *_: False), table, n_resamples=20, generator=np.random.default_rng(0))
    found = found.set_index(["effect", "kind"])
    assert found.loc[("sequences swapped - none", "FN"), ["value", "lesions", "patients"]].tolist() == [0.5, 2, 2]
    assert found.loc[("FLAIR removed - MPRAGE removed", "FN"), "value"] == 0
    assert found.loc[("sequences swapped - none", "TP"), "value"] == -1
    assert found.loc[("sequences swapped - none", "TN"), "lesions"] == 0
    assert np.isnan(found.loc[("sequences swapped - none", "TN"), "value"])
