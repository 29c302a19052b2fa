import numpy as np
import torch
from literal import SHAPE, block, random_unet, scan
from torch import nn

from lib.exact.windows import find_window
from lib.network.published.adapter import MeanLogits
from lib.sanity.checks import regions
from lib.sanity.randomisation import draw_layers, layers_from_output, weight_randomisation

LESION = block(SHAPE, (10, 11, 12))
OPTIONS = {"n_samples": 1, "noise_fraction": 0.05, "seed": [0, "a", 1]}


def test_layers_are_in_reverse_order_of_the_forward_pass_with_what_follows_them():
    layers = layers_from_output(random_unet(), torch.zeros(1, 2, 16, 16, 16))
    inner = "model.1.submodule"
    inside = [f"{inner}.{name}" for name in ("2.conv", "1.submodule.conv", "0.conv")]
    assert [names[0] for names in layers] == ["model.2.conv", *inside, "model.0.conv"]
    assert layers[-1] == ["model.0.conv", "model.0.adn.N", "model.0.adn.A"]


def test_of_networks_that_are_averaged_layers_as_far_from_the_output_are_drawn_together():
    one, volume = random_unet(), torch.zeros(1, 2, 16, 16, 16)
    alone, both = layers_from_output(one, volume), layers_from_output(MeanLogits([one, random_unet()]), volume)
    for names, together in zip(alone, both, strict=True):
        assert sorted(together) == sorted(f"networks.{number}.{name}" for number in (0, 1) for name in names)


def test_a_layer_is_drawn_as_at_initialisation_and_the_others_keep_their_weights():
    model, state = random_unet(), torch.random.get_rng_state()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    draw_layers(model, [["model.0.conv", "model.0.adn.N", "model.0.adn.A"]], 3)
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed and all(name.startswith("model.0.") for name in changed)
    norm, conv = model.model[0].adn.N, model.model[0].conv
    assert norm.running_mean.eq(0).all() and norm.running_var.eq(1).all() and norm.weight.eq(1).all()
    bound = (2 * 3**3) ** -0.5  # of torch's uniform initialisation
    assert 0.9 * bound < conv.weight.abs().max() <= bound
    assert torch.equal(torch.random.get_rng_state(), state)
    draw_layers(other := random_unet(), [["model.2.conv"], ["model.0.conv"]], 3)
    assert torch.equal(other.model[0].conv.weight, conv.weight)  # the draw depends on seed and name alone
    draw_layers(other, [["model.0.conv"]], 4)
    assert not torch.equal(other.model[0].conv.weight, conv.weight)


def test_a_linear_network_drawn_anew_has_an_unrelated_map_and_the_model_keeps_its_weights():
    torch.manual_seed(0)
    model = nn.Conv3d(2, 2, 7, padding=3)
    before, lesion = model.weight.clone(), block((16, 16, 16), (8, 8, 8), (1, 1, 1))
    shape = find_window(model, lesion, lesion.shape).shape
    where = {"window": np.ones(shape, bool)}
    image = scan((16, 16, 16))[0]
    found = weight_randomisation(model, image, lesion, where, most_layers=9, **OPTIONS)
    # 2 x 7^3 independent uniform numbers: the correlation has standard deviation 0.04
    assert found["value"].abs().max() < 0.15
    assert set(found["mode"]) == {"cascading", "independent"} and set(found["depth"]) == {1}
    assert torch.equal(model.weight, before)
    again = weight_randomisation(model, image, lesion, where, most_layers=9, **OPTIONS)
    assert again.equals(found)


def test_all_layers_drawn_anew_leave_little_and_the_cascade_begins_as_the_layer_alone():
    model = random_unet()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    window = find_window(model, LESION, SHAPE).within(SHAPE)
    where = regions(LESION[window], (1.0, 1.0, 1.0))
    found = weight_randomisation(model, scan()[0], LESION, where, most_layers=3, **OPTIONS)
    assert sorted(set(found["depth"])) == [1, 3, 5]
    value = found.set_index(["mode", "depth", "region", "of"])["value"].sort_index()
    np.testing.assert_array_equal(value["cascading", 1], value["independent", 1])
    assert abs(value["cascading", 5, "window", "signed"]) < 0.3
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


def test_a_network_without_exact_windows_is_looked_at_on_the_whole_volume():
    model, lesion = random_unet((4, 8), (2,), norm="instance"), block((16, 16, 16), (6, 6, 6), (1, 1, 2))
    assert find_window(model, lesion, lesion.shape).reason
    where = regions(lesion, (1.0, 1.0, 1.0))
    found = weight_randomisation(model, scan((16, 16, 16))[0], lesion, where, most_layers=2, **OPTIONS)
    assert found["value"].between(-1, 1).all()
    assert len(found) == 2 * 2 * 2 * 2


def test_a_constant_map_has_no_correlation():
    model = nn.Sequential(nn.Conv3d(2, 2, 3, padding=1), nn.ReLU())
    with torch.no_grad():
        model[0].bias.fill_(-1e4)
    lesion = block((12, 12, 12), (5, 5, 5), (1, 1, 1))
    shape = find_window(model, lesion, lesion.shape).shape
    found = weight_randomisation(
        model, scan((12, 12, 12))[0], lesion, {"window": np.ones(shape, bool)}, most_layers=1, **OPTIONS
    )
    assert found["value"].isna().all()
    assert set(found["layer"]) == {"0"}
