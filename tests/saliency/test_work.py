"""Items of work of notebook 4: what is explained, maps that are kept, numbers that do not depend on the order of work."""

import numpy as np
import pytest
import torch
from lesion_work import chosen_lesions

from lib.exact.windows import whole_logits
from lib.network.loaded import loaded_network, loaded_scan
from lib.scans.maps import load_cut


def test_lesions_are_found_with_their_healthy_volumes_wherever_they_stand_in_the_list(explored_run, work):
    find, items = work["find instances"]
    row = items[0][0]
    lesions = chosen_lesions(explored_run, ["TP", "FN"], 2).query("scan == @row['scan']").to_dict("records")
    forward, backward = find((row, lesions)), find((row, lesions[::-1]))
    assert {one["kind"] for one in forward} >= {"TP", "FN", "TN"}
    by_name = {(one["kind"], one["label"]): one for one in backward}
    assert len(by_name) == len(forward)
    for one in forward:
        np.testing.assert_equal(by_name[one["kind"], one["label"]], one)


def test_maps_that_are_there_are_read_and_the_numbers_are_those_of_the_whole_volume(work, monkeypatch):
    explain, items = work["explain instances"]
    first = explain(items[0])

    def refuse(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr("lib.saliency.work.lesion_maps", refuse)
    for table, again in zip(first, explain(items[0]), strict=True):
        assert table.equals(again)
    row, lesions = items[0]
    scan, model = loaded_scan(row), loaded_network(explain.keywords["weights"], "cpu")[0]
    with torch.no_grad():
        logits = whole_logits(model, torch.as_tensor(scan.image)[None])[0].flatten(1)
    numbers = first[0].drop_duplicates(["kind", "label"])
    assert len(numbers) == len(lesions)
    for lesion, facts in zip(lesions, numbers.to_dict("records"), strict=True):
        inside = logits[:, lesion["where"]]
        assert facts["mean_logit"] == pytest.approx(inside[1].mean().item(), rel=1e-4)
        assert facts["whole_probability"] == pytest.approx(inside.softmax(0)[1].mean().item(), rel=1e-4)


def test_the_peak_in_the_table_is_that_of_the_map_in_the_folder(work):
    explain, items = work["explain instances"]
    row, (lesion, *_) = items[0]
    numbers, _ = explain((row, [lesion]))
    scan = loaded_scan(row)
    name = f"{row['scan']}_label-{lesion['kind']}{lesion['label']:03d}_desc-smoothgradmax.nii.gz"
    saved = load_cut(explain.keywords["folder"] / row["scan"] / name, scan.affine, scan.brain.shape)
    peaks = numbers[numbers["method"] == "smoothgrad_max"].set_index("sequence")["peak"]
    for sequence, channel in zip(("FLAIR", "MPRAGE"), saved, strict=True):
        assert peaks[sequence] == channel.flat[np.abs(channel).argmax()]
