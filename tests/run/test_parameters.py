"""Parameters: defaults read from notebooks, profiles and overrides applied, everything unknown refused by name."""

import pytest

from lib.run.parameters import defaults, resolve

NOTEBOOK = """# %% [markdown]
# # Title

# %% tags=["parameters"]
seed = 0
rate = 0.5  # comment
name = "a"
sizes = [1, 2]

# %%
derived = seed + 1
"""


@pytest.fixture
def notebook(tmp_path):
    path = tmp_path / "01_first.py"
    path.write_text(NOTEBOOK)
    return path


@pytest.fixture
def profile(tmp_path):
    def write(text):
        path = tmp_path / "tiny.yml"
        path.write_text(text)
        return path

    return write


def test_defaults_are_the_literals_of_the_tagged_cell_alone(notebook):
    assert defaults(notebook) == {"seed": 0, "rate": 0.5, "name": "a", "sizes": [1, 2]}


@pytest.mark.parametrize("source", ["# %%\nseed = 0\n", NOTEBOOK + NOTEBOOK])
def test_a_notebook_needs_exactly_one_parameters_cell(tmp_path, source):
    path = tmp_path / "01_bad.py"
    path.write_text(source)
    with pytest.raises(ValueError, match="exactly one"):
        defaults(path)


def test_a_parameter_must_be_a_literal(tmp_path):
    path = tmp_path / "01_bad.py"
    path.write_text('# %% tags=["parameters"]\nseed = max(1, 2)\n')
    with pytest.raises(ValueError, match=r"not a literal: seed = max\(1, 2\)"):
        defaults(path)


def test_profile_then_command_line_win_over_defaults(notebook, profile):
    path = profile("01_first: {seed: 3, sizes: [4]}\nall: {name: b}")
    assert resolve([notebook], path, ["seed=5"]) == {"01_first": {"seed": 5, "rate": 0.5, "name": "b", "sizes": [4]}}


def test_an_empty_profile_leaves_the_defaults(notebook, profile):
    assert resolve([notebook], profile("# nothing"))["01_first"] == defaults(notebook)


def test_an_override_for_one_notebook_leaves_the_others(notebook, profile, tmp_path):
    other = tmp_path / "02_second.py"
    other.write_text(NOTEBOOK)
    resolved = resolve([notebook, other], profile(""), ["02_second.seed=9"])
    assert (resolved["01_first"]["seed"], resolved["02_second"]["seed"]) == (0, 9)


def test_every_unknown_name_is_reported_with_the_nearest_known_one(notebook, profile):
    with pytest.raises(ValueError) as error:
        resolve([notebook], profile("01_first: {sed: 1}\n03_none: {seed: 1}"), ["rates=1"])
    text = str(error.value)
    assert "'sed'; did you mean 'seed'?" in text
    assert "no notebook '03_none'" in text
    assert "'rates'; did you mean 'rate'?" in text


def test_a_value_of_another_type_is_refused_but_numbers_serve_as_float_or_text(notebook, profile):
    assert resolve([notebook], profile("all: {rate: 1}"))["01_first"]["rate"] == 1.0
    assert resolve([notebook], profile(""), ["rate=3e-3"])["01_first"]["rate"] == 0.003
    assert resolve([notebook], profile(""), ["name=0.001"])["01_first"]["name"] == "0.001"
    with pytest.raises(ValueError, match="01_first.name must be of type str like 'a', not bool: True"):
        resolve([notebook], profile("all: {name: true}"))
    with pytest.raises(ValueError, match="01_first.rate must be of type float like 0.5, not str: 'fast'"):
        resolve([notebook], profile("all: {rate: fast}"))
    with pytest.raises(ValueError, match="01_first.seed must be of type int like 0, not str: 'many'"):
        resolve([notebook], profile("all: {seed: many}"))


def test_an_unknown_profile_names_the_known_ones(notebook, profile):
    known = profile("")
    with pytest.raises(ValueError, match="no profile 'huge'.*known: tiny"):
        resolve([notebook], known.with_name("huge.yml"))
