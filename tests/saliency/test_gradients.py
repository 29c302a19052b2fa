import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel, Saliency
from literal import PLACES, SHAPE, block, generator, literal, random_unet, relative_error, scan, whole_copies
from torch import nn

from lib.exact.windows import find_window, predict_lesion, whole_logits
from lib.saliency.gradients import noise_sigma, noisy_copies, smoothgrad, smoothgrads


def test_gradient_of_a_linear_network_is_its_weight():
    model = nn.Conv3d(2, 2, 1)
    lesion = block(SHAPE, (10, 11, 12))
    expected = model.weight[1].detach().view(2, 1, 1, 1) * torch.from_numpy(lesion)
    for aggregate, scale in (("max", 1), ("mean", 1 / lesion.sum())):
        actual = smoothgrad(model, scan(), lesion, n_samples=3, aggregate=aggregate, generator=generator())
        torch.testing.assert_close(actual, expected * scale)


def test_map_of_a_convolution_is_its_kernel_swept_over_the_lesion():
    model = nn.Conv3d(2, 2, 3, padding=1)
    lesion = block(SHAPE, (10, 11, 12))
    kernel = model.weight[1].detach()
    swept = torch.zeros(int(lesion.sum()), 2, *SHAPE)
    for one, (i, j, k) in zip(swept, np.argwhere(lesion), strict=True):
        one[:, i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = kernel
    strongest = swept.gather(0, swept.abs().argmax(0, keepdim=True))[0]
    actual = [smoothgrad(model, scan(), lesion, aggregate=name, generator=generator()) for name in ("max", "mean")]
    torch.testing.assert_close(actual[0], strongest)
    torch.testing.assert_close(actual[1], swept.mean(0))


def test_map_of_an_affine_free_toy_unet_equals_its_closed_form():
    down, across, up = (
        nn.Conv3d(2, 1, 2, 2, bias=False),
        nn.Conv3d(2, 1, 1, bias=False),
        nn.ConvTranspose3d(1, 1, 2, 2, bias=False),
    )

    class Toy(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.across, self.up = down, across, up

        def forward(self, x):
            lesion = self.across(x) + self.up(self.down(x))
            return torch.cat([-lesion, lesion], 1)

    lesion = block(SHAPE, (11, 12, 14), (1, 1, 1))
    expected = torch.zeros(2, *SHAPE)
    # the voxel has place (1, 0, 0) in its 2x2x2 cell
    expected[:, 10:12, 12:14, 14:16] = down.weight[0].detach() * up.weight[0, 0, 1, 0, 0].detach()
    expected[:, 11, 12, 14] += across.weight[0, :, 0, 0, 0].detach()
    torch.testing.assert_close(smoothgrad(Toy(), scan(), lesion, n_samples=2, generator=generator()), expected)


@pytest.mark.parametrize("shape", [SHAPE, (43, 38, 35)])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_smoothgrad_equals_the_literal_loop_over_the_whole_volume(shape, place, aggregate):
    model = random_unet()
    volume, lesion = scan(shape), block(shape, PLACES[place])
    expected = literal(model.eval(), volume, lesion, 2, aggregate)
    actual = smoothgrad(model, volume, lesion, n_samples=2, aggregate=aggregate, generator=generator())
    assert relative_error(actual, expected) < 1e-5


def test_noise_range_of_the_first_channel_is_used_for_both():
    model, volume, lesion = random_unet(), scan(), block(SHAPE, PLACES["middle"])
    expected = literal(model.eval(), volume, lesion, 2, "mean", noise_range="first")
    actual = smoothgrad(
        model, volume, lesion, n_samples=2, aggregate="mean", generator=generator(), noise_range="first"
    )
    assert relative_error(actual, expected) < 1e-5
    ranges = torch.stack([channel.max() - channel.min() for channel in volume[0]])
    torch.testing.assert_close(noise_sigma(volume, 0.05), 0.05 * ranges)
    torch.testing.assert_close(noise_sigma(volume, 0.05, "first"), 0.05 * ranges[:1].expand(2))


def test_noise_has_the_wanted_deviation_and_leaves_the_padding_zero():
    volume, lesion = scan((43, 38, 35)), block((43, 38, 35), PLACES["high border"])
    window = find_window(random_unet(), lesion, lesion.shape)
    sigma = torch.tensor([0.1, 0.7])
    copies = torch.cat(list(noisy_copies(volume, window, sigma, 40, generator())))
    noise = copies - window.crop(volume)
    inside = noise[(..., *(slice(side.stop - side.start) for side in window.within(lesion.shape)))]
    torch.testing.assert_close(inside.std((0, 2, 3, 4)), sigma, rtol=0.01, atol=0)
    assert noise.count_nonzero() == inside.count_nonzero()
    correlation = np.corrcoef(inside[:2].flatten(1))[0, 1]
    assert abs(correlation) < 0.02


def test_without_noise_the_mean_is_the_plain_gradient():
    model, volume, lesion = random_unet().eval(), scan(), block(SHAPE, PLACES["middle"])
    x = volume.clone().requires_grad_()
    whole_logits(model, x)[0, 1][torch.from_numpy(lesion)].mean().backward()
    actual = smoothgrad(model, volume, lesion, n_samples=3, noise_fraction=0, aggregate="mean", generator=generator())
    assert relative_error(actual, x.grad[0]) < 1e-5


def test_mean_equals_captum_noise_tunnel(monkeypatch):
    model, volume, lesion = random_unet().eval(), scan(), torch.from_numpy(block(SHAPE, PLACES["middle"]))
    tunnel = NoiseTunnel(Saliency(lambda x: whole_logits(model, x)[:, 1, lesion].mean(1)))
    noise = torch.cat(list(whole_copies(model, volume, lesion, 3))) - volume
    monkeypatch.setattr("torch.normal", lambda *args, **kwargs: noise)
    expected = tunnel.attribute(volume, nt_type="smoothgrad", nt_samples=3, abs=False)[0]
    actual = smoothgrad(model, volume, lesion, n_samples=3, aggregate="mean", generator=generator())
    assert relative_error(actual, expected) < 1e-5


def test_same_seed_same_map_whatever_the_batch_size(monkeypatch):
    model, volume, lesion = random_unet(), scan(), block(SHAPE, PLACES["middle"])
    maps = []
    for voxels in (1, 10**9):
        monkeypatch.setattr("lib.saliency.gradients.BATCH_VOXELS", voxels)
        maps.append(smoothgrad(model, volume, lesion, n_samples=5, generator=generator()))
    assert relative_error(maps[1], maps[0]) < 1e-6
    other = smoothgrad(model, volume, lesion, n_samples=5, generator=generator(8))
    assert relative_error(other, maps[0]) > 1e-3


def test_no_digit_of_a_map_depends_on_the_number_of_threads():
    model, volume, lesion = random_unet(), scan(), block(SHAPE, PLACES["middle"])
    maps, threads = [], torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            maps.append(smoothgrad(model, volume, lesion, n_samples=5, generator=generator()))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*maps)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("threads", [1, 3])
def test_map_is_the_same_where_gradients_are_switched_off(mode, threads):
    model, volume, lesion, before = random_unet(), scan(), block(SHAPE, PLACES["middle"]), torch.get_num_threads()
    expected = smoothgrad(model, volume, lesion, n_samples=3, generator=generator())
    try:
        torch.set_num_threads(threads)
        with mode():
            actual = smoothgrad(model, volume + 0, lesion, n_samples=3, generator=generator())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(actual, expected)


def test_copies_of_a_network_that_mixes_its_batch_are_explained_one_by_one():
    model = nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4, track_running_stats=False), nn.Conv3d(4, 2, 1)
    )
    volume, lesion = scan((12, 11, 10)), block((12, 11, 10), (5, 4, 3))
    expected = literal(model.eval(), volume, lesion, 3, "max")
    assert relative_error(smoothgrad(model, volume, lesion, n_samples=3, generator=generator()), expected) < 1e-5
    volumes = torch.cat([volume, 3 * volume])
    with torch.no_grad():
        expected = torch.cat([model(one[None])[:, :, torch.from_numpy(lesion)] for one in volumes])
    torch.testing.assert_close(predict_lesion(model, volumes, lesion), expected)


