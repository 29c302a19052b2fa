"""Notebooks executed in folders that are named by what they depend on, so that runs share what they have in common.

A stage is one notebook with its parameters after the stage before it. Its folder starts as links to the files of the one
before, and is that of a run: what the notebook reads is there, and what it writes stays there.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tqdm import tqdm

from lib.provenance import ROOT, digest, lib_files, write_atomically

PLACES = ("build", "figures")  # parameters that say where a run lies, and nothing else
WITHOUT_EFFECT = (*PLACES, "scheduler")  # parameters on which no result depends
RUNNER = (sys.executable, "-m", "lib.run.runner", "run")
FILES = ("data", "weights")  # parameters that name files of the user


@dataclass(frozen=True, eq=False)
class Stage:
    """One notebook with its parameters (without the places), the stage before it (None: it is the first), its folder."""

    notebook: Path
    parameters: dict
    parent: "Stage | None"
    folder: Path

    @property
    def done(self):
        return (self.folder / f"{self.notebook.stem}.ipynb").exists()

    @property
    def log(self):
        return self.folder / "log.txt"

    @property
    def lineage(self):
        """This stage and all before it, the first one first."""
        return [*(self.parent.lineage if self.parent else []), self]


def plan_stages(chains, folder):
    """Last stage of each chain of (notebook, parameters); chains that agree up to a notebook share the stages up to it.

    A folder's name is a digest of the parameters, the notebook and its part of lib, here and at every stage before,
    and of the times of the user's files.
    """
    known, last = {}, []
    for chain in chains:
        stage, key = None, ""
        for notebook, parameters in chain:
            own = {name: value for name, value in parameters.items() if name not in PLACES}
            key = digest(key, _decisive(own), _changed(own), _code(notebook))
            stage = known.setdefault(key, Stage(notebook, own, stage, Path(folder, f"{notebook.stem}-{key}")))
        last.append(stage)
    return last


def unfinished(stages):
    """What must run for these stages to be done: each stage once, after the one before it."""
    found = {}
    for stage in stages:
        lineage = stage.lineage
        finished = max((place + 1 for place, one in enumerate(lineage) if one.done), default=0)
        found |= dict.fromkeys(lineage[finished:])
    return list(found)


def adopt_stages(stages, build, figures):
    """Take over what the run of `make paper` has executed with the same parameters and is up to date.

    build, figures: folders of that run.
    """
    for stage in stages:
        if all(_same_parameters(one, build) for one in stage.lineage) and _up_to_date(stage, build, figures):
            names = [one.notebook.stem for one in stage.lineage]
            of_lineage = [Path(build, f"{name}.ipynb") for name in names]
            tables = [
                path for path in Path(figures).iterdir() if path.name.startswith(tuple(name[:3] for name in names))
            ]
            _link(
                build,
                stage.folder,
                ("sweeps", "parameters", "dependencies", "*.ipynb"),
                {"": of_lineage, "figures": tables},
            )


def run_stages(stages, jobs):
    """Run stages, `jobs` notebooks at a time, each once the one before it is done. Returns those that failed.

    stages: as `unfinished` gives them. What follows a failed stage is not run. Notebooks that run at a time share the
    processors. An interruption ends those that run; the same call goes on from there.
    """
    waiting, running, failed = list(stages), {}, []
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
    with tqdm(total=len(waiting), unit="notebook", mininterval=0) as bar:
        try:
            while waiting or running:
                ready = [stage for stage in waiting if stage.parent is None or stage.parent.done]
                for stage in ready[: jobs - len(running)]:
                    waiting.remove(stage)
                    running[_start(stage, environment)] = stage
                    bar.set_postfix_str(", ".join(stage.notebook.stem for stage in running.values()))
                time.sleep(0.2)
                for process in [process for process in running if process.poll() is not None]:
                    stage = running.pop(process)
                    bar.update()
                    if not stage.done:
                        failed.append(stage)
                        waiting = [other for other in waiting if stage not in other.lineage]
        finally:
            for process in running:
                process.send_signal(signal.SIGINT)
            for process in running:
                process.wait()
    return failed


@contextmanager
def one_at_a_time(folder):
    """Keep others from running stages in a folder. Raises ValueError if they do."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another sweep runs in {folder}: wait for it") from None
        yield


def _decisive(parameters):
    return {name: value for name, value in parameters.items() if name not in WITHOUT_EFFECT}


def _changed(parameters):
    """When the user's files were changed; weights with the JSON that describes them."""
    given = {name: ROOT / parameters[name] for name in FILES if parameters.get(name)}
    files = [*given.values()] + ([given["weights"].with_suffix(".json")] if "weights" in given else [])
    return [file.stat().st_mtime_ns for file in files if file.exists()]


@lru_cache
def _code(notebook):
    return digest(notebook, *lib_files(notebook))


def _same_parameters(stage, build):
    file = Path(build, "parameters", f"{stage.notebook.stem}.json")
    if not file.exists():
        return False
    return _decisive(json.loads(file.read_text())) == _decisive(stage.parameters)


def _up_to_date(stage, build, figures):
    """Whether make would not execute the notebook of a stage again."""
    executed = Path(build, f"{stage.notebook.stem}.ipynb")
    known = {name: value for one in stage.lineage for name, value in one.parameters.items()}
    given = [f"{name.upper()}={known.get(name, '')}" for name in FILES]
    command = ["make", "--question", f"BUILD={build}", f"FIGURES={figures}", *given, str(executed)]
    return executed.exists() and subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def _link(source, folder, ignored, further=None):
    """Make folder with links to the files of source but the ignored, and to {folder in it: further files}, at once.

    Nothing writes into a file that is there (see `write_atomically`): what changes on one side stays on the other.
    """
    made = folder.with_name(f".{folder.name}")
    for old in (made, folder):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(source, made, copy_function=_link_file, ignore=shutil.ignore_patterns(*ignored))
    for place, files in (further or {}).items():
        (made / place).mkdir(exist_ok=True)
        for file in files:
            _link_file(file, made / place / file.name)
    made.rename(folder)


def _link_file(source, target):
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def _start(stage, environment):
    """Start the notebook of a stage as a process of its own, its output in the stage's log."""
    name, folder = stage.notebook.stem, stage.folder
    if stage.parent and not folder.exists():
        _link(stage.parent.folder, folder, ["log.txt"])
    parameters = json.dumps(stage.parameters | {"build": str(folder), "figures": str(folder / "figures")}, indent=1)
    write_atomically(folder / "parameters" / f"{name}.json", lambda file: file.write_text(parameters))
    command = [*RUNNER, str(stage.notebook), "--build", str(folder), "--figures", str(folder / "figures")]
    with stage.log.open("w") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
