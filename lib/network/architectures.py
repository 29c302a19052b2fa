"""The paper's networks and others of MONAI, by name."""

import contextlib

import torch
from torch import nn

from lib.exact import copied, like_model, n_channels

PROBE = 96  # voxels a side, a multiple of most networks' strides


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


def named_layer(model, layer=""):
    """Name, in `model.named_modules()`, of the layer whose feature maps Grad-CAM++ weights.

    layer: name of a module, as the network itself has it also where an `Adapter` is around it. Empty: the end of the decoder
    one level below the output, of the networks of `build_network`, also wrapped: "model.1.submodule.2.conv" of UNet, its
    transposed convolution; the block that ends that level of UNet with residual units ("model.1.submodule.2") or of two
    levels ("model.1.submodule"), of DynUNet ("upsamples.1" of four levels) and of SwinUNETR ("decoder2").
    Raises ValueError, with a module that may do, if there is none of that name, or of such a network.
    """
    if not layer:
        return _decoder_layer(model)
    found = {name.removeprefix("network."): name for name, _ in model.named_modules() if name}
    if layer not in found and layer not in found.values():
        raise ValueError(f"the network has no layer {layer!r}: {_advice(model)}")
    return layer if layer in found.values() else found[layer]


def _decoder_layer(model):
    from monai.networks import nets  # importing it takes seconds

    found, modules = [], dict(model.named_modules())
    for name, network in modules.items():
        match network:
            case nets.UNet():  # plain, with residual units, of two levels
                ends = [f"model.1.submodule{end}" for end in (".2.conv", ".2", "")]
            case nets.DynUNet():
                ends = [f"upsamples.{len(network.upsamples) - 2}"]
            case nets.SwinUNETR():
                ends = ["decoder2"]
            case _:
                continue
        ends = [f"{name}.{end}".removeprefix(".") for end in ends]
        found.append(next((end for end in ends if end in modules), None))
    if len(found) != 1 or found[0] is None:
        kind = type(getattr(model, "network", model)).__name__
        raise ValueError(f"which layer of {kind} Grad-CAM++ takes is not known: {_advice(model)}")
    return found[0]


@torch.inference_mode(False)
@torch.enable_grad()
def _advice(model):
    """How to name a layer, with the module that is the last to return feature maps of half the resolution that matter."""
    network, seen = copied(model).to("meta").eval(), []
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *called, name=name: seen.append((name.removeprefix("network."), called[2])))
    half, shape = [], (PROBE // 2,) * 3
    with contextlib.suppress(Exception):  # whatever a stranger's network raises on shapes alone
        probe = torch.empty(1, n_channels(model), *(PROBE,) * 3, device="meta")
        logits = network(like_model(network, probe).requires_grad_())
        maps = [
            (name, values) for name, values in seen if isinstance(values, torch.Tensor) and values.shape[2:] == shape
        ]
        used = torch.autograd.grad(logits[:, 1].sum(), [values for _, values in maps], allow_unused=True)
        half = [name for (name, _), gradient in zip(maps, used, strict=True) if gradient is not None]
    once = [name for name in half if [other for other, _ in seen].count(name) == 1]
    such = f', such as SET="layer={once[-1]}", the last at half the resolution' if once else ""
    return f"name one of its modules (layer){such}"


@torch.no_grad()
def check_side(model, side, name):
    """Raises ValueError if a network of two channels and classes does not take cubic patches of `side` voxels a side:
    tried on shapes, without values.  name: of that number, for the error."""
    patch = torch.empty(1, 2, *(side,) * 3, device="meta")
    try:
        found = tuple(copied(model).to("meta").eval()(patch).shape)
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
