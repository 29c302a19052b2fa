"""Lesion probability of a scan as nnU-Net predicts it: means of logits over overlapping tiles and mirror images.

Isensee et al. 2021, "nnU-Net: a self-configuring method", Nature Methods 18; nnU-Net v2's predictor. Its sums are in half
precision, these are not.
"""

from itertools import combinations, product

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from lib.exact import check_network, frozen, like_model, usable
from lib.network.published.normalisation import nonzero_box

STEP = 0.5  # of a tile, at most, to the next
SCALE = 10  # of the Gaussian weights, whose half precision (with the smallest above 0 in place of 0) is nnU-Net's


@torch.no_grad()
def predict_tiles(model, image, *, window, mirrored=()):
    """Lesion probability (X, Y, Z), float32 numpy, of an image (2, X, Y, Z); 0 outside the box of what is not 0.

    window: voxels of a tile along X, Y, Z, or of each side.  mirrored: axes, 0 to 2, along each combination of which tiles
    are mirrored; or a bool, as of `predict`, whether along X.
    Runs on the device of the model, in evaluation mode.  Raises ValueError as `predict`.
    """
    window = tuple(np.broadcast_to(window, 3).tolist())
    if isinstance(mirrored, bool):
        mirrored = [0] if mirrored else []
    check_network(model, window)
    box = nonzero_box(image)
    inside = torch.as_tensor(image[(slice(None), *box)], dtype=torch.float32)
    missing = [max(side - size, 0) for side, size in zip(window, inside.shape[1:], strict=True)]
    around = [(gap // 2, gap // 2 + gap % 2) for gap in missing]
    padded = torch.as_tensor(np.pad(inside.numpy(), [(0, 0), *around]))
    total, weights, weight = torch.zeros(padded.shape), torch.zeros(padded.shape[1:]), _gaussian(window)
    mirrors = [[axis + 2 for axis in axes] for n in range(len(mirrored) + 1) for axes in combinations(mirrored, n)]
    with frozen(model):
        for tile in tiles(padded.shape[1:], window):
            patch = like_model(model, padded[(None, slice(None), *tile)])
            logits = sum(usable(model(patch.flip(axes)).float()).flip(axes) for axes in mirrors) / len(mirrors)
            total[(slice(None), *tile)] += logits[0].cpu() * weight
            weights[tile] += weight
    lesion = (total / weights).softmax(0)[1]
    probability = np.zeros(image.shape[1:], np.float32)
    probability[box] = lesion[
        tuple(slice(low, low + size) for (low, _), size in zip(around, inside.shape[1:], strict=True))
    ]
    return probability


@torch.no_grad()
def predict_centre(model, image, *, window):
    """Lesion probability (X, Y, Z), float32 numpy, of the middle of an image (2, X, Y, Z), `window` voxels a side, as
    LST-AI predicts it; 0 elsewhere. A smaller image is zero-padded.  Raises ValueError as `predict`."""
    check_network(model, (window,) * 3)
    extra = [size - window for size in image.shape[1:]]
    middle = tuple(
        slice(max(-(-more // 2), 0), size - max(more // 2, 0))
        for more, size in zip(extra, image.shape[1:], strict=True)
    )
    around = [(-(more // 2) if more < 0 else 0, more // 2 - more if more < 0 else 0) for more in extra]
    padded = np.pad(image[(slice(None), *middle)], [(0, 0), *around])
    with frozen(model):
        lesion = usable(model(like_model(model, padded)[None]).float()).softmax(1)[0, 1].cpu().numpy()
    probability = np.zeros(image.shape[1:], np.float32)
    probability[middle] = lesion[tuple(slice(low, window - high) for low, high in around)]
    return probability


def tiles(shape, window):
    """Slices (X, Y, Z) of tiles that cover a volume, evenly spaced, at most STEP of a tile apart."""
    starts = []
    for size, side in zip(shape, window, strict=True):
        n_steps = int(np.ceil((size - side) / (side * STEP)))
        starts.append([round((size - side) / n_steps * i) for i in range(n_steps + 1)] if n_steps else [0])
    return [tuple(slice(at, at + side) for at, side in zip(corner, window, strict=True)) for corner in product(*starts)]


def _gaussian(window):
    weight = np.zeros(window)
    weight[tuple(side // 2 for side in window)] = 1
    weight = gaussian_filter(weight, [side / 8 for side in window], mode="constant")
    weight = torch.from_numpy(weight / weight.max() * SCALE).half()
    return torch.where(weight == 0, weight[weight > 0].min(), weight).float()
