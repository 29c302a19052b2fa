"""Networks of other channels, classes, heads and values: one contract, and the numbers of the network itself."""

import json

import pytest
import torch
from literal import block, generator, scan
from torch import nn

from lib.exact import check_network, unsupported_reason
from lib.network import load_weights, map_unit
from lib.network.architectures import build_network
from lib.network.published import Adapter, adapted
from lib.network.published.adapter import LOG_ODDS, LOGIT, MeanLogits, MeanProbability
from lib.network.weights import save_weights
from lib.saliency import smoothgrad

SHAPE = (16, 16, 16)


class Ends(nn.Module):
    """A convolution and what a function makes of its output."""

    def __init__(self, end=lambda y: y, classes=2, inputs=2):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.end = nn.Conv3d(inputs, classes, 3, padding=1), end

    def forward(self, x):
        return self.end(self.conv(x))


@pytest.fixture
def volume():
    return scan(SHAPE)


def test_a_network_that_keeps_the_contract_is_left_alone():
    network = Ends()
    assert adapted(network) is network


@pytest.mark.parametrize("channels", [("MPRAGE", "FLAIR"), ("FLAIR",), ("MPRAGE",)])
def test_channels_are_picked_in_the_order_of_the_network_to_the_last_bit(volume, channels):
    network = Ends(inputs=len(channels))
    places = [("FLAIR", "MPRAGE").index(name) for name in channels]
    assert torch.equal(adapted(network, channels=channels)(volume), network(volume[:, places]))


HEADS = {
    "list": lambda y: [y[..., ::2, ::2, ::2], y, 2 * y],
    "tuple": lambda y: (y,),
    "dict": lambda y: {"low": y[..., :4], "out": y},
    "stacked": lambda y: torch.stack([y, 0 * y], 1),
}


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
def test_of_several_heads_the_first_at_full_resolution_counts(volume, heads):
    network = Ends(heads)
    assert torch.equal(adapted(network)(volume), network.conv(volume))


def test_one_channel_is_the_logit_beside_a_background_of_0(volume):
    network = Ends(classes=1)
    logits = adapted(network)(volume)
    assert torch.equal(logits[:, 1:], network(volume))
    assert not logits[:, 0].any()


@pytest.mark.parametrize("output", ["logits", "softmax"])
def test_the_lesion_among_classes_keeps_its_logit_and_its_probability(volume, output):
    network = Ends((lambda y: y.softmax(1)) if output == "softmax" else (lambda y: y), classes=4)
    logits = adapted(network, lesion_class=2, output=output)(volume)
    expected = network.conv(volume)
    assert torch.equal(logits[:, 1], expected[:, 2])
    torch.testing.assert_close(logits.softmax(1)[:, 1], expected.softmax(1)[:, 2])


LAST = {  # what ends in a sigmoid or softmax, and whether its logit can be had
    "sigmoid": (lambda y: y.sigmoid(), "sigmoid", True),
    "nn.Sigmoid": (nn.Sigmoid(), "sigmoid", True),
    "nn.Softmax": (nn.Softmax(1), "softmax", True),
    "functional": (lambda y: nn.functional.softmax(y, dim=1), "softmax", True),
    "list": (lambda y: [torch.sigmoid(y), y[..., ::2]], "sigmoid", True),
    "written out": (lambda y: 1 / (1 + (-y).exp()), "sigmoid", False),
    "clone": (lambda y: y.softmax(1).clone(), "softmax", False),
    "other axis": (lambda y: y.movedim(1, -1).softmax(-1).movedim(-1, 1), "softmax", False),
}


@pytest.mark.parametrize("end, output, recovered", LAST.values(), ids=LAST)
def test_of_a_probability_the_logit_is_explained(volume, end, output, recovered):
    network = Ends(end)
    model = adapted(network, output=output)
    logits, before = model(volume), network.conv(volume)
    assert model.explained == (LOGIT if recovered else LOG_ODDS)
    difference = before[:, 1] - before[:, 0] if output == "softmax" else before[:, 1]
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], difference, rtol=1e-4, atol=1e-5)
    if recovered:
        assert torch.equal(logits[:, 1], before[:, 1])


@pytest.mark.parametrize("end, output", [(nn.Sigmoid(), "sigmoid"), (nn.Softmax(1), "softmax")])
def test_logits_and_gradients_stay_finite_where_probabilities_are_0_and_1(end, output):
    for last in (end, lambda y: end(y).clone()):
        model = Adapter(Ends(last, classes=2), output=output)
        x = (1e4 * scan(SHAPE)).requires_grad_()
        logits = model(x)
        (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x)
        assert logits.isfinite().all()
        assert gradient.isfinite().all()


def test_probabilities_that_nobody_said_are_refused_with_the_word_to_say():
    with pytest.raises(ValueError, match='"output": "softmax"'):
        adapted(Ends(nn.Softmax(1)))
    with pytest.raises(ValueError, match='"output": "sigmoid"'):
        adapted(Ends(nn.Sigmoid(), classes=1))


