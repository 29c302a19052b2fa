"""What a network gives is checked once, before anything is predicted or explained."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from literal import block, generator, scan
from monai.networks import nets
from torch import nn

from lib.exact.contract import check_network, usable
from lib.exact.windows import predict_lesion
from lib.network.inference import predict
from lib.saliency.attribution import LesionScore
from lib.saliency.cam import grad_cam
from lib.saliency.gradients import smoothgrad

SHAPE = (40, 36, 44)


class Ends(nn.Module):
    """A convolution and what a function makes of its output."""

    def __init__(self, end=lambda y: y, channels=2, inputs=2, padding=1):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.end = nn.Conv3d(inputs, channels, 3, padding=padding), end

    def forward(self, x):
        return self.end(self.conv(x))


@pytest.mark.parametrize(
    "network, found, cure",
    [
        (Ends(padding=0), r"\(1, 2, 30, 30, 30\) for an input of \(1, 2, 32, 32, 32\)", "pad"),
        (nn.Conv3d(2, 2, 2, stride=2), r"\(1, 2, 16, 16, 16\)", "grid of the input"),
        (Ends(channels=1), "one channel", r"torch.cat\(\[torch.zeros_like\(logit\), logit\], 1\)"),
        (Ends(channels=3), "3 channels", "torch.logsumexp"),
        (Ends(inputs=1, padding=0), r"\(1, 2, 30, 30, 30\) for an input of \(1, 1, 32, 32, 32\)", "pad"),
        (nn.Conv2d(2, 2, 3), "does not take", "conv2d"),
        (Ends(lambda y: [y, y[..., ::2]]), "a list of 2", "the first"),
        (Ends(lambda y: (y, y)), "a tuple of 2", "the first"),
        (Ends(lambda y: {"out": y, "aux": y}), "a dict of out, aux", "returns the logits among them"),
        (Ends(lambda y: None), "a NoneType", "logits as a tensor"),
        (Ends(lambda y: torch.stack([y, y, y], 1)), r"stacked heads, \(1, 3, 2, ", r"output\[:, 0\]"),
        (Ends(lambda y: y[0]), r"\(2, 32, 32, 32\)", r"\(N, 2, X, Y, Z\)"),
        (Ends(lambda y: y.movedim(1, -1)), r"\(1, 32, 32, 32, 2\)", r"\(N, 2, X, Y, Z\)"),
        (Ends(lambda y: y.argmax(1)), "torch.int64", "before logits become labels"),
        (Ends(lambda y: y.to("meta")), "values on meta", "one device"),
        (Ends(lambda y: y.softmax(1)), "probabilities that add up to 1", "before its softmax"),
        (Ends(lambda y: y.sigmoid()), "values from 0 to 1", "before its sigmoid"),
        (Ends(lambda y: y.log_softmax(1)), "logarithms of probabilities", "before its log-softmax"),
        (Ends(lambda y: F.dropout(y, 0.2)), "other values when it is called again", "switch off its dropout"),
        (Ends(lambda y: y / 0), "NaN or infinite values", "its weights"),
    ],
)
def test_what_is_no_logits_is_named_with_its_cure(network, found, cure):
    with pytest.raises(ValueError, match=f"(?s)the network .*{found}.*{cure}"):
        check_network(network, SHAPE)


class Cubed(Ends):
    """Of an input as large as the check's, its values overflow."""

    def forward(self, x):
        return self.end(self.conv(x) ** 3)


@pytest.mark.parametrize("dtype", [torch.float, torch.double, torch.half])
def test_probabilities_are_seen_where_a_large_input_overflows(dtype):
    for end, cure in (("softmax", "before its softmax"), ("sigmoid", "its sigmoid"), ("log_softmax", "log-softmax")):
        options = () if end == "sigmoid" else (1,)
        with pytest.raises(ValueError, match=cure):
            check_network(Cubed(lambda y, end=end, options=options: getattr(y, end)(*options)).to(dtype), SHAPE)
    check_network(Cubed().to(dtype), SHAPE)


