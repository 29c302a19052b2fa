"""Exploring a run and scans of one's own: what is opened, explained and kept is what the notebooks compute."""

import asyncio
import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from lib.exact.windows import whole_logits
from lib.explorer.pictures import colour_scale, plot_scale_bar
from lib.explorer.session import Exploration, Settings
from lib.saliency.cam import grad_cam
from lib.saliency.gradients import smoothgrad
from lib.saliency.maps import lesion_generator
from lib.scans.images import load_scan
from lib.scans.maps import load_map

LAYER = "model.1.submodule.2.conv"
SOURCE = {"data": "", "weights": "", "layer": LAYER, "device": "cpu", "seed": 3}


@pytest.fixture(scope="module")
def exploration(explored_run):
    return Exploration(explored_run, **SOURCE)


@pytest.fixture(scope="module")
def opened(exploration):
    return exploration.open("sub-001", None)


@pytest.fixture(scope="module")
def lesion(opened):
    """The largest detected lesion but those of more than 20 voxels."""
    table = opened.lesions
    return table[(table["kind"] == "TP") & (table["voxels"] <= 20)].sort_values("voxels").iloc[-1]


def explain(exploration, opened, lesion, *settings):
    shares = []
    explained = asyncio.run(exploration.explain(opened, lesion, Settings(*settings), shares.append))
    return explained, shares


def test_a_scan_of_a_run_is_opened_as_notebook_3_left_it(opened, explored_run):
    table = explored_run.table("03_lesions")
    pd.testing.assert_frame_equal(opened.lesions, table[table["scan"] == "sub-001"])
    np.testing.assert_array_equal(opened.predicted, load_map(explored_run.map("sub-001", "desc-pred_dseg")))
    stored = nib.as_closest_canonical(nib.load(opened.row["flair"])).get_fdata()
    np.testing.assert_array_equal(opened.scan.image[0], stored)
    np.testing.assert_array_equal(opened.volume[0], load_scan(opened.row).image)


def test_places_voxels_and_lesions_agree(opened):
    outlines = opened.outlines()
    for kind, mask in (("TP", outlines["prediction"]["TP"]), ("FN", outlines["annotation"]["FN"])):
        row = opened.lesions[opened.lesions["kind"] == kind].iloc[0]
        middle = opened.middle(row)
        assert mask[middle]
        assert opened.lesion_at(middle) == row.name
        assert opened.voxel(nib.affines.apply_affine(opened.scan.affine, middle)) == middle
    assert opened.lesion_at((0, 0, 0)) is None
    assert opened.voxel((1e4, 0, 0)) is None
    found, missed = outlines["prediction"]["TP"], outlines["annotation"]["FN"]
    assert not (missed & (found | outlines["prediction"]["FP"])).any()
    assert (outlines["annotation"]["annotation"] == opened.scan.lesions).all()


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_the_map_is_that_of_notebook_4(exploration, opened, lesion, aggregate):
    explained, shares = explain(exploration, opened, lesion, f"smoothgrad_{aggregate}", 3, 0.1)
    generator = lesion_generator(3, "sub-001", "TP", int(lesion["label"]))
    mask = opened.predicted == lesion["label"]
    expected = smoothgrad(
        exploration.model,
        opened.volume,
        mask,
        n_samples=3,
        noise_fraction=0.1,
        aggregate=aggregate,
        generator=generator,
    )
    np.testing.assert_array_equal(np.stack([*explained.maps.values()]), expected)
    assert list(explained.maps) == ["FLAIR", "MPRAGE"]
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])
    flair = explained.numbers.set_index("sequence").loc["FLAIR"]
    assert flair["mean_inside"] == pytest.approx(float(expected[0][torch.as_tensor(mask)].mean()), rel=1e-5)


def test_grad_cam_is_that_of_the_library(exploration, opened, lesion):
    explained, _ = explain(exploration, opened, lesion, "grad_cam", 1, 0.0)
    mask = opened.predicted == lesion["label"]
    expected = grad_cam(exploration.model, opened.volume, mask, layer=LAYER)
    np.testing.assert_array_equal(explained.maps["both"], expected)


def test_a_cancelled_explanation_stops_between_two_copies(exploration, opened, lesion):
    async def cancelled():
        shares = []
        work = exploration.explain(opened, lesion, Settings("smoothgrad_mean", 50, 0.05), shares.append)
        task = asyncio.create_task(work)
        while not shares:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return shares

    assert max(asyncio.run(cancelled())) < 1
    assert not exploration.model.training


def test_the_context_curve_ends_at_the_prediction_with_all_tissue(exploration, opened, lesion):
    explained, _ = explain(exploration, opened, lesion, "grad_cam", 1, 0.0)
    curve = exploration.context(explained, 200)
    with torch.no_grad():
        logits = whole_logits(exploration.model, opened.volume)
    probability = logits.softmax(1)[0, 1].numpy()
    assert curve["radius_mm"].tolist() == list(range(201))
    assert curve["score"].iloc[-1] == pytest.approx(probability[explained.mask].mean(), abs=1e-5)


def test_shares_sum_to_the_score_above_that_of_the_filled_scan(exploration, opened, lesion):
    explained, _ = explain(exploration, opened, lesion, "grad_cam", 1, 0.0)
    shares = exploration.shares(explained)
    with torch.no_grad():
        scores = [
            whole_logits(exploration.model, volume)[0, 1].numpy()[explained.mask].mean()
            for volume in (opened.volume, torch.zeros_like(opened.volume))
        ]
    assert shares[["score", "hidden"]].to_numpy() == pytest.approx(np.tile(scores, (8, 1)), abs=1e-5)
    for _, rows in shares.groupby(shares["place"] == "all"):
        assert rows["share"].sum() == pytest.approx(scores[0] - scores[1], abs=1e-5)


