"""The networks of LST-AI 2 (Wiltgen et al. 2024, NeuroImage: Clinical 42): three U-Nets of FLAIR and T1w, averaged.

Each file holds "config", numbers that describe the U-Net, and "state_dict", its tensors. A level is a strided
convolution and two convolutions, each with a normalisation of every channel by itself (group norm) and a leaky ReLU.
"""

import torch
from torch import nn

from lib.network.checkpoints import load_checkpoint, read_checkpoint
from lib.network.published.adapter import Adapter, MeanProbability
from lib.network.published.normalisation import RANGE

FILES = [f"UNet3D_MS_final_mdl{letter}.pt" for letter in "ABC"]
CHANNELS = ("FLAIR", "MPRAGE")
WINDOW = 192  # voxels, in the middle of a scan in MNI space at 1 mm
NUMBERS = {"in_channels", "n_conv_blocks", "n_filters", "n_classes", "ds_layers", "bottleneck_filters"}


def is_lst(path):
    return path.is_dir() and any((path / file).exists() for file in FILES)


def load_lst(path):
    """The mean of the three networks, and its description.  Raises ValueError if a file is missing or of other numbers."""
    if missing := [file for file in FILES if not (path / file).exists()]:
        raise ValueError(f"{path} has no {', '.join(missing)}: LST-AI averages three networks, copy all of them")
    networks = []
    for file in FILES:
        kept = read_checkpoint(path / file)
        config = kept.get("config") if isinstance(kept, dict) else None
        if not isinstance(config, dict) or not set(config) <= NUMBERS or config.get("in_channels", 2) != 2:
            raise ValueError(f"{path / file} is not as LST-AI 2 writes it: its config is {config}")
        network = LstUNet(**config)
        load_checkpoint(network, path / file, "in its config")
        networks.append(Adapter(network, channels=CHANNELS, output="sigmoid"))
    architecture = {"name": "LST-AI, mean of three U-Nets"}
    settings = {"normalisation": RANGE, "threshold": 0.5, "window": WINDOW, "blend": "centre", "spacing_mm": [1.0] * 3}
    return MeanProbability(networks).eval(), {"architecture": architecture, **settings}


class LstUNet(nn.Module):
    """One network: (N, 2, X, Y, Z) FLAIR and T1w -> list of lesion probabilities (N, 1, ...), the first on the grid.

    n_filters: feature maps of the first level; level i has i times as many.  bottleneck_filters: of the deepest level.
    ds_layers: of further, coarser outputs, counted from the last decoder level. Sides are multiples of 2**n_conv_blocks.
    """

    def __init__(
        self, in_channels=2, n_conv_blocks=5, n_filters=32, n_classes=1, ds_layers=(), bottleneck_filters=None
    ):  # fmt: skip
        super().__init__()
        sizes = [n_filters * level for level in range(1, n_conv_blocks + 1)]
        deepest, below = bottleneck_filters or sizes[-1], sizes[:-1]
        self.stem = _Block(_convolved(in_channels, sizes[0]), _convolved(sizes[0], sizes[0]))
        self.enc_down = nn.ModuleList([_Block(_halved(*pair)) for pair in zip(below, sizes[1:], strict=True)])
        self.enc_conv = nn.ModuleList([_Block(_convolved(size, size), _convolved(size, size)) for size in sizes[1:]])
        self.bottleneck_down = _Block(_halved(sizes[-1], deepest))
        self.bottleneck_conv = _Block(_convolved(deepest, deepest), _convolved(deepest, deepest))
        upwards = sizes[::-1]
        self.dec_up = nn.ModuleList(
            [_Block(_doubled(*pair)) for pair in zip([deepest, *upwards[:-1]], upwards, strict=True)]
        )
        self.dec_conv = nn.ModuleList([_Block(_convolved(2 * size, size), _convolved(size, size)) for size in upwards])
        self.out_seg = nn.Conv3d(sizes[0], n_classes, 1)
        self.ds_layers = list(ds_layers)
        self.ds_heads = nn.ModuleList([nn.Conv3d(upwards[layer], n_classes, 1) for layer in ds_layers])

    def forward(self, x):
        levels = [self.stem(x)]
        for down, block in zip(self.enc_down, self.enc_conv, strict=True):
            levels.append(block(down(levels[-1])))
        decoded = [self.bottleneck_conv(self.bottleneck_down(levels[-1]))]
        for up, block, level in zip(self.dec_up, self.dec_conv, reversed(levels), strict=True):
            decoded.append(block(torch.cat([level, up(decoded[-1])], 1)))
        coarser = [head(decoded[layer]) for head, layer in zip(self.ds_heads, self.ds_layers, strict=True)]
        return [logit.sigmoid() for logit in (self.out_seg(decoded[-1]), *coarser)]


class _Block(nn.Module):
    """Convolutions, each normalised channel by channel, with the constants of the networks' training."""

    def __init__(self, *convolutions):
        super().__init__()
        parts = []
        for convolution in convolutions:
            size = convolution.out_channels
            parts += [convolution, nn.GroupNorm(size, size, eps=1e-3), nn.LeakyReLU(0.3)]
        self.block = nn.Sequential(*parts)

    def forward(self, x):
        return self.block(x)


def _convolved(given, made):
    return nn.Conv3d(given, made, 3, padding=1, bias=False)


def _halved(given, made):
    return nn.Conv3d(given, made, 4, stride=2, padding=1, bias=False)


def _doubled(given, made):
    return nn.ConvTranspose3d(given, made, 4, stride=2, padding=1, bias=False)
