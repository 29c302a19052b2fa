"""Lesion probabilities by sliding window: of a whole scan, or of one lesion from the patches that cover it."""

import torch

from lib.exact import check_network, frozen, lesion_voxels, like_model, n_channels, predict_lesion, usable
from lib.network.published import predict_centre, predict_tiles
from lib.threads import in_order, one_thread, processors

OVERLAP = 0.25  # of neighbouring patches


@torch.no_grad()
def predict(model, image, *, window, mirrored=False, blend=""):
    """Lesion probability (X, Y, Z), float32 numpy, of an image (2, X, Y, Z): Gaussian-weighted sliding window
    of `window` voxels a side.

    The probabilities (softmax), not the logits, of overlapping patches are blended. mirrored: each patch is predicted
    also with left and right (axis X) exchanged, and the mean of both probabilities taken. Runs on the device of the
    model, in evaluation mode; on the processor, with one thread a patch, and several patches at a time unless the network
    keeps something from one call to the next, as one does that stores its skip connections.
    blend: as another tool predicts, "logits" for nnU-Net (`predict_tiles`), "centre" for LST-AI (`predict_centre`).
    Raises ValueError if the network gives no logits (`check_network`), or some that are not finite, or takes other
    channels than the image has.
    """
    if len(image) != (channels := n_channels(model)):
        raise ValueError(f"the image has {len(image)} channels, the network takes {channels}")
    if blend == "logits":
        return predict_tiles(model, image, window=window, mirrored=mirrored)
    if blend == "centre":
        return predict_centre(model, image, window=window)
    from monai.inferers import sliding_window_inference  # importing it takes seconds

    keeps_nothing, device = check_network(model, (window,) * 3), next(model.parameters()).device
    at_once = processors() if keeps_nothing and device.type == "cpu" else 1

    @torch.no_grad()
    def probability(patch):
        patch = like_model(model, patch)
        lesion = usable(model(patch.clone()).float()).softmax(1)[:, 1:]  # a network may compute in place
        return (lesion + model(patch.flip(2)).float().softmax(1)[:, 1:].flip(2)) / 2 if mirrored else lesion

    def probabilities(patches):
        if at_once > 1:
            return torch.cat(list(in_order(probability, patches.split(1))))
        with one_thread():
            return torch.cat(list(map(probability, patches.split(1))))

    with frozen(model):
        lesion = sliding_window_inference(
            torch.as_tensor(image, dtype=torch.float32)[None], (window,) * 3, at_once, probabilities,
            overlap=OVERLAP, mode="gaussian", sw_device=device, device=torch.device("cpu"),
        )  # fmt: skip
    return lesion[0, 0].numpy()


def patch_slices(shape, window):
    """Slices (X, Y, Z) of the patches of `predict` in a volume of this shape, no side of it smaller than `window`."""
    from monai.data.utils import dense_patch_slices

    step = [window if side == window else int(window * (1 - OVERLAP)) for side in shape]
    return dense_patch_slices(tuple(shape), (window,) * 3, step)


def lesion_patches(lesion, window):
    """The patches of `predict` that cover a lesion, with their shares in its blended probability.

    lesion: (X, Y, Z) bool, no side smaller than `window`.  Returns a list of (slices along X, Y, Z; the lesion's voxels
    in the patch, (n,) bool; weight of the patch at those voxels); the weights at a voxel add up to 1.
    Raises ValueError if the lesion is empty or a side of the volume is smaller than the window.
    """
    from monai.data.utils import compute_importance_map

    shape = tuple(lesion.shape)
    if min(shape) < window:
        raise ValueError(f"the volume {shape} is smaller than the window of {window}: choose a smaller window")
    voxels = lesion_voxels(lesion, shape)
    importance = compute_importance_map((window,) * 3, mode="gaussian", sigma_scale=0.125).clamp(min=1e-3)
    covering, total = [], torch.zeros(len(voxels))
    for slices in patch_slices(shape, window):
        start = torch.tensor([side.start for side in slices])
        inside = ((voxels >= start) & (voxels < start + window)).all(1)
        if inside.any():
            weight = importance[tuple((voxels[inside] - start).T)]
            total[inside] += weight
            covering.append((slices, inside, weight))
    return [(slices, inside, weight / total[inside]) for slices, inside, weight in covering]


def blended_lesion(model, volumes, lesion, patches):
    """Lesion probability (B, n) at the n voxels of a lesion (in C order) as `predict` blends it from its patches.

    volumes: function of slices (X, Y, Z) that gives an iterable of that part of B volumes (2, x, y, z).
    lesion: (X, Y, Z) bool.  patches: `lesion_patches` of it. Within a patch only the lesion's window is computed.
    """
    blended = 0.0
    for slices, inside, weight in patches:
        logits = predict_lesion(model, volumes(slices), lesion[slices])
        share = logits.new_zeros(len(logits), len(inside))
        share[:, inside] = logits.softmax(1)[:, 1] * weight.to(logits)
        blended = blended + share
    return blended
