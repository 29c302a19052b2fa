"""Losses on the lesion class: normalised Dice + focal, as in the paper, and Dice + cross-entropy, also with a Dice of each lesion."""

import numpy as np
import torch
from monai.losses import DiceCELoss, FocalLoss
from scipy import ndimage
from torch import nn

from lib.lesions import label_instances


def build_loss(name):
    """The loss of a name, a module called with logits (B, 2, X, Y, Z) and lesions (B, 1, X, Y, Z): "ndsc_focal" (the
    paper's), "dice_ce" or "instance_dice_ce".  Raises ValueError if the name is unknown."""
    losses = {
        "ndsc_focal": NormalisedDiceFocalLoss,
        "dice_ce": DiceCrossEntropyLoss,
        "instance_dice_ce": InstanceDiceCrossEntropyLoss,
    }
    if name not in losses:
        raise ValueError(f'loss "{name}" is unknown: choose of {sorted(losses)}')
    return losses[name]()


class DiceCrossEntropyLoss(nn.Module):
    """1 - mean Dice of the patches, + cross-entropy, of the sigmoid of the difference of the two logits."""

    def __init__(self):
        super().__init__()
        self.loss = DiceCELoss(sigmoid=True)

    def forward(self, logits, lesions):
        """logits: (B, 2, X, Y, Z); lesions: (B, 1, X, Y, Z), 0 or 1. Returns a scalar."""
        return self.loss(logits[:, 1:] - logits[:, :1], lesions)


class InstanceDiceCrossEntropyLoss(nn.Module):
    """`DiceCrossEntropyLoss` + 1 - mean `instance_dice` of the patches with a lesion, so that a small lesion counts as a large one."""

    def __init__(self):
        super().__init__()
        self.whole = DiceCrossEntropyLoss()

    def forward(self, logits, lesions):
        """logits: (B, 2, X, Y, Z); lesions: (B, 1, X, Y, Z), 0 or 1. Returns a scalar."""
        probabilities = torch.sigmoid(logits[:, 1] - logits[:, 0])
        pairs = [pair for pair in zip(probabilities, lesions[:, 0], strict=True) if pair[1].any()]
        whole = self.whole(logits, lesions)
        return whole + 1 - torch.stack([instance_dice(*pair).mean() for pair in pairs]).mean() if pairs else whole


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


class NormalisedDiceFocalLoss(nn.Module):
    """0.5 x (1 - nDSC) + 1.0 x focal loss (Spagnolo et al. 2024, methods).

    nDSC = 2 TP / (2 TP + k FP + FN) with probabilities, for each patch, where k = (1 - r) P / (r (V - P)), P annotated
    voxels of V, and k = 1 where P = 0. `load` is r, the effective lesion load. The focal loss is that of the binary
    problem: the lesion probability is the sigmoid of the difference of the two logits.
    """

    def __init__(self, load=0.001, gamma=2.0, dice_weight=0.5, focal_weight=1.0):
        super().__init__()
        self.load, self.dice_weight, self.focal_weight = load, dice_weight, focal_weight
        self.focal = FocalLoss(gamma=gamma)

    def forward(self, logits, lesions):
        """logits: (B, 2, X, Y, Z); lesions: (B, 1, X, Y, Z), 0 or 1. Returns a scalar."""
        log_odds = logits[:, 1:] - logits[:, :1]
        ndsc = soft_normalised_dice(torch.sigmoid(log_odds), lesions.to(logits.dtype), self.load)
        return self.dice_weight * (1 - ndsc.mean()) + self.focal_weight * self.focal(log_odds, lesions)


def soft_normalised_dice(probability, lesions, load=0.001):
    """nDSC with probabilities. probability, lesions: (B, 1, X, Y, Z). Returns (B,); 1 where both are empty."""
    probability, lesions = probability.flatten(1), lesions.flatten(1)
    annotated, voxels = lesions.sum(1), lesions.shape[1]
    k = (1 - load) * annotated / (load * (voxels - annotated).clamp(min=1))
    k = torch.where(annotated > 0, k, torch.ones_like(k))
    true_positive = (probability * lesions).sum(1)
    false_positive = (probability * (1 - lesions)).sum(1)
    false_negative = annotated - true_positive
    denominator = 2 * true_positive + k * false_positive + false_negative
    return torch.where(denominator > 0, 2 * true_positive / denominator.clamp(min=1e-12), torch.ones_like(denominator))
