"""What is named as weights is loaded by the rules of the tool that made it, and runs nothing."""

import json
import sys

import pytest
import torch

from lib.network import load_weights
from lib.network.published import lst_ai
from lib.provenance import description_file


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('ran')",)


@pytest.mark.parametrize("folder", ["nnunet", "lst", "bundle", "authors"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, folder):
    unet = {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 2,
        "out_channels": 2,
        "channels": [4, 8],
        "strides": [2],
    }
    files = {
        "nnunet": "fold_0/checkpoint_final.pth",
        "lst": lst_ai.FILES[0],
        "bundle": "models/model.pt",
        "authors": "evil.pth",
    }
    for file in (files[folder], *(lst_ai.FILES if folder == "lst" else ())):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        torch.save({"network_weights": Evil(), "state_dict": Evil()}, tmp_path / file)
    (tmp_path / ("configs" if folder == "bundle" else ".")).mkdir(exist_ok=True)
    if folder == "nnunet":
        for name in ("plans", "dataset"):
            (tmp_path / f"{name}.json").write_text("{}")
    if folder == "bundle":
        (tmp_path / "configs/inference.json").write_text(json.dumps({"network_def": unet}))
    with pytest.raises(ValueError, match="which would run code when it is read"):
        load_weights(tmp_path / files["authors"] if folder == "authors" else tmp_path)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "mynetworks.py").write_text(
        "from torch import nn\n"
        "def two():\n    return nn.Conv3d(2, 2, 3, padding=1)\n"
        "def one():\n    return nn.Conv3d(1, 2, 3, padding=1)\n"
        "def number():\n    return 1\n"
        "def fails():\n    raise RuntimeError('no weights')\n"
    )
    yield tmp_path
    sys.modules.pop("mynetworks", None)


def test_a_function_of_one_s_own_gives_the_network(own_module):
    torch.manual_seed(0)
    model, description = load_weights(own_module / "mynetworks:two")
    assert model.in_channels == 2
    torch.manual_seed(1)
    assert load_weights(own_module / "mynetworks:two")[1]["digest"] != description["digest"]


def test_a_json_of_the_whole_name_describes_a_function_or_a_folder(own_module):
    with pytest.raises(ValueError, match="takes 1 channels in place of.* said in mynetworks:one.json beside it"):
        load_weights(own_module / "mynetworks:one")
    (own_module / "mynetworks:one.json").write_text('{"threshold": 0.2, "channels": ["T1w"]}')
    assert load_weights(own_module / "mynetworks:one")[1]["threshold"] == 0.2
    names = {"net.v2:two": "net.v2:two.json", "model.tar.xz": "model.json", "net.v2.pth": "net.v2.json"}
    assert {name: description_file(own_module / name).name for name in names} == names
    (own_module / "fold.v2").mkdir()
    assert description_file(own_module / "fold.v2").name == "fold.v2.json"


@pytest.mark.parametrize(
    "name, said",
    [("number", "returns a int"), ("fails", "RuntimeError: no weights"), ("none", "AttributeError"), ("", "cannot")],
)
def test_a_function_that_gives_no_network_is_named(own_module, name, said):
    with pytest.raises(ValueError, match=f"mynetworks:{name} .*{said}"):
        load_weights(own_module / f"mynetworks:{name}")


def test_a_folder_of_no_tool_is_told_what_the_tools_have(tmp_path):
    with pytest.raises(ValueError, match=r"of no tool that is known: a nnU-Net v2 results folder has plans.json"):
        load_weights(tmp_path)
