"""Predictions are kept by the contents of what they are made from: those of other inputs are those of a clean folder."""

import shutil
from functools import partial

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from lib.network import work
from lib.network.architectures import build_network
from lib.network.weights import record_thresholds, save_weights
from lib.network.work import predict_scan
from lib.scans.images import FILES, load_scan, with_digests
from lib.scans.maps import load_map

ARCHITECTURE = {"name": "unet", "channels": [2, 4], "strides": [2]}


def write_scan(folder, seed):
    generator, row = (
        np.random.default_rng(seed),
        {"scan": "sub-1"} | {name: str(folder / f"{name}.nii.gz") for name in FILES},
    )
    for name in FILES:
        data = generator.integers(1, 900, (16, 16, 16)) if name != "lesions" else np.eye(16)[None].repeat(16, 0)
        nib.save(nib.Nifti1Image(data.astype(np.int16), np.eye(4)), row[name])
    return row


def write_weights(folder, seed, window=16):
    torch.manual_seed(seed)
    path = folder / "unet.safetensors"
    save_weights(build_network(**ARCHITECTURE), path, architecture=ARCHITECTURE, window=window)
    return path


def of_notebook_1(row):
    return with_digests(pd.DataFrame([row])).to_dict("records")[0]


@pytest.fixture
def place(tmp_path):
    """A scan, weights, and a function that predicts into a folder."""
    row, weights = write_scan(tmp_path, 0), write_weights(tmp_path, 0)

    def predict(folder, row):
        path = predict_scan(
            row, weights=weights, device="cpu", path=lambda scan, name: folder / scan / f"{name}.nii.gz"
        )
        return load_map(path)

    return tmp_path, row, predict


def exchange_images(folder, row):
    for name in ("flair", "t1w"):
        shutil.copy(write_scan(folder / "other", 1)[name], row[name])


def exchange_one(folder, row, name="flair"):
    shutil.copy(write_scan(folder / "other", 1)[name], row[name])


def correct_the_path(folder, row):
    row["flair"] = write_scan(folder / "other", 1)["flair"]


CHANGES = {
    "FLAIR and T1w": exchange_images,
    "FLAIR in place": exchange_one,
    "T1w in place": partial(exchange_one, name="t1w"),
    "path of the FLAIR": correct_the_path,
    "weights": lambda folder, row: write_weights(folder, 1),
    "window": lambda folder, row: write_weights(folder, 0, window=8),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_prediction_is_that_of_a_clean_folder_whatever_was_exchanged(place, change):
    folder, row, predict = place
    (folder / "other").mkdir()
    before = predict(folder / "kept", of_notebook_1(row))
    change(folder, row)
    after = predict(folder / "kept", of_notebook_1(row))
    np.testing.assert_array_equal(after, predict(folder / "clean", of_notebook_1(row)))
    assert not np.array_equal(after, before)


def test_other_data_of_the_same_names_gets_predictions_of_its_own(place):
    folder, row, predict = place
    (folder / "other").mkdir()
    other = write_scan(folder / "other", 1)
    one, two = (predict(folder / "kept", of_notebook_1(given)) for given in (row, other))
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(two, predict(folder / "clean", of_notebook_1(other)))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_damaged_prediction_is_computed_again(place, share):
    folder, row, predict = place
    expected = predict(folder / "kept", of_notebook_1(row))
    (file,) = (folder / "kept").rglob("*probseg*")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    np.testing.assert_array_equal(predict(folder / "kept", of_notebook_1(row)), expected)


def test_a_prediction_is_used_again_if_images_weights_and_code_are_the_same(place, monkeypatch):
    folder, row, predict = place
    expected = predict(folder / "kept", of_notebook_1(row))
    monkeypatch.setattr(work, "predict", None)  # nothing is left to do
    nib.save(nib.Nifti1Image(np.ones((16, 16, 16), np.uint8), np.eye(4)), row["lesions"])
    record_thresholds(folder / "unet.safetensors", 0.4, 0.4)
    np.testing.assert_array_equal(predict(folder / "kept", of_notebook_1(row)), expected)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_changes_after_notebook_1_is_named_wherever_it_is_read(place, name):
    folder, row, _ = place
    row = of_notebook_1(row)
    load_scan(row)
    shutil.copy(row[FILES[FILES.index(name) - 1]], row[name])
    with pytest.raises(
        ValueError, match=f"{name}.nii.gz has changed since notebook 01_data_split read it: run that notebook again"
    ):
        load_scan(row)


def test_lesions_of_a_scan_without_annotation_are_predicted_and_no_metric_counts_it(place):
    folder, row, predict = place
    probability = predict(folder / "kept", of_notebook_1(row))
    path = lambda scan, name: folder / "kept" / scan / f"{name}.nii.gz"  # noqa: E731
    threshold = float(np.quantile(probability, 0.99))
    evaluate = partial(work.evaluate_scan, threshold=threshold, outline=threshold, path=path, instances={})
    row |= {"subject": "1", "session": ""}
    found, annotated, scores = evaluate(of_notebook_1(row | {"lesions": ""}))
    assert set(found["kind"]) == {"predicted"} and len(found)
    assert annotated.empty and scores.empty
    assert not path(row["scan"], "desc-manual_dseg").exists()
    same, annotated, scores = evaluate(of_notebook_1(row))
    pd.testing.assert_frame_equal(same.loc[same["kind"] != "FN", "label"].to_frame(), found[["label"]])
    assert len(scores) == 1 and path(row["scan"], "desc-manual_dseg").exists()
