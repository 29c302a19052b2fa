"""Networks that functions of the user's own code return, <folder>/<package.module>:<function>."""

import sys
import sysconfig
from hashlib import sha256
from importlib import import_module, invalidate_caches
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location

import torch
from torch import nn

from lib.network.published.normalisation import NORMALISATION
from lib.provenance import digest

NOT_THEIRS = {*sys.stdlib_module_names, __name__.partition(".")[0]}  # whatever lies in a folder


def load_function(path):
    """The network that a function returns, and its description.  path: <folder>/<package.module>:<function>.

    The module, and what it imports from its folder, are read anew.  Raises ValueError if the function cannot be called, or
    returns no network.
    """
    module, _, name = path.name.partition(":")
    try:
        found = getattr(_module(str(path.parent.absolute()), module), name)()
    except Exception as error:  # of the user's code
        raise ValueError(f"{path.name} cannot be called: {type(error).__name__}: {error}") from error
    if not isinstance(found, nn.Module):
        raise ValueError(f"{path.name} returns a {type(found).__name__}: let it return a torch.nn.Module")
    values = [
        [name, str(value.dtype), sha256(value.cpu().flatten().view(torch.uint8).numpy()).hexdigest()]
        for name, value in found.state_dict().items()
    ]
    description = {"architecture": {"name": path.name}, "normalisation": NORMALISATION, "threshold": 0.5, "window": 96}
    return found, description | {"digest": digest(values)}


class _Folders:
    """Finds modules in the folders of functions, also those that are imported when a network is called.

    They are found before installed ones of their names, but not before those of Python and of this project. Of several
    folders the one of the last function is searched first.
    """

    def __init__(self):
        self.folders, self.names = [], set()

    def find_spec(self, name, path=None, target=None):
        """As the import system asks for it; a path is that of a package, whose parts are found without help."""
        if path is not None or name in NOT_THEIRS:
            return None
        spec = next(filter(None, (PathFinder.find_spec(name, [folder]) for folder in self.folders)), None)
        if spec and not spec.origin and (other := PathFinder.find_spec(name)) and other.origin:
            return None  # a folder without __init__.py is no module where there is one
        if spec:
            self.names.add(name)
        return spec

    def turn_to(self, folder):
        """Search a folder first, and forget all modules that were found, which may be of another or have changed."""
        for name in list(sys.modules):
            if name.partition(".")[0] in self.names:
                del sys.modules[name]
        self.names.clear()
        if folder not in sysconfig.get_paths().values():  # there every import finds what is installed
            self.folders = [folder, *(other for other in self.folders if other != folder)]
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        invalidate_caches()


_folders = _Folders()


def _module(folder, name):
    """The module of a folder, under another name where its own is that of a module of Python, or of one in use."""
    _folders.turn_to(folder)
    top, dot, rest = name.partition(".")
    spec = PathFinder.find_spec(top, [folder])
    if spec is None:
        raise ModuleNotFoundError(f"there is no {top}.py in {folder}")
    if top not in NOT_THEIRS and top not in sys.modules:
        return import_module(name)
    if not spec.origin:
        raise ImportError(f"{top} is the name of another module: give the folder {top} an __init__.py, or another name")
    own = f"own_{top}"
    spec = spec_from_file_location(own, spec.origin, submodule_search_locations=spec.submodule_search_locations)
    _folders.names.add(own)
    sys.modules[own] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[own])
    return import_module(own + dot + rest)
