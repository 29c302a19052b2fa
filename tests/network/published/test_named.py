"""What is named as weights is loaded by the rules of the tool that made it, and runs nothing."""

import json

import pytest
import torch

from lib.network import load_weights
from lib.network.published import lst_ai


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


def test_a_folder_of_no_tool_is_told_what_the_tools_have(tmp_path):
    with pytest.raises(ValueError, match=r"of no tool that is known: a nnU-Net v2 results folder has plans.json"):
        load_weights(tmp_path)
