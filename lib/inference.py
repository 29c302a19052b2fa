"""Lesion probabilities of a whole scan by sliding window."""

import torch
from monai.inferers import sliding_window_inference


@torch.no_grad()
def predict(model, image, *, window, overlap=0.25, batch_size=1):
    """Lesion probability (X, Y, Z), float32 numpy, of an image (2, X, Y, Z): Gaussian-weighted sliding window
    of `window` voxels a side.

    The probabilities (softmax), not the logits, of overlapping patches are blended. Runs on the device of the model,
    which must be in evaluation mode.
    """
    device = next(model.parameters()).device
    volume = torch.as_tensor(image, dtype=torch.float32)[None]
    lesion = sliding_window_inference(
        volume, (window,) * 3, batch_size, lambda patches: model(patches).softmax(1)[:, 1:],
        overlap=overlap, mode="gaussian", sw_device=device, device=torch.device("cpu"),
    )  # fmt: skip
    return lesion[0, 0].numpy()