def test_network_with_instance_normalisation_is_explained_on_the_whole_volume():
    model, shape = random_unet(norm="instance"), (22, 20, 24)
    volume, lesion = scan(shape), block(shape, (8, 9, 10))
    expected = literal(model.eval(), volume, lesion, 2, "max")
    actual = smoothgrad(model, volume, lesion, n_samples=2, generator=generator())
    assert relative_error(actual, expected) < 1e-5
    assert actual[:, 0, 0, 0].all()


class Attention(nn.Conv3d):
    def forward(self, x):
        return super().forward(x * x.flatten(2).softmax(2).view_as(x))


def test_statistics_that_cannot_be_held_are_said_and_the_map_is_exact():
    torch.manual_seed(0)
    model, lesion = nn.Sequential(Attention(2, 2, 3, padding=1)), block(SHAPE, (10, 11, 12))
    options = {"n_samples": 1, "aggregate": "max"}
    exact = smoothgrad(model, scan(), lesion, **options, generator=generator())
    with pytest.warns(
        UserWarning, match="statistics=0.01, but none are held: a logit depends on the whole volume: view"
    ):
        actual = smoothgrad(model, scan(), lesion, **options, generator=generator(), statistics=1e-2)
    assert torch.equal(actual, exact)


def test_lesions_share_copies_on_the_window_that_holds_them():
    model, volume = random_unet(), scan()
    lesions = [block(SHAPE, PLACES[place]) for place in ("low border", "middle")]
    wanted = [[(lesion, "mean"), (lesion, "max")] for lesion in lesions]
    found = smoothgrads(model, volume, wanted, n_samples=2, noise_fraction=0, generator=generator())
    for lesion, maps in zip(lesions, found, strict=True):
        for aggregate, actual in zip(("mean", "max"), maps, strict=True):
            expected = smoothgrad(
                model, volume, lesion, n_samples=2, noise_fraction=0, aggregate=aggregate, generator=generator()
            )
            assert relative_error(actual, expected) < 1e-6


