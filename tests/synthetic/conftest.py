"""Builders that the tests of several modules of the room share."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter


@pytest.fixture
def scan():
    """White matter of a level, with smooth noise of a known standard deviation, and 3 voxels of background on each side."""

    def build(shape=(40, 40, 40), seed=0, level=(0.3, 0.8), sd=(0.3, 0.2)):
        noise = np.random.default_rng(seed).standard_normal((2, *shape))
        noise = gaussian_filter(noise, (0, 0.6, 0.6, 0.6), mode="wrap")
        image = (np.array(level) + np.array(sd) * (noise / noise.std()).T).T.astype(np.float32)
        brain = np.pad(np.ones([n - 6 for n in shape], bool), 3)
        image[:, ~brain] = 0
        return image, brain

    return build
