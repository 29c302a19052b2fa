import math

import numpy as np
import pytest
import torch
from literal import SHAPE, block, generator, random_unet, scan

from lib.exact.windows import find_window
from lib.network.architectures import build_network
from lib.saliency.cam import grad_cam, hires_cam
from lib.saliency.comparison import compare_methods, correlate_methods, measure_concentration
from lib.saliency.gradients import smoothgrad
from lib.saliency.maps import lesion_generator
from lib.sanity.checks import lesion_scores

LESION = block(SHAPE, (10, 11, 12))
BASELINE = torch.full((1, 2, *SHAPE), 0.4)  # of images that are not z-scored


def test_every_method_explains_the_lesion_with_the_settings_given():
    model, layer = random_unet(), "model.1.submodule.2.conv"
    maps = compare_methods(
        model,
        scan(),
        LESION,
        BASELINE,
        n_samples=2,
        n_steps=60,
        occluded_voxels=9,
        most_cubes=1000,
        layer=layer,
        seed=[0, "a"],
    )
    options = {"n_samples": 2, "generator": lesion_generator(0, "a")}
    np.testing.assert_allclose(maps["SmoothGrad max"], smoothgrad(model, scan(), LESION, **options).numpy())
    np.testing.assert_allclose(maps["Grad-CAM++"][0], grad_cam(model, scan(), LESION, layer=layer).numpy())
    np.testing.assert_allclose(maps["HiResCAM"][0], hires_cam(model, scan(), LESION, layer=layer).numpy())
    # integrated gradients and DeepLift share out the score above that of the baseline
    above = [lesion_scores(model, volume, LESION)[0, 1] for volume in (scan(), BASELINE)]
    assert maps["Integrated gradients"].sum() == pytest.approx(above[0] - above[1], rel=0.02)
    assert maps["DeepLift"].sum() == pytest.approx(maps["Integrated gradients"].sum(), rel=0.02)
    assert {name: len(values) for name, values in maps.items()} == dict.fromkeys(maps, 2) | {
        "Grad-CAM++": 1,
        "HiResCAM": 1,
    }
    start = find_window(model, LESION, SHAPE).start
    cube, larger = (maps["Occlusion"][(1, *(slice(at, at + edge) for at in start))] for edge in (9, 10))
    assert np.ptp(cube) == 0 < np.ptp(larger)


def test_occlusion_takes_larger_cubes_rather_than_more_of_them():
    model, layer = random_unet(), "model.1.submodule.2.conv"
    given = {"n_samples": 1, "n_steps": 2, "occluded_voxels": 4, "layer": layer, "seed": [0]}
    window = find_window(model, LESION, SHAPE)
    for most in (1000, 60):
        occlusion = compare_methods(model, scan(), LESION, BASELINE, most_cubes=most, **given)["Occlusion"][0]
        edge = next(edge for edge in range(4, 99) if 2 * math.prod(-(-side // edge) for side in window.shape) <= most)
        start = [slice(at, at + edge) for at in window.start]
        assert np.ptp(occlusion[tuple(start)]) == 0
        assert edge > 4 or most == 1000


def test_deep_lift_is_left_out_where_it_has_no_rule_and_says_so():
    shape = (16, 16, 16)
    torch.manual_seed(0)
    model = build_network("dynunet", channels=(4, 6, 8), strides=(1, 2, 2)).eval()
    given = {"n_samples": 1, "n_steps": 2, "occluded_voxels": 8, "most_cubes": 16, "layer": "", "seed": [0]}
    with pytest.warns(UserWarning) as said:
        maps = compare_methods(model, scan(shape), block(shape, (6, 7, 8), (1, 2, 1)), 0 * scan(shape), **given)
    assert any("DeepLift is left out: DeepLift has no rule for" in str(one.message) for one in said)
    assert list(maps) == [
        "SmoothGrad max", "SmoothGrad mean", "Integrated gradients", "Occlusion", "Grad-CAM++", "HiResCAM"
    ]  # fmt: skip
    assert all(np.isfinite(values).all() for values in maps.values())


def test_rank_correlation_is_of_magnitudes_and_blind_to_monotone_changes():
    values = torch.randn(2, 6, 5, 4, generator=generator()).numpy()
    magnitude = np.abs(values).sum(0, keepdims=True)
    maps = {"a": values, "b": -3 * values, "c": magnitude**3, "d": -1 / magnitude + 100, "e": 1 / magnitude}
    everywhere = np.ones((6, 5, 4), bool)
    found = correlate_methods(maps, {"all": everywhere, "half": everywhere & (np.arange(4) < 2)})
    rho = found.set_index(["region", "method_a", "method_b"])["rho"]
    for region in ("all", "half"):
        np.testing.assert_allclose([rho[region, "a", name] for name in "bcde"], [1, 1, 1, -1])


def test_concentration_of_a_uniform_map_is_the_share_of_voxels():
    lesion = block((30, 30, 30), (15, 15, 15), (1, 1, 1))
    maps = {"uniform": np.ones((2, 30, 30, 30), np.float32), "inside": -lesion[None].astype(np.float32)}
    maps["nothing"] = 0 * maps["uniform"]
    found = measure_concentration(maps, lesion, (1.0, 1.0, 1.0)).set_index("method")
    distance = np.sqrt(((np.indices(lesion.shape) - 15) ** 2).sum(0))
    # the border is half a voxel before the neighbour along an axis and sqrt(3)/2 before the one along the diagonal
    near = ((distance <= 3) | lesion).sum() / 30**3
    assert found.loc["uniform", "inside"] == pytest.approx(1 / 30**3)
    assert near <= found.loc["uniform", "within_3mm"] < ((distance <= 4).sum()) / 30**3
    assert found.loc["inside"].to_list() == [1, 1]
    assert found.loc["nothing"].isna().all()
