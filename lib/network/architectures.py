"""The paper's networks and others of MONAI, by name."""

import copy

import torch
from torch import nn


def build_network(name="unet", *, in_channels=2, out_channels=2, **architecture):
    """A 3D segmentation network with input (B, 2, X, Y, Z) and logits (B, 2, X, Y, Z) of background and lesion.

    "unet" with channels (32, 64, 128, 256, 512) and strides (2, 2, 2, 2) is the paper's network: batch normalisation, PReLU,
    no residual units, convolutions initialised Xavier-normal.
    "dynunet" is the nnU-Net-like network of the paper's third version, with its channels and strides as defaults.
    "swinunetr" takes the arguments of MONAI's SwinUNETR; sizes are multiples of 32, at least one of them larger than 32.
    in_channels, out_channels: of a network that is then adapted.  Raises ValueError for an unknown name.
    """
    from monai.networks import nets  # importing it takes seconds

    channels = {"in_channels": in_channels, "out_channels": out_channels}
    match name:
        case "unet":
            network = nets.UNet(3, **channels, norm="batch", num_res_units=0, **architecture)
            for module in network.modules():
                if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                    nn.init.xavier_normal_(module.weight)
            return network
        case "dynunet":
            return nets.DynUNet(3, **channels, **_dynunet(**architecture))
        case "swinunetr":
            return nets.SwinUNETR(**channels, **architecture)
    raise ValueError(f"unknown network {name!r}: choose one of unet, dynunet, swinunetr")


@torch.no_grad()
def check_side(model, side, name):
    """Raises ValueError if a network of two channels and classes does not take cubic patches of `side` voxels a side:
    tried on shapes, without values.  name: of that number, for the error."""
    patch = torch.empty(1, 2, *(side,) * 3, device="meta")
    try:
        found = tuple(copy.deepcopy(model).to("meta").eval()(patch).shape)
    except Exception as error:  # of the network's own kind
        found = error
    if found != tuple(patch.shape):
        raise ValueError(
            f"{name} is {side}, but of {tuple(patch.shape)} the network makes: {found}; choose a multiple of its strides"
        )


def _dynunet(channels=(16, 32, 64), strides=(1, 2, 2)):
    """Residual blocks of kernel 3, instance normalisation, leaky ReLU, dropout 0.1; no deep supervision."""
    sizes = {"kernel_size": [3] * len(channels), "strides": strides, "upsample_kernel_size": strides[1:]}
    return {"filters": channels, "dropout": 0.1, "res_block": True, **sizes}
