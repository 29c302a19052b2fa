"""Tables that several tests of statistics begin from."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def correlated_lesions():
    """Lesions share their patient's effect: intraclass correlation 0.8, true mean 0."""

    def make(generator, patients=25, lesions=8):
        subject = np.repeat(np.arange(patients), lesions)
        x = generator.normal(size=patients)[subject] + 0.5 * generator.normal(size=len(subject))
        return pd.DataFrame({"subject": subject, "x": x})

    return make
