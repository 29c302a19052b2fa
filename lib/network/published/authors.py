"""The checkpoints that the paper's authors publish: U-Net, nnU-Net-like DynUNet and Swin UNETR, told from their tensors.

A checkpoint is the state of a `DataParallel` (names begin with "module."), in a .pth or alone in a .tar.xz.
"""

import itertools
import tarfile
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

from lib.network.architectures import build_network
from lib.network.checkpoints import checkpoint_tensors, load_checkpoint
from lib.network.published.normalisation import NORMALISATION
from lib.provenance import description_file

ARCHIVE = ".tar.xz"
PARALLEL = "module."
THRESHOLDS = {"unet": 0.3, "dynunet": 0.4, "swinunetr": 0.4}  # of the paper
WINDOW = 96  # voxels, of the paper


def is_authors(path):
    if path.name.endswith(ARCHIVE):
        return True
    if not path.is_file() or description_file(path).exists():
        return False
    return all(name.startswith(PARALLEL) for name, _ in checkpoint_tensors(path))


def load_authors(path):
    """Network of a published checkpoint, and its description.  Raises ValueError if it is of no network of the paper.

    A warning says what is taken for granted of a file, which may be of any training on several GPUs.
    """
    with _unpacked(path) as file:
        try:
            shapes = {name.removeprefix(PARALLEL): tuple(value.shape) for name, value in checkpoint_tensors(file)}
            architecture = told_architecture(shapes)
            if architecture is None:
                raise ValueError(
                    f"{file} has the tensors of none of the paper's networks: describe it in a JSON beside"
                )
            network = build_network(**architecture).eval()
            load_checkpoint(network, file, f"told from its tensors, {_as_text(architecture)}")
        except ValueError as error:
            raise ValueError(str(error).replace(str(file), str(path))) from None
    threshold = THRESHOLDS[architecture["name"]]
    settings = {"normalisation": NORMALISATION, "threshold": threshold, "window": WINDOW}
    if not path.name.endswith(ARCHIVE):
        warnings.warn(
            f"{path} has no JSON beside it and is taken for the paper's {_as_text(architecture)}, with the paper's strides, "
            f"activations and normalisation, threshold {threshold} and window {WINDOW}: if it is of another training, "
            f"describe it in {description_file(path).name}",
            stacklevel=2,
        )
    return network, {"architecture": architecture, **settings}


def told_architecture(shapes):
    """Arguments of `build_network`, from the shapes of its tensors by name; None if they are of another network.

    The strides of the U-Net leave no trace in its tensors: they are the paper's, 2.
    """
    if "model.0.conv.weight" in shapes:
        below = (f"model.{'1.submodule.' * level}0.conv.weight" for level in itertools.count())
        channels = [shapes[name][0] for name in itertools.takewhile(shapes.__contains__, below)]
        bottom = shapes.get(f"model.{'1.submodule.' * len(channels)}conv.weight")
        channels += [bottom[0]] if bottom else []
        return {"name": "unet", "channels": channels, "strides": [2] * (len(channels) - 1)}
    if "input_block.conv1.conv.weight" in shapes:
        n_down = len({name.split(".")[1] for name in shapes if name.startswith("downsamples.")})
        blocks = ["input_block", *(f"downsamples.{level}" for level in range(n_down)), "bottleneck"]
        kernels = [shapes[f"upsamples.{level}.transp_conv.conv.weight"][2] for level in range(n_down + 1)]
        channels = [shapes[f"{block}.conv1.conv.weight"][0] for block in blocks]
        return {"name": "dynunet", "channels": channels, "strides": [1, *reversed(kernels)]}
    if "swinViT.patch_embed.proj.weight" in shapes:
        tables = [
            [
                shape
                for name, shape in shapes.items()
                if name.startswith(f"swinViT.layers{stage}.") and "bias_table" in name
            ]
            for stage in range(1, 5)
        ]
        sizes = {"depths": [len(stage) for stage in tables], "num_heads": [stage[0][1] for stage in tables]}
        return {"name": "swinunetr", "feature_size": shapes["swinViT.patch_embed.proj.weight"][0], **sizes}
    return None


def _as_text(architecture):
    sizes = ", ".join(f"{name} {value}" for name, value in architecture.items() if name != "name")
    return f"{architecture['name']} ({sizes})"


@contextmanager
def _unpacked(path):
    """The one .pth of an archive, written where it is removed again; a file that is none as it is."""
    if not path.name.endswith(ARCHIVE):
        yield path
        return
    try:
        with tempfile.TemporaryDirectory() as folder, tarfile.open(path, "r:xz") as archive:
            members = [one for one in archive if one.isfile() and one.name.endswith((".pth", ".pt"))]
            if len(members) != 1:
                raise ValueError(f"{path} holds {len(members)} files .pth: give the one that is meant")
            file = Path(folder, "checkpoint.pth")
            file.write_bytes(archive.extractfile(members[0]).read())
            yield file
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path} is no archive .tar.xz, or is not complete ({error}): copy it again") from None
