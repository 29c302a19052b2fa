"""`make paper` at its start: what is given arrives unchanged, one run at a time in a folder."""

import os
import signal
import subprocess
import sys

import pytest

from lib.provenance import ROOT
from lib.run import paper
from lib.run.paper import one_at_a_time

HOLDER = """
import os, subprocess, sys
from pathlib import Path
from lib.run.paper import one_at_a_time

with one_at_a_time(Path(sys.argv[1])):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    print(subprocess.Popen(["sleep", "60"], close_fds=False, **quiet).pid, flush=True)
    os._exit(0)
"""


def make(*words):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", "--old-file=.venv/.complete", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["DATA", "WEIGHTS", "OUT", "SET", "REAL", "SWEEP"])
@pytest.mark.parametrize(
    "value",
    ["/two  words.tsv", "/it's", '/a "b"', "/$HOME", "/$(shell touch x)", "/`x`", "/a&b;c", "/[1] #2", "/a\\b", "-x"],
)
def test_no_character_is_lost_or_run_on_the_way_through_make_and_the_shell(name, value):
    assert make("paper", f"{name}={value}", f"PYTHON=printenv RUN_{name}; true").stdout == f"{value}\n"
    assert not (ROOT / "x").exists()


def test_data_that_is_not_there_is_named_before_anything_runs():
    done = make("paper", "PROFILE=smoke", "DATA=/no/it's $HOME & more")
    assert done.returncode
    assert "/no/it's $HOME & more does not exist: give a BIDS folder or a scans table" in done.stderr


def test_a_folder_that_make_cannot_have_is_refused_in_a_sentence():
    done = make("paper", "OUT=two words")
    assert "OUT=two words: make takes no ' ' in it; choose another folder" in done.stderr


@pytest.mark.parametrize(
    ("device", "machine", "said"), [("", "", ""), ("cuda", "", "a GPU"), ("", "Linux on aarch64", "Linux on aarch64")]
)
def test_a_machine_with_other_digits_is_said_once(monkeypatch, capsys, tmp_path, device, machine, said):
    monkeypatch.setattr(paper, "other_machine", lambda: machine)
    monkeypatch.setattr(paper.os, "execvpe", lambda *_: None)
    for name, value in {"PROFILE": "smoke", "OUT": str(tmp_path), "DEVICE": device}.items():
        monkeypatch.setenv(f"RUN_{name}", value)
    paper.main()
    line = f"this is {said}: last digits differ from those of x86-64 processors with AVX2\n"
    assert capsys.readouterr().err == (line if said else "")


def test_two_runs_do_not_work_in_one_folder_and_the_lock_is_held_by_those_that_were_started(tmp_path):
    with one_at_a_time(tmp_path), pytest.raises(ValueError, match="another run is at work"), one_at_a_time(tmp_path):
        pass
    with one_at_a_time(tmp_path):
        pass
    (tmp_path / "holder.py").write_text(HOLDER)
    command = [sys.executable, tmp_path / "holder.py", tmp_path]
    started = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    ).stdout
    try:
        with pytest.raises(ValueError, match="another run is at work"), one_at_a_time(tmp_path):
            pass
    finally:
        os.kill(int(started), signal.SIGKILL)
