"""Weights from a file of any tool into a network: by content, without running what a file holds, all of them or none."""

import re
from collections import Counter

import torch
from safetensors.torch import load_file

POINTERS = [(b"version https://git-lfs", "Git LFS", "git lfs pull"), (b"/annex/objects/", "git-annex", "git annex get")]
LARGEST_HEADER = 100 * 2**20  # bytes, of safetensors
# In front of the names of parameters, put there by training loops and wrappers; an average of weights is elsewhere.
PLAIN = {"state_dict", "model_state_dict", "network_weights", "weights", "model", "network", "net", "module"}
COMPILED = "_orig_mod."  # torch.compile puts it in front of the parameters of whatever part it compiles
WITHOUT_EFFECT = "num_batches_tracked"


class _Skipped:
    """In place of what training loops keep beside weights, such as options and numbers of numpy (nnU-Net)."""

    def __init__(self, *values):
        pass

    def __setstate__(self, state):
        pass


NAMES = [f"builtins.{name}" for name in ["frozenset", "slice", "range", "list", "dict", "int", "float", "str", "bool"]]
NAMES += ["argparse.Namespace", "datetime.datetime", "numpy.dtype", "numpy.ndarray"]
NAMES += [f"pathlib.{inner}{system}Path" for inner in ("", "_local.") for system in ("Posix", "Windows")]
NAMES += [f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")]
DATA = [_Skipped, *((_Skipped, name) for name in NAMES)]
DATA += [(lambda *_: {}, "collections.defaultdict"), (lambda *_: [], "collections.deque")]  # torch fills only these two


def load_checkpoint(network, path, said="in the JSON beside it"):
    """Load weights into a network.  path: pathlib.Path of safetensors, or of what torch.save made of tensors.
    said: where the architecture is from, for errors.

    They may lie anywhere in the file, such as in "state_dict" or with "module." before their names; half or double
    precision becomes that of the network. Raises ValueError that names the file, and the first parameters, if the file
    is not readable without running code, if a parameter is missing, left over, of another shape or not finite, or if
    several sets of weights fit.
    """
    tensors = {name.replace(COMPILED, ""): value for name, value in checkpoint_tensors(path)}
    same = {}  # names of one tensor that the network uses several times; a file may have only one of them
    for name, value in network.state_dict().items():
        same.setdefault((value.data_ptr(), value.shape) if value.numel() else name, []).append(name)
    names = {name: group for group in same.values() for name in group}

    def missing(prefix):
        return [
            name for name, group in names.items()
            if not name.endswith(WITHOUT_EFFECT) and not any(prefix + one in tensors for one in group)
        ]  # fmt: skip

    prefix = _choose(Counter(_prefixes(tensors, names)), missing, path)
    found, unlike = {}, []
    for name, wanted in network.state_dict().items():
        value = next((tensors[prefix + one] for one in (name, *names[name]) if prefix + one in tensors), wanted)
        if value.shape != wanted.shape or (wanted.is_floating_point() and not value.is_floating_point()):
            unlike.append(f"{name} as {_kind(value)} in place of {_kind(wanted)}")
        elif value.is_meta:
            unlike.append(f"{name} without its values (a meta tensor)")
        else:
            found[name] = value.to_dense()
    here = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
    left = [name for name in here if name not in names and not name.endswith(WITHOUT_EFFECT)]
    wrong = {"lacks": missing(prefix), "has besides": left, "has": unlike}
    if unfit := [f"{what} {_few(some)}" for what, some in wrong.items() if some]:
        raise ValueError(f"{path} is not of the architecture {said}: it {'; it '.join(unfit)}")
    network.load_state_dict(found)
    if broken := [name for name, value in network.state_dict().items() if not value.isfinite().all()]:
        raise ValueError(f"{path} holds NaN or infinite values, in {_few(broken)}: its training has failed")


def checkpoint_tensors(path):
    """(name, tensor) of all tensors in a file, without running what it holds; a name is the keys on the way, with dots.

    Raises ValueError as `load_checkpoint`."""
    return _tensors(read_checkpoint(path))


def read_checkpoint(path):
    """What a file holds: tensors in dicts and lists. Nothing in it is run: classes and functions are refused."""
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if file.suffix in (".safetensors", ".pt", ".pth", ".ckpt"))
        raise ValueError(
            f"{path} is a folder: give the file of the weights{', such as ' if files else ''}{', '.join(files[:3])}"
        )
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ValueError(f"{path} is empty: copy it again")
    for mark, tool, fetch in POINTERS:
        if mark in head:
            raise ValueError(f"{path} is a pointer of {tool}, not the weights themselves: fetch them by `{fetch}`")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise ValueError(f"{path} is a web page, not weights: download the file that the page shows")
    try:
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= LARGEST_HEADER:
            return load_file(path)
        with path.open("rb") as file, torch.serialization.safe_globals(DATA):  # of a path torch looks at the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of a broken file torch raises whatever its parts do
        reason = str(error)
    if "TorchScript" in reason:
        held = "a TorchScript program"
    elif "data.pkl" in reason:
        held = "another archive than torch.save makes, such as a program of torch.export"
    elif unknown := re.search(r"GLOBAL (\S+)|got <class '(\S+)'>", reason):
        held = f"Python objects ({unknown[1] or unknown[2]})"
    else:
        raise ValueError(f"{path} is neither safetensors nor a PyTorch checkpoint, or is not complete: copy it again")
    raise ValueError(
        f"{path} holds {held}, which would run code when it is read: where it was made, save the weights alone, "
        "torch.save(network.state_dict(), file)"
    )


def _tensors(value, name=""):
    """(name, tensor) of all tensors in nested dicts and lists; a name is the keys on the way, with dots."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(part, f"{name}.{key}" if name else str(key))


def _prefixes(tensors, names):
    """What stands before the name of a parameter of the network, for each tensor whose name ends with one."""
    for name in tensors:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in names:
                yield "".join(f"{part}." for part in parts[:start])


def _choose(prefixes, missing, path):
    """The prefix under which all parameters are, of several the one made of plain names; the nearest if there is none."""
    fitting = [prefix for prefix in prefixes if not missing(prefix)]
    if len(fitting) < 2:
        return fitting[0] if fitting else max(prefixes, key=prefixes.get, default="")
    plain = [prefix for prefix in fitting if PLAIN.issuperset(prefix.split(".")[:-1])]
    sets = ", ".join(prefix[:-1] or "(top)" for prefix in fitting)
    if len(plain) != 1:
        raise ValueError(
            f"{path} holds {len(fitting)} sets of weights that fit ({sets}): save the one that is meant alone"
        )
    print(f"{path}: of the weights in {sets}, those in {plain[0][:-1] or '(top)'} are taken")
    return plain[0]


def _kind(tensor):
    return f"{tuple(tensor.shape)} {tensor.dtype}".replace("torch.", "")


def _few(names):
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
