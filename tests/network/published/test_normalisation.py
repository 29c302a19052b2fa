"""Intensities as each tool normalises them, against plain formulas."""

import numpy as np

from lib.network.published.normalisation import BOX, HEAD, RANGE, own_image


def test_intensities_are_normalised_as_each_tool_does():
    generator = np.random.default_rng(0)
    stored = np.zeros((2, 8, 9, 10), np.float32)
    stored[:, 2:7, 2:7, 2:7] = generator.gamma(4, 50, (2, 5, 5, 5))
    stored[1, 4, 4, 4] = stored[0, 5, 5, 5] = 0  # enclosed by the head, and 0 in one sequence alone
    box, inside = stored[:, 2:7, 2:7, 2:7], np.zeros(stored.shape[1:], bool)
    inside[2:7, 2:7, 2:7] = True
    for name in (HEAD, BOX):
        found = own_image(stored, name)
        expected = (box - box.mean((1, 2, 3), keepdims=True)) / box.std((1, 2, 3), keepdims=True)
        np.testing.assert_allclose(found[:, inside].reshape(2, 5, 5, 5), expected, atol=1e-5)
        assert not found[:, ~inside].any()
    found, values = own_image(stored, RANGE)[0], stored[0][stored[0] != 0]
    low, high = np.percentile(values, (0.5, 99.5))
    np.testing.assert_allclose(found[stored[0] != 0], np.clip((values - low) / (high - low), 0, 1), atol=1e-6)
    assert found[5, 5, 5] == 0


def test_the_head_is_that_of_the_channels_that_the_network_takes():
    """As nnU-Net, which sees no other."""
    stored = np.random.default_rng(0).gamma(4, 50, (2, 8, 8, 8)).astype(np.float32)
    stored[0, :3] = stored[:, 0] = stored[:, -1] = 0
    for name in (HEAD, BOX):
        flair = own_image(stored, name, [0])[0]
        np.testing.assert_allclose(flair, own_image(stored[:1].repeat(2, 0), name)[0])
        assert (flair != own_image(stored, name)[0]).any()
