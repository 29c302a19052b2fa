"""The loss against its equations."""

import math

import numpy as np
import pytest
import torch

from lib.lesions.instances import label_instances
from lib.lesions.metrics import normalised_dice as normalised_dice_of_masks
from lib.network.losses import build_loss, instance_dice, soft_normalised_dice


def test_normalised_dice_of_certain_probabilities_is_that_of_masks():
    generator = torch.Generator().manual_seed(0)
    lesions = (torch.rand(3, 1, 8, 8, 8, generator=generator) < 0.05).float()
    predicted = (torch.rand(3, 1, 8, 8, 8, generator=generator) < 0.05).float()
    expected = [normalised_dice_of_masks(p.numpy() > 0, m.numpy() > 0) for p, m in zip(predicted, lesions, strict=True)]
    torch.testing.assert_close(soft_normalised_dice(predicted, lesions), torch.tensor(expected, dtype=torch.float32))


def test_normalised_dice_by_hand():
    lesions, probability = torch.zeros(1, 1, 10, 10, 10), torch.zeros(1, 1, 10, 10, 10)
    lesions[..., 0, 0] = 1  # 10 of 1000 voxels
    probability[..., 0, 0] = 0.8
    probability[..., 0, 1] = 0.5
    k = 0.999 * 10 / (0.001 * 990)
    assert soft_normalised_dice(probability, lesions).item() == pytest.approx(16 / (16 + k * 5 + 2))


def test_normalised_dice_of_two_empty_masks_is_one():
    assert soft_normalised_dice(torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4)).item() == 1


def test_the_loss_is_half_normalised_dice_plus_binary_focal_loss():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 2, 6, 6, 6, generator=generator)
    lesions = (torch.rand(2, 1, 6, 6, 6, generator=generator) < 0.2).float()
    probability = logits.softmax(1)[:, 1:]
    right = torch.where(lesions > 0, probability, 1 - probability)
    focal = (-((1 - right) ** 2) * right.log()).mean()
    expected = 0.5 * (1 - soft_normalised_dice(probability, lesions).mean()) + focal
    torch.testing.assert_close(build_loss("ndsc_focal")(logits, lesions), expected)


def test_missing_a_lesion_costs_although_background_prevails():
    lesions = torch.zeros(1, 1, 8, 8, 8)
    lesions[..., 4, 4, 4] = 1
    empty = torch.cat([torch.full_like(lesions, 10.0), torch.full_like(lesions, -10.0)], 1)
    found = torch.where(lesions > 0, -empty, empty)
    loss = build_loss("ndsc_focal")
    assert loss(found, lesions) < 0.01
    assert loss(empty, lesions) > 0.5
    assert math.isfinite(loss(empty, torch.zeros_like(lesions)))


def test_dice_and_cross_entropy_by_hand():
    lesions, log_odds = torch.zeros(2, 1, 2, 2, 2), torch.zeros(2, 1, 2, 2, 2)
    lesions[0, 0, 0] = 1
    log_odds[0, 0, 0] = math.log(3)  # probability 0.75 in the 4 lesion voxels, 0.5 in 4 others and in the empty patch
    logits = torch.cat([torch.zeros_like(log_odds), log_odds], 1)
    dice = (2 * 4 * 0.75 / (4 + 4 * 0.75 + 4 * 0.5) + 0) / 2
    cross_entropy = -(4 * math.log(0.75) + 12 * math.log(0.5)) / 16
    assert build_loss("dice_ce")(logits, lesions).item() == pytest.approx(1 - dice + cross_entropy, rel=1e-4)


def test_instance_dice_is_the_dice_of_the_voxels_nearest_to_each_lesion():
    generator = torch.Generator().manual_seed(2)
    probability, lesions = torch.rand(9, 8, 7, generator=generator), torch.zeros(9, 8, 7)
    lesions[1:3, 1:3, 1] = lesions[6, 5, 2:6] = lesions[8, 0, 0] = 1
    places = [(lesions * mask).nonzero() for mask in lesion_masks(lesions)]
    total = torch.zeros(3, 3)  # of each lesion: true positive, probability, annotated
    for voxel in np.ndindex(9, 8, 7):
        distance = torch.stack([(place - torch.tensor(voxel)).square().sum(1).min() for place in places])
        if (distance == distance.min()).sum() == 1:
            p, m = probability[voxel], lesions[voxel]
            total[distance.argmin()] += torch.stack([p * m, p, m])
        else:
            probability[voxel] = 0  # as near to two lesions: to which it is counted is open
    expected = 2 * total[:, 0] / (total[:, 1] + total[:, 2])
    torch.testing.assert_close(instance_dice(probability, lesions), expected)


def test_a_missed_lesion_costs_its_share_of_the_lesions_whatever_its_size():
    lesions = torch.zeros(2, 1, 16, 16, 16)  # the second patch is empty
    lesions[0, 0, :6, :6, :6] = lesions[0, 0, 14, 14, 14] = 1
    certain = torch.cat([-60 * (lesions - 0.5), 60 * (lesions - 0.5)], 1)
    loss = build_loss("instance_dice_ce")
    found = loss(certain, lesions) - build_loss("dice_ce")(certain, lesions)
    assert found.item() == pytest.approx(0, abs=1e-5)
    certain[0, :, 14, 14, 14] = torch.tensor([30.0, -30.0])
    missed = loss(certain, lesions) - build_loss("dice_ce")(certain, lesions)
    assert missed.item() == pytest.approx(0.5, abs=1e-5)
    empty = torch.zeros_like(lesions)
    assert loss(certain, empty) == build_loss("dice_ce")(certain, empty)


def lesion_masks(lesions):
    labels = label_instances(lesions.numpy() > 0)
    return [torch.from_numpy(labels == label) for label in range(1, labels.max() + 1)]


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match='"dice" is unknown'):
        build_loss("dice")
