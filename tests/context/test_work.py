"""Items of work of notebook 6: curves and radii of the lesions of one scan, which depend on scan and lesion alone."""

import numpy as np
import pandas as pd
import pytest
import torch
from lesion_work import STEPS, VARIANTS, chosen_lesions
from scipy import ndimage

from lib.context.fills import FILLS, fill_images
from lib.context.shares import share_score
from lib.context.work import share_lesion
from lib.exact.windows import predict_lesion
from lib.network.loaded import loaded_network, loaded_scan
from lib.scans.images import load_scan
from lib.scans.maps import load_map


@pytest.fixture(scope="module")
def item(explored_run, work):
    row = work["hide surroundings"][1][0][0]
    return row, chosen_lesions(explored_run, ["TP"], 2).query("scan == @row['scan']").to_dict("records")


def test_scores_are_those_of_scans_in_which_the_rest_is_replaced(explored_run, work, item):
    hide, (row, lesions) = work["hide surroundings"][0], item
    found = hide((row, lesions))
    assert len(found) == len(lesions) * len(VARIANTS) * len(STEPS)
    scan, model = loaded_scan(row), loaded_network(hide.keywords["weights"], "cpu")[0]
    lesion = load_map(explored_run.map(row["scan"], "desc-pred_dseg")) == lesions[1]["label"]
    distance = ndimage.distance_transform_edt(~lesion, sampling=scan.spacing_mm)
    curves = found[found["label"] == lesions[1]["label"]].set_index(["fill", "growth", "step"])["score"]
    for step in STEPS:
        shown = np.where(distance <= step, scan.image, 0)
        expected = predict_lesion(model, [shown], lesion).softmax(1)[0, 1].mean().item()
        assert curves["mean", "euclidean", step] == pytest.approx(expected, rel=1e-4)
    assert curves.unstack("step")[0].nunique() > 1  # fills differ where only the lesion is shown


def test_places_of_a_lesion_are_the_same_among_others_and_alone(explored_run, work, item):
    measure, (row, lesions) = work["measure places"][0], item
    together = measure((row, lesions))
    alone = pd.concat([measure((row, [one])) for one in lesions[::-1]], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone.iloc[::-1].reset_index(drop=True))
    scan, labels = loaded_scan(row), load_map(explored_run.map(row["scan"], "desc-pred_dseg"))
    outside = np.argwhere(~ndimage.binary_fill_holes(scan.brain)) * scan.spacing_mm
    for found in together.itertuples():
        voxels = np.argwhere(labels == found.label) * scan.spacing_mm
        nearest = min(np.linalg.norm(outside - voxel, axis=1).min() for voxel in voxels)
        assert found.surface_mm == pytest.approx(nearest)


def test_shares_are_those_of_the_lesion_with_the_fills_of_its_scan(explored_run, work, item):
    row, lesions = item
    model, network_scan = loaded_network(work["hide surroundings"][0].keywords["weights"], "cpu")[0], loaded_scan(row)
    stored, labels = load_scan(row, normalised=False), load_map(explored_run.map(row["scan"], "desc-pred_dseg"))
    label = lesions[0]["label"]
    facts = {"scan": row["scan"], "subject": row["subject"], "label": label}
    scene = {(row["scan"], label): (network_scan.image, None, labels, network_scan.spacing_mm)}
    found = share_lesion(
        facts,
        model=model,
        scan_of=lambda name: (network_scan, stored, labels),
        scene=lambda *names: scene[names],
        patch=0,
    )
    fills = fill_images(FILLS, network_scan, stored.image, (labels > 0) | network_scan.lesions)
    volume = torch.as_tensor(network_scan.image)[None]
    expected = share_score(model, volume, labels == label, network_scan.spacing_mm, fills)
    pd.testing.assert_frame_equal(found.drop(columns=list(facts)), expected)
    assert found[list(facts)].drop_duplicates().to_dict("records") == [facts]
