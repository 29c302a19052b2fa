"""What made a result: parameters, package versions, git commit."""

import ast
import hashlib
import inspect
import json
import os
import platform
import shutil
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from lib.digits import KERNELS

NETWORKS = ("torch", "monai", "pytorch-optimizer", "captum")
NUMBERS = ("numpy", "scipy", "pandas", "scikit-image", "scikit-learn", "statsmodels")
IMAGES = ("matplotlib", "nibabel", "nilearn")
OF_WEIGHTS = (".json", ".yaml", ".yml", ".pth", ".pt", ".safetensors")  # in folders of networks
ROOT = Path(__file__).resolve().parent.parent


@cache
def versions():
    """{package: version} of what the numbers depend on, of Python itself, and where the kernels come from."""
    return {"python": platform.python_version(), "kernels": KERNELS} | {
        name: metadata.version(name) for name in NETWORKS + NUMBERS + IMAGES
    }


def git_commit(root=ROOT):
    """Commit of the code, ``-dirty`` where tracked files differ but for those that a run writes (figures/, README.md);
    "unknown" outside a git checkout."""

    def git(*words):
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!figures", ":!README.md")
    commit = git("rev-parse", "--verify", "--quiet", "HEAD")
    return f"{commit}-dirty" if commit and changed else commit or "unknown"


def run_record(notebook, parameters):
    """The record that every table and figure of a notebook carries."""
    return {"notebook": notebook, "parameters": parameters, "commit": git_commit(), "versions": versions()}


def digest(*items):
    """Short hash of JSON-serialisable items and of the bytes of files given as Path: same digest, same inputs."""
    total = hashlib.sha256()
    for item in items:
        total.update(item.read_bytes() if isinstance(item, Path) else json.dumps(item, sort_keys=True).encode())
    return total.hexdigest()[:16]


def names_function(path):
    """Whether what is given as weights is a function, <folder>/<package.module>:<function>."""
    return ":" in path.name and not path.exists()


def description_file(path):
    """The JSON beside weights: model.json of model.pth or model.tar.xz, and <name>.json of a folder or a function."""
    if path.is_dir() or names_function(path):
        return path.with_name(f"{path.name}.json")
    return path.with_name(path.name.removesuffix(".xz")).with_suffix(".json")


def weight_files(path):
    """The files of what is given as weights: the file, or those of a folder that networks are read from, and the JSON
    beside it."""
    beside = description_file(path)
    inside = path.rglob("*") if path.is_dir() else [path]
    suffixes = OF_WEIGHTS if path.is_dir() else (path.suffix,)
    files = sorted(file for file in inside if file.suffix in suffixes and file.is_file())
    return [*files, *([beside] if beside.is_file() else [])]


def lib_files(source):
    """Files of ``lib`` that a Python file imports, directly or through other files of ``lib``: of a room, those that
    define the names that are imported."""
    found, waiting = set(), [Path(source)]
    while waiting:
        imports = [node for node in ast.walk(ast.parse(waiting.pop().read_text())) if isinstance(node, ast.ImportFrom)]
        of_lib = [node for node in imports if node.module and node.module.startswith("lib.")]
        new = {_defining_file(node.module, alias.name) for node in of_lib for alias in node.names} - found
        found |= new
        waiting += new
    return sorted(found)


def _defining_file(module, name):
    """The file of ``lib`` that a name imported from a module or a room stands in."""
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir():
        return _defining_file(f"{module}.{_room(path).get(name, name)}", name)
    return path.with_suffix(".py")


@cache
def _room(folder):
    """{name: module} that a room hands out, from the table in its ``__init__.py``."""
    tree = ast.parse((folder / "__init__.py").read_text())
    table = next(node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "submod_attrs")
    return {name: module for module, names in ast.literal_eval(table).items() for name in names}


@cache
def code_digest(function):
    """Digest of the file of ``lib`` that a function stands in, of all of ``lib`` that this file uses, and of `versions`."""
    file = inspect.getsourcefile(function)
    return digest(Path(file), *lib_files(file), versions())


def kept_folder(folder, *inputs):
    """A folder of results that can be used again: emptied if they were made from other inputs than these (JSON-like)."""
    made_from, record = digest(*inputs), folder / "inputs.txt"
    if not record.exists() or record.read_text() != made_from:
        shutil.rmtree(folder, ignore_errors=True)
        write_atomically(record, lambda file: file.write_text(made_from))
    return folder


def write_atomically(path, write):
    """Let ``write(temporary)`` write a file, then give it its name: it appears complete or not at all.

    The temporary name keeps the suffixes of `path`, from which writers take the format.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path, content):
    """Write what JSON can hold to a file, which appears complete or not at all."""
    write_atomically(path, lambda file: file.write_text(json.dumps(content, indent=1) + "\n"))
