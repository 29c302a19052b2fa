"""What made a result: parameters, package versions, git commit."""

import ast
import hashlib
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "torch",
    "monai",
    "pytorch-optimizer",
    "captum",
    "numpy",
    "scipy",
    "pandas",
    "scikit-image",
    "statsmodels",
    "matplotlib",
    "nibabel",
    "nilearn",
)
ROOT = Path(__file__).resolve().parent.parent


def versions():
    """{package: version} of what the numbers depend on, and of Python itself."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def git_commit(root=ROOT):
    """Commit of the code, with ``-dirty`` where tracked files differ from it other than those that a run writes, figures/
    and README.md; "unknown" outside a git checkout."""

    def git(*words):
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!figures", ":!README.md")
    commit = git("rev-parse", "--verify", "--quiet", "HEAD")
    return f"{commit}-dirty" if commit and changed else commit or "unknown"


def describe(notebook, parameters):
    """The record that every table and figure of a notebook carries."""
    return {"notebook": notebook, "parameters": parameters, "commit": git_commit(), "versions": versions()}


def digest(*items):
    """Short hash of JSON-serialisable items and of the bytes of files given as Path: the same digest, the same inputs."""
    total = hashlib.sha256()
    for item in items:
        total.update(item.read_bytes() if isinstance(item, Path) else json.dumps(item, sort_keys=True).encode())
    return total.hexdigest()[:16]


def lib_files(source):
    """Files of ``lib`` that a Python file imports, directly or through other files of ``lib``."""
    found, waiting = set(), [Path(source)]
    while waiting:
        tree = ast.parse(waiting.pop().read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        files = {ROOT / "lib" / f"{name.split('.')[1]}.py" for name in names if name.startswith("lib.")}
        new = {file for file in files if file.exists()} - found
        found |= new
        waiting += new
    return sorted(found)


def code_digest(module):
    """Digest of the code of a module of ``lib`` and of all of ``lib`` that it uses."""
    return digest(Path(module.__file__), *lib_files(module.__file__))


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
