"""Responses to inserted and changed lesions, with networks whose response is known."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.synthetic.insertion import insert_lesion
from lib.synthetic.response import (
    change_response,
    changed_images,
    contrast_table,
    contrast_to_white_matter,
    insertion_response,
    insertion_saliency,
    response_table,
)

SHAPE = (24, 24, 24)


class Pointwise(torch.nn.Module):
    """Lesion logit: FLAIR - 2 MPRAGE - 1 at each voxel."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv3d(2, 2, 1)
        self.convolution.weight.data = torch.tensor([[0.0, 0.0], [1.0, -2.0]]).reshape(2, 2, 1, 1, 1)
        self.convolution.bias.data = torch.tensor([0.0, -1.0])

    def forward(self, x):
        return self.convolution(x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture
def model():
    return Pointwise().eval()


@pytest.fixture
def image():
    """Flat tissue: 0.1 in FLAIR, 0.2 in MPRAGE."""
    return np.stack([np.full(SHAPE, 0.1, np.float32), np.full(SHAPE, 0.2, np.float32)])


def test_insertion_scores_follow_the_contrast_in_each_sequence(model, image):
    options = {"diameters_mm": [9.0], "contrasts": [0.0, 2.0], "spacing_mm": (1.0, 1.0, 1.0), "threshold": 0.5}
    table = insertion_response(model, image, image != 0, [(12, 12, 12)], **options)
    table = table.set_index(["sequences", "contrast"])
    unchanged = sigmoid(0.1 - 2 * 0.2 - 1)
    for sequences in ("FLAIR", "MPRAGE", "both"):
        assert table.loc[(sequences, 0.0), "score"] == pytest.approx(unchanged, abs=1e-5)
        assert not table.loc[(sequences, 0.0), "detected"]
    scores = [table.loc[(sequences, 2.0), "score"] for sequences in ("FLAIR", "MPRAGE", "both")]
    assert unchanged < scores[0] < scores[1] < scores[2] < sigmoid(-1.3 + 2 + 4)
    assert table.loc[("MPRAGE", 2.0), "detected"]


def test_contrasts_are_z_scores_whatever_the_unit_of_the_image(model, image):
    options = {"diameters_mm": [9.0], "contrasts": [0.5], "spacing_mm": (1.0, 1.0, 1.0)}
    table = insertion_response(model, image, image != 0, [(12, 12, 12)], **options, threshold=0.5, z_score=(3.0, 0.2))
    added = {"FLAIR": (1.5, 0), "MPRAGE": (0, -0.1), "both": (1.5, -0.1)}
    for row in table.itertuples():
        changed, mask = insert_lesion(image, image != 0, (12, 12, 12), 9.0, added[row.sequences], options["spacing_mm"])
        assert row.score == pytest.approx(sigmoid(changed[0] - 2 * changed[1] - 1)[mask].mean(), rel=1e-5)
    inserted = []
    options |= {"saliency": lambda changed, _: inserted.append(changed[:, 12, 12, 12] - image[:, 12, 12, 12]) or {}}
    insertion_saliency(image, image != 0, [(12, 12, 12)], **options, z_score=(3.0, 0.2))
    np.testing.assert_allclose(sorted(map(tuple, inserted)), [(0, -0.1), (1.5, -0.1), (1.5, 0)], atol=0.01)


def test_insertions_are_predicted_as_in_the_whole_scan():
    torch.manual_seed(0)
    convolution = torch.nn.Conv3d(2, 2, 5, padding=2).eval()
    image = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    options = {"diameters_mm": [4.1], "contrasts": [1.5], "spacing_mm": (1.0, 1.0, 1.0), "threshold": 0.5}
    table = insertion_response(convolution, image, image != 0, [(5, 17, 12)], **options)
    for row in table.itertuples():
        added = {"FLAIR": (1.5, 0), "MPRAGE": (0, -1.5), "both": (1.5, -1.5)}[row.sequences]
        changed, mask = insert_lesion(image, image != 0, (5, 17, 12), 4.1, added, (1.0, 1.0, 1.0))
        with torch.no_grad():
            probability = convolution(torch.as_tensor(changed)[None]).softmax(1)[0, 1].numpy()[mask]
        assert row.score == pytest.approx(probability.mean(), abs=1e-6)


def test_saliency_of_insertions_has_the_same_rows(image):
    options = {"diameters_mm": [5.0], "contrasts": [0.0, 1.0], "spacing_mm": (1.0, 1.0, 1.0)}

    def centre(changed, mask):
        assert mask[12, 12, 12]
        return {"flair": changed[0, 12, 12, 12], "mprage": changed[1, 12, 12, 12]}

    table = insertion_saliency(image, image != 0, [(12, 12, 12)], **options, saliency=centre)
    assert len(table) == 6
    assert table[table["contrast"] == 0].groupby("contrast")[["flair", "mprage"]].nunique().eq(1).all(axis=None)
    both = table[(table["sequences"] == "both") & (table["contrast"] == 1)].iloc[0]
    assert both["flair"] == pytest.approx(1.1, abs=0.05)
    assert both["mprage"] == pytest.approx(-0.8, abs=0.05)


def test_response_table_is_the_mean_over_sites():
    rows = pd.DataFrame(
        {"subject": ["a", "a", "b"], "surroundings": "deep", "diameter_mm": 3.0, "contrast": 1.0, "sequences": "FLAIR"}
        | {
            "detected": [True, False, True],
            "score": [0.2, 0.4, 0.9],
            "peak_flair": [1.0, np.nan, 3.0],
            "peak_mprage": 0.0,
        }
    )
    table = response_table(rows, n_resamples=200, generator=np.random.default_rng(0))
    (row,) = table.to_dict("records")
    assert (row["n"], row["n_explained"]) == (3, 2)
    assert row["detected"] == pytest.approx(2 / 3)
    assert (row["score"], row["low_score"], row["high_score"]) == pytest.approx((0.5, 0.3, 0.9))
    assert (row["peak_flair"], row["low_peak_flair"], row["high_peak_flair"]) == (2.0, 1.0, 3.0)


@pytest.fixture
def scene():
    """White matter with one lesion, and grey matter on one side."""
    generator = np.random.default_rng(0)
    image = generator.normal(0, 0.05, (2, 40, 30, 30)).astype(np.float32)
    grey, lesion = np.zeros((2, 40, 30, 30), bool)
    grey[32:] = True
    lesion[9:12, 14:17, 14:17] = True
    image[0][lesion] += 3
    image[1][lesion] -= 2
    return image, lesion, ~grey & ~lesion, grey


def test_changes_take_the_contrast_away_where_they_say(scene):
    image, lesion, white, grey = scene
    changed = changed_images(image, lesion, white, grey, (1.0, 1.0, 1.0), np.random.default_rng(1))
    contrast = {
        name: contrast_to_white_matter(picture, mask, white & ~mask, (1.0, 1.0, 1.0))
        for name, (picture, mask) in changed.items()
    }
    expected = {"none": (3, -2), "FLAIR removed": (0, -2), "MPRAGE removed": (3, 0), "both removed": (0, 0)}
    expected["sequences swapped"] = (-2, 3)
    for name, values in (expected | {"moved to grey matter": (3, -2)}).items():
        assert contrast[name] == pytest.approx(values, abs=0.15), name
    moved = changed["moved to grey matter"][1]
    assert moved.sum() == lesion.sum()
    assert np.argwhere(moved)[:, 0].max() == 31  # it touches the grey matter


def test_change_response_predicts_every_change(model, scene):
    image, lesion, white, grey = scene
    changed = changed_images(image, lesion, white, grey, (1.0, 1.0, 1.0), np.random.default_rng(1))
    table = change_response(model, changed, threshold=0.5, saliency=lambda image, mask: {"voxels": mask.sum()})
    scores = table.set_index("change")["score"]
    assert scores["none"] == pytest.approx(sigmoid(3 + 4 - 1), abs=0.01)
    assert scores["FLAIR removed"] == pytest.approx(sigmoid(4 - 1), abs=0.02)
    assert scores["MPRAGE removed"] == pytest.approx(sigmoid(3 - 1), abs=0.03)
    assert scores["both removed"] == pytest.approx(sigmoid(-1), abs=0.05)
    assert scores["sequences swapped"] == pytest.approx(sigmoid(-2 - 6 - 1), abs=0.01)
    assert table["detected"].tolist() == [True, True, True, False, False, True]
    assert (table["voxels"] == 27).all()


def test_contrast_table_has_every_lesion(scene):
    image, lesion, white, _ = scene
    labels = np.where(lesion, 2, 0)
    labels[25, 10, 10] = 1
    image[0, 25, 10, 10] += 1.5
    table = contrast_table(image, labels, white & (labels == 0), (1.0, 1.0, 1.0))
    assert table["label"].tolist() == [1, 2]
    for row in table.itertuples():
        expected = contrast_to_white_matter(image, labels == row.label, white & (labels == 0), (1.0, 1.0, 1.0))
        assert (row.flair, row.mprage) == pytest.approx(tuple(expected))


def test_contrast_without_white_matter_nearby_is_nan(scene):
    image, lesion, white, _ = scene
    assert np.isnan(contrast_to_white_matter(image, lesion, white & False, (1.0, 1.0, 1.0))).all()


def test_with_a_patch_the_network_is_given_no_more(image):
    """FLAIR less its mean over all that the network is given, a patch of 8 voxels a side around the ball."""

    class LessMean(Pointwise):
        def forward(self, x):
            flair = x[:, :1] - x[:, :1].mean((2, 3, 4), keepdim=True)
            return torch.cat([0 * flair, flair], 1)

    ball = {"diameters_mm": [3.0], "contrasts": [2.0], "spacing_mm": (1.0, 1.0, 1.0), "threshold": 0.5}
    table = insertion_response(LessMean().eval(), image, image != 0, [[12, 12, 12]], **ball, patch=8)
    inserted, mask = insert_lesion(image, image != 0, [12, 12, 12], 3.0, (2.0, 0.0), (1.0, 1.0, 1.0))
    part = (slice(8, 16),) * 3
    expected = sigmoid(inserted[0][mask] - inserted[0][part].mean()).mean()
    assert table.set_index("sequences")["score"]["FLAIR"] == pytest.approx(expected, abs=1e-5)
    options = {"threshold": 0.5, "saliency": lambda *_: {}, "patch": 8}
    changed = change_response(LessMean().eval(), {"none": (inserted, mask)}, **options)
    assert changed["score"].item() == pytest.approx(expected, abs=1e-5)
