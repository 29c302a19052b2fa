"""The paper's networks and others of MONAI, by name."""

import torch


def build_network(name="unet", **architecture):
    """A 3D segmentation network with input (B, 2, X, Y, Z) and logits (B, 2, X, Y, Z) of background and lesion.

    "unet" with channels (32, 64, 128, 256, 512) and strides (2, 2, 2, 2) is the paper's network: batch normalisation, PReLU,
    no residual units, convolutions initialised Xavier-normal.
    "dynunet" is the nnU-Net-like network of the paper's third version, with its channels and strides as defaults.
    "swinunetr" takes the arguments of MONAI's SwinUNETR; sizes are multiples of 32, at least one of them larger than 32.
    Raises ValueError for an unknown name.
    """
    builders = {"unet": _unet, "dynunet": _dynunet, "swinunetr": _swinunetr}
    if name not in builders:
        raise ValueError(f"unknown network {name!r}: choose one of {', '.join(builders)}")
    return builders[name](**architecture)


def _unet(**architecture):
    from monai.networks.nets import UNet

    network = UNet(spatial_dims=3, in_channels=2, out_channels=2, norm="batch", num_res_units=0, **architecture)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            torch.nn.init.xavier_normal_(module.weight)
    return network


def _dynunet(channels=(16, 32, 64), strides=(1, 2, 2)):
    """Residual blocks of kernel 3, instance normalisation, leaky ReLU, dropout 0.1; no deep supervision."""
    from monai.networks.nets import DynUNet

    return DynUNet(
        spatial_dims=3, in_channels=2, out_channels=2, kernel_size=[3] * len(channels), strides=strides,
        upsample_kernel_size=strides[1:], filters=channels, dropout=0.1, res_block=True,
    )  # fmt: skip


def _swinunetr(**architecture):
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(in_channels=2, out_channels=2, **architecture)
