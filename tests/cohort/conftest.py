"""Anatomies that several test files look at, on a 3 mm grid."""

import numpy as np
import pytest

from lib.cohort.anatomy import make_anatomy


@pytest.fixture(scope="session")
def anatomies():
    return [make_anatomy(3.0, np.random.default_rng([5, i])) for i in range(6)]
