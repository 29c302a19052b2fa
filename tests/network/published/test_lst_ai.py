"""LST-AI's three networks, in the layout of their files."""

import pytest
import torch

from lib.network import explained_unit, load_weights, map_unit, prediction_settings
from lib.network.published import lst_ai


def volume(shape=(32, 32, 32)):
    return torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0))


def lst_folder(folder):
    """Three networks of different numbers, as LST-AI 2 keeps them."""
    networks = []
    for file, config in zip(
        lst_ai.FILES,
        (
            {"n_filters": 2, "n_conv_blocks": 2, "bottleneck_filters": 6, "ds_layers": [-2]},
            {"n_filters": 3, "n_conv_blocks": 2, "bottleneck_filters": None, "ds_layers": []},
            {"n_filters": 2, "n_conv_blocks": 3, "ds_layers": [-2, -3]},
        ),
        strict=True,
    ):
        torch.manual_seed(len(networks))
        networks.append(lst_ai.LstUNet(**config).eval())
        torch.save({"config": config, "state_dict": networks[-1].state_dict()}, folder / file)
    return networks


def test_lst_ai_s_networks_are_averaged_as_probabilities(tmp_path):
    networks = lst_folder(tmp_path)
    model, description = load_weights(tmp_path)
    with torch.no_grad():
        expected = sum(network(volume())[0] for network in networks)[0, 0] / 3
        torch.testing.assert_close(model(volume()).softmax(1)[0, 1], expected, rtol=1e-5, atol=1e-6)
    assert description["explained"] == "log-odds of the mean probability"
    assert (explained_unit(description), map_unit(description)) == ("log-odds", "log-odds per range")
    assert prediction_settings(description) == {"window": 192, "mirrored": False, "blend": "centre"}
    (tmp_path / lst_ai.FILES[1]).unlink()
    with pytest.raises(ValueError, match="has no UNet3D_MS_final_mdlB.pt: LST-AI averages three"):
        load_weights(tmp_path)


def test_mirror_images_of_a_network_that_is_given_the_middle_of_a_scan_are_refused(tmp_path):
    lst_folder(tmp_path)
    tmp_path.with_name(f"{tmp_path.name}.json").write_text('{"mirrored": true}')
    with pytest.raises(ValueError, match="mirrored is true, but must be false: the middle of a scan is predicted once"):
        load_weights(tmp_path)
