"""What a run is asked for, as the Makefile hands it on: its folders, the notebooks it runs, their parameters and inputs."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from lib.provenance import ROOT, digest, names_function, versions, weight_files, write_atomically
from lib.run.parameters import resolve, with_changes
from lib.run.runner import NOTEBOOKS
from lib.scans import FILES, find_scans, split_source

SHIPPED_WEIGHTS = "weights/unet.safetensors"
ANYWHERE = {"scheduler": ""}  # where numbers are computed, not which


@dataclass(frozen=True)
class Settings:
    """Variables of the Makefile, as they were written; empty: not given.  Raises ValueError for those that cannot be used."""

    profile: str = "demo"
    data: str = ""
    train: str = ""
    weights: str = ""
    out: str = "."
    device: str = ""
    scheduler: str = ""
    set: str = ""
    only: str = ""
    jobs: str = "2"

    def __post_init__(self):
        if odd := sorted(set(re.findall(r"[^\w./+@,~-]", self.out))):
            raise ValueError(f"OUT={self.out}: make takes no {' '.join(map(repr, odd))} in it; choose another folder")
        if not self.jobs.isdecimal() or not int(self.jobs):
            raise ValueError(f"JOBS={self.jobs}: give the number of notebooks that run at a time, 1 or more")
        if self.only and self.only not in (names := [path.stem for path in self.notebooks]):
            raise ValueError(f"ONLY={self.only}: this run has no such notebook; give one of {', '.join(names)}")

    @classmethod
    def given(cls):
        """Those in the environment, RUN_DATA and others."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: os.environ[f"RUN_{name.upper()}"] for name in names if f"RUN_{name.upper()}" in os.environ})

    @property
    def network(self):
        """Weights that are used: given ones, or else, for scans of one's own, those that come with the project."""
        return self.weights or (SHIPPED_WEIGHTS if self.data and not self.train else "")

    @property
    def notebooks(self):
        """Those that run, in their order: without the training where weights are given."""
        return [path for path in NOTEBOOKS if not (self.network and path.stem == "02_training")]

    @property
    def name(self):
        """Of the run: its profile and, with scans of one's own, name and digest of the path of their folder or table."""
        if not self.data:
            return self.profile
        path = _absolute(self.data)
        name = re.sub(r"[^\w.+-]+", "_", path.stem)
        return f"{self.profile}-{name}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:6]}"

    @property
    def build(self):
        return Path(self.out, "build", self.name).expanduser()

    @property
    def figures(self):
        return Path(self.out, "figures", self.name).expanduser()

    def parameters(self):
        """{notebook: parameters}. Raises ValueError as `resolve`."""
        try:
            changes = shlex.split(self.set)
        except ValueError as error:
            raise ValueError(f"SET={self.set}: {error}") from None
        resolved = resolve(NOTEBOOKS, ROOT / "notebooks" / "params" / f"{self.profile}.yml", changes)
        paths = {"data": self.data, "weights": self.network}
        given = {name: str(_absolute(path)) for name, path in paths.items() if path}
        given |= {name: getattr(self, name) for name in ("device", "scheduler") if getattr(self, name)}
        given |= {"build": str(self.build), "figures": str(self.figures)}
        return with_changes(resolved, [(*change, "command line") for change in given.items()])


def _absolute(path):
    name, path = split_source(path)
    return Path((name and f"{name}:") + os.path.normpath(path.absolute()))


def inputs_of(parameters):
    """What the results of a notebook depend on beside parameters and code (JSON-like): versions of packages, files of the
    user with their sizes and dates, contents of weights.  Raises ValueError if there are no such scans or weights."""
    found = {"versions": versions()}
    paths = {name: ROOT / parameters[name] for name in ("data", "real", "weights", "initial") if parameters.get(name)}
    for name, path in paths.items():
        if name in ("data", "real"):
            table = find_scans(path, parameters.get("choose", "") if name == "data" else "")
            files = [Path(file) for file in table[FILES].to_numpy().ravel() if file]
            found[name] = {
                str(file): file.exists() and [file.stat().st_size, file.stat().st_mtime_ns] for file in files
            }
        else:
            found[name] = [digest(file) for file in weight_files(path)]
            if names_function(path):
                found[name].append(_digest_of_function(path))
    return found


@cache
def _digest_of_function(path):
    """Of the network that a function returns, wherever its weights lie.  Raises CalledProcessError, after saying why."""
    command = [sys.executable, "-m", "lib.network.loaded", f"digest={path}"]  # which is above this room
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()[-1]


def _elsewhere(text):
    """Content of a file as it would be if it were computed in another place; None if it is damaged."""
    try:
        return json.loads(text) | ANYWHERE
    except ValueError:
        return None


def write_parameters(resolved, build):
    """Write `<build>/parameters/<notebook>.json` and `<build>/inputs/<notebook>.json` (`inputs_of`).

    Only those that change are touched, so that make runs only these again: a file in which nothing else than the
    scheduler changes keeps its date.
    """
    for notebook, parameters in resolved.items():
        for folder, content in (("parameters", parameters), ("inputs", inputs_of(parameters))):
            path, text = Path(build, folder, f"{notebook}.json"), json.dumps(content, indent=1) + "\n"
            before = path.read_text(errors="replace") if path.exists() else ""
            if before != text:
                date = path.stat().st_mtime_ns if _elsewhere(before) == _elsewhere(text) else None
                write_atomically(path, lambda file, text=text: file.write_text(text))
                if date:
                    os.utime(path, ns=(date, date))