@pytest.mark.parametrize(
    "network, options, said",
    [
        (Ends(inputs=1), {}, "takes 1 channels in place of FLAIR, MPRAGE: say which"),
        (Ends(classes=4), {}, "gives 4 classes: say which is the lesion"),
        (Ends(classes=4), {"lesion_class": 4}, "gives 4 classes"),
        (Ends(), {"output": "Sigmoid"}, "output is 'Sigmoid': choose one of logits, sigmoid, softmax"),
        (Ends(), {"channels": ("FLAIR", "FLAIR")}, "each once"),
        (Ends(lambda y: y.softmax(1), 3), {"lesion_class": 2}, 'from 0 to 1 alone: say "output": "softmax"'),
        (Ends(lambda y: y.sigmoid(), 3), {"lesion_class": 2}, 'from 0 to 1 alone: say "output": "sigmoid"'),
        (Ends(classes=1), {"output": "sigmoid"}, 'gives values from -.* to .*: say "output": "logits"'),
        (Ends(), {"output": "softmax"}, 'gives values from -.* to .*: say "output": "logits"'),
        (Ends(nn.Softmax(1)), {"output": "sigmoid"}, 'ends in a softmax: say "output": "softmax"'),
        (Ends(nn.Sigmoid()), {"output": "softmax"}, 'ends in a sigmoid: say "output": "sigmoid"'),
        (Ends(lambda y: y.softmax(1)[:, 1:], 3), {"output": "softmax", "lesion_class": 0}, "do not add up to 1"),
        (Ends(lambda y: [y[..., ::2]]), {}, r"of the heads .*, \(1, 2, 96, 96, 48\), none is on the grid"),
    ],
)
def test_what_cannot_be_adapted_is_said(network, options, said):
    with pytest.raises(ValueError, match=said):
        adapted(network, **options)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_one_channel_of_a_softmax_is_the_probability_of_the_lesion(volume, output):
    network = Ends(lambda y: y.softmax(1)[:, 1:])
    model = adapted(network, output=output)
    torch.testing.assert_close(model(volume).softmax(1)[:, 1:], network(volume))
    assert model.explained == LOG_ODDS


def test_what_is_changed_in_place_after_the_activation_counts(volume):
    network = Ends(lambda y: y.sigmoid().mul_(0.5), classes=1)
    model = adapted(network, output="sigmoid")
    torch.testing.assert_close(model(volume).softmax(1)[:, 1:], network(volume))
    assert model.explained == LOG_ODDS


def test_channels_may_have_their_usual_names(volume):
    network = Ends(inputs=1)
    assert torch.equal(adapted(network, channels=("T1w",))(volume), network(volume[:, 1:]))


def test_an_adapted_network_has_the_map_of_its_own_on_the_sequence_that_it_takes(volume):
    """Also by the adjoint, which knows convolutions alone."""
    torch.manual_seed(0)
    network = build_network(channels=[4, 8], strides=[2], in_channels=1, out_channels=1).eval()
    model, lesion = Adapter(network, channels=("MPRAGE",)), block(SHAPE, (8, 8, 8))
    assert not unsupported_reason(model, SHAPE)
    options = {"n_samples": 2, "noise_fraction": 0.0, "generator": generator()}
    found = smoothgrad(model, volume, lesion, **options)
    own = smoothgrad(Adapter(network, channels=("FLAIR",)), volume.flip(1), lesion, **options)
    assert not found[0].any()
    assert found[1].any()
    torch.testing.assert_close(found[1], own[0])


@pytest.mark.parametrize("inputs", [1, 3])
def test_networks_of_any_number_of_channels_are_explained_directly(inputs):
    network, volume = Ends(inputs=inputs), torch.randn(1, inputs, *SHAPE, generator=generator())
    lesion = block(SHAPE, (8, 8, 8))
    found = smoothgrad(
        network, volume, lesion, n_samples=1, noise_fraction=0.0, aggregate="mean", generator=generator()
    )
    x = volume.clone().requires_grad_()
    (expected,) = torch.autograd.grad(network(x)[0, 1][torch.as_tensor(lesion)].mean(), x)
    torch.testing.assert_close(found, expected[0])
    with pytest.raises(ValueError, match=rf"give one scan as \(1, {inputs}, X, Y, Z\)"):
        smoothgrad(network, torch.zeros(1, 2, *SHAPE), lesion, n_samples=1, generator=generator())


def test_ensembles_are_the_mean_of_logits_or_of_probabilities(volume):
    networks = [Ends(lambda y, scale=scale: scale * y) for scale in (1, -5, 90)]
    torch.testing.assert_close(MeanLogits(networks)(volume), 86 / 3 * networks[0](volume))
    assert unsupported_reason(MeanLogits([Ends(), Ends()]), SHAPE) == ""
    expected = sum(network(volume).double().softmax(1) for network in networks) / 3
    mean = MeanProbability(networks).double()(volume.double())
    torch.testing.assert_close(mean.softmax(1), expected, rtol=1e-5, atol=1e-9)
    check_network(MeanProbability(networks), SHAPE)
    assert unsupported_reason(MeanProbability(networks), SHAPE) == ""


def test_networks_of_more_classes_and_of_probabilities_have_the_adjoint():
    for number in range(4):
        assert unsupported_reason(adapted(Ends(classes=4), lesion_class=number), SHAPE) == ""
    halves = Ends(lambda y: 0.5 * y.softmax(1) + 0.25)
    assert unsupported_reason(adapted(halves, output="softmax"), SHAPE) == ""


def test_the_json_beside_weights_says_what_a_network_takes_and_gives(tmp_path, volume):
    architecture = {"name": "unet", "channels": [4, 8], "strides": [2], "out_channels": 3}
    torch.manual_seed(0)
    network = build_network(**architecture, in_channels=1).eval()
    path = tmp_path / "flair.safetensors"
    save_weights(network, path, architecture=architecture, threshold=0.5, window=16)
    said = json.loads(path.with_suffix(".json").read_text()) | {"channels": ["FLAIR"], "lesion_class": 2}
    path.with_suffix(".json").write_text(json.dumps(said))
    model, description = load_weights(path)
    assert description["explained"] == LOGIT
    assert map_unit(description) == "logit per z-score"
    assert torch.equal(model(volume)[:, 1], network(volume[:, :1])[:, 2])
