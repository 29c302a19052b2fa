"""Items of work of notebook 4: what is explained, maps that are kept, numbers that do not depend on the order of work."""

import shutil
from functools import partial

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from lesion_work import SETTINGS, chosen_lesions
from literal import block, random_unet, scan

from lib.exact.windows import whole_logits
from lib.lesions.patch import cut_patch, patch_around
from lib.network.loaded import loaded_network, loaded_scan
from lib.saliency.comparison import compare_methods
from lib.saliency.convergence import standard_errors
from lib.saliency.maps import lesion_generator, lesion_maps, map_name, saved_maps
from lib.saliency.work import compare_lesion, converge, scan_instances
from lib.scans.images import Scan, with_digests
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

    monkeypatch.setattr("lib.saliency.work.scan_maps", refuse)
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
    name = f"{row['scan']}_label-{lesion['kind']}{lesion['label']:03d}"
    saved = load_cut(
        explain.keywords["folder"] / name / f"{name}_desc-smoothgradmax.nii.gz", scan.affine, scan.brain.shape
    )
    peaks = numbers[numbers["method"] == "smoothgrad_max"].set_index("sequence")["peak"]
    for sequence, channel in zip(("FLAIR", "MPRAGE"), saved, strict=True):
        assert peaks[sequence] == channel.flat[np.abs(channel).argmax()]


@pytest.mark.parametrize("changed", ["flair", "t1w", "voxels", "settings"])
def test_maps_made_from_other_inputs_are_those_of_a_clean_folder(work, tmp_path, changed):
    """Another image, another place under the same label, other settings: `explain_instances` computes anew."""
    explain, items = work["explain instances"]
    row, (lesion, *_) = items[0]
    kept = partial(explain, folder=tmp_path / "kept")
    (before, _), clean = kept((row, [lesion])), partial(explain, folder=tmp_path / "clean")
    if changed == "voxels":
        lesion = lesion | {"where": lesion["where"] + 1}
    elif changed == "settings":
        kept, clean = (partial(one, settings=SETTINGS | {"seed": 1}) for one in (kept, clean))
    else:
        image, file = nib.load(row[changed]), tmp_path / f"{changed}.nii.gz"
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1].copy(), image.affine), file)
        (row,) = with_digests(pd.DataFrame([row | {changed: str(file)}])).to_dict("records")
    (after, _), (expected, _) = kept((row, [lesion])), clean((row, [lesion]))
    pd.testing.assert_frame_equal(after, expected)
    assert not after["peak"].equals(before["peak"])


def test_a_lesion_of_fewer_voxels_than_the_peak_takes_has_no_peak_of_as_many(work, tmp_path):
    explain, items = work["explain instances"]
    row, (lesion, *_) = items[0]
    for peak_voxels, expected in ((len(lesion["where"]), 1), (len(lesion["where"]) + 1, 0)):
        settings = SETTINGS | {"peak_voxels": peak_voxels}
        numbers, _ = explain((row, [lesion]), settings=settings, folder=tmp_path)
        assert numbers.query("sequence == 'FLAIR'")["method"].eq("smoothgrad_few").sum() == expected


def test_healthy_volumes_have_the_shape_of_their_lesion_and_lie_apart_in_their_tissue():
    centre = np.linalg.norm(np.indices((64, 64, 64)) - 31.5, axis=0)
    brain, white = centre < 28, centre < 17
    mprage = np.select([white, centre < 24], [1.0, 0.0], -2.0) + np.random.default_rng(0).normal(0, 0.1, brain.shape)
    image = np.where(brain, np.stack([mprage, mprage]), 0).astype(np.float32)
    predicted, annotated = np.zeros((2, 64, 64, 64), np.int32)
    predicted[30:33, 30, 30:32], annotated[30:32, 30, 30:32], annotated[40, 40, 40:42] = 1, 1, 2
    scan = Scan("sub-1", image, brain, annotated > 0, np.eye(4))
    rows = pd.DataFrame(
        {"scan": "sub-1", "label": [1, 2, 2], "kind": ["TP", "FN", "FN"], "healthy": [True, True, False]}
    )
    probability = np.where(predicted, 0.9, 0.1)
    found = scan_instances(rows, scan, probability, predicted, annotated, apart_mm=4, seed=0)
    assert [one["kind"] for one in found] == ["TP", "TN", "TN grey"] + ["FN", "TN", "TN grey"] + ["FN"]
    assert [one["label"] for one in found] == [1, 1, 1] + [2, 3, 3] + [2]  # of one predicted lesion, and then of FN
    assert [one["mean_probability"] for one in found] == pytest.approx([0.9] + [0.1] * 6)
    assert not any("healthy" in one for one in found)
    places = [np.argwhere(np.isin(np.arange(brain.size), one["where"]).reshape(brain.shape)) for one in found]
    marked = np.argwhere((predicted > 0) | (annotated > 0))
    healthy = [(places[0], place, tissue) for place, tissue in zip(places[1:3], (white, brain & ~white), strict=True)]
    healthy += [(places[3], place, tissue) for place, tissue in zip(places[4:6], (white, brain & ~white), strict=True)]
    for lesion, place, tissue in healthy:
        np.testing.assert_array_equal(place - place[0], lesion - lesion[0])
        assert tissue[tuple(place.T)].all()
        assert np.linalg.norm(place[:, None] - marked, axis=2).min() > 4


