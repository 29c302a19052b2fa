import numpy as np
import pandas as pd
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from literal import SHAPE, block, generator, random_unet, scan
from scipy import stats
from torch import nn

from lib.exact.windows import find_window
from lib.lesions.instances import signed_distance
from lib.saliency.attribution import LesionScore
from lib.saliency.cam import grad_cam
from lib.saliency.gradients import smoothgrad
from lib.saliency.maps import lesion_generator
from lib.sanity.checks import (
    add_means,
    correlate_maps,
    curve_areas,
    explain_lesion,
    explained_by_mask,
    infidelity,
    lesion_scores,
    perturbation_curves,
    regions,
    stability,
    window_maps,
)

LESION = block(SHAPE, (10, 11, 12))
SMALL = (12, 11, 10)
SPOT = block(SMALL, (5, 4, 4), (2, 2, 1))


@pytest.fixture
def linear():
    """A network of one convolution: its gradient is the same everywhere."""
    torch.manual_seed(0)
    return nn.Conv3d(2, 2, 5, padding=2)


def mean_gradient(model, volume, lesion):
    """Gradient of the mean lesion logit, (2, X, Y, Z)."""
    volume = volume.clone().requires_grad_()
    model(volume)[0, 1][torch.as_tensor(lesion)].mean().backward()
    return volume.grad[0].numpy()


def test_maps_of_the_first_copies_are_those_of_smoothgrad_on_the_window():
    model = random_unet()
    near, far = window_maps(model, scan(), LESION, (2, 3), noise_fraction=0.1, generator=generator())
    box = (..., *find_window(model, LESION, SHAPE).within(SHAPE))
    for found, n in ((near, 2), (far, 3)):
        expected = smoothgrad(model, scan(), LESION, n_samples=n, noise_fraction=0.1, generator=generator())
        np.testing.assert_allclose(found, expected[box].numpy(), rtol=1e-4, atol=1e-7)


