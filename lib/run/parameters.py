"""The parameters of the notebooks: their defaults, what a profile and the command line change, and nothing else.

A notebook's defaults are the literals of its one cell tagged ``parameters``. A profile (YAML) maps a notebook, or
``all``, to the values that differ. A name that no notebook has is an error, because papermill alone would only warn.
"""

import ast
import contextlib
import difflib
import re
from pathlib import Path

import yaml

WITHOUT_EFFECT = ("build", "figures", "scheduler")  # on which no result depends
CELL = re.compile(r"^# %%(?P<header>.*)$", re.MULTILINE)


def defaults(notebook):
    """Parameters of a percent script as {name: literal}, in the order in which they are written.

    Raises ValueError if the script has not exactly one cell tagged ``parameters`` or if a value is not a literal.
    """
    notebook = Path(notebook)
    parts = CELL.split(notebook.read_text())
    cells = [source for header, source in zip(parts[1::2], parts[2::2], strict=True) if '"parameters"' in header]
    if len(cells) != 1:
        raise ValueError(f"{notebook}: {len(cells)} cells are tagged parameters; a notebook needs exactly one")
    found = {}
    for statement in ast.parse(cells[0]).body:
        if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
            raise ValueError(f"{notebook}: the parameters cell may only assign literals: {ast.unparse(statement)}")
        try:
            found[statement.targets[0].id] = ast.literal_eval(statement.value)
        except ValueError:
            raise ValueError(f"{notebook}: not a literal: {ast.unparse(statement)}") from None
    return found


def decisive(parameters):
    """Those on which results depend."""
    return {name: value for name, value in parameters.items() if name not in WITHOUT_EFFECT}


def resolve(notebooks, profile, overrides=()):
    """Parameters of every notebook: its defaults, then the profile's values, then the overrides.

    notebooks: paths of percent scripts. profile: path of a YAML file {notebook or "all": {name: value}}.
    overrides: texts "name=value" (every notebook that has the name) or "notebook.name=value"; values are YAML.
    Returns {notebook: {name: value}}. Raises ValueError as `with_changes`, and if there is no such profile.
    """
    resolved, profile = {Path(notebook).stem: defaults(notebook) for notebook in notebooks}, Path(profile)
    if not profile.exists():
        known = ", ".join(sorted(path.stem for path in profile.parent.glob("*.yml")))
        raise ValueError(f"there is no profile {profile.stem!r}: {profile} is missing (known: {known})")
    changes = []
    for section, values in (yaml.safe_load(profile.read_text()) or {}).items():
        changes += [(f"{section}.{name}", value, profile) for name, value in (values or {}).items()]
    for text in overrides:
        target, equals, value = text.partition("=")
        if not equals or not target.rpartition(".")[2]:
            raise ValueError(f"command line: {text!r} is not of the form name=value or notebook.name=value")
        changes.append((target, yaml.safe_load(value), "command line"))
    return with_changes(resolved, changes)


def with_changes(resolved, changes):
    """Resolved parameters with further values: ("name", "all.name" or "notebook.name", value, where it was asked for).

    Raises ValueError that lists every unknown notebook or name, and every value whose type is not that of the default.
    """
    resolved = {notebook: dict(parameters) for notebook, parameters in resolved.items()}
    problems = [problem for change in changes if (problem := _apply(resolved, *change))]
    if problems:
        raise ValueError("\n".join(problems))
    return resolved


def _apply(resolved, target, value, source):
    """Set one value in every notebook it is meant for; a text says what is wrong, None that it was set."""
    section, _, name = target.rpartition(".")
    everywhere = section in ("", "all")
    if not everywhere and section not in resolved:
        return f"{source}: there is no notebook {section!r} (known: {', '.join(resolved)})"
    meant = list(resolved) if everywhere else [section]
    having = [notebook for notebook in meant if name in resolved[notebook]]
    if not having:
        known = sorted({known for notebook in meant for known in resolved[notebook]})
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"
        where = "no notebook has" if everywhere else f"{section} has no"
        return f"{source}: {where} parameter {name!r}{hint}"
    for notebook in having:
        default = resolved[notebook][name]
        if isinstance(default, float) and type(value) in (int, str):  # YAML takes 3 for an int and 3e-3 for a text
            with contextlib.suppress(ValueError):
                value = float(value)
        if isinstance(default, str) and type(value) in (int, float):
            value = str(value)
        if type(value) is not type(default):
            wanted, got = type(default).__name__, type(value).__name__
            return f"{source}: {notebook}.{name} must be of type {wanted} like {default!r}, not {got}: {value!r}"
        resolved[notebook][name] = value
    return None
