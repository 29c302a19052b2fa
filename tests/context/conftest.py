"""Builders that the tests of several modules of the room share."""

import pandas as pd
import pytest


@pytest.fixture
def responses():
    """Builds rows of lesions of patients a, b, ...: scores that jump to their plateau at the steps given."""

    def build(jumps=((1, 2), (3,)), fill="mean", growth="euclidean"):
        rows = []
        for subject, own in zip("abcdefgh", jumps, strict=False):
            for label, jump in enumerate(own, start=1):
                for step in range(9):
                    score = 0.8 if step >= jump else 0.2
                    rows.append((subject, subject, label, fill, growth, step, float(step), score > 0.5, score))
        names = ["scan", "subject", "label", "fill", "growth", "step", "radius_mm", "detected", "score"]
        return pd.DataFrame(rows, columns=names)

    return build
