"""Lesions of every degree of detection are drawn, also where most are saturated."""

import numpy as np
import pandas as pd
from scipy.special import expit

from lib.context.selection import spread_over_detection


def lesions(saturated=80, others=20):
    """Peaks of logits 14 and, of the others, 2 to 12; ten patients, index that does not count from 0."""
    logits = np.r_[np.full(saturated, 20.0), np.linspace(2, 12, others)]
    subject = [f"{i % 10}" for i in range(len(logits))]
    table = pd.DataFrame({"subject": subject, "label": range(len(logits)), "peak_probability": expit(logits)})
    return table.set_index(np.arange(len(table)) + 7)


def draw(table, n, seed=0):
    return spread_over_detection(table, n, np.random.default_rng(seed))


def test_a_quarter_of_the_drawn_lesions_is_of_each_quarter_of_the_range_of_logits():
    for seed in range(5):
        found = draw(lesions(), 16, seed)
        logits = np.log(found["peak_probability"] / (1 - found["peak_probability"]))
        edges = np.linspace(2, np.log(1e6 - 1), 5)  # probabilities above 1 - 1e-6 count as saturated
        counts = [
            ((logits > low - 1e-6) & (logits <= high)).sum() for low, high in zip(edges[:3], edges[1:4], strict=True)
        ]
        assert counts == [4, 4, 4] and len(found) == 16


def test_patients_give_one_lesion_before_any_gives_a_second():
    found = draw(lesions(saturated=200, others=4), 14)
    saturated = found[found["peak_probability"] > 1 - 1e-6]
    assert len(saturated) >= 10 and saturated["subject"].value_counts().max() <= 2


def test_all_are_taken_where_there_are_no_more_in_the_order_of_the_table():
    table = lesions()
    pd.testing.assert_frame_equal(draw(table, 1000), table)
    assert draw(table, 12).index.is_monotonic_increasing
    assert draw(table.iloc[:0], 12).empty
    assert len(draw(table.iloc[:5], 3)) == 3  # all saturated


def test_the_draw_repeats_with_its_seed():
    pd.testing.assert_frame_equal(draw(lesions(), 16), draw(lesions(), 16))
    assert draw(lesions(), 16)["label"].tolist() != draw(lesions(), 16, seed=1)["label"].tolist()
