"""Limits by which a scan fails."""

import pytest

from lib.prepare import scan_problems

GOOD = {
    "mi_before_bits": 0.3, "mi_after_bits": 0.4, "overlap_template": 0.92, "in_field": 1.0, "brain_ml": 1200,
    "white_over_grey_flair": 0.9, "white_over_grey_t1w": 1.1, "fluid_flair": 0.3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mi_before_bits": 0.04, "mi_after_bits": 0.05}, "share 0.05 bits"),
        ({"overlap_template": 0.6}, "0.60, less than 0.75"),
        ({"in_field": 0.3, "brain_ml": 400}, "30% of the template"),
        ({"brain_ml": 2600}, "2600 ml"),
        ({"white_over_grey_flair": 1.1, "white_over_grey_t1w": 0.9}, "swapped"),
        ({"fluid_flair": 1.8}, "T2w"),
    ],
)
def test_each_limit_is_said(change, says):
    assert scan_problems(GOOD) == []
    (problem,) = scan_problems(GOOD | change)
    assert says in problem


def test_a_smaller_field_of_view_needs_less_brain():
    assert scan_problems(GOOD | {"in_field": 0.6, "brain_ml": 650}) == []
