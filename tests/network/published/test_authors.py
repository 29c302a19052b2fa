"""The authors' checkpoints: the network is told from its tensors."""

import io
import json
import tarfile
import warnings

import pytest
import torch
from torch import nn

from lib.network import NORMALISATION, load_weights
from lib.network.architectures import build_network
from lib.network.published import authors

PAPERS = {
    "unet": {"channels": [4, 8, 12], "strides": [2, 2]},
    "dynunet": {"channels": [4, 6, 8], "strides": [1, 2, 2]},
    "swinunetr": {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 3, 3]},
}


def volume(shape=(32, 32, 32)):
    return torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0))


def parallel(network):
    return {f"module.{name}": value for name, value in network.state_dict().items()}


@pytest.mark.parametrize("name, threshold", [("unet", 0.3), ("dynunet", 0.4), ("swinunetr", 0.4)])
def test_the_authors_checkpoints_are_told_from_their_tensors(tmp_path, name, threshold):
    torch.manual_seed(0)
    network = build_network(name, **PAPERS[name]).eval()
    path = tmp_path / "model_epoch_31.pth"
    torch.save(parallel(network), path)
    with pytest.warns(
        UserWarning,
        match=f"model_epoch_31.pth has no JSON.* paper's {name} .* threshold {threshold} .* in model_",
    ):
        model, description = load_weights(path)
    assert (description["threshold"], description["window"]) == (threshold, 96)
    with torch.no_grad():
        assert torch.equal(model(volume((64, 32, 32))), network(volume((64, 32, 32))))


def test_an_archive_as_the_authors_publish_it_is_read(tmp_path):
    network, content = build_network(**PAPERS["unet"]).eval(), io.BytesIO()
    torch.save(parallel(network), content)
    with tarfile.open(tmp_path / "model_epoch_31.tar.xz", "w:xz") as archive:
        member = tarfile.TarInfo("model_epoch_31.pth")
        member.size = len(content.getvalue())
        archive.addfile(member, io.BytesIO(content.getvalue()))
    with warnings.catch_warnings(action="error"):
        model, _ = load_weights(tmp_path / "model_epoch_31.tar.xz")
    assert torch.equal(model(volume()), network(volume()))


def test_nothing_is_taken_for_granted_of_a_file_with_a_json(tmp_path):
    described = {"architecture": {"name": "unet", **PAPERS["unet"], "act": "RELU"}, "channels": ["FLAIR", "MPRAGE"]}
    network = build_network(**described["architecture"])
    torch.save(parallel(network), tmp_path / "own.pth")
    with pytest.raises(
        ValueError, match=r"own.pth is not of the architecture told from its tensors, unet .*: it lacks"
    ):
        load_weights(tmp_path / "own.pth")
    described |= {"normalisation": NORMALISATION, "threshold": 0.5, "window": 96}
    (tmp_path / "own.json").write_text(json.dumps(described))
    with warnings.catch_warnings(action="error"):
        assert load_weights(tmp_path / "own.pth")[1]["threshold"] == 0.5


def test_the_paper_s_own_u_net_is_told():
    network = build_network(channels=[32, 64, 128, 256, 512], strides=[2] * 4)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    expected = {"name": "unet", "channels": [32, 64, 128, 256, 512], "strides": [2] * 4}
    assert authors.told_architecture(shapes) == expected


def test_another_network_of_a_dataparallel_is_not_taken_for_the_authors(tmp_path):
    torch.save(parallel(nn.Conv3d(2, 2, 1)), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth has the tensors of none of the paper's networks: describe it"):
        load_weights(tmp_path / "other.pth")


def test_an_archive_that_is_damaged_or_holds_two_is_refused(tmp_path):
    path = tmp_path / "model.tar.xz"
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"model.tar.xz is no archive"):
        load_weights(path)
    with tarfile.open(path, "w:xz") as archive:
        for name in "ab":
            archive.addfile(tarfile.TarInfo(f"{name}.pth"), io.BytesIO())
    with pytest.raises(ValueError, match="holds 2 files .pth"):
        load_weights(path)
