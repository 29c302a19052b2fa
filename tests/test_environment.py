"""One list of packages: the lock pins what pyproject.toml asks for, and conda, Binder and `make` install by it."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib.provenance import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BINDER = (ROOT / "binder" / "requirements.txt").read_text()


def pinned():
    """{name: requirement} of the lock."""
    lines = [Requirement(line) for line in LOCK.splitlines() if not line.startswith("#")]
    assert len({line.name for line in lines}) == len(lines)  # one version for all platforms and Pythons
    return {canonicalize_name(line.name): line for line in lines}


def version(requirement):
    return re.fullmatch(r"==([^,]+)", str(requirement.specifier)).group(1)


@pytest.mark.parametrize("asked", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
def test_the_lock_pins_what_the_project_asks_for(asked):
    asked = Requirement(asked)
    assert asked.specifier.contains(version(pinned()[canonicalize_name(asked.name)]))


def test_the_lock_names_no_host_and_no_build():
    assert "://" not in LOCK
    assert "+" not in LOCK


def test_the_environment_is_that_of_the_lock():
    """Also of what the packages bring along: of all distributions that are locked and installed."""
    installed = {canonicalize_name(found.name): found.version.split("+")[0] for found in metadata.distributions()}
    locked = {name: version(line) for name, line in pinned().items()}
    differing = {name: (installed[name], locked[name]) for name in installed.keys() & locked if name != "uv"}
    assert {name: pair for name, pair in differing.items() if pair[0] != pair[1]} == {}


def test_conda_and_make_install_by_the_lock():
    pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    assert pip == ["--constraint requirements.lock", "--editable .[dev]"]
    assert "--constraint requirements.lock --editable '.[dev]'" in (ROOT / "Makefile").read_text()


def test_binder_installs_by_the_lock_what_is_installed_here():
    """What repo2docker does with binder/ without Docker: its requirements are met by this environment, without a network."""
    assert "--constraint ../requirements.lock\n--editable .[dev]" in BINDER
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--requirement", "binder/requirements.txt"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    would = [line for line in done.stdout.splitlines() if line.startswith("Would install")]
    assert would in ([], [f"Would install {PROJECT['name']}-{PROJECT['version']}"])


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_scripts_of_binder_are_executable_and_are_shell(name):
    script = ROOT / "binder" / name
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)


def test_the_book_lists_the_paper_and_every_notebook_of_the_chain():
    project = yaml.safe_load((ROOT / "myst.yml").read_text())["project"]
    chain = sorted(path.stem for path in (ROOT / "notebooks").glob("0*.py") if path.stem != "00_explore")
    assert [one["file"] for one in project["toc"]] == ["paper.md", *(f"content/{name}.ipynb" for name in chain)]
    paper, keys = (ROOT / "paper.md").read_text(), re.findall(r"^@\w+\{(\w+),", (ROOT / "paper.bib").read_text(), re.M)
    assert set(re.findall(r"@([A-Z]\w+)", paper)) == set(keys)
    front = yaml.safe_load(paper.split("---")[1])
    assert {"title", "tags", "authors", "affiliations", "date", "bibliography"} <= set(front)