def test_with_a_patch_maps_are_those_of_the_cube_around_the_lesion(work, tmp_path):
    explain, items = work["explain instances"]
    row, (lesion, *_) = items[0]
    numbers, _ = explain((row, [lesion]), patch=16, folder=tmp_path)
    scan, model = loaded_scan(row), loaded_network(explain.keywords["weights"], "cpu")[0]
    mask = np.zeros(scan.brain.shape, bool)
    mask.flat[lesion["where"]] = True
    image, inside = cut_patch(scan.image, mask, 16)
    expected = lesion_maps(
        model, image, inside, **SETTINGS, identity=[lesion[name] for name in ("scan", "kind", "label")]
    )
    name = map_name(lesion)
    saved = saved_maps(tmp_path / name, name, scan.affine, mask.shape)
    for method, saliency in saved.items():
        np.testing.assert_allclose(saliency[(slice(None), *patch_around(mask, 16))], expected[method], atol=1e-6)
        assert np.count_nonzero(saliency) == np.count_nonzero(expected[method])
    flair = numbers.query("method == 'smoothgrad_max' and sequence == 'FLAIR'")["peak"].item()
    assert abs(flair) == pytest.approx(np.abs(expected["smoothgrad_max"][0]).max(), rel=1e-4)


def test_each_map_is_saved_for_its_own_lesion_though_another_has_written_one_meanwhile(work, tmp_path, monkeypatch):
    explain, items = work["explain instances"]
    row, lesions = items[0][0], items[0][1][:2]
    assert len(lesions) == 2
    expected, _ = explain((row, lesions), folder=tmp_path)
    shutil.rmtree(tmp_path / map_name(lesions[1]))
    monkeypatch.setattr("lib.saliency.work.are_saved", lambda *_: False)  # when it was asked, there was none
    found, _ = explain((row, lesions), folder=tmp_path)
    pd.testing.assert_frame_equal(found, expected)


def test_methods_and_copies_of_one_lesion_are_those_of_its_own_seed():
    shape, facts = (16, 16, 16), {"scan": "sub-1", "label": 2}
    model, image = random_unet(), scan(shape)[0].numpy()
    labels = 2 * block(shape, (8, 8, 8))

    def scene(name, label):
        assert (name, label) == ("sub-1", 2)
        return image, 0 * image, labels, (1.0, 1.0, 2.0)

    options = {"n_samples": 2, "n_steps": 2, "occluded_voxels": 8, "most_cubes": 8, "layer": "", "statistics": "exact"}
    found = compare_lesion(facts, model=model, scene=scene, seed=5, **options)
    volume = torch.as_tensor(image)[None]
    expected = compare_methods(model, volume, labels == 2, 0 * volume, seed=[5, "sub-1", 2], **options)
    assert list(found["maps"]) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found["maps"][name], values)
    curve = converge((found, "max"), model=model, scene=scene, seed=5, n_samples=3, statistics="exact")
    given = {"n_samples": 3, "aggregate": "max", "generator": lesion_generator(5, "sub-1", 2)}
    expected = standard_errors(model, volume, labels == 2, **given)
    pd.testing.assert_frame_equal(curve[list(expected)], expected)
    assert (curve["method"] == "SmoothGrad max").all()
    assert list(curve)[-3:] == ["scan", "label", "method"]
