"""Results folders of nnU-Net v2, made of random folds: the mean of the networks of its own axes."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from lib.exact import WholeGradients, checked_steps, find_window, lesion_voxels
from lib.network import load_weights, prediction_settings
from lib.network.published import nnunet

PATCH = [8, 16, 12]  # Z, Y, X


def plans(**changes):
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 3, "features_per_stage": [4, 6, 8], "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "n_conv_per_stage": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2], "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None, "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }  # fmt: skip
    configuration = {
        "patch_size": PATCH, "spacing": [1.0, 1.0, 1.0], "normalization_schemes": ["ZScoreNormalization"] * 2,
        "use_mask_for_norm": [True, True], "architecture": architecture,
    }  # fmt: skip
    return {"transpose_forward": [0, 1, 2], "configurations": {"3d_fullres": configuration | changes}}


def results(folder, n_folds=2, **changes):
    """A results folder of random folds, whose networks it returns, with axes Z, Y, X."""
    dataset = {"channel_names": {"0": "T1w", "1": "FLAIR"}, "labels": {"background": 0, "lesion": 1}}
    (folder / "plans.json").write_text(json.dumps(plans(**changes)))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    networks = []
    for fold in range(n_folds):
        torch.manual_seed(fold)
        architecture = plans(**changes)["configurations"]["3d_fullres"]["architecture"]
        networks.append(nnunet._build(architecture, 2, 2, folder).eval())
        (folder / f"fold_{fold}").mkdir()
        kept = {
            "network_weights": networks[-1].state_dict(), "optimizer_state": {}, "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5)]}, "_best_ema": np.float64(0.5), "current_epoch": 1000,
            "init_args": {"configuration": "3d_fullres", "fold": fold, "device": torch.device("cpu")},
            "trainer_name": "nnUNetTrainer", "inference_allowed_mirroring_axes": (0, 2),
        }  # fmt: skip
        torch.save(kept, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return networks


needs_architectures = pytest.mark.skipif(
    "not __import__('importlib.util').util.find_spec('dynamic_network_architectures')",
    reason="dynamic_network_architectures is not installed",
)


@needs_architectures
def test_a_results_folder_has_the_mean_of_its_folds_turned_to_x_y_z(tmp_path):
    networks = results(tmp_path)
    model, description = load_weights(tmp_path)
    x = torch.randn(1, 2, 12, 16, 8, generator=torch.Generator().manual_seed(0))
    own = x.flip(1).permute(0, 1, 4, 3, 2)
    with torch.no_grad():
        expected = sum(network(own) for network in networks).permute(0, 1, 4, 3, 2) / 2
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert description["channels"] == ["T1w", "FLAIR"]
    settings = {"window": [12, 16, 8], "mirrored": [0, 2], "blend": "logits"}
    assert prediction_settings(description) == settings


@needs_architectures
@pytest.mark.parametrize(
    "changes, said",
    [
        ({"patch_size": [16, 16]}, "the configuration 3d_fullres is 2D"),
        ({"normalization_schemes": ["CTNormalization"] * 2}, "normalises by CTNormalization"),
        ({"previous_stage": "3d_lowres"}, "needs the prediction of another"),
        ({"architecture": None}, "not as nnU-Net v2 writes them"),
    ],
)
def test_a_results_folder_that_asks_for_what_is_not_done_is_refused(tmp_path, changes, said):
    results(tmp_path, 1)
    (tmp_path / "plans.json").write_text(json.dumps(plans(**changes)))
    with pytest.raises(ValueError, match=said):
        load_weights(tmp_path)


def default_plans(network_class, **blocks):
    """Of a default network of nnU-Net v2 for 3D: six levels, with few feature maps."""
    architecture = plans()["configurations"]["3d_fullres"]["architecture"]
    arguments = architecture["arch_kwargs"] | {"n_stages": 6, "features_per_stage": [2, 3, 4, 4, 5, 5]}
    arguments |= {
        "kernel_sizes": [[3] * 3] * 6,
        "strides": [[1] * 3, *[[2] * 3] * 5],
        "n_conv_per_stage_decoder": [2] * 5,
    }
    del arguments["n_conv_per_stage"]
    name = f"dynamic_network_architectures.architectures.unet.{network_class}"
    return architecture | {"network_class_name": name, "arch_kwargs": arguments | blocks}


@needs_architectures
@pytest.mark.parametrize(
    "architecture",
    [
        default_plans("PlainConvUNet", n_conv_per_stage=[2] * 6),
        default_plans("ResidualEncoderUNet", n_blocks_per_stage=[1, 1, 2, 1, 1, 1]),
    ],
    ids=["plain", "residual encoder"],
)
def test_default_networks_have_an_adjoint_with_statistics_held(architecture, tmp_path):
    results(tmp_path, 1, architecture=architecture, patch_size=[64] * 3)
    model, shape = load_weights(tmp_path)[0], (64, 64, 64)
    lesion = np.zeros(shape, bool)
    lesion[30, 31, 33] = True
    window = find_window(model, lesion, shape, held=True)
    steps, reason = checked_steps(model, window.field, WholeGradients)
    assert reason == ""
    passes = WholeGradients.of_copy(steps, torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0)))
    boxes = passes.of_lesion(lesion_voxels(lesion, shape), held=True).boxes_needed()
    assert (np.ptp(boxes[0], 0) == 64).all()  # the deepest level looks everywhere
    at_full_resolution = [np.ptp(boxes[n], 0).max() for n in boxes if (passes.sizes[n] == 64).all()]
    assert sum(side < 16 for side in at_full_resolution) > len(at_full_resolution) / 3  # the decoder does not


def test_plans_that_name_other_code_are_refused(tmp_path):
    for change in ({"network_class_name": "os.system"}, {"arch_kwargs": {"conv_op": "os.system"}}):
        architecture = plans()["configurations"]["3d_fullres"]["architecture"] | change
        with pytest.raises(ValueError, match="asks for os.system: only parts of torch"):
            nnunet._build(architecture | {"_kw_requires_import": ["conv_op"]}, 2, 2, tmp_path)


def test_a_network_that_is_not_built_here_is_named_with_what_can_be_done(tmp_path):
    for network_class in ("primus.Primus", "unet.UNetDecoder"):
        name = f"dynamic_network_architectures.architectures.{network_class}"
        architecture = {"network_class_name": name, "arch_kwargs": {}, "_kw_requires_import": []}
        kind = network_class.partition(".")[2]
        with pytest.raises(ValueError, match=f"asks for the network {kind}: only PlainConvUNet.* name a function"):
            nnunet._build(architecture, 2, 2, tmp_path)


def test_plans_older_than_what_is_read_are_said_to_be_so(tmp_path):
    """They have the network's arguments among those of the configuration."""
    old = plans(UNet_class_name="PlainConvUNet", UNet_base_num_features=4)
    del old["configurations"]["3d_fullres"]["architecture"]
    (tmp_path / "plans.json").write_text(json.dumps(old))
    (tmp_path / "dataset.json").write_text("{}")
    (tmp_path / "fold_0").mkdir()
    torch.save({"init_args": {"configuration": "3d_fullres"}}, tmp_path / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(
        ValueError, match=r"plans.json is older than what is read here.* Plan and train again .* function"
    ):
        load_weights(tmp_path)


def test_a_turned_network_is_the_network_between_two_turns():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(2, 3, (1, 3, 5), stride=(1, 2, 1), padding=(0, 1, 2)), nn.AvgPool3d((1, 1, 2)),
        nn.ConvTranspose3d(3, 2, (1, 2, 2), stride=(1, 2, 2)),
    ).eval()  # fmt: skip
    x = torch.randn(1, 2, 8, 6, 4)
    expected = network(x.permute(0, 1, 4, 2, 3)).permute(0, 1, 3, 4, 2)
    torch.testing.assert_close(nnunet.turned(network, [2, 0, 1])(x), expected)