def test_explaining_leaves_the_model_as_it_was(leaves_as_it_was):
    leaves_as_it_was(lambda *given: smoothgrad(*given, n_samples=1, generator=generator()))


def test_a_network_without_gradient_is_refused():
    model = nn.Conv3d(2, 2, 1)
    model.register_forward_hook(lambda module, given, output: output.detach())
    with pytest.raises(ValueError, match="no gradient"):
        smoothgrad(model, scan(), block(SHAPE, (1, 1, 1)), n_samples=1, generator=generator())


def test_errors_say_what_is_wrong():
    model, volume, lesion = random_unet(), scan(), block(SHAPE, PLACES["middle"])
    with pytest.raises(ValueError, match="empty"):
        smoothgrad(model, volume, np.zeros(SHAPE, bool), generator=generator())
    with pytest.raises(ValueError, match="one grid"):
        smoothgrad(model, volume, lesion[1:], generator=generator())
    with pytest.raises(ValueError, match="'median'"):
        smoothgrad(model, volume, lesion, aggregate="median", generator=generator())
    with pytest.raises(ValueError, match="'both'"):
        smoothgrad(model, volume, lesion, noise_range="both", generator=generator())
    with pytest.raises(ValueError, match="at least one"):
        smoothgrad(model, volume, lesion, n_samples=0, generator=generator())
