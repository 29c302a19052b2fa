import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import (
    LRP,
    Deconvolution,
    DeepLift,
    GuidedBackprop,
    IntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from captum.attr._utils.lrp_rules import EpsilonRule
from literal import PLACES, SHAPE, block, generator, random_unet, relative_error, scan
from monai.networks.blocks.activation import MemoryEfficientSwish, Mish, Swish
from monai.networks.nets import UNet
from torch import nn

from lib.exact.windows import whole_logits
from lib.saliency.attribution import LesionScore
from lib.saliency.gradients import noise_sigma, noisy_copies, smoothgrad
from lib.saliency.scores import class_logit, probability

LESION = block(SHAPE, PLACES["middle"])


def literal_score(model, volume, score=class_logit):
    with torch.no_grad():
        return score(whole_logits(model, volume)[:, :, torch.from_numpy(LESION)]).mean(1)


@pytest.mark.parametrize("score", [class_logit, probability])
def test_score_on_the_window_is_that_of_the_whole_volume(model, score):
    volumes = torch.cat([scan(), 2 * scan()])
    target = LesionScore(model, LESION, SHAPE, score)
    torch.testing.assert_close(target(target.window.crop(volumes)), literal_score(model, volumes, score))


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_integrated_gradients_of_a_linear_network_are_weight_times_input_minus_baseline(baseline):
    model, volume = nn.Conv3d(2, 2, 1), scan()
    target = LesionScore(model, LESION, SHAPE)
    actual = target.attribute(IntegratedGradients(target), volume, baselines=baseline, n_steps=3)
    weight = model.weight[1].detach().view(2, 1, 1, 1)
    torch.testing.assert_close(actual, weight * (volume[0] - baseline) * torch.from_numpy(LESION) / LESION.sum())


@pytest.mark.parametrize(
    ("method", "options"),
    [(IntegratedGradients, {"n_steps": 200, "internal_batch_size": 10}), (DeepLift, {})],
)
def test_attributions_add_up_to_the_score_above_the_baseline(model, method, options):
    volume, target = scan(), LesionScore(model, LESION, SHAPE)
    total = target.attribute(method(target), volume, **options).sum()
    window = target.window.crop(volume)
    expected = (target(window) - target(torch.zeros_like(window))).item()
    assert total.item() == pytest.approx(expected, rel=0.01)


def test_saliency_is_the_average_map_without_noise(model):
    target = LesionScore(model, LESION, SHAPE)
    actual = target.attribute(Saliency(target), scan(), abs=False)
    expected = smoothgrad(model, scan(), LESION, n_samples=1, noise_fraction=0, aggregate="mean", generator=generator())
    assert relative_error(actual, expected) < 1e-5


def test_noise_tunnel_is_the_average_map(model, monkeypatch):
    volume, target = scan(), LesionScore(model, LESION, SHAPE)
    copies = torch.cat(list(noisy_copies(volume, target.window, noise_sigma(volume, 0.05), 3, generator())))
    monkeypatch.setattr("torch.normal", lambda *args, **kwargs: copies - target.window.crop(volume))
    method = NoiseTunnel(Saliency(target))
    actual = target.attribute(method, volume, nt_type="smoothgrad", nt_samples=3, abs=False)
    expected = smoothgrad(model, volume, LESION, n_samples=3, aggregate="mean", generator=generator())
    assert relative_error(actual, expected) < 1e-5


def test_occlusion_is_the_loss_of_score_of_the_whole_volume(model):
    volume, target = scan(), LesionScore(model, LESION, SHAPE)
    side = [length // 2 for length in target.window.shape]
    actual = target.attribute(
        Occlusion(target), volume, sliding_window_shapes=(1, *side), strides=(1, *side), perturbations_per_eval=8
    )
    part = (1, *(slice(first, first + length) for first, length in zip(target.window.start, side, strict=True)))
    occluded = volume.clone()
    occluded[(0, *part)] = 0
    expected = literal_score(model, volume) - literal_score(model, occluded)
    values = actual[part]
    torch.testing.assert_close(values, expected.expand(values.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", [GuidedBackprop, Deconvolution])
def test_a_method_that_knows_only_relu_is_refused_where_it_would_return_the_plain_gradient(model, method):
    target = LesionScore(model, LESION, SHAPE)
    for explainer in (method(target), NoiseTunnel(method(target))):
        with pytest.raises(ValueError, match=f"{method.__name__} has no rule for LeakyReLU"):
            target.attribute(explainer, scan())


class Pointwise(nn.Module):
    """Two convolutions of one voxel with an activation between them."""

    def __init__(self, activation, rest=0.0):
        torch.manual_seed(0)
        super().__init__()
        self.first, self.last = nn.Conv3d(2, 5, 1), nn.Conv3d(5, 2, 1)
        self.activation, self.rest = activation, rest

    def forward(self, volumes):
        hidden = self.first(volumes)
        return self.last(self.activation(hidden) + self.rest * hidden)


class Double(Pointwise):
    """The same module twice, on the signal and on its opposite."""

    def forward(self, volumes):
        hidden = self.first(volumes)
        return self.last(self.activation(hidden) + 2 * self.activation(-hidden))


OTHER = {
    "function relu": [F.relu, torch.relu, torch.Tensor.relu, torch.Tensor.relu_],
    "function clamp": [lambda x: x.clamp(min=0)],
    "function where": [lambda x: torch.where(x > 0, x, 0)],
    "function mul": [lambda x: x * (x > 0), lambda x: x * x],
    "function silu": [F.silu],
    "Swish": [Swish()],
    "MemoryEfficientSwish": [MemoryEfficientSwish()],
    "Mish": [Mish()],
    "PReLU": [nn.PReLU(5)],
    "Hardswish": [nn.Hardswish()],
    "LogSigmoid": [nn.LogSigmoid()],
    "ReLU6": [nn.ReLU6()],
    "RReLU": [nn.RReLU()],
    "function softmax": [lambda x: x.softmax(1)],
}


@pytest.mark.parametrize("method", [GuidedBackprop, Deconvolution, DeepLift])
@pytest.mark.parametrize(("name", "activation"), [(name, one) for name, all_ in OTHER.items() for one in all_])
def test_what_a_method_takes_for_linear_is_found_in_the_forward_pass(method, name, activation):
    target = LesionScore(Pointwise(activation), LESION, SHAPE)
    said = "% off" if method is DeepLift else "would return plain gradients there"
    with pytest.raises(ValueError, match=rf"{method.__name__} has no rule for .*{name}.*{said}"):
        target.attribute(method(target), scan())


def test_deep_lift_is_refused_for_a_module_that_is_used_again():
    target = LesionScore(Double(nn.ReLU()), LESION, SHAPE)
    with pytest.raises(ValueError, match="DeepLift has no rule for a module that is used again"):
        target.attribute(DeepLift(target), scan())


@pytest.mark.parametrize("around", [lambda method: method, NoiseTunnel])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.PReLU(), F.relu])
def test_relevance_propagation_is_refused_for_a_module_without_a_rule(activation, around):
    target = LesionScore(Pointwise(activation), LESION, SHAPE)
    with pytest.raises(ValueError, match="LRP has no rule for Conv3d: choose another method"):
        target.attribute(around(LRP(target)), scan())


@pytest.mark.filterwarnings("ignore:attributions of LRP")
def test_relevance_propagation_runs_by_rules_that_are_given():
    target = LesionScore(Pointwise(nn.ReLU()), LESION, SHAPE)
    target.model.first.rule, target.model.last.rule = EpsilonRule(), EpsilonRule()
    assert target.attribute(LRP(target), scan()).any()


def test_a_mistake_in_the_options_is_told_by_captum():
    target = LesionScore(Pointwise(nn.ReLU()), LESION, SHAPE)
    with pytest.raises(TypeError, match="steps"):
        target.attribute(IntegratedGradients(target), scan(), steps=3)


@pytest.mark.parametrize(
    "activation", [nn.Identity(), lambda x: (2 * x + 1 - x / 3).clone(), lambda x: x.flip(2).mean(4, True)]
)
def test_guided_backpropagation_of_a_linear_network_is_its_gradient(activation):
    target = LesionScore(Pointwise(activation), LESION, SHAPE)
    torch.testing.assert_close(
        target.attribute(GuidedBackprop(target), scan()), target.attribute(Saliency(target), scan(), abs=False)
    )


def test_a_sum_that_is_only_approached_is_told_in_numbers():
    target = LesionScore(Pointwise(torch.exp), LESION, SHAPE)
    with pytest.warns(UserWarning, match=r"IntegratedGradients add up to .*% off\): give it more steps"):
        target.attribute(IntegratedGradients(target), 4 * scan(), n_steps=1)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("rest", [0.0, 0.5])
@pytest.mark.parametrize("method", [GuidedBackprop, Deconvolution])
def test_negative_gradients_are_dropped_at_each_relu_and_nowhere_else(method, rest, inplace):
    """By hand: guided backpropagation passes what is positive where the ReLU is active, deconvolution all that is positive.

    What goes around the ReLU (rest) is not changed.
    """
    model = Pointwise(nn.ReLU(inplace and not rest), rest)
    volume, target = scan(), LesionScore(model, LESION, SHAPE)
    actual = target.attribute(method(target), volume)
    first, last = (layer.weight.detach().flatten(1) for layer in (model.first, model.last))
    for i, j, k in np.argwhere(LESION):
        active = (model.first(volume)[0, :, i, j, k].detach() > 0) if method is GuidedBackprop else 1
        expected = (last[1].relu() * active + rest * last[1]) @ first / LESION.sum()
        torch.testing.assert_close(actual[:, i, j, k], expected)
    assert not actual[:, ~torch.from_numpy(LESION)].any()


@pytest.mark.parametrize("method", [GuidedBackprop, Deconvolution])
def test_a_relu_that_is_used_twice_drops_the_gradient_of_each_use(method):
    model = Double(nn.ReLU())
    volume, target = scan(), LesionScore(model, LESION, SHAPE)
    actual = target.attribute(method(target), volume)
    first, last = (layer.weight.detach().flatten(1) for layer in (model.first, model.last))
    for i, j, k in np.argwhere(LESION):
        positive = (model.first(volume)[0, :, i, j, k].detach() > 0) if method is GuidedBackprop else torch.ones(5)
        negative = ~positive if method is GuidedBackprop else 1
        expected = (last[1].relu() * positive - 2 * last[1].relu() * negative) @ first / LESION.sum()
        torch.testing.assert_close(actual[:, i, j, k], expected)


def test_deep_lift_of_a_relu_with_a_way_around_it_is_the_change_over_the_change():
    model, volume = Pointwise(nn.ReLU(), 0.5), scan()
    target = LesionScore(model, LESION, SHAPE)
    actual = target.attribute(DeepLift(target), volume)
    first, last = (layer.weight.detach().flatten(1) for layer in (model.first, model.last))
    bias = model.first.bias.detach()
    for i, j, k in np.argwhere(LESION):
        hidden = model.first(volume)[0, :, i, j, k].detach()
        slope = (hidden.relu() - bias.relu()) / (hidden - bias) + 0.5
        expected = (last[1] * slope) @ first * volume[0, :, i, j, k] / LESION.sum()
        torch.testing.assert_close(actual[:, i, j, k], expected, rtol=1e-4, atol=1e-6)


def test_guided_backpropagation_drives_a_unet_of_relu():
    torch.manual_seed(0)
    model = UNet(3, 2, 2, (4, 8), (2,), num_res_units=0, norm="batch", act="relu")
    target = LesionScore(model, LESION, SHAPE)
    guided, plain = (target.attribute(method, scan()) for method in (GuidedBackprop(target), Saliency(target)))
    assert relative_error(guided, plain) > 0.1


def test_the_model_stays_as_it_was(model):
    training = random_unet().train()
    target = LesionScore(training, LESION, SHAPE)
    target.attribute(DeepLift(target), scan())
    assert all(module.training for module in training.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in training.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in training.modules())
    assert any(isinstance(module, nn.PReLU) for module in training.modules())


def test_an_empty_lesion_is_refused(model):
    with pytest.raises(ValueError, match="empty"):
        LesionScore(model, np.zeros(SHAPE, bool), SHAPE)
