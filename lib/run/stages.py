"""Notebooks executed in folders that are named by what they depend on, so that runs share what they have in common.

A stage is one notebook with its parameters after the stage before it. Its folder starts as links to the files of the
one before, and is that of a run: what the notebook reads is there, and what it writes stays there.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

from tqdm import tqdm

from lib.provenance import ROOT, digest, lib_files, write_json
from lib.run.parameters import decisive
from lib.run.settings import inputs_of

RUNNER = (sys.executable, "-m", "lib.run.runner")


@dataclass(frozen=True, eq=False)
class Stage:
    """One notebook with its parameters, the stage before it (None: it is the first), its folder."""

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

    A folder's name is a digest of the parameters, the inputs (`inputs_of`), the notebook and its part of lib, here and at
    every stage before.
    """
    known, last = {}, []
    for chain in chains:
        stage, key = None, ""
        for notebook, parameters in chain:
            key = digest(key, decisive(parameters), inputs_of(parameters), _code(notebook))
            stage = known.setdefault(key, Stage(notebook, parameters, stage, Path(folder, f"{notebook.stem}-{key}")))
        last.append(stage)
    return last


def unfinished(stages):
    """What must run for these stages to be done: each stage once, after the one before it."""
    found = {}
    for stage in stages:
        missing = takewhile(lambda one: not one.done, reversed(stage.lineage))
        found |= dict.fromkeys(reversed(list(missing)))
    return list(found)


def adopt_stages(stages, build, figures):
    """Take over what `make paper` has executed in these folders with the same parameters and is up to date."""
    for stage in stages:
        if all(_same(one, build) for one in stage.lineage) and _up_to_date(stage, build, figures):
            names = [one.notebook.stem for one in stage.lineage]
            later = [path.name for path in build.glob("*.ipynb") if path.stem not in names]
            numbers = tuple(name[:3] for name in names)
            others = [path.name for path in figures.iterdir() if not path.name.startswith(numbers)]
            left_out = ["sweeps", "parameters", "inputs", "dependencies", "interrupted", "lock", *later]
            _link(stage.folder, {".": (build, left_out), "figures": (figures, others)})


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


@cache
def _code(notebook):
    return digest(notebook, *lib_files(notebook))


def _same(stage, build):
    """Whether parameters and inputs of a stage are those with which make has executed its notebook in build."""
    files = [build / folder / f"{stage.notebook.stem}.json" for folder in ("parameters", "inputs")]
    if not all(file.exists() for file in files):
        return False
    parameters, inputs = (json.loads(file.read_text()) for file in files)
    return decisive(parameters) == decisive(stage.parameters) and inputs == inputs_of(stage.parameters)


def _up_to_date(stage, build, figures):
    """Whether make would not execute the notebook of a stage again."""
    executed = build / f"{stage.notebook.stem}.ipynb"
    chain = " ".join(one.notebook.stem for one in stage.lineage)
    command = ["make", "--question", f"BUILD={build}", f"FIGURES={figures}", f"CHAIN={chain}"]
    command += [f"COHORT={'' if stage.lineage[0].parameters.get('data') else '00_cohort'}", str(executed)]
    return executed.exists() and subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def _link(folder, sources):
    """Make folder with links to the files of {place in it: (source, names that are left out)}, all at once.

    Nothing writes into a file that is there (see `write_atomically`): what changes on one side stays on the other.
    """
    made = folder.with_name(f".{folder.name}")
    for old in (made, folder):
        shutil.rmtree(old, ignore_errors=True)
    for place, (source, left_out) in sources.items():
        ignore = shutil.ignore_patterns(*left_out)
        shutil.copytree(source, made / place, copy_function=_link_file, ignore=ignore, dirs_exist_ok=True)
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
        _link(folder, {".": (stage.parent.folder, ["log.txt"])})
    places = {"build": str(folder), "figures": str(folder / "figures")}
    write_json(folder / "parameters" / f"{name}.json", stage.parameters | places)
    command = [*RUNNER, str(stage.notebook), "--build", str(folder), "--figures", str(folder / "figures")]
    options = {"cwd": ROOT, "env": environment, "start_new_session": True, "close_fds": False}  # holds the run's lock
    with stage.log.open("w") as log:
        return subprocess.Popen(command, **options, stdout=log, stderr=log)