def networks_of_ones_own(folder):
    """Start of the names under which two networks of convolutions are given: one of both sequences, one of FLAIR alone."""
    text = "import torch\n\n"
    for name, channels in (("linear", 2), ("one", 1)):
        text += f"def {name}():\n    torch.manual_seed(1)\n    return torch.nn.Conv3d({channels}, 2, 5, padding=2)\n\n"
    (folder / "nets.py").write_text(text)
    (folder / "nets:one.json").write_text('{"channels": ["FLAIR"]}')
    return f"{folder}/nets:"


def test_shares_of_a_linear_network_are_its_weights_times_the_scan(exploration, opened, lesion, explored_run, tmp_path):
    explained, _ = explain(exploration, opened, lesion, "grad_cam", 1, 0.0)
    linear = Exploration(explored_run, **SOURCE | {"weights": networks_of_ones_own(tmp_path) + "linear"})
    shares = linear.shares(explained)
    x = opened.volume.clone().requires_grad_()
    linear.model(x)[0, 1][torch.as_tensor(explained.mask)].mean().backward()
    expected = (x.grad * x.detach())[0].sum((1, 2, 3)).numpy()
    assert shares.loc[shares["place"] == "all", "share"].to_numpy() == pytest.approx(expected, abs=1e-5)


def test_a_network_of_one_sequence_shares_nothing_out(exploration, opened, lesion, explored_run, tmp_path):
    explained, _ = explain(exploration, opened, lesion, "grad_cam", 1, 0.0)
    one = Exploration(explored_run, **SOURCE | {"weights": networks_of_ones_own(tmp_path) + "one"})
    with pytest.raises(ValueError, match="sees FLAIR alone"):
        one.shares(explained)


def test_what_is_saved_is_what_was_computed(exploration, opened, lesion):
    explained, _ = explain(exploration, opened, lesion, "smoothgrad_max", 2, 0.05)
    shares = exploration.shares(explained)
    scale = colour_scale("smoothgrad_max", explained.maps)
    path = exploration.save(explained, plot_scale_bar("smoothgrad_max", scale), shares)
    assert path.parent == exploration.run.build / "explore"
    for sequence, values in explained.maps.items():
        image = nib.load(f"{path}_{sequence}.nii.gz")
        np.testing.assert_array_equal(image.affine, nib.load(opened.row["flair"]).affine)
        np.testing.assert_array_equal(load_map(f"{path}_{sequence}.nii.gz"), values)
    saved = json.loads(path.with_suffix(".json").read_text())
    pd.testing.assert_frame_equal(pd.DataFrame(saved["shares"]), shares)
    record = saved["parameters"]
    assert record["scan"] == "sub-001"
    assert (record["kind"], record["label"]) == ("TP", lesion["label"])
    assert (record["method"], record["n_samples"], record["noise_fraction"]) == ("smoothgrad_max", 2, 0.05)
    assert path.with_suffix(".pdf").exists()
    assert path.with_suffix(".png").exists()


def test_scans_of_ones_own_are_predicted_once_and_give_the_table_of_notebook_3(explored_run, opened, monkeypatch):
    own = Exploration(
        explored_run, **SOURCE | {"data": str(explored_run.cohort), "weights": str(explored_run.weights())}
    )
    shares = []
    mine = own.open("sub-001", shares.append)
    assert shares[-1] == 1
    np.testing.assert_array_equal(mine.predicted, opened.predicted)
    columns = list(mine.lesions)
    expected = opened.lesions[columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine.lesions, expected, rtol=1e-4, check_dtype=False)
    monkeypatch.setattr("monai.inferers.sliding_window_inference", None)
    again = own.open("sub-001", shares.append)
    np.testing.assert_array_equal(again.probability, mine.probability)


def test_weights_given_to_the_run_are_those_it_is_explored_with(explored_run, tmp_path):
    given = explored_run.build / "parameters" / "03_evaluation.json"
    given.parent.mkdir()
    given.write_text(json.dumps({"weights": str(tmp_path / "mine.safetensors")}))
    try:
        assert Exploration(explored_run, **SOURCE).weights == tmp_path / "mine.safetensors"
    finally:
        given.unlink()
        given.parent.rmdir()
    assert Exploration(explored_run, **SOURCE).weights == explored_run.weights()
    own = Exploration(explored_run, **SOURCE | {"data": str(explored_run.cohort)})
    assert own.weights.name == "unet.safetensors"
    assert own.weights.parent.name == "weights"
    assert own.weights != explored_run.weights()


def test_a_missing_run_says_what_to_do(explored_run, tmp_path):
    nothing = type(explored_run)(
        "00_explore", explored_run.parameters | {"build": str(tmp_path), "figures": str(tmp_path)}
    )
    with pytest.raises(FileNotFoundError, match="there is no run in .*make paper.*data"):
        Exploration(nothing, **SOURCE)


def test_a_scan_that_cannot_be_read_is_named(explored_run, tmp_path):
    table = explored_run.scans()[["subject", "session", "flair", "t1w", "lesions"]]
    table.loc[0, "t1w"] = "lost.nii.gz"
    table.to_csv(tmp_path / "mine.tsv", sep="\t", index=False)
    own = Exploration(
        explored_run, **SOURCE | {"data": str(tmp_path / "mine.tsv"), "weights": str(explored_run.weights())}
    )
    with pytest.raises(ValueError, match="scan sub-001: .*lost.nii.gz is missing"):
        own.open("sub-001", None)
