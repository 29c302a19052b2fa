"""The rule that judges every run: whether measures lie where the paper says, and what that makes of their claim."""

import numpy as np
import pandas as pd

NEEDS = "needs annotation"  # effect of a measure that no annotated scan gives, and verdict of its claim
NOT_APPLICABLE = "not applicable"  # how the effect of a measure begins that this network cannot have
FEWEST = 6  # patients: with fewer, all lie on one side of the truth in 2 / 2**5 = 6 % of samples or more


def judged(table):
    """Measures with columns holds (of each) and verdict (of its claim).

    table: columns claim, low, high, lesions, patients, effect, and expected_low, expected_high (NaN: only reported).
    """
    held = []
    for row in table.itertuples():
        told = row.lesions and row.patients >= FEWEST and (row.low < row.high or np.isinf(row.low))
        expected = None if np.isnan(row.expected_low) else (row.expected_low, row.expected_high)
        held.append(holds(row.low, row.high, expected) if told else None)
    table = table.assign(holds=pd.Series(held, table.index, object))
    return table.assign(verdict=table["claim"].map({claim: _verdict(rows) for claim, rows in table.groupby("claim")}))


def holds(low, high, expected):
    """Whether an interval lies where it is expected, (low, high): None where that is open, or nothing is expected.

    An infinite end is beyond what was tested: as far as is known, beyond any finite number. NaN is open.
    """
    if expected is None or np.isnan([low, high]).any():
        return None
    inside, apart = expected[0] < low and high < expected[1], high <= expected[0] or low >= expected[1]
    return True if inside else False if apart else None


def _verdict(measures):
    expected = measures[measures["expected_low"].notna()]
    measures = expected[~expected["effect"].astype(str).str.startswith(NOT_APPLICABLE)]
    if measures.empty and len(expected):
        return NOT_APPLICABLE
    held = measures["holds"].to_list()
    if NEEDS in set(measures["effect"]) and False not in held:
        return NEEDS
    if not measures["lesions"].sum():
        return "nothing to judge"
    return "not reproduced" if False in held else "reproduced" if all(held) else "inconclusive"
