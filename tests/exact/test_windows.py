"""Windows of a lesion are exact, or are the whole volume."""

import numpy as np
import pytest
import torch
from literal import block, literal, random_unet, relative_error, scan
from torch import nn

from lib.exact.receptive_field import frozen
from lib.exact.windows import Window, find_window, predict_lesion, predict_lesions, whole_logits
from lib.saliency.attribution import LesionScore
from lib.saliency.gradients import smoothgrad


def test_window_of_the_papers_family_is_the_receptive_field_on_the_stride_grid():
    lesion = block((96, 96, 96), (41, 44, 47), (1, 1, 1))
    window = find_window(random_unet(), lesion, lesion.shape)
    # 8 voxels below an aligned cut and 7 above are inexact: floor((41 - 8) / 4) * 4 to ceil((42 + 7) / 4) * 4
    assert window == Window((slice(32, 52), slice(36, 52), slice(36, 56)))


def test_window_depends_on_the_architecture_not_on_the_weights():
    model = random_unet()
    lesion = block((64, 64, 64), (30, 30, 30))
    before = find_window(model, lesion, lesion.shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert find_window(model, lesion, lesion.shape) == before == find_window(random_unet(), lesion, lesion.shape)


class Pooled(nn.Module):
    def forward(self, x):
        return x - x.mean((2, 3, 4), keepdim=True)


class SwallowsNaN(nn.Module):
    def forward(self, x):
        return x - torch.nan_to_num(x).mean((2, 3, 4), keepdim=True)


@pytest.mark.parametrize("model", [random_unet(norm="instance"), Pooled(), SwallowsNaN()])
def test_network_that_looks_everywhere_is_never_cropped(model):
    lesion = block((42, 40, 40), (20, 20, 20))
    window = find_window(model, lesion, lesion.shape)
    assert window.reason
    assert window.within(lesion.shape) == (slice(0, 42), slice(0, 40), slice(0, 40))


@pytest.mark.parametrize("shape", [(64, 56, 48), (61, 54, 47)])
@pytest.mark.parametrize("place", ["low border", "middle", "high border"])
def test_lesion_logits_equal_those_of_the_whole_volume(shape, place):
    model = random_unet()
    size = np.array((3, 2, 4))
    first = {"low border": 0 * size, "middle": np.array((29, 26, 22)), "high border": shape - size}[place]
    lesion = block(shape, first)
    volumes = torch.randn(2, 2, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), frozen(model):
        expected = whole_logits(model, volumes)[:, :, torch.from_numpy(lesion)]
    assert np.prod(find_window(model, lesion, shape).shape) < 0.6 * np.prod(shape)
    assert relative_error(predict_lesion(model, volumes, lesion), expected) < 1e-5
    assert relative_error(predict_lesion(model, iter(volumes), torch.from_numpy(lesion)), expected) < 1e-5


def test_whole_logits_of_odd_sizes_are_those_of_the_padded_volume():
    model = random_unet().eval()
    volume = torch.randn(1, 2, 21, 18, 23, generator=torch.Generator().manual_seed(1))
    padded = torch.zeros(1, 2, 24, 20, 24)
    padded[..., :21, :18, :23] = volume
    with torch.no_grad():
        torch.testing.assert_close(whole_logits(model, volume), model(padded)[..., :21, :18, :23], rtol=0, atol=0)


def test_crop_and_paste_are_inverse_inside_the_volume():
    volume = torch.randn(2, 9, 10, 11, generator=torch.Generator().manual_seed(0))
    window = Window((slice(4, 12), slice(0, 8), slice(4, 12)))
    cropped = window.crop(volume)
    assert cropped.shape[1:] == window.shape
    assert not cropped[:, 5:].any()
    pasted = window.paste(cropped, (9, 10, 11))
    inside = window.within((9, 10, 11))
    assert torch.equal(pasted[(..., *inside)], volume[(..., *inside)])
    assert pasted.count_nonzero() == volume[(..., *inside)].count_nonzero()


def test_errors_name_the_shapes():
    model = random_unet()
    with pytest.raises(ValueError, match="empty"):
        find_window(model, np.zeros((8, 8, 8), bool), (8, 8, 8))
    with pytest.raises(ValueError, match=r"\(8, 8, 8\).*\(8, 8, 9\)"):
        find_window(model, np.ones((8, 8, 8), bool), (8, 8, 9))
    with pytest.raises(ValueError, match=r"\(2, 8, 8, 9\)"):
        predict_lesion(model, torch.zeros(1, 2, 8, 8, 9), np.ones((8, 8, 8), bool))


class OfBatch(nn.Module):
    """A convolution, what is made of its result, another one."""

    def __init__(self, inner):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.inner = nn.Conv3d(2, 4, 3, padding=1), nn.Conv3d(4, 2, 1), inner

    def forward(self, x):
        return self.last(self.inner(self.first(x).sigmoid()))


@pytest.mark.parametrize(
    "inner",
    [lambda x: x[:1], lambda x: x[:1, :4], lambda x: x + x[:1], lambda x: x.narrow(0, 0, 1)],
    ids=["first", "first of all channels", "first added", "narrow"],
)
def test_a_network_of_one_volume_of_a_batch_counts_every_copy(inner):
    model, volume, lesion = OfBatch(inner).double().eval(), scan((14, 13, 12)).double(), block((14, 13, 12), (5, 6, 5))
    assert "treat each volume of a batch alone: slice" in find_window(model, lesion, lesion.shape).reason
    found = smoothgrad(model, volume, lesion, n_samples=3, generator=torch.Generator().manual_seed(7))
    assert relative_error(found, literal(model, volume, lesion, 3, "max")) < 1e-12
    volumes = torch.cat([volume, 2 * volume, -volume])
    with torch.no_grad():
        expected = torch.cat([model(one[None])[:, :, torch.from_numpy(lesion)] for one in volumes])
    for logits in (predict_lesion(model, volumes, lesion), *predict_lesions(model, volumes, [lesion])):
        assert relative_error(logits, expected) < 1e-12


KNOWN = nn.InstanceNorm3d(4, track_running_stats=True)  # makes channels of the volumes of a batch


@pytest.mark.parametrize("inner", [lambda x: x[:], lambda x: x[: len(x)], lambda x: x + x[:, 1:].sum(1, True), KNOWN])
def test_a_network_that_takes_all_volumes_of_a_batch_keeps_its_windows(inner):
    lesion = block((14, 13, 12), (5, 6, 5), (1, 1, 1))
    assert not find_window(OfBatch(inner), lesion, lesion.shape).reason


def test_as_many_logits_as_copies_are_asked_for_where_copies_are_passed_together():
    model, lesion = OfBatch(lambda x: x[:1]), block((14, 13, 12), (5, 6, 5))
    for use in (lambda x: whole_logits(model, x), LesionScore(model, lesion, lesion.shape)):
        with pytest.raises(ValueError, match="1 results for 3 volumes together"):
            use(torch.zeros(3, 2, *lesion.shape))


@pytest.mark.parametrize("use", [smoothgrad, predict_lesion])
def test_copies_that_a_network_drops_are_not_lost_silently(use, monkeypatch):
    monkeypatch.setattr("lib.exact.windows.takes_some", lambda *_: "")  # as if it were not seen in what it computes
    model, lesion, volumes = OfBatch(lambda x: x[:1]), block((14, 13, 12), (5, 6, 5)), torch.zeros(3, 2, 14, 13, 12)
    options = {"n_samples": 4, "generator": torch.Generator().manual_seed(0)} if use is smoothgrad else {}
    with pytest.raises(ValueError, match="1 results for . volumes together"):
        use(model, volumes[:1] if options else volumes, lesion, **options)
