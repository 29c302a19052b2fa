"""Predictions as other tools put them together, against literal loops."""

import numpy as np
import torch
from torch import nn

from lib.network.inference import predict
from lib.network.published.tiles import predict_centre, predict_tiles, tiles


def volume(shape=(32, 32, 32)):
    return torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0))


def test_the_middle_of_a_scan_is_predicted_and_0_around_it():
    network, image = nn.Conv3d(2, 2, 1), volume((20, 20, 20))[0].numpy()
    found = predict_centre(network, image, window=17)
    expected = network(torch.as_tensor(image[:, 2:19, 2:19, 2:19])[None]).softmax(1)[0, 1].detach().numpy()
    np.testing.assert_allclose(found[2:19, 2:19, 2:19], expected, atol=1e-6)
    assert np.count_nonzero(found) == 17**3
    network = nn.Conv3d(2, 2, 3, padding=1)
    padded = torch.as_tensor(np.pad(image, [(0, 0), *[(1, 2)] * 3]))[None]
    expected = network(padded).softmax(1)[0, 1, 1:21, 1:21, 1:21].detach().numpy()
    np.testing.assert_allclose(predict(network, image, window=23, blend="centre"), expected, atol=1e-6)


def test_tiles_are_blended_as_a_literal_loop_does():
    """Every tile and mirror image in turn, summed at every voxel."""
    torch.manual_seed(0)
    network = nn.Conv3d(2, 2, 3, padding=1)
    image = np.zeros((2, 14, 11, 9), np.float32)
    image[:, 1:13, 2:11, 1:8] = np.random.default_rng(0).normal(size=(2, 12, 9, 7))
    found = predict_tiles(network, image, window=(8, 6, 8), mirrored=[0, 2])
    part = np.pad(image[:, 1:13, 2:11, 1:8], [(0, 0), (0, 0), (0, 0), (0, 1)])
    x, y, z = np.meshgrid(
        *(np.exp(-((np.arange(n) - n // 2) ** 2) / (2 * (n / 8) ** 2)) for n in (8, 6, 8)), indexing="ij"
    )
    total, weights = np.zeros((2, 12, 9, 8)), np.zeros((12, 9, 8))
    for tile in tiles(part.shape[1:], (8, 6, 8)):
        patch, logits = torch.as_tensor(part[(slice(None), *tile)])[None], 0
        for axes in ([], [2], [4], [2, 4]):
            logits = logits + network(patch.flip(axes)).flip(axes).detach()[0].numpy() / 4
        total[(slice(None), *tile)] += logits * (x * y * z)
        weights[tile] += x * y * z
    expected = torch.as_tensor(total / weights).softmax(0)[1, :, :, :7].numpy()
    np.testing.assert_allclose(found[1:13, 2:11, 1:8], expected, atol=1e-2)  # weights in half precision, cut at 4 SD
    settings = {"window": 8, "mirrored": True, "blend": "logits"}  # as a JSON beside the weights may say
    np.testing.assert_array_equal(
        predict(network, image, **settings), predict_tiles(network, image, window=(8, 8, 8), mirrored=[0])
    )
    settings |= {"mirrored": False}
    np.testing.assert_array_equal(predict(network, image, **settings), predict_tiles(network, image, window=(8, 8, 8)))
    assert [tile[0].start for tile in tiles((110, 64, 64), (64, 64, 64))] == [0, 23, 46]
