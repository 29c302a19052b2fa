"""What the READMEs name exists: paths, commands, variables, parameters, modules, names of the library; their snippets run."""

import ast
import importlib
import importlib.util
import re
import shlex

import pandas as pd
import pytest
import torch
from literal import block, random_unet, scan

from lib.provenance import ROOT
from lib.run.parameters import resolve
from lib.run.runner import NOTEBOOKS

READMES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*/*.md"))
    if not path.parts[len(ROOT.parts)].startswith((".", "build", "figures", "shared"))
)
MAKEFILE = (ROOT / "Makefile").read_text()
SOURCES = [
    *(path for folder in ("lib", "notebooks", "benchmarks", "binder") for path in (ROOT / folder).rglob("*.*")),
    *(ROOT / name for name in ("Makefile", "pyproject.toml", "myst.yml", "environment.yml")),
    *ROOT.glob("weights/*.json"),
    *ROOT.glob("data/reference/*.csv"),
]
SOURCE = "\n".join(path.read_text() for path in SOURCES if path.suffix not in (".md", ".ipynb", ".pyc"))
OF_USERS = (
    "my_scans.tsv",
    "unet.safetensors",
    "/data/bids",
    "build/",
    "content/",
    "map.nii.gz",
)  # not of the repository


def text(name):
    return (ROOT / name).read_text()


def code_blocks(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text(name), re.MULTILINE | re.DOTALL)


def commands(name):
    """Lines of the indented blocks, without their comments."""
    outside = re.sub(r"^```.*?^```", "", text(name), flags=re.MULTILINE | re.DOTALL)
    return [line.split("  #")[0].strip() for line in outside.splitlines() if line.startswith("    ")]


def spans(name):
    """What stands between backticks in running text and tables."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text(name), flags=re.MULTILINE | re.DOTALL))


def anchors(path):
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_readme_fits_in_the_head():
    assert len(text("README.md").splitlines()) <= 170
    assert {"lib/README.md", "notebooks/README.md", "benchmarks/README.md", "data/README.md"} <= set(READMES)


@pytest.mark.parametrize("name", READMES)
def test_links_lead_to_files_and_headings(name):
    for link in re.findall(r"\]\(([^)]+)\)", text(name)):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = (ROOT / name).parent / path if path else ROOT / name
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_intervals_that_are_told_of_the_default_run_are_those_of_its_tables():
    """Of what the notebooks' README says of its maps: "value (low to high)" stands so in a table that the point links."""
    part = text("notebooks/README.md").split("## What the maps of the default run know")[1].split("\n## ")[0]
    points = part.split("\n- ")[1:]
    assert points
    for point in points:
        told = re.findall(r"(-?[\d.]+)(?: %| logits?(?: per z-score)?)? \((-?[\d.]+) to (-?[\d.]+)", point)
        tables = [pd.read_csv(ROOT / "notebooks" / path) for path in re.findall(r"\]\((\S+?\.csv)\)", point)]
        rows = [row for table in tables for row in table.select_dtypes("number").to_numpy()]
        for numbers in told:
            decimals = [len(number.partition(".")[2]) for number in numbers]
            triples = [scale * row[at : at + 3] for row in rows for at in range(len(row) - 2) for scale in (1, 100)]
            written = [[f"{x:.{n}f}" for x, n in zip(triple, decimals, strict=True)] for triple in triples]
            assert list(numbers) in written, numbers


@pytest.mark.parametrize("name", READMES)
def test_paths_in_backticks_exist(name):
    for span in spans(name):
        if re.fullmatch(r"[\w./-]+(/|\.(py|yml|csv|json|tsv|md|lock|html|safetensors|mplstyle))", span):
            if "/" not in span or span.startswith(OF_USERS) or re.match(r"sub-|derivatives/", span):
                continue
            assert any((folder / span).exists() for folder in (ROOT, (ROOT / name).parent)) or _written(span), span


def _written(span):
    """Whether a file is one that a run writes beside its figures."""
    return span.startswith("figures/") and f"{span.rpartition('/')[2].partition('.')[0]}" in SOURCE


@pytest.mark.parametrize("name", READMES)
def test_make_has_the_targets_and_variables(name):
    said = [*commands(name), *(span for span in spans(name) if span.startswith("make "))]
    for words in (shlex.split(line) for line in said if line.startswith("make ")):
        target, *given = words[1:]
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), words
        for variable, value in (word.split("=", 1) for word in given):
            assert re.search(rf"^{variable} +\?=", MAKEFILE, re.MULTILINE), words
            if variable == "SET":
                resolve(NOTEBOOKS, ROOT / "notebooks" / "params" / "demo.yml", value.split())
            if variable in ("SWEEP", "WEIGHTS") and not value.startswith(OF_USERS):
                assert (ROOT / value).exists(), words
            if variable == "PROFILE":
                assert (ROOT / "notebooks" / "params" / f"{value}.yml").exists(), words
    for variable in (span for span in spans(name) if re.fullmatch(r"[A-Z]+=\S*", span)):
        assert re.search(rf"^{variable.split('=')[0]} +\?=", MAKEFILE, re.MULTILINE), variable


@pytest.mark.parametrize("name", READMES)
def test_python_commands_name_modules_scripts_and_options(name):
    said = [*commands(name), *(span for span in spans(name) if span.startswith(("python ", "--")))]
    for words in (shlex.split(line) for line in said):
        for before, word in zip(words, words[1:], strict=False):
            if before == "-m":
                assert importlib.util.find_spec(word), words
        script = next((word for word in words if word.startswith(("benchmarks/", "notebooks/"))), None)
        assert script is None or (ROOT / script).exists(), words
        for option in words if script and script.startswith("benchmarks/") else ():
            assert not option.startswith("--") or option in (ROOT / script).read_text(), words
        if "lib.run.runner" in words:
            assert {"--build", "--figures"} <= set(words)


@pytest.mark.parametrize("name", READMES)
def test_names_in_backticks_stand_in_the_code(name):
    """Parameters, functions, columns, methods: whatever looks like a name of Python."""
    for span in spans(name):
        for found in re.findall(r"^[a-z]\w*_\w+", span) if "/" not in span else ():
            assert re.search(rf"\b{found}\b", SOURCE), span
        for dotted in re.findall(r"\blib(?:\.\w+)+", span):
            module, _, attribute = dotted.rpartition(".")
            assert importlib.util.find_spec(dotted) or hasattr(importlib.import_module(module), attribute), span


@pytest.mark.parametrize("name", READMES)
def test_snippets_of_python_import_what_there_is(name):
    for source in code_blocks(name, "python"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("lib"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), source


@pytest.mark.parametrize("name", ["README.md", "lib/README.md"])
def test_snippets_that_explain_a_lesion_run(name):
    given = {"model": random_unet().eval(), "volume": scan((20, 20, 20)), "lesion": block((20, 20, 20), (8, 8, 8))}
    for source in code_blocks(name, "python"):
        source = source.replace("model.1.submodule.2.conv", "model.1.submodule.0.conv")  # of a smaller network
        source = source.replace("n_samples=50", "n_samples=2").replace("n_samples=200", "n_samples=4")
        exec(source, given)
    assert tuple(given["map"].shape) == (2, 20, 20, 20)
    assert torch.isfinite(given["cam"]).all()


def test_the_example_of_a_sweep_is_one(tmp_path):
    from lib.run.sweep import read_sweep

    (source,) = code_blocks("notebooks/README.md", "yaml")
    (tmp_path / "seed.yml").write_text(source)
    sweep = read_sweep(tmp_path / "seed.yml")
    resolve(
        NOTEBOOKS, ROOT / "notebooks" / "params" / "demo.yml", [f"{name}=1" for point in sweep.points for name in point]
    )