class FixedSize(nn.Module):
    """Takes one size alone, as networks with learnt positions do."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Parameter(torch.ones(1, 2, *SHAPE))

    def forward(self, x):
        return x + self.positions


@pytest.mark.parametrize(
    "build",
    [
        lambda: nets.UNet(3, 2, 2, (4, 8, 8, 8, 8), (2, 2, 2, 2), norm="batch"),
        lambda: nets.UNet(3, 2, 2, (4, 8, 8, 8, 8, 8), (2, 2, 2, 2, 2), norm="instance"),
        lambda: nets.UNet(3, 2, 2, (4, 8, 8, 8), (3, 3, 3), up_kernel_size=3),
        lambda: nets.BasicUNet(3, 2, 2, features=(2, 2, 4, 4, 4, 2)),
        lambda: nets.DynUNet(3, 2, 2, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4] * 4),
        lambda: nets.DynUNet(3, 2, 2, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4] * 4, deep_supervision=True),
        lambda: nets.SwinUNETR(in_channels=2, out_channels=2, feature_size=12, depths=(1, 1, 1, 1), num_heads=(1,) * 4),
        lambda: nets.AttentionUnet(3, 2, 2, (2, 4), (2,)),
        lambda: nets.SegResNet(3, 8, in_channels=2, out_channels=2, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
        lambda: nn.Sequential(nn.Dropout(0.5), nn.Conv3d(2, 2, 1)),
        lambda: Ends(inputs=1),
        lambda: Ends(inputs=3),
        lambda: Ends().double(),
        lambda: Ends().bfloat16(),
        lambda: Ends(torch.zeros_like),
        FixedSize,
    ],
)
def test_networks_of_two_logits_on_the_same_grid_pass_in_either_mode(build):
    network = build().train()
    check_network(network, SHAPE)
    assert network.training


@pytest.mark.parametrize(
    "use",
    [
        lambda network, volume, lesion: smoothgrad(network, volume, lesion, n_samples=1, generator=generator()),
        lambda network, volume, lesion: grad_cam(network, volume, lesion, layer="conv"),
        lambda network, volume, lesion: LesionScore(network, lesion, SHAPE),
        lambda network, volume, lesion: predict(network, volume[0], window=32),
    ],
)
def test_whoever_uses_a_network_hears_of_it(use):
    with pytest.raises(ValueError, match="a list of 1"):
        use(Ends(lambda y: [y]), torch.zeros(1, 2, *SHAPE), block(SHAPE, (9, 9, 9)))


def test_a_network_left_in_training_is_predicted_in_evaluation_mode():
    network = nn.Sequential(Ends(), nn.BatchNorm3d(2), nn.Dropout(0.5)).train()
    image = np.random.default_rng(0).normal(size=(2, 16, 16, 16)).astype(np.float32)
    found = predict(network, image, window=16)
    assert network.training
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(image)[None]).softmax(1)[0, 1]
    np.testing.assert_allclose(found, expected, atol=1e-6)


class Switched(nn.Module):
    """A network whose softmax can be switched on after it was first used."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.soft = nn.Conv3d(2, 2, 3, padding=1), False

    def forward(self, x):
        return self.conv(x).softmax(1) if self.soft else self.conv(x)


CHANGES = {
    "softmax": (lambda model: setattr(model, "soft", True), "before its softmax"),
    "hook": (
        lambda model: model.register_forward_hook(lambda *given: given[2].log_softmax(1)),
        "log-?softmax|logarithms",
    ),
    "weights": (lambda model: model.conv.weight.data.fill_(float("nan")), "NaN or infinite"),
}


@pytest.mark.parametrize("use", ["predict", "predict_lesion", "smoothgrad", "grad_cam"])
@pytest.mark.parametrize("change, said", CHANGES.values(), ids=CHANGES)
def test_a_network_that_gives_something_else_after_it_was_used_is_refused(use, change, said):
    model, image = Switched().eval(), scan((16, 16, 16))
    lesion = block((16, 16, 16), (8, 8, 8))
    ways = {
        "predict": lambda: predict(model, image[0].numpy(), window=16),
        "predict_lesion": lambda: predict_lesion(model, image, lesion),
        "smoothgrad": lambda: smoothgrad(model, image, lesion, n_samples=1, generator=generator()),
        "grad_cam": lambda: grad_cam(model, image, lesion, layer="conv"),
    }
    ways[use]()
    change(model)
    with pytest.raises(ValueError, match=said):
        ways[use]()


def test_logits_that_happen_to_lie_between_0_and_1_are_usable():
    logits = torch.rand(1, 2, 5)
    assert usable(logits) is logits
    assert usable(torch.tensor([[[0.3, 0.4], [0.7, 0.6]]])).shape == (1, 2, 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_network_of_another_precision_predicts(dtype):
    model, image = Switched().eval(), scan((16, 16, 16))[0].numpy()
    expected = predict(model, image, window=16)
    np.testing.assert_allclose(predict(model.to(dtype), image, window=16), expected, atol=2e-2)
