"""Items of work of notebook 5: insertions and changes of one scan, which depend on scan and lesion alone."""

import numpy as np
import pandas as pd
import pytest
from lesion_work import NOISE, chosen_lesions

from lib.exact.windows import predict_lesion
from lib.lesions.instances import label_instances
from lib.lesions.places import distance_to
from lib.lesions.tissue import white_matter
from lib.network.inference import predict
from lib.network.loaded import loaded_network, loaded_scan
from lib.saliency.maps import numpy_generator, peak_saliency
from lib.scans.maps import load_labels, load_map
from lib.synthetic.insertion import insert_lesion
from lib.synthetic.invented import noise_sd
from lib.synthetic.work import change_lesions


def score(model, image, mask):
    return predict_lesion(model, [image], mask).softmax(1)[0, 1].mean().item()


def test_sites_lie_in_healthy_white_matter_and_contrasts_are_of_the_annotated_lesions(explored_run, work):
    place, (row, *_) = work["find sites"]
    sites, spread, where, contrast = place(row)
    scan, annotated, predicted = (
        loaded_scan(row),
        *(load_map(explored_run.map(row["scan"], f"desc-{source}_dseg")) for source in ("manual", "pred")),
    )
    white = white_matter(scan.image, scan.brain, (annotated > 0) | (predicted > 0))
    assert set(sites) == {"deep white matter", "beside cortex"}
    places = np.concatenate(list(sites.values()))
    assert len(places)
    assert white[tuple(places.T)].all() and white[tuple(np.concatenate(list(spread.values())).T)].all()
    assert where["surroundings"].value_counts().to_dict() == {name: len(at) for name, at in spread.items() if len(at)}
    assert contrast["label"].tolist() == list(range(1, annotated.max() + 1))
    assert set(contrast["subject"]) == {row["subject"]}


def test_insertions_are_predicted_and_explained_as_they_are_inserted_one_by_one(work):
    predict, ((row, surroundings, at), *_) = work["predict insertions"]
    found = predict((row, surroundings, at)).merge(work["explain insertions"][0]((row, surroundings, at)))
    scan, model = loaded_scan(row), loaded_network(predict.keywords["weights"], "cpu")[0]
    for one in found.query("site == 0").itertuples():
        added = {"FLAIR": (1, 0), "MPRAGE": (0, -1), "both": (1, -1)}[one.sequences]
        contrast = [one.contrast * sign for sign in added]
        image, mask = insert_lesion(scan.image, scan.tissue, at[0], one.diameter_mm, contrast, scan.spacing_mm)
        assert one.score == pytest.approx(score(model, image, mask), rel=1e-5)
        peaks = peak_saliency(model, image, mask, **NOISE, seed=[0, row["scan"]])
        assert (one.peak_flair, one.peak_mprage) == pytest.approx(tuple(peaks.values()), rel=1e-4)


def test_the_changes_of_a_lesion_are_the_same_among_others_and_alone(explored_run, work):
    change, ((row, _), *_) = work["predict changes"]
    lesions = chosen_lesions(explored_run, ["TP"], 2).query("scan == @row['scan']").to_dict("records")
    together, alone = change((row, lesions)), pd.concat([change((row, [one])) for one in lesions[::-1]])
    names = ["label", "change"]
    pd.testing.assert_frame_equal(
        together.sort_values(names, ignore_index=True), alone.sort_values(names, ignore_index=True)
    )
    model, images = loaded_network(change.keywords["weights"], "cpu")[0], {"path": explored_run.map, "seed": 0}
    scores = together.set_index(names)["score"]
    for lesion, changed in change_lesions((row, lesions), **images):
        for name, (image, mask) in changed.items():
            assert scores[lesion["label"], name] == pytest.approx(score(model, image, mask), rel=1e-4)


def test_what_noise_invents_is_counted_between_two_predictions_of_the_noisy_scan(explored_run, work):
    twice, (row,) = work["predict twice"]
    found, given = twice(row), twice.keywords
    (model, description), scan = loaded_network(given["weights"], "cpu"), loaded_scan(row)
    predicted, annotated = load_labels(row, explored_run.map)
    sd = noise_sd(scan.image, white_matter(scan.image, scan.brain, (annotated > 0) | (predicted > 0)))
    generator, labels = numpy_generator(0, row["scan"], "noise"), []
    for _ in range(2):
        noise = sd[:, None, None, None] * generator.standard_normal(scan.image.shape, dtype=np.float32)
        noisy = np.where(scan.image != 0, scan.image + noise, 0).astype(np.float32)
        probability = predict(model, noisy, window=description["window"])
        labels.append(label_instances(probability >= given["threshold"]))
    touched = [{*np.unique(one[other > 0])} - {0} for one, other in (labels, labels[::-1])]
    total = found[found["volume_mm3"] == "all"].iloc[0]
    assert total["predicted"] == sum(one.max() for one in labels) > total["invented"] > 0
    assert total["invented"] == total["predicted"] - sum(map(len, touched))
    assert (total["flair_noise"], total["mprage_noise"]) == pytest.approx(tuple(sd))


def test_a_scan_without_white_matter_has_no_noise_that_could_be_added(work, monkeypatch):
    twice, (row,) = work["predict twice"]
    monkeypatch.setattr("lib.synthetic.work.white_matter", lambda image, brain, lesions: np.zeros_like(brain))
    assert twice(row).empty


def test_a_lesion_without_healthy_surroundings_is_left_out(work, monkeypatch):
    change, items = work["predict changes"]
    monkeypatch.setattr("lib.synthetic.work.has_healthy_surroundings", lambda *_: False)
    assert change(items[0]).empty


def test_missed_lesions_and_healthy_volumes_are_changed_in_the_same_way(explored_run, work):
    change, ((row, _), *_) = work["predict changes"]
    lesions = chosen_lesions(explored_run, ["TP", "FN"], 1).query("scan == @row['scan']").to_dict("records")
    healthy = [one | {"kind": "TN"} for one in lesions if one["kind"] == "TP"]
    found = change((row, lesions + healthy))
    assert set(found["kind"]) == {"TP", "FN", "TN"}
    assert found.groupby("kind")["peak_flair"].count().to_dict() == {
        "FN": 0, "TN": 0, "TP": (found["kind"] == "TP").sum()
    }  # fmt: skip
    predicted, annotated = (
        load_map(explored_run.map(row["scan"], f"desc-{source}_dseg")) for source in ("pred", "manual")
    )
    images = {"path": explored_run.map, "seed": 0}
    masks = {
        lesion["kind"]: changed["none"][1] for lesion, changed in change_lesions((row, lesions + healthy), **images)
    }
    np.testing.assert_array_equal(masks["FN"], annotated == next(x["label"] for x in lesions if x["kind"] == "FN"))
    assert masks["TN"].sum() == masks["TP"].sum()
    marked = (predicted > 0) | (annotated > 0)
    assert distance_to(marked, loaded_scan(row).spacing_mm)[masks["TN"]].min() > 3


def test_without_noisy_copies_changed_lesions_are_predicted_and_not_explained(work):
    change, (item, *_) = work["predict changes"]
    found, explained = change(item, noise=NOISE | {"n_samples": 0}), change(item)
    assert found["score"].equals(explained["score"]) and explained["peak_flair"].notna().all()
    assert found[["peak_flair", "peak_mprage"]].isna().all(axis=None)
