import numpy as np
import pytest
import torch
from literal import PLACES, SHAPE, block, generator, random_unet, relative_error, scan
from torch import nn

from lib.saliency.convergence import smoothgrad_until, standard_errors
from lib.saliency.gradients import smoothgrad

LESION = block(SHAPE, PLACES["middle"])


def literal_standard_error(model, n_samples):
    """From the single maps: n maps of growing numbers of copies, each copy's map from their differences."""
    sums = [n * smoothgrad(model, scan(), LESION, n_samples=n, generator=generator()) for n in range(1, n_samples + 1)]
    maps = np.diff(np.stack([0 * sums[0].numpy(), *(one.numpy() for one in sums)]).astype(float), axis=0)
    return maps.std(0, ddof=1).max() / np.sqrt(n_samples) / np.abs(maps.mean(0)).max()


def test_standard_errors_equal_their_definition(model):
    table = standard_errors(model, scan(), LESION, n_samples=5, generator=generator())
    assert table["copies"].to_list() == [2, 3, 4, 5]
    expected = [literal_standard_error(model, n) for n in (2, 3, 4, 5)]
    np.testing.assert_allclose(table["standard_error"], expected, rtol=1e-4)


def test_stops_at_the_first_number_of_copies_within_the_tolerance(model):
    errors = standard_errors(model, scan(), LESION, n_samples=12, generator=generator()).set_index("copies")
    errors = errors["standard_error"]
    tolerance = 1.001 * errors[7]
    map_, n_used, reached = smoothgrad_until(
        model, scan(), LESION, tolerance=tolerance, n_samples=12, generator=generator()
    )
    assert n_used == errors[errors <= tolerance].index[0] < 12
    assert reached == pytest.approx(errors[n_used])
    same = smoothgrad(model, scan(), LESION, n_samples=n_used, generator=generator())
    assert relative_error(map_, same) < 1e-6


@pytest.mark.parametrize("voxels", [1, 10**9])
def test_stop_does_not_depend_on_the_batch_size(model, monkeypatch, voxels):
    options = {"tolerance": 0.1, "n_samples": 20, "aggregate": "mean"}
    expected = smoothgrad_until(model, scan(), LESION, **options, generator=generator())
    monkeypatch.setattr("lib.saliency.gradients.BATCH_VOXELS", voxels)
    actual = smoothgrad_until(model, scan(), LESION, **options, generator=generator())
    assert actual[1] == expected[1] < 20
    assert relative_error(actual[0], expected[0]) < 1e-6


def test_without_reaching_the_tolerance_all_copies_are_used_and_the_error_says_so(model):
    map_, n_used, error = smoothgrad_until(model, scan(), LESION, tolerance=1e-9, n_samples=3, generator=generator())
    assert n_used == 3
    assert error > 1e-9
    assert relative_error(map_, smoothgrad(model, scan(), LESION, n_samples=3, generator=generator())) < 1e-6


def test_gradient_of_a_linear_network_needs_two_copies():
    _, n_used, error = smoothgrad_until(nn.Conv3d(2, 2, 1), scan(), LESION, tolerance=1e-6, generator=generator())
    assert (n_used, error) == (2, 0)


def test_stopping_early_leaves_the_model_as_it_was():
    model = random_unet().train()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        _, n_used, _ = smoothgrad_until(model, scan(), LESION, tolerance=10, generator=generator())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert n_used == 2
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
