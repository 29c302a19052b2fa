import numpy as np
import pandas as pd
import pytest

from lib.figures.methods import plot_convergence, plot_methods


@pytest.fixture
def lesion():
    mask = np.zeros((40, 40, 20), bool)
    mask[18:22, 18:22, 8:11] = True
    return mask


def test_every_method_has_its_own_scale_and_the_sequences_it_explains(lesion):
    image = np.random.default_rng(0).normal(size=(2, *lesion.shape))
    values = np.random.default_rng(1).normal(size=(2, *lesion.shape))
    values[..., 15] = 99  # not in the slice
    maps = {"SmoothGrad max": values, "Occlusion": 1e-3 * values, "Grad-CAM++": abs(values[:1])}
    axes = np.reshape(plot_methods(maps, image, lesion, (1.0, 1.0, 1.0)).axes[:8], (2, 4))
    assert [ax.get_title() for ax in axes[0]] == ["scan", "SmoothGrad\nmax", "Occlusion", "Grad-CAM++"]
    for ax, name in zip(axes[0, 1:], maps, strict=True):
        limit = np.abs(maps[name][..., 8]).max()
        assert ax.images[-1].get_clim() == pytest.approx((-limit, limit))
        np.testing.assert_array_equal(ax.images[-1].get_array(), maps[name][0, :, :, 8].T)
    np.testing.assert_array_equal(axes[1, 2].images[-1].get_array(), maps["Occlusion"][1, :, :, 8].T)
    assert not axes[1, 3].images


@pytest.mark.parametrize(("sequence", "row"), [("FLAIR", 0), ("MPRAGE", 1)])
def test_a_map_of_both_sequences_is_drawn_over_one_that_the_network_takes(lesion, sequence, row):
    image, maps = np.random.default_rng(0).normal(size=(2, *lesion.shape)), {"HiResCAM": np.full((1, *lesion.shape), 3)}
    axes = np.reshape(plot_methods(maps, image, lesion, (1.0, 1.0, 1.0), sequence).axes[:4], (2, 2))
    below, drawn = axes[row, 1].images
    np.testing.assert_array_equal(below.get_array(), image[row, :, :, 8].T)
    np.testing.assert_array_equal(drawn.get_array(), maps["HiResCAM"][0, :, :, 8].T)
    assert [text.get_text() for text in axes[row, 1].texts] == ["1 = 3"]
    assert not axes[1 - row, 1].images and not axes[1 - row, 1].texts and not axes[1 - row, 1].axison


def test_a_map_of_zeros_is_not_coloured(lesion):
    image, maps = np.ones((2, *lesion.shape)), {"Grad-CAM++": np.zeros((1, *lesion.shape))}
    ax = plot_methods(maps, image, lesion, (1.0, 1.0, 1.0)).axes[1]
    drawn = ax.images[-1]
    middle = drawn.cmap(0.5)
    np.testing.assert_array_equal(drawn.cmap(drawn.norm(drawn.get_array()))[0, 0], middle)
    assert "0 in the slice" in [text.get_text() for text in ax.texts]


def test_convergence_draws_each_lesion_their_median_and_the_square_root(lesion):
    copies = np.arange(2, 51)
    rows = [
        pd.DataFrame({"copies": copies, "standard_error": level / np.sqrt(copies), "scan": "a", "label": label})
        for label, level in enumerate((0.2, 0.4, 0.9))
    ]
    table = pd.concat(rows).assign(method="SmoothGrad max")
    (ax,) = plot_convergence(table, 0.05).axes
    curves = [line.get_ydata() for line in ax.lines]
    np.testing.assert_allclose(curves[:4], [level / np.sqrt(copies) for level in (0.2, 0.4, 0.9, 0.4)])
    np.testing.assert_allclose(curves[4], curves[3])
    assert curves[5] == [0.05, 0.05]
