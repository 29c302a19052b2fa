import pytest
import torch
from literal import (
    PLACES,
    SHAPE,
    block,
    literal_grad_cam,
    literal_hires_cam,
    literal_layer,
    random_unet,
    relative_error,
    scan,
)
from monai.networks.nets import UNet
from torch import nn

from lib.exact.windows import find_window, whole_logits
from lib.network.architectures import build_network, named_layer
from lib.network.published import Adapter
from lib.network.published.adapter import MeanLogits
from lib.saliency.cam import grad_cam, hires_cam, layer_activations
from lib.saliency.gradients import smoothgrad

LAYER = "model.1.submodule.2.conv"


@pytest.mark.parametrize(("method", "literal"), [(grad_cam, literal_grad_cam), (hires_cam, literal_hires_cam)])
@pytest.mark.parametrize("shape", [SHAPE, (43, 38, 35)])
@pytest.mark.parametrize("place", PLACES)
def test_maps_equal_the_equations_on_the_whole_volume(method, literal, shape, place):
    model, volume, lesion = random_unet().eval(), scan(shape), block(shape, PLACES[place])
    coarse = literal(model, volume, lesion, LAYER).float()
    actual = method(model, volume, lesion)
    even = tuple(slice(-(-size // 2)) for size in shape)
    assert relative_error(actual[::2, ::2, ::2], coarse[even]) < 1e-5
    torch.testing.assert_close(actual[1:-1:2], (actual[:-2:2] + actual[2::2]) / 2)


@pytest.mark.parametrize("channels, residual", [((4, 6, 8), 2), ((4, 6), 0), ((4, 6), 1)])
@pytest.mark.parametrize(("method", "literal"), [(grad_cam, literal_grad_cam), (hires_cam, literal_hires_cam)])
def test_the_layer_of_its_own_of_a_unet_of_residual_units_or_two_levels(channels, residual, method, literal):
    torch.manual_seed(0)
    model = UNet(3, 2, 2, channels, (2,) * (len(channels) - 1), num_res_units=residual, norm="batch").double().eval()
    volume, lesion = scan((16, 20, 12)).double(), block((16, 20, 12), (7, 8, 5))
    expected = literal(model, volume, lesion, named_layer(model))
    assert expected.any()
    assert relative_error(method(model, volume, lesion)[::2, ::2, ::2], expected) < 1e-10


class Bright(nn.Module):
    """Positive features of which one channel alone makes the logit: its closed form is known."""

    def __init__(self, after):
        super().__init__()
        self.features, self.after = nn.Conv3d(2, 2, 1, bias=False), after
        nn.init.constant_(self.features.weight, 1.0)

    def forward(self, x):
        return self.after(self.features(x))


def linear_head():
    torch.manual_seed(1)
    return nn.Conv3d(2, 2, 3, padding=1, bias=False)


@pytest.mark.parametrize(
    "after",
    [linear_head(), nn.Sequential(linear_head(), nn.PReLU(init=0.2), linear_head(), nn.ReLU(), linear_head())],
    ids=["linear", "PReLU and ReLU"],
)
def test_hires_cam_sums_to_the_mean_logit_where_nothing_is_added_after_the_layer(after):
    model, volume, lesion = Bright(after).eval(), scan(), block(SHAPE, PLACES["middle"])
    logits = whole_logits(model, volume)[0, 1][torch.from_numpy(lesion)]
    assert hires_cam(model, volume, lesion, layer="features").sum() == pytest.approx(logits.mean().item(), rel=1e-4)


def test_hires_cam_of_a_coarse_layer_sums_over_its_positions():
    model = nn.Sequential(nn.Conv3d(2, 3, 3, 2, 1), nn.ConvTranspose3d(3, 2, 2, 2, bias=False)).eval()
    volume, lesion = scan(), block(SHAPE, PLACES["middle"])
    mean = whole_logits(model, volume)[0, 1][torch.from_numpy(lesion)].mean().item()
    found = hires_cam(model, volume, lesion, layer="0")
    assert found[::2, ::2, ::2].sum() == pytest.approx(mean, rel=1e-4)


def test_hires_cam_carries_the_gradient_and_grad_cam_does_not():
    """With positive features of a large sum, Grad-CAM++ is the sum of A / S over features of a positive gradient."""
    model, volume, lesion = Bright(linear_head()).eval(), scan().abs(), block(SHAPE, PLACES["middle"])
    tenfold = Bright(linear_head()).eval()
    tenfold.after.weight.data *= 10
    for method, ratio in ((grad_cam, 1), (hires_cam, 10)):
        once, ten_times = (method(network, volume, lesion, layer="features") for network in (model, tenfold))
        assert relative_error(ten_times, ratio * once) < 0.01
    activations, g = literal_layer(model, volume, lesion, "features")
    shares = activations / activations.sum((2, 3, 4), keepdim=True)
    expected = torch.where(g > 0, shares, 0).sum(1)[0].float()
    assert relative_error(grad_cam(model, volume, lesion, layer="features"), expected) < 0.01


def test_lesions_of_a_scan_share_activations_and_keep_their_maps():
    model, volume, layer = random_unet(), scan(), "model.1.submodule.2.conv"
    shared, kept = layer_activations(model, volume, layer), []
    model.register_forward_pre_hook(lambda module, given: None if given[0].is_meta else kept.append(given[0].shape[2:]))
    for place in PLACES.values():
        lesion = block(SHAPE, place, (1, 1, 1))
        alone = grad_cam(model, volume, lesion)
        kept.clear()
        assert torch.equal(grad_cam(model, volume, lesion, activations=shared), alone)
        assert kept == [find_window(model, lesion, SHAPE).shape]


def test_grad_cam_of_a_layer_on_the_input_grid_is_not_interpolated():
    model = nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv3d(3, 2, 3, padding=1))
    volume, lesion = scan(), block(SHAPE, PLACES["middle"])
    expected = literal_grad_cam(model, volume, lesion, "0").float()
    assert expected.any()
    assert relative_error(grad_cam(model, volume, lesion, layer="0"), expected) < 1e-5


class Skips(nn.Module):
    """Down and up, and made as large as the skip again."""

    def __init__(self, down):
        super().__init__()
        self.down, self.up = down, nn.ConvTranspose3d(3, 3, 2, 2)
        self.first, self.last = nn.Conv3d(2, 3, 3, padding=1), nn.Conv3d(3, 2, 3, padding=1)

    def forward(self, x):
        x = self.first(x).relu()
        low = self.up(self.down(x).relu())
        missing = [size - have for size, have in zip(x.shape[:1:-1], low.shape[:1:-1], strict=True)]
        return self.last(x + nn.functional.pad(low, [side for amount in missing for side in (0, amount)], "replicate"))


@pytest.mark.parametrize("down", [nn.Conv3d(3, 3, 3, 2, 1), nn.Sequential(nn.MaxPool3d(2), nn.Conv3d(3, 3, 3, 1, 1))])
@pytest.mark.parametrize("place", PLACES)
def test_grad_cam_of_a_network_that_takes_odd_sizes_as_they_are(down, place):
    torch.manual_seed(0)
    model, shape = Skips(down).eval(), (43, 38, 35)
    volume, lesion = scan(shape), block(shape, PLACES[place])
    coarse = literal_grad_cam(model, volume, lesion, "down").float()
    actual = grad_cam(model, volume, lesion, layer="down")
    assert coarse.any()
    here = tuple(map(slice, coarse.shape))
    assert relative_error(actual[::2, ::2, ::2][here], coarse) < 1e-5
    torch.testing.assert_close(actual[1:-1:2], (actual[:-2:2] + actual[2::2]) / 2)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_map_is_the_same_where_gradients_are_switched_off(mode):
    model, volume, lesion = random_unet(), scan(), block(SHAPE, PLACES["middle"])
    expected = grad_cam(model, volume, lesion)
    with mode():
        assert torch.equal(grad_cam(model, volume + 0, lesion), expected)


ARCHITECTURES = {
    "unet": {"channels": [4, 8, 12], "strides": [2, 2]},
    "dynunet": {"channels": [4, 6, 8, 10], "strides": [1, 2, 2, 2]},
    "swinunetr": {"feature_size": 12, "depths": [1] * 4},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_of_the_paper_s_networks_is_explained_with_a_layer_of_its_own(name):
    torch.manual_seed(0)
    model, shape = build_network(name, **ARCHITECTURES[name]).eval(), (64, 32, 32)
    volume, lesion, halved = scan(shape), block(shape, (30, 14, 17), (2, 1, 2)), []
    for conv, module in model.named_modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.register_forward_hook(lambda *given, conv=conv: halved.append((conv, given[2].shape[2:])))
    activations = layer_activations(model, volume, "")
    last = [conv for conv, size in halved if size == (32, 16, 16)][-1]
    assert last.startswith(named_layer(model))  # where half the resolution ends
    cam = grad_cam(model, volume, lesion, activations=activations)
    assert torch.equal(cam, grad_cam(model, volume, lesion, layer=named_layer(model)))
    assert cam.isfinite().all() and cam.max() > 0
    saliency = smoothgrad(model, volume, lesion, n_samples=1, generator=torch.Generator().manual_seed(0))
    assert saliency.isfinite().all() and (saliency != 0).flatten(1).any(1).all()


def test_the_layer_of_a_wrapped_network_is_found_and_that_of_another_has_to_be_named():
    models = [build_network("unet", **ARCHITECTURES["unet"]) for _ in range(2)]
    wrapped = Adapter(models[0])
    assert named_layer(wrapped) == named_layer(wrapped, LAYER) == named_layer(wrapped, f"network.{LAYER}")
    assert named_layer(models[0], LAYER) == LAYER
    for other, kind in ((MeanLogits(models), "MeanLogits"), (Adapter(nn.Conv3d(2, 2, 1)), "Conv3d")):
        with pytest.raises(ValueError, match=f"which layer of {kind} Grad-CAM"):
            named_layer(other)


class WithHead(Skips):
    """With a coarser head, as for deep supervision."""

    def __init__(self):
        super().__init__(nn.Sequential(nn.MaxPool3d(2), nn.Conv3d(3, 3, 3, 1, 1)))
        self.head = nn.Conv3d(2, 2, 1, 2)

    def forward(self, x):
        return [super().forward(x), self.head(x)]


def test_a_layer_that_may_do_is_told_where_none_is_named_or_known():
    model = Adapter(WithHead())
    for layer, said in (("", "which layer of WithHead"), ("middle", "no layer 'middle'")):
        with pytest.raises(ValueError, match=f'{said}.* such as SET="layer=down", the last at half the resolution'):
            named_layer(model, layer)
    assert named_layer(model, "down") == "network.down"


def test_a_layer_without_one_set_of_feature_maps_is_refused():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.twice, self.aside = nn.Conv3d(2, 2, 1), nn.Conv3d(2, 2, 1)

        def forward(self, x):
            self.aside(x)
            return self.twice(self.twice(x))

    for layer, named in (("twice", "2 times"), ("aside", "no logit depends")):
        with pytest.raises(ValueError, match=named):
            grad_cam(Odd(), scan(), block(SHAPE, (1, 1, 1)), layer=layer)


class Halves(nn.Module):
    """A list of two."""

    def forward(self, x):
        return [x / 2, x / 2]


class Listed(Bright):
    def __init__(self):
        super().__init__(linear_head())
        self.halves = Halves()

    def forward(self, x):
        return self.after(sum(self.halves(self.features(x))))


def test_a_layer_that_returns_a_list_is_refused_by_name():
    with pytest.raises(ValueError, match="layer 'halves' returns a list, not one tensor: choose one"):
        grad_cam(Listed(), scan(), block(SHAPE, (1, 1, 1)), layer="halves")


@pytest.mark.parametrize("method", [grad_cam, hires_cam])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_scan_that_is_not_finite_far_from_the_lesion_is_refused(method, value):
    model, volume, lesion = Bright(linear_head()), scan(), block(SHAPE, PLACES["high border"])
    volume[0, 0, 0, 0, 0] = value
    with pytest.raises(ValueError, match="layer 'features' gives NaN or infinite values for this scan"):
        method(model, volume, lesion, layer="features")


def test_explaining_leaves_the_model_as_it_was(leaves_as_it_was):
    leaves_as_it_was(grad_cam)


def test_hook_is_removed_when_the_network_fails():
    model = nn.Sequential(nn.Conv3d(2, 2, 1), nn.Conv3d(2, 2, 1))

    def fail(module, inputs):
        if torch.is_grad_enabled():
            raise RuntimeError("out of memory")

    model[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        grad_cam(model, scan(), block(SHAPE, (1, 1, 1)), layer="0")
    assert not model[0]._forward_hooks


def test_errors_say_what_is_wrong():
    model, volume, lesion = random_unet(), scan(), block(SHAPE, PLACES["middle"])
    with pytest.raises(ValueError, match=r"\(2, 44, 40, 36\)"):
        grad_cam(model, volume[0], lesion)
    with pytest.raises(ValueError, match="'model.9'"):
        grad_cam(model, volume, lesion, layer="model.9")