def test_a_lesion_is_explained_on_its_window_under_two_seeds():
    model, layer = random_unet(), "model.1.submodule.2.conv"
    corner = block(SHAPE, (40, 36, 33), (3, 3, 3))  # where the window is padded beyond the scan
    case = explain_lesion(
        model, scan()[0].numpy(), corner, 2 + scan()[0].numpy(), (1.0, 1.0, 1.0),
        n_samples=2, noise_fraction=0.1, layer=layer, seed=[4, "a"],
    )  # fmt: skip
    box = (..., *find_window(model, corner, SHAPE).within(SHAPE))
    np.testing.assert_array_equal(case["volume"], scan()[box])
    np.testing.assert_array_equal(case["baseline"], 2 + scan()[box])
    np.testing.assert_array_equal(case["lesion"], corner[box])
    np.testing.assert_array_equal(case["cam"][0], grad_cam(model, scan(), corner, layer=layer)[box])
    options = {"noise_fraction": 0.1, "n_samples": 2}
    for seed, maps in ((4, case["first"]), (5, case["second"])):
        expected = smoothgrad(model, scan(), corner, **options, generator=lesion_generator(seed, "a"))[box]
        np.testing.assert_allclose(maps[0], expected.numpy(), rtol=1e-4, atol=1e-7)
    whole = lesion_scores(model, scan(), corner)
    np.testing.assert_allclose(lesion_scores(model, case["volume"], case["lesion"]), whole, rtol=1e-4)
    distance = signed_distance(case["lesion"], (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(case["where"]["within 3 mm"], distance <= 3)


def test_rank_correlations_are_of_signed_values_and_of_magnitudes():
    values = torch.randn(2, *SMALL, generator=generator()).numpy()
    where = regions(SPOT, (1.0, 1.0, 1.0))
    found = correlate_maps(-(values**3), values, where).set_index(["region", "of"])["value"]
    for region in where:
        assert found[region].to_dict() == pytest.approx({"magnitude": 1, "signed": -1})
    assert correlate_maps(values, 0 * values, where)["value"].isna().all()


@pytest.mark.parametrize("taken", [0, 1])
def test_a_sequence_that_the_network_does_not_take_makes_no_maps_alike(taken):
    a, b = np.random.default_rng(0).normal(size=(2, 2, *SMALL))
    where = {"window": np.ones(SMALL, bool)}
    a[1 - taken] = 0  # a network of both may stand beside it, as one that is trained anew
    for other in (b, np.where(a, b, 0)):
        found = correlate_maps(a, other, where).set_index("of")["value"]
        for of, change in (("magnitude", np.abs), ("signed", np.asarray)):
            assert found[of] == stats.spearmanr(change(a[taken]).ravel(), change(b[taken]).ravel()).statistic
        assert found.abs().max() < 0.1  # 1320 pairs of independent numbers; with the zeros magnitudes had 0.86


def test_the_curve_of_a_linear_network_is_the_cumulative_sum(linear):
    volume, baseline = scan(SMALL), torch.full((1, 2, *SMALL), 0.3)  # the mean of images that are not z-scored
    volume[..., :3, :, :] = baseline[..., :3, :, :] = -1  # air, which is never counted
    share = (mean_gradient(linear, volume, SPOT) * (volume - baseline)[0].numpy()).sum(0)
    tissue = (volume[0] != -1).any(0).numpy()
    n, fractions = tissue.sum(), np.array([0.0, 0.01, 0.1, 0.5, 1.0])
    curves = perturbation_curves(linear, volume, SPOT, baseline, {"share": [share]}, fractions)
    curves = curves[curves["of"] == "logit"].set_index("mode")["value"]
    highest = np.sort(share[tissue])[::-1]
    revealed = np.array([highest[: round(f * n)].sum() for f in fractions])
    with torch.no_grad():
        start = linear(baseline)[0, 1][torch.as_tensor(SPOT)].mean().item()
    np.testing.assert_allclose(curves["insertion"], start + revealed, atol=1e-5)
    np.testing.assert_allclose(curves["deletion"], start + share.sum() - revealed, atol=1e-5)


def test_a_curve_is_the_mean_over_its_rankings_of_literally_changed_volumes():
    model, random = random_unet(), np.random.default_rng(0)
    box = find_window(model, LESION, SHAPE).within(SHAPE)
    volume, lesion = scan()[..., *box], LESION[box]
    rankings = random.random((2, *lesion.shape))
    found = perturbation_curves(model, volume, lesion, 0 * volume, {"random": rankings}, [0.2])
    expected = []
    for ranking in rankings:
        deleted = scan().clone()
        last = np.sort(ranking.ravel())[::-1][round(0.2 * ranking.size) - 1]
        deleted[..., *box][..., torch.as_tensor(ranking >= last)] = 0
        expected.append(lesion_scores(model, deleted, LESION)[0])
    deletion = found[found["mode"] == "deletion"].set_index("of")["value"]
    np.testing.assert_allclose(deletion[["probability", "logit"]], np.mean(expected, 0), rtol=1e-4)


def test_the_area_is_a_mean_score_over_the_logarithm_of_the_fraction():
    fractions = np.geomspace(1e-3, 1, 7)
    line = pd.DataFrame({"fraction": fractions, "value": -np.log10(fractions), "order": "a", "mode": "deletion"})
    table = pd.concat([line.assign(of="logit"), line.assign(of="probability", value=0.3)])
    assert curve_areas(table).set_index("of")["value"].to_dict() == pytest.approx({"logit": 1.5, "probability": 0.3})


def test_the_gradient_of_a_linear_network_has_no_infidelity_and_an_orthogonal_map_all(linear):
    volume = scan(SMALL)
    gradient = mean_gradient(linear, volume, SPOT)
    maps = {
        "gradient": gradient,
        "scaled": -3 * gradient,
        "far": (gradient == 0).astype(np.float32),
        "zero": 0 * gradient,
    }
    found = infidelity(
        linear, volume, SPOT, maps, sigma=torch.tensor([0.5, 1.0]), n_perturbations=400, generator=generator()
    ).pivot(index="map", columns="of", values="value")
    assert found.loc[["gradient", "scaled"], "relative"].max() < 1e-9
    assert found.loc["far", "relative"] == pytest.approx(1, abs=0.02)
    assert found.loc["zero", "relative"] == pytest.approx(1)
    # the change of the score has the variance of the sum of noise times gradient
    variance = ((gradient * np.array([0.5, 1.0])[:, None, None, None]) ** 2).sum()
    assert found.loc["zero", "infidelity"] == pytest.approx(variance, rel=0.25)


def test_infidelity_is_that_of_captum():
    model = random_unet()
    box = find_window(model, LESION, SHAPE).within(SHAPE)
    volume, lesion = scan()[..., *box], LESION[box]
    values = torch.randn(volume.shape, generator=generator(2))
    noise, sigma = generator(), torch.tensor([0.3, 0.6])

    def perturb(inputs):
        drawn = [sigma.view(-1, 1, 1, 1) * torch.randn(volume.shape[1:], generator=noise) for _ in inputs]
        return torch.stack(drawn), inputs - torch.stack(drawn)

    target = LesionScore(model, lesion, lesion.shape)
    expected = captum_infidelity(
        target, perturb, volume, values, n_perturb_samples=6, max_examples_per_batch=3, normalize=True
    )
    found = infidelity(
        model, volume, lesion, {"a": values[0].numpy()}, sigma=sigma, n_perturbations=6, generator=generator()
    )
    assert found.set_index("of").loc["infidelity", "value"] == pytest.approx(expected.item(), rel=1e-3)


def test_maps_of_one_signal_and_independent_noise_are_as_stable_as_expected():
    random = np.random.default_rng(0)
    signal = random.normal(size=(2, 30, 30, 30))
    copies = [[signal + random.normal(size=signal.shape) for _ in range(2)] for _ in range(2)]
    first, second = ((maps[0], (maps[0] + maps[1]) / 2) for maps in copies)
    found = stability(first, second, {"window": np.ones(signal.shape[1:], bool)})
    value = found.set_index(["maps", "of"])["value"]
    pearson = {"N, two seeds": 1 / 2, "2N, two seeds": 2 / 3, "N and 2N": np.sqrt(3 / 4)}
    for name, rho in pearson.items():
        assert value[name, "pearson"] == pytest.approx(rho, abs=0.02)
        assert value[name, "expected"] == pytest.approx(rho, abs=0.02)
    # noise of variance 1 in each: the difference has variance 2, the mean 1 + 1 / 2
    assert value["N, two seeds", "difference"] == pytest.approx(np.sqrt(2 / 1.5), rel=0.02)


def test_zeros_of_a_sequence_that_the_network_does_not_take_make_no_map_stable():
    random = np.random.default_rng(0)
    seen = [[1 + random.normal(size=(1, 20, 20, 20)) for _ in range(2)] for _ in range(2)]
    padded = [[np.concatenate([0 * saliency, saliency]) for saliency in maps] for maps in seen]
    where = {"window": np.ones((20, 20, 20), bool)}
    found = stability(*padded, where)
    pd.testing.assert_frame_equal(found, stability(*seen, where))
    independent = found.set_index(["maps", "of"])["value"]["N, two seeds"]
    assert independent[["magnitude", "signed", "pearson", "expected"]].abs().max() < 0.05


def test_what_a_mask_explains_of_maps_made_from_it():
    spacing = (1.0, 1.0, 2.0)
    lesion = block((20, 20, 16), (8, 8, 7), (4, 5, 3))
    distance, where = signed_distance(lesion, spacing), {"window": np.ones(lesion.shape, bool)}
    noise = np.random.default_rng(0).normal(size=lesion.shape)

    def explained(*channels):
        found = explained_by_mask(np.stack(channels), lesion, spacing, where)
        return found.set_index(["sequence", "model"])["value"]

    of_mask = explained(lesion - 0.5, lesion + 0.1 * distance)
    np.testing.assert_allclose(of_mask["FLAIR"], [1, 1, 1])
    assert of_mask["MPRAGE", "mask"] < 0.99 < of_mask["MPRAGE", "mask + distance"]
    profile = explained(np.cos(np.floor(distance)))
    assert profile["both", "any profile"] == pytest.approx(1)
    assert profile["both", "mask + distance"] < 0.9
    assert explained(noise).max() < 0.01
    assert explained(0 * noise).isna().all()


def test_means_come_after_the_lesions_with_intervals_over_patients():
    tables = [
        pd.DataFrame({"of": ["x", "y"], "value": values, "subject": subject, "scan": subject, "label": label})
        for subject, label, values in (("a", 1, (1.0, np.nan)), ("a", 2, (2.0, 5.0)), ("b", 1, (6.0, 7.0)))
    ]
    found = add_means(tables, ["of"], n_resamples=500, generator=np.random.default_rng(0))
    assert found["scan"].tolist() == ["a"] * 4 + ["b"] * 2 + ["all"] * 2
    mean = found[found["scan"] == "all"].set_index("of")
    assert mean["value"].to_dict() == {"x": 3, "y": 6}
    assert mean[["lesions", "patients"]].to_numpy().tolist() == [[3, 2], [2, 2]]
    assert mean.loc["x", ["low", "high"]].tolist() == [1.5, 6]  # patient a alone, patient b alone
    one = add_means(tables[:1], ["of"], n_resamples=5, generator=np.random.default_rng(0))
    assert one["low"].isna().all()
    none = add_means([], ["of"], n_resamples=5, generator=np.random.default_rng(0))
    assert len(none) == 0
    assert list(none) == list(found)


def spots(n, draw):
    """Noise (1, 2, 18, 18, 18) with n cubes of two voxels that are bright in the first channel, and their mask."""
    image, mask = torch.randn(1, 2, 18, 18, 18, generator=draw), torch.zeros(18, 18, 18, dtype=torch.bool)
    for i, j, k in torch.randint(4, 12, (n, 3), generator=draw).tolist():
        mask[i : i + 2, j : j + 2, k : k + 2] = True
    image[0, 0][mask] += 4
    return image, mask


def trained(moved):
    """A small network trained on spots; moved: on masks that lie elsewhere, in another place every time."""
    torch.manual_seed(0)
    model, draw = nn.Sequential(nn.Conv3d(2, 6, 3, padding=1), nn.PReLU(), nn.Conv3d(6, 2, 3, padding=1)), generator(0)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        image, mask = spots(6, draw)
        if moved:
            mask = mask.roll(torch.randint(4, 14, (3,), generator=draw).tolist(), (0, 1, 2))
        loss = nn.functional.cross_entropy(model(image), mask[None].long(), weight=torch.tensor([1.0, 20.0]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def test_a_network_trained_on_masks_that_lie_elsewhere_has_maps_that_do_not_point_at_the_lesion():
    image, mask = spots(1, generator(9))
    found = {}
    for moved in (False, True):
        model = trained(moved)
        (saliency,) = window_maps(model, image, mask.numpy(), [4], generator=generator())
        box = find_window(model, mask, mask.shape).within(mask.shape)
        lesion, rankings = mask.numpy()[box], {"map": [np.abs(saliency).sum(0)]}
        window, fractions = image[..., *box], np.geomspace(0.01, 1, 7)
        curves = perturbation_curves(model, window, lesion, 0 * window, rankings, fractions)
        area = curve_areas(curves).set_index(["mode", "of"])["value"]
        found[moved] = saliency[0][lesion].mean(), area["insertion", "probability"]
    assert found[False][0] > 1 > 5 * abs(found[True][0])  # logit per z-score of the bright channel
    assert found[False][1] > 0.8 > 0.3 > found[True][1]
