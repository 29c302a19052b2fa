"""Losses on the lesion class: normalised Dice + focal, as in the paper, and Dice + cross-entropy, also of each lesion.

A loss takes logits (B, 2, X, Y, Z) and lesions (B, 1, X, Y, Z), 0 or 1, and returns a scalar. It is that of the binary
problem: the lesion probability is the sigmoid of the difference of the two logits.
"""

import numpy as np
import torch
from monai.losses import DiceCELoss, FocalLoss
from scipy import ndimage

from lib.lesions import label_instances

EFFECTIVE_LOAD = 0.001  # r of the normalised Dice


def build_loss(name):
    """The loss of a name: "ndsc_focal" (the paper's), "dice_ce", "instance_dice_ce". Raises ValueError for another."""
    losses = {loss.__name__: loss for loss in (ndsc_focal, dice_ce, instance_dice_ce)}
    if name not in losses:
        raise ValueError(f'loss "{name}" is unknown: choose of {sorted(losses)}')
    return losses[name]


def dice_ce(logits, lesions):
    """1 - mean Dice of the patches, + cross-entropy."""
    return DiceCELoss(sigmoid=True)(_log_odds(logits), lesions)


def instance_dice_ce(logits, lesions):
    """`dice_ce` + 1 - mean `instance_dice` of the patches with one: a small lesion counts as a large one."""
    pairs = zip(torch.sigmoid(_log_odds(logits)[:, 0]), lesions[:, 0], strict=True)
    dice = [instance_dice(probability, mask).mean() for probability, mask in pairs if mask.any()]
    whole = dice_ce(logits, lesions)
    return whole + 1 - torch.stack(dice).mean() if dice else whole


def instance_dice(probability, lesions):
    """Dice with probabilities of each lesion within its own region, the voxels nearer to it than to any other lesion
    (Jaus et al. 2025, AAAI, "Every component counts").

    probability: (X, Y, Z).  lesions: (X, Y, Z), 0 or 1, not empty.  Returns (n,), by label of `label_instances`.
    """
    labels = label_instances(lesions.cpu().numpy() > 0)
    nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    region = torch.from_numpy(labels[tuple(nearest)].astype(np.int64)).to(probability.device).flatten() - 1

    def total(values):
        return torch.zeros(int(labels.max()), device=values.device).index_add(0, region, values.flatten().float())

    return 2 * total(probability * lesions) / (total(probability) + total(lesions))


def ndsc_focal(logits, lesions):
    """0.5 x (1 - nDSC) + 1.0 x focal loss with gamma = 2 (Spagnolo et al. 2024, methods)."""
    log_odds = _log_odds(logits)
    ndsc = soft_normalised_dice(torch.sigmoid(log_odds), lesions.to(logits.dtype))
    return 0.5 * (1 - ndsc.mean()) + FocalLoss(gamma=2.0)(log_odds, lesions)


def soft_normalised_dice(probability, lesions):
    """nDSC = 2 TP / (2 TP + k FP + FN) with probabilities, where k = (1 - r) P / (r (V - P)), P annotated voxels of V;
    k = 1 where P = 0.  probability, lesions: (B, 1, X, Y, Z). Returns (B,); 1 where both are empty."""
    probability, lesions = probability.flatten(1), lesions.flatten(1)
    annotated, voxels = lesions.sum(1), lesions.shape[1]
    k = (1 - EFFECTIVE_LOAD) * annotated / (EFFECTIVE_LOAD * (voxels - annotated).clamp(min=1))
    k = torch.where(annotated > 0, k, 1)
    true_positive = (probability * lesions).sum(1)
    false_positive = (probability * (1 - lesions)).sum(1)
    false_negative = annotated - true_positive
    denominator = 2 * true_positive + k * false_positive + false_negative
    return torch.where(denominator > 0, 2 * true_positive / denominator.clamp(min=1e-12), 1)


def _log_odds(logits):
    return logits[:, 1:] - logits[:, :1]
