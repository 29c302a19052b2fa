"""Tiny networks and scans, and explanations of them by the letter of the equations: slow, and on whole volumes."""

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import UNet
from torch import nn

from lib.exact import find_window, whole_logits
from lib.saliency.gradients import noise_sigma, noisy_copies
from lib.saliency.scores import class_logit

SHAPE = (44, 40, 36)
PLACES = {"low border": (0, 0, 0), "middle": (19, 17, 16), "high border": (38, 34, 31)}


def generator(seed=7):
    return torch.Generator().manual_seed(seed)


def scan(shape=SHAPE):
    volume = torch.randn(1, 2, *shape, generator=generator(1))
    volume[:, 1] *= 3
    return volume


def whole_copies(model, volume, lesion, n_samples, noise_fraction=0.05, noise_range="channel"):
    """The noisy whole volumes whose windows the explainers use."""
    shape = volume.shape[2:]
    window = find_window(model, lesion, shape)
    sigma = noise_sigma(volume, noise_fraction, noise_range)
    for batch in noisy_copies(volume, window, sigma, n_samples, generator()):
        for copy in batch:
            whole = volume.clone()
            inside = window.within(shape)
            whole[(0, slice(None), *inside)] = window.paste(copy, shape)[(slice(None), *inside)]
            yield whole


def voxel_gradients(model, volume, lesion, score=class_logit):
    """Literal loop: one backward pass through the whole volume for each voxel of the lesion."""
    x = volume.clone().requires_grad_()
    logits = whole_logits(model, x)
    for voxel in np.argwhere(lesion):
        yield torch.autograd.grad(score(logits[(..., *voxel, None)]).sum(), x, retain_graph=True)[0][0]


def literal(model, volume, lesion, n_samples, aggregate, score=class_logit, **noise):
    total = 0
    for copy in whole_copies(model, volume, lesion, n_samples, **noise):
        gradients = torch.stack(list(voxel_gradients(model, copy, lesion, score)))
        if aggregate == "mean":
            total += gradients.mean(0)
        else:
            total += gradients.gather(0, gradients.abs().argmax(0, keepdim=True))[0]
    return total / n_samples


def random_unet(channels=(4, 8, 16), strides=(2, 2), norm="batch", seed=0):
    torch.manual_seed(seed)
    model = UNet(3, 2, 2, channels, strides, num_res_units=0, norm=norm)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.3, 0.5)
    return model


def block(shape, first, size=(3, 2, 4)):
    lesion = np.zeros(shape, bool)
    lesion[tuple(slice(start, start + length) for start, length in zip(first, size, strict=True))] = True
    return lesion


def relative_error(actual, expected):
    return float((actual - expected).abs().max() / expected.abs().max())


def literal_layer(model, volume, lesion, layer):
    """Feature maps of the whole padded volume, and the gradient of the summed lesion logit there, (1, K, x, y, z)."""
    kept = []
    handle = dict(model.named_modules())[layer].register_forward_hook(lambda *args: kept.append(args[2]))
    target = whole_logits(model, volume.clone().requires_grad_())[0, 1][torch.from_numpy(lesion)].sum()
    handle.remove()
    activations = kept[-1]
    g = torch.autograd.grad(target, activations)[0].double()
    return activations.detach().double(), g


def literal_hires_cam(model, volume, lesion, layer):
    """Gradient of the mean logit times activation, position by position and feature map by feature map."""
    activations, g = literal_layer(model, volume, lesion, layer)
    cam = torch.zeros(g.shape[2:], dtype=torch.double)
    for k in range(g.shape[1]):
        cam += g[0, k] / lesion.sum() * activations[0, k]
    return cam


def literal_grad_cam(model, volume, lesion, layer):
    """Equations 8-10 as written, with the feature maps of the whole padded volume and one weight a position."""
    activations, g = literal_layer(model, volume, lesion, layer)
    total = activations.sum((2, 3, 4), keepdim=True)
    alpha = g**2 / (2 * g**2 + total * g**3)
    alpha[g == 0] = 0
    return F.relu((alpha * F.relu(g) * activations).sum(1))[0]
