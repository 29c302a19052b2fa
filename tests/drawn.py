"""What the tests of several figures read off them."""

import matplotlib.pyplot as plt
import pytest


def lines(ax):
    """Points of the lines, (n, 2), by label."""
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


def assert_fits_the_double_column(fig):
    """At most a page high, nothing cut off at the sides, and type of at least 6 points."""
    assert fig.get_size_inches()[0] * 25.4 == pytest.approx(183)
    assert fig.get_size_inches()[1] * 25.4 < 247
    box = fig.get_tightbbox()
    assert box.x0 >= -0.01 and box.x1 <= 183 / 25.4 + 0.01
    assert min(text.get_fontsize() for text in fig.findobj(plt.Text) if text.get_text()) >= 6


def assert_says_the_unit(fig, unit):
    """The figure says this unit, and says logit nowhere."""
    texts = [text.get_text() for text in fig.findobj(plt.Text)]
    assert any(unit in text for text in texts)
    assert not any("logit" in text for text in texts)
