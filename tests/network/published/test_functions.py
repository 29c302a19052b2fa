"""Functions of the user's own code: the network is of the folder that is named, whatever else is of its names."""

import sys

import pytest
import torch

from lib.network import load_weights
from lib.provenance import description_file

NETWORK = "from torch import nn\ndef build():\n    return nn.Conv3d(2, 2, {kernel}, padding={kernel} // 2)\n"


def kernel(path, name="build"):
    """Side of the kernel of the network that a function of a module (a path without its suffix) returns."""
    return load_weights(f"{path}:{name}")[0].kernel_size[0]


def written(file, text):
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file.with_suffix("")


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "mynetworks.py").write_text(
        "from torch import nn\n"
        "def two():\n    return nn.Conv3d(2, 2, 3, padding=1)\n"
        "def one():\n    return nn.Conv3d(1, 2, 3, padding=1)\n"
        "def number():\n    return 1\n"
        "def fails():\n    raise RuntimeError('no weights')\n"
    )
    return tmp_path


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


def test_modules_of_one_name_are_those_of_their_folders(tmp_path):
    paths = [
        written(tmp_path / folder / "networks.py", NETWORK.format(kernel=side))
        for folder, side in zip("ab", (1, 3), strict=True)
    ]
    assert [kernel(path) for path in (*paths, paths[0])] == [1, 3, 1]


def test_what_a_module_imports_is_of_its_folder_too(tmp_path):
    for folder, side in zip("ab", (1, 3), strict=True):
        written(tmp_path / folder / "helper.py", NETWORK.format(kernel=side))
        written(tmp_path / folder / f"networks_{folder}.py", "from helper import build\n")
    names = ["a/networks_a", "b/networks_b", "a/networks_a"]
    assert [kernel(tmp_path / name) for name in names] == [1, 3, 1]
    written(tmp_path / "c" / "networks.py", "from helper import build\n")
    (tmp_path / "c" / "helper").mkdir()
    with pytest.raises(ValueError, match="cannot import name 'build' from 'helper'"):  # that of a is not taken
        kernel(tmp_path / "c" / "networks")


def test_a_module_that_has_changed_is_read_anew(tmp_path):
    path = written(tmp_path / "networks.py", "from helper import build\n")
    for side in (1, 11):
        written(tmp_path / "helper.py", NETWORK.format(kernel=side))
        assert kernel(path) == side


@pytest.mark.parametrize("name", ["code", "platform", "time", "torch", "lib"])
def test_a_module_may_have_a_name_of_another(tmp_path, name):
    before = sys.modules.get(name)
    text = "import pdb, platform\nplatform.system()\nfrom lib.network import build_network\n" + NETWORK.format(kernel=3)
    assert kernel(written(tmp_path / f"{name}.py", text)) == 3
    assert sys.modules.get(name) is before or name == "code"
    assert load_weights(f"{tmp_path / name}:build")[1]["architecture"] == {"name": f"{name}:build"}
    import code

    assert code.InteractiveConsole


@pytest.mark.parametrize("top", ["package", "platform"])
def test_a_module_of_a_package_imports_its_neighbours(tmp_path, top):
    written(tmp_path / top / "helper.py", NETWORK.format(kernel=3))
    written(tmp_path / top / "networks.py", "from .helper import build\n")
    (tmp_path / top / "__init__.py").touch()
    assert kernel(tmp_path / f"{top}.networks") == 3


def test_a_folder_without_init_is_a_package_unless_its_name_is_taken(tmp_path):
    for top in ("package", "platform"):
        written(tmp_path / top / "networks.py", NETWORK.format(kernel=3))
    assert kernel(tmp_path / "package.networks") == 3
    with pytest.raises(
        ValueError, match=r"platform is the name of another module: give the folder platform an __init__"
    ):
        kernel(tmp_path / "platform.networks")
    with pytest.raises(ValueError, match=r"there is no none.py in "):
        kernel(tmp_path / "none")


def test_an_import_when_the_network_is_called_finds_its_folder(tmp_path):
    called = "class Late(nn.Conv3d):\n    def forward(self, x):\n        import later\n        return later.same(super().forward(x))\n"
    written(tmp_path / "later.py", "def same(x):\n    return x\n")
    text = f"from torch import nn\n{called}def build():\n    return Late(2, 2, 1)\n"
    written(tmp_path / "networks.py", text)
    before = list(sys.path)
    model, _ = load_weights(tmp_path / "networks:build")
    assert model(torch.zeros(1, 2, 4, 4, 4)).shape == (1, 2, 4, 4, 4)
    assert sys.path == before  # which processes that are started take over
