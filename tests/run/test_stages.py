"""Stages: shared where parameters and code agree, run once and in order, gone on with after an interruption."""

import os
import signal
import time

import pytest

from lib.run import stages
from lib.run.stages import _code, plan_stages, run_stages, unfinished

FIRST = """# %% tags=["parameters"]
build = ""
figures = ""
a = 1

# %%
import uuid
from pathlib import Path

Path(build, "token.txt").write_text(f"{1 / a} {uuid.uuid4()}")
"""
SECOND = """# %% tags=["parameters"]
build = ""
figures = ""
b = 1.0

# %%
from pathlib import Path

Path(figures).mkdir(exist_ok=True)
Path(figures, "02_values.csv").write_text(f"{Path(build, 'token.txt').read_text()},{1 / b}")
"""
SLOW = """# %% tags=["parameters"]
build = ""
figures = ""
a = 1

# %%
import os
import signal
import time
from pathlib import Path

if not Path(build, "process.txt").exists():
    Path(build, "process.txt").write_text(str(os.getpid()))
    time.sleep(600)
"""


@pytest.fixture
def notebooks(tmp_path):
    paths = [tmp_path / "01_first.py", tmp_path / "02_second.py"]
    for path, text in zip(paths, (FIRST, SECOND), strict=True):
        path.write_text(text)
    return paths


def chain(notebooks, a, b):
    places = {"build": "anywhere", "figures": "anywhere"}
    return list(zip(notebooks, ({"a": a} | places, {"b": b} | places), strict=True))


def values(stage):
    return (stage.folder / "figures" / "02_values.csv").read_text()


def test_chains_share_stages_as_far_as_they_agree(notebooks, tmp_path):
    one, same, other_end, other_start = plan_stages(
        [chain(notebooks, *ab) for ab in ((1, 1.0), (1, 1.0), (1, 2.0), (2, 1.0))], tmp_path
    )
    assert one is same
    assert one is not other_end
    assert one.parent is other_end.parent
    assert one.parent is not other_start.parent
    assert one.folder.name.startswith("02_second-")
    assert len({stage.folder for stage in (one, other_end, other_start)}) == 3


def test_a_changed_notebook_or_file_of_the_user_makes_other_stages(notebooks, tmp_path):
    data = tmp_path / "scans.tsv"
    weights, description = tmp_path / "unet.safetensors", tmp_path / "unet.json"
    for file in (weights, description):
        file.write_text("{}")
    data.write_text("subject\tsession\tflair\tt1w\tlesions\n1\t\ta.nii\tb.nii\tc.nii\n")

    def folders():
        _code.cache_clear()
        places = [{"data": str(data)}, {"weights": str(weights)}]
        (last,) = plan_stages([list(zip(notebooks, places, strict=True))], tmp_path)
        return last.parent.folder, last.folder

    before = folders()
    assert folders() == before
    notebooks[1].write_text(SECOND + "\n")
    edited = folders()
    assert edited[0] == before[0]
    assert edited[1] != before[1]
    description.write_text('{"threshold": 0.5}')
    described = folders()
    assert described[0] == before[0]
    assert described[1] != edited[1]
    data.write_text(data.read_text().replace("a.nii", "corrected.nii"))
    assert folders()[0] != before[0]


def test_where_numbers_are_computed_makes_no_other_stage_and_is_handed_on(notebooks, tmp_path):
    there = [
        (notebook, values | {"scheduler": "tcp://127.0.0.1:8786"}) for notebook, values in chain(notebooks, 1, 1.0)
    ]
    ((here,), (elsewhere,)) = (plan_stages([one], tmp_path) for one in (chain(notebooks, 1, 1.0), there))
    assert here.folder == elsewhere.folder
    assert elsewhere.parameters["scheduler"] == "tcp://127.0.0.1:8786"


def test_a_failure_stops_only_what_follows_it_and_what_is_done_is_not_run_again(notebooks, tmp_path, plain_runner):
    last = plan_stages([chain(notebooks, *ab) for ab in ((1, 4.0), (1, 0.0), (1, 5.0), (0, 1.0))], tmp_path)
    assert set(run_stages(unfinished(last), 2)) == {last[1], last[3].parent}
    assert "ZeroDivisionError" in last[1].log.read_text()
    assert not last[3].folder.exists()
    before = values(last[0]), values(last[2])
    (token, fourth), (same_token, fifth) = (text.split(",") for text in before)
    assert token == same_token  # the first notebook ran once for both
    assert (fourth, fifth) == ("0.25", "0.2")
    assert unfinished([last[0], last[1], last[2]]) == [last[1]]
    run_stages(unfinished(last[:3]), 1)
    assert (values(last[0]), values(last[2])) == before


def ended(process):
    """Whether a process is gone within a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.2)
    return False


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["in the foreground", "as nohup and & do"])
def interruptions(request):
    """What processes that are started inherit: whether SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptions")
def test_an_interruption_ends_the_notebooks_and_the_same_call_goes_on(notebooks, tmp_path, monkeypatch):
    notebooks[0].write_text(SLOW)
    _code.cache_clear()
    (last,) = plan_stages([[(notebooks[0], {"a": 1})]], tmp_path)
    process = last.folder / "process.txt"

    def interrupt_when_it_runs(seconds):
        time_sleep(seconds)
        if process.exists() and process.read_text():
            raise KeyboardInterrupt

    time_sleep = time.sleep
    monkeypatch.setattr(stages.time, "sleep", interrupt_when_it_runs)
    with pytest.raises(KeyboardInterrupt):
        run_stages(unfinished([last]), 1)
    monkeypatch.undo()
    assert ended(int(process.read_text()))
    assert not last.done
    assert run_stages(unfinished([last]), 1) == []
    assert last.done
