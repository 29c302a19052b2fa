"""The same digits on every x86-64 processor: the settings reach every process, and emulated processors compute the same."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from lib import digits
from lib.provenance import ROOT, versions

PROCESSORS = ["Haswell", "EPYC-Rome"]  # models of qemu-x86_64: Intel and AMD, both with AVX2 and without AVX-512
IN_FORCE = """
print(torch.backends.cpu.get_cpu_capability(), numpy._core._multiarray_umath.__cpu_features__["X86_V4"])
print({(one["architecture"], one["num_threads"]) for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"})
"""

pytestmark = pytest.mark.skipif(
    bool(digits.other_machine()), reason=f"needs Linux on x86-64 with AVX2, this is {digits.other_machine()}"
)


def python(*words, before=(), **changes):
    """What Python prints, started from a shell without these settings."""
    bare = {name: value for name, value in os.environ.items() if name not in digits.SETTINGS}
    command = [*before, sys.executable, *words]
    return subprocess.run(command, cwd=ROOT, env=bare | changes, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("first", ["lib, ", ""])
def test_kernels_are_those_of_avx2_if_lib_is_imported_first_or_the_environment_says_so(first):
    settings = {} if first else digits.SETTINGS
    done = python("-c", f"import {first}numpy, scipy.linalg, torch, threadpoolctl" + IN_FORCE, **settings)
    assert done.stdout == "AVX2 False\n{('Haswell', 1)}\n"


def test_a_numpy_that_was_imported_before_is_said_once():
    done = python("-c", "import numpy\nimport lib\nimport lib.digits\nprint(lib.digits.KERNELS)")
    assert done.stdout == f"{digits.LATE}\n"
    assert done.stderr.count("last digits may differ") == 1
    assert digits.BEFORE in done.stderr
    done = python("-c", "import numpy, lib.digits\nprint(lib.digits.KERNELS)", **digits.SETTINGS)
    assert (done.stdout, done.stderr) == (f"{digits.PINNED}\n", "")


@pytest.mark.parametrize("target", ["paper", "sweep", "test", "lab"])
def test_make_gives_the_settings_to_what_it_starts(target):
    words = ["make", "--no-print-directory", "--old-file=.venv/.complete", target, "PYTHON=printenv | sort; true"]
    done = subprocess.run(words, cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True)
    assert {f"{name}={value}" for name, value in digits.SETTINGS.items()} <= set(done.stdout.splitlines())


def test_this_process_and_the_records_of_runs_have_them():
    assert versions()["kernels"] == digits.KERNELS == digits.PINNED


@pytest.mark.parametrize(
    ("system", "machine", "flags", "said"),
    [
        ("linux", "x86_64", "fma avx2 bmi1", ""),
        ("linux", "x86_64", "fma avx bmi1", "an x86-64 processor without AVX2"),
        ("linux", "aarch64", "asimd", "Linux on aarch64"),
        ("darwin", "arm64", "", "Linux on arm64"),
    ],
)
def test_another_machine_is_named(monkeypatch, system, machine, flags, said):
    monkeypatch.setattr(digits.sys, "platform", system)
    monkeypatch.setattr(digits.platform, "machine", lambda: machine)
    monkeypatch.setattr(digits.platform, "system", lambda: "Linux")
    monkeypatch.setattr(digits.Path, "read_text", lambda _: f"flags\t: fpu {flags}\n")
    assert digits.other_machine() == said


def test_a_training_a_prediction_a_map_and_statistics_are_the_same_on_other_processors():
    """Bytes of what `benchmarks/digits.py` computes, natively and emulated."""
    if not shutil.which("qemu-x86_64"):
        pytest.skip("needs qemu-x86_64, which emulates other processors: apt install qemu-user")
    emulators = [(), *(("qemu-x86_64", "-cpu", processor) for processor in PROCESSORS)]
    compute = partial(python, "benchmarks/digits.py", OMP_WAIT_POLICY="PASSIVE")
    with ThreadPoolExecutor() as pool:
        here, *others = (done.stdout for done in pool.map(lambda before: compute(before=before), emulators))
    pieces = {line.partition(",")[0] for line in here.splitlines()}
    assert pieces >= {"convolutions", "training", "prediction", "saliency", "statistics"}
    assert dict.fromkeys(PROCESSORS, here) == dict(zip(PROCESSORS, others, strict=True))


@pytest.mark.parametrize("processor", ["Haswell", "AMD"])
def test_a_processor_with_other_caches_computes_the_same(tmp_path, processor):
    """Bytes of convolutions and of a training, with a process that is told another processor."""
    if "cpuid_fault" not in Path("/proc/cpuinfo").read_text() or not shutil.which("cc"):
        pytest.skip("needs a processor that lets CPUID fault (cpuid_fault in /proc/cpuinfo), and a C compiler")
    library, compute = tmp_path / "other_processor.so", ["benchmarks/digits.py", "convolutions", "training"]
    source = "benchmarks/other_processor.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], cwd=ROOT, check=True)
    told = python(*compute, LD_PRELOAD=str(library), OTHER_PROCESSOR=processor)
    assert told.stdout == python(*compute).stdout
