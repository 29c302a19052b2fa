import numpy as np
import pandas as pd
import pytest
import torch
from monai.networks.nets import UNet
from scipy.ndimage import binary_dilation, generate_binary_structure

from lib.context.response import context_response, mean_response
from lib.lesions.patch import patch_around
from lib.network.inference import predict

SHAPE = (25, 24, 22)
ISOTROPIC = (1.0, 1.0, 1.0)
THRESHOLD = 0.4


@pytest.fixture
def volume():
    return torch.randn(1, 2, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def lesion():
    mask = np.zeros(SHAPE, bool)
    mask[11:13, 12, 9:11] = mask[12, 13, 10] = True
    return mask


def convolution(kernel_size, seed=0):
    torch.manual_seed(seed)
    return torch.nn.Conv3d(2, 2, kernel_size, padding=kernel_size // 2).eval()


def unet():
    torch.manual_seed(1)
    network = UNet(3, 2, 2, channels=(4, 8), strides=(2,), num_res_units=0, norm="batch")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
    return network.eval()


def literal(model, volume, lesion, region, fill=0.0):
    """The whole volume with the fill outside the region, through the whole network."""
    shown = volume * torch.from_numpy(region) + fill * torch.from_numpy(~region)
    with torch.no_grad():
        logits = model(torch.nn.functional.pad(shown, (0, 0, 0, 0, 0, 1)))  # to the stride
    probability = logits.softmax(1)[0, 1][tuple(map(slice, SHAPE))].numpy()[lesion]
    return probability.mean(), probability.max(), (probability >= THRESHOLD).any()


def distance_mm(lesion, spacing):
    voxels = np.argwhere(lesion) * spacing
    return np.array([np.linalg.norm(voxels - np.array(v) * spacing, axis=1).min() for v in np.ndindex(SHAPE)]).reshape(
        SHAPE
    )


@pytest.mark.parametrize("spacing", [ISOTROPIC, (0.7, 1.0, 2.2)])
def test_euclidean_response_equals_whole_masked_volume(volume, lesion, spacing):
    model, radii = unet(), (0, 1, 1.5, 3, 40)
    table = context_response(model, volume, lesion, radii, spacing, THRESHOLD)
    distance = distance_mm(lesion, spacing)
    for row, radius in zip(table.itertuples(), radii, strict=True):
        score, peak, detected = literal(model, volume, lesion, distance <= radius + 1e-9)
        assert row.radius_mm == radius
        assert (row.score, row.peak) == pytest.approx((score, peak), abs=1e-6)
        assert row.detected == detected


def test_blended_response_equals_the_sliding_window_over_the_whole_masked_volume(volume, lesion):
    model, radii = unet(), (0, 2, 5, 40)
    table = context_response(model, volume, lesion, radii, ISOTROPIC, THRESHOLD, window=16)
    distance = distance_mm(lesion, ISOTROPIC)
    for row, radius in zip(table.itertuples(), radii, strict=True):
        probability = predict(model, (volume[0] * torch.from_numpy(distance <= radius + 1e-9)).numpy(), window=16)[
            lesion
        ]
        assert (row.score, row.peak) == pytest.approx((probability.mean(), probability.max()), abs=1e-6)
    whole = context_response(model, volume, lesion, radii, ISOTROPIC, THRESHOLD)
    assert np.abs(table["score"] - whole["score"]).max() > 1e-4  # patches end the context


def test_lesion_in_corner_equals_whole_masked_volume(volume):
    lesion = np.zeros(SHAPE, bool)
    lesion[-2:, :2, -1] = True
    model = unet()
    table = context_response(model, volume, lesion, (0, 2, 6), ISOTROPIC, THRESHOLD)
    for row in table.itertuples():
        score, peak, _ = literal(model, volume, lesion, distance_mm(lesion, ISOTROPIC) <= row.radius_mm + 1e-9)
        assert (row.score, row.peak) == pytest.approx((score, peak), abs=1e-6)


def test_dilation_response_equals_whole_masked_volume(volume, lesion):
    model = unet()
    table = context_response(model, volume, lesion, range(5), ISOTROPIC, THRESHOLD, growth="dilation")
    distance, region = distance_mm(lesion, ISOTROPIC), lesion
    for row in table.itertuples():
        score, peak, _ = literal(model, volume, lesion, region)
        assert (row.score, row.peak) == pytest.approx((score, peak), abs=1e-6)
        assert row.radius_mm == pytest.approx(distance[region].max())
        region = binary_dilation(region, generate_binary_structure(3, 2))


def test_response_is_unmasked_from_half_width_of_receptive_field(volume, lesion):
    model = convolution(5)  # reaches 2 voxels along an axis, 2 sqrt(3) = 3.46 along the diagonal
    table = context_response(model, volume, lesion, (0, 2, 3.4, 3.5, 5, 30), ISOTROPIC, THRESHOLD)
    unmasked = literal(model, volume, lesion, np.ones(SHAPE, bool))
    complete = table.radius_mm >= 3.5
    np.testing.assert_allclose(table.score[complete], unmasked[0], atol=1e-6)
    assert (abs(table.score[~complete] - unmasked[0]) > 1e-5).all()


def test_sum_of_surroundings_grows_with_shown_voxels(lesion):
    model = convolution(7)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
        model.weight[1, 0] = 1 / 100  # lesion logit = a hundredth of the shown voxels in the 7^3 cube
    seed = np.zeros_like(lesion)
    seed[12, 12, 10] = True
    radii = np.array([0, 1, 1.5, 1.8, 2, 3, 5.2, 6])
    table = context_response(model, torch.ones(1, 2, *SHAPE), seed, radii, ISOTROPIC, 0.9)
    cube = np.sqrt(((np.indices((7, 7, 7)) - 3) ** 2).sum(0))
    shown = np.array([(cube <= radius).sum() for radius in radii])
    np.testing.assert_allclose(table.score, 1 / (1 + np.exp(-shown / 100)), atol=1e-6)
    np.testing.assert_array_equal(table.detected, table.score >= 0.9)
    assert shown[-1] == 343 and table.detected.iloc[-1] and not table.detected.iloc[0]


def test_wider_spacing_shows_fewer_voxels_along_that_axis(volume, lesion):
    model = convolution(3)
    narrow, wide = (context_response(model, volume, lesion, (2,), (1, 1, z), THRESHOLD).score[0] for z in (1.0, 2.5))
    assert wide == pytest.approx(literal(model, volume, lesion, distance_mm(lesion, (1, 1, 2.5)) <= 2)[0], abs=1e-6)
    assert abs(narrow - wide) > 1e-5


def test_dilations_are_counted_whatever_the_spacing(volume, lesion):
    spacing = (0.5, 1.0, 2.0)
    table = context_response(convolution(3), volume, lesion, (0, 1, 3), spacing, THRESHOLD, growth="dilation")
    distance, structure = distance_mm(lesion, spacing), generate_binary_structure(3, 2)
    reached = [distance[binary_dilation(lesion, structure, iterations=n)].max() for n in (1, 3)]
    assert table["step"].tolist() == [0, 1, 3]
    np.testing.assert_allclose(table.radius_mm, [0, *reached])


@pytest.mark.parametrize("growth", ["euclidean", "dilation"])
def test_what_is_hidden_is_replaced_by_a_number_or_an_image(volume, lesion, growth):
    model, image = unet(), torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(5))
    distance, structure = distance_mm(lesion, ISOTROPIC), generate_binary_structure(3, 2)
    for fill in (-1.3, image, image.numpy()):
        table = context_response(model, volume, lesion, (0, 2, 4), ISOTROPIC, THRESHOLD, growth=growth, fill=fill)
        for row in table.itertuples():
            grown = binary_dilation(lesion, structure, iterations=row.step) if row.step else lesion
            region = distance <= row.step + 1e-9 if growth == "euclidean" else grown
            score, peak, _ = literal(model, volume, lesion, region, torch.as_tensor(fill))
            assert (row.score, row.peak) == pytest.approx((score, peak), abs=1e-6)


def test_fill_changes_nothing_where_everything_is_shown(volume, lesion):
    model = unet()
    scores = [context_response(model, volume, lesion, (60,), ISOTROPIC, THRESHOLD, fill=f).score[0] for f in (0.0, 9.0)]
    assert scores[0] == scores[1]


def test_volume_is_left_as_it_is(volume, lesion):
    original = volume.clone()
    context_response(convolution(3), volume, lesion, (0, 2), ISOTROPIC, THRESHOLD)
    assert torch.equal(volume, original)


def test_wrong_arguments_are_refused(volume, lesion):
    model = convolution(3)
    with pytest.raises(ValueError, match="no voxel"):
        context_response(model, volume, np.zeros(SHAPE, bool), (0, 1), ISOTROPIC, THRESHOLD)
    with pytest.raises(ValueError, match="step -1 is negative"):
        context_response(model, volume, lesion, (-1, 1), ISOTROPIC, THRESHOLD)
    with pytest.raises(ValueError, match="cubic"):
        context_response(model, volume, lesion, (0, 1), ISOTROPIC, THRESHOLD, growth="cubic")


def test_mean_response_counts_and_averages_lesions_at_each_step(responses):
    table = pd.concat([responses(), responses(fill="air").assign(score=0.5)])
    curve = mean_response(table, n_resamples=200, generator=np.random.default_rng(0))
    assert (curve.loc[curve["fill"] == "air", "score"] == 0.5).all()
    curve = curve[curve["fill"] == "mean"].set_index("step")
    assert curve["detected"].tolist() == [0, 1, 2, 3, 3, 3, 3, 3, 3]
    assert curve.loc[1, ["fraction", "score"]].tolist() == pytest.approx([1 / 3, 0.4])
    assert curve.loc[1, ["low_fraction", "high_fraction"]].tolist() == [0, 0.5]
    assert curve.loc[1, ["low_score", "high_score"]].tolist() == pytest.approx([0.2, 0.5])
    assert curve.loc[2, "sd_score"] == pytest.approx(np.std([0.8, 0.8, 0.2], ddof=1))
    assert (curve[["lesions", "patients"]] == [3, 2]).all(axis=None)


def test_with_a_patch_the_network_is_given_no_more(volume, lesion):
    """A network that sees all that it is given, on the cube around the lesion alone."""
    model = torch.nn.Sequential(convolution(3), torch.nn.InstanceNorm3d(2), convolution(3, seed=1)).eval()
    radii, part, distance = (0, 2, 40), patch_around(lesion, 12), distance_mm(lesion, ISOTROPIC)
    table = context_response(model, volume, lesion, radii, ISOTROPIC, THRESHOLD, patch=12)
    for score, radius in zip(table["score"], radii, strict=True):
        shown = (volume * torch.from_numpy(distance <= radius + 1e-9))[(..., *part)]
        with torch.no_grad():
            probability = model(shown.float()).softmax(1)[0, 1].numpy()[lesion[part]]
        assert score == pytest.approx(probability.mean(), abs=1e-6)
    whole = context_response(model, volume, lesion, radii, ISOTROPIC, THRESHOLD)
    assert np.abs(table["score"] - whole["score"]).max() > 1e-3
