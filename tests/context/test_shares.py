from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from monai.networks.nets import UNet

from lib.context.shares import PLACES, coalition_scores, mean_shares, shapley_values, share_score
from lib.lesions.instances import signed_distance

SHAPE, SPACING = (25, 22, 20), (1.0, 1.2, 0.8)


@pytest.fixture
def volume():
    return torch.randn(1, 2, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def lesion():
    mask = np.zeros(SHAPE, bool)
    mask[11:14, 10:12, 9:12] = True
    return mask


def unet():
    torch.manual_seed(1)
    return UNet(3, 2, 2, channels=(4, 8), strides=(2,), num_res_units=0, norm="batch").double().eval()


def in_every_order(worth):
    """The definition, literally."""
    players = range(worth.ndim)
    values, orders = np.zeros(worth.ndim), list(permutations(players))
    for order in orders:
        coalition = [0] * worth.ndim
        for player in order:
            before = worth[tuple(coalition)]
            coalition[player] = 1
            values[player] += (worth[tuple(coalition)] - before) / len(orders)
    return values


@pytest.mark.parametrize("players", [1, 2, 5])
def test_a_value_is_the_mean_of_what_a_player_adds_over_all_orders(players):
    worth = np.random.default_rng(players).normal(size=(2,) * players)
    assert shapley_values(worth) == pytest.approx(in_every_order(worth))
    assert shapley_values(worth).sum() == pytest.approx(worth.flat[-1] - worth.flat[0])


def test_coalitions_are_scored_as_the_whole_masked_volume(volume, lesion):
    model, fill = unet(), np.random.default_rng(0).normal(size=(2, *SHAPE))
    owner = np.random.default_rng(1).integers(3, size=(2, *SHAPE))
    scores = coalition_scores(model, volume.double(), lesion, owner, fill)
    assert scores.shape == (2, 2, 2)
    for coalition, score in np.ndenumerate(scores):
        shown = np.where(np.array(coalition)[owner], volume[0], fill)
        padded = np.pad(shown, [(0, 0), (0, 1), (0, 0), (0, 0)])  # to the stride
        with torch.no_grad():
            logits = model(torch.from_numpy(padded)[None])[0, 1][tuple(map(slice, SHAPE))].numpy()
        assert score == pytest.approx(logits[lesion].mean(), rel=1e-6)


def test_shares_of_each_game_sum_to_the_score_above_that_of_the_fill(volume, lesion):
    table = share_score(unet(), volume.double(), lesion, SPACING, {"mean": 0.0, "noise": torch.randn(2, *SHAPE)})
    for _, rows in table.groupby(["fill", table["place"] == "all"]):
        assert rows["share"].sum() == pytest.approx((rows["score"] - rows["hidden"]).iloc[0], rel=1e-9)
    assert table.groupby("fill", sort=False).size().to_dict() == {"mean": 8, "noise": 2}


def test_shares_of_a_linear_network_are_its_weights_times_what_is_shown(volume, lesion):
    torch.manual_seed(2)
    model, fill = torch.nn.Conv3d(2, 2, 9, padding=4).double().eval(), np.ones((2, *SHAPE))
    table = share_score(model, volume.double(), lesion, SPACING, {"ones": fill})
    x = volume.double().requires_grad_()
    model(x)[0, 1][torch.from_numpy(lesion)].mean().backward()
    added = (x.grad * (x.detach() - 1))[0].numpy()
    distance = signed_distance(lesion, SPACING)
    regions = dict(zip(PLACES, (distance < 0, (distance > 0) & (distance <= 3), distance > 3), strict=True))
    regions["all"] = np.ones(SHAPE, bool)
    for row in table.itertuples():
        channel = ["FLAIR", "MPRAGE"].index(row.sequence)
        assert row.share == pytest.approx(added[channel][regions[row.place]].sum(), abs=1e-9)


def test_mean_shares_are_over_lesions_and_their_intervals_over_patients():
    rows = [("mean", name, "all", share, subject, subject, label)
            for subject, label, *both in (("a", 1, 3, 1), ("a", 2, 5, 1), ("b", 1, 1, 4))
            for name, share in zip(("FLAIR", "MPRAGE"), both, strict=True)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["fill", "sequence", "place", "share", "scan", "subject", "label"])
    found = mean_shares(table, n_resamples=200, generator=np.random.default_rng(0)).set_index("sequence")
    assert found["share"].to_dict() == {"FLAIR": 3, "MPRAGE": 2, "FLAIR - MPRAGE": 1}
    assert found.loc["FLAIR - MPRAGE", ["low", "high"]].tolist() == [-3, 3]  # patient b alone, patient a alone
    assert found[["lesions", "patients"]].drop_duplicates().to_numpy().tolist() == [[3, 2]]
    assert "unit" not in found
    other = mean_shares(table, "log-odds", n_resamples=200, generator=np.random.default_rng(0))
    assert set(other["unit"]) == {"log-odds"}
