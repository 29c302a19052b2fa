"""What is known of a predicted lesion: draws and their weights, places and maps of a tiny run."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.errors.features import (
    OTHERS,
    PLACE,
    bin_widths,
    describe_places,
    draw_lesions,
    lesion_values,
    predictors_of,
    saliency_features,
)
from lib.network import loaded_network, loaded_scan
from lib.saliency import lesion_generator, smoothgrad
from lib.scans import load_map

NOISE = {"n_samples": 2, "noise_fraction": 0.05, "statistics": "exact"}


@pytest.fixture
def table():
    kinds = ["TP"] * 8 + ["FP"] * 3 + ["FN"] * 2
    rows = pd.DataFrame({"kind": kinds * 2, "subject": ["a"] * 13 + ["b"] * 13, "voxels": 10})
    rows.loc[0, "voxels"] = 1000
    return rows


def test_drawn_lesions_stand_for_those_of_their_kind_and_patient(table):
    drawn = draw_lesions(table, n_per_patient=4, max_voxels=100, generator=np.random.default_rng(0))
    counts = drawn[drawn["drawn"]].groupby(["subject", "kind"]).size().to_dict()
    assert counts == {("a", "TP"): 4, ("a", "FP"): 3, ("b", "TP"): 4, ("b", "FP"): 3}
    sums = drawn.groupby(["subject", "kind"])["weight"].sum()
    assert sums.to_dict() == pytest.approx(table.groupby(["subject", "kind"]).size().to_dict())


def test_large_lesions_and_missed_ones_are_not_drawn_and_stand_for_themselves(table):
    drawn = draw_lesions(table, n_per_patient=2, max_voxels=100, generator=np.random.default_rng(0))
    rest = drawn[(drawn["kind"] == "FN") | (drawn["voxels"] > 100)]
    assert not rest["drawn"].any() and (rest["weight"] == 1).all() and len(rest) == 5


def test_a_bin_is_a_share_of_the_median_range_around_a_lesion():
    inside = np.array([[[True, False, False]]])
    found = [
        {"values": np.stack([np.array([[[top, 0.0, 99.0]]]), np.zeros((1, 1, 3))]), "lesion": inside, "rim": inside[..., [2, 0, 1]]}
        for top in (1.0, 2.0, 8.0)
    ]  # fmt: skip
    assert bin_widths(found, 4) == pytest.approx([0.5, 0.0])


@pytest.fixture(scope="module")
def one_scan(explored_run):
    """Row of a scan of the tiny run, and rows of its first three predicted lesions."""
    row = explored_run.scans().iloc[0].to_dict()
    lesions = explored_run.table("03_lesions").query("scan == @row['scan'] and kind != 'FN'").head(3)
    return row, lesions


def test_values_are_those_of_the_map_in_and_around_the_lesion(explored_run, one_scan):
    row, lesions = one_scan
    given = {"weights": explored_run.weights(), "device": "cpu", "path": explored_run.map, "seed": 5, "noise": NOISE}
    found = lesion_values((row, lesions.to_dict("records")), **given)
    (model, _), scan = loaded_network(explored_run.weights(), "cpu"), loaded_scan(row)
    for one, facts in zip(found, lesions.itertuples(), strict=True):
        mask = load_map(explored_run.map(row["scan"], "desc-pred_dseg")) == facts.label
        generator = lesion_generator(5, row["scan"], facts.kind, facts.label)
        whole = smoothgrad(model, torch.as_tensor(scan.image)[None], mask, generator=generator, **NOISE).numpy()
        np.testing.assert_array_equal(one["values"][:, one["lesion"]], whole[:, mask])
        assert one["rim"].sum() > 0 and not (one["rim"] & one["lesion"]).any()
        assert (
            one["values"].base is None
        )  # and not part of an array of the whole scan, of which each lesion would keep one
    features = saliency_features(found, bin_widths(found, 32))
    expected = [one["values"][0, one["lesion"]].mean(dtype=float) for one in found]
    assert features["FLAIR lesion mean"].to_list() == pytest.approx(expected, rel=1e-5)
    places = describe_places(row, path=explored_run.map)
    table = predictors_of(lesions, places, features)
    assert table.index.equals(lesions.index) and table.notna().all(axis=None)
    assert list(table) == [*sum(OTHERS.values(), []), *features.columns[2:]]


def test_places_are_those_of_the_lesions_centres(explored_run, one_scan):
    row, lesions = one_scan
    places = describe_places(row, path=explored_run.map).set_index("label").loc[lesions["label"]]
    moved = np.diff(lesions[["centroid_y_mm", "centroid_z_mm"]], axis=0)
    np.testing.assert_allclose(np.diff(places[["anterior (mm)", "superior (mm)"]], axis=0), moved, atol=1e-3)
    assert (places[PLACE[:3]] >= 0).all(axis=None)
