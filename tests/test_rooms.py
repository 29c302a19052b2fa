"""The library in rooms: small folders of short modules, which use of one another what the rooms hand out; one name, one meaning."""

import ast
import importlib
from collections import Counter

import pytest

from lib.provenance import ROOT

ROOMS = sorted(path.parent.name for path in ROOT.glob("lib/*/__init__.py"))
OUTSIDE = [*(ROOT / "notebooks").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]


def imports(path):
    """(module, names) of each import from lib in a file."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.module]
    return [(one.module, [name.name for name in one.names]) for one in found if one.module.split(".")[0] == "lib"]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small_and_its_modules_are_short(room):
    modules = list((ROOT / "lib" / room).glob("*.py"))
    assert len(modules) <= 12
    assert all(len(path.read_text().splitlines()) <= 250 for path in modules)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_its_subject_and_has_what_it_hands_out(room):
    module = importlib.import_module(f"lib.{room}")
    assert module.__doc__
    assert all(getattr(module, name) is not None and not name.startswith("_") for name in module.__all__)


@pytest.mark.parametrize(
    "path", [*ROOT.glob("lib/*/*.py"), *OUTSIDE], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_what_is_of_another_room_comes_from_that_room(path):
    """Only a room's own modules know its modules."""
    own = f"lib.{path.parent.name}" if path.parent.parent.name == "lib" else None
    for module, names in imports(path):
        assert module != "lib" or path.parent.name == "explorer", names  # `provenance.lib_files` does not follow it
        room = ".".join(module.split(".")[:2])
        if room.removeprefix("lib.") in ROOMS and room != own:
            assert module == room
            assert set(names) <= set(importlib.import_module(room).__all__), names


def test_a_public_name_has_one_meaning():
    """No two modules of the library define the same name for others."""
    names = Counter()
    for path in ROOT.glob("lib/**/*.py"):
        for node in ast.parse(path.read_text()).body:
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                and not node.name.startswith("_")
                and node.name != "main"
            ):
                names[node.name] += 1
    assert [name for name, times in names.items() if times > 1] == []


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("tests/*/**/test_*.py")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_tests_stand_in_the_folders_of_what_they_test(path):
    folder = path.parent.relative_to(ROOT / "tests")
    module = ROOT / "lib" / folder / f"{path.stem.removeprefix('test_')}.py"
    assert module.exists() or path.stem == "test_networks", module
