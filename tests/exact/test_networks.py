"""Networks that look at the whole volume are explained on all of it: nnU-Net-like DynUNet, Swin UNETR."""

import pytest
import torch
from literal import block, generator, literal, literal_grad_cam, relative_error, scan

from lib.exact.windows import find_window, predict_lesion, whole_logits
from lib.network.architectures import build_network
from lib.saliency.cam import grad_cam
from lib.saliency.gradients import smoothgrad

TINY = {
    "dynunet": ({"channels": (4, 6, 8)}, (18, 20, 13), "upsamples.0"),
    "swinunetr": (
        {"feature_size": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4},
        (60, 32, 31),
        "decoder2",
    ),
}


@pytest.fixture(scope="module", params=TINY)
def network(request):
    """Network in evaluation mode with random weights, a scan and a lesion for it, and a layer for Grad-CAM++.

    In double precision: instance normalisation over the few voxels of the deepest level magnifies rounding.
    """
    torch.manual_seed(0)
    architecture, shape, layer = TINY[request.param]
    model = build_network(request.param, **architecture).eval()
    return model.double(), scan(shape).double(), block(shape, (8, 9, 5), (2, 1, 1)), layer


def test_is_never_cropped_and_says_why(network):
    model, volume, lesion, _ = network
    shape = lesion.shape
    window = find_window(model, lesion, shape)
    assert "whole volume" in window.reason
    assert window.within(shape) == tuple(slice(0, size) for size in shape)
    inside = torch.from_numpy(lesion)
    with torch.no_grad():
        expected = whole_logits(model, volume)[:, :, inside]
    torch.testing.assert_close(predict_lesion(model, volume, lesion), expected)


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_smoothgrad_equals_the_literal_loop(network, aggregate):
    model, volume, lesion, _ = network
    expected = literal(model, volume, lesion, 1, aggregate)
    actual = smoothgrad(model, volume, lesion, n_samples=1, aggregate=aggregate, generator=generator())
    assert relative_error(actual, expected) < 1e-5
    assert actual[:, -1, -1, -1].all()


def test_grad_cam_equals_the_equations(network):
    model, volume, lesion, layer = network
    coarse = literal_grad_cam(model, volume, lesion, layer)
    actual = grad_cam(model, volume, lesion, layer=layer)
    assert coarse.any()
    even = tuple(slice(-(-size // 2)) for size in lesion.shape)
    assert relative_error(actual[::2, ::2, ::2], coarse[even]) < 1e-5
