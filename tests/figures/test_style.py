"""Journal style: palettes that colour-blind readers tell apart, and figures in the style whatever the caller set."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab

from lib.figures.style import KIND_COLOURS, SEQUENCE_COLOURS, SINGLE_COLUMN_MM, SPLIT_COLOURS, new_figure, styled

# Machado et al. 2009, severity 1
DEFICIENCIES = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("palette", [KIND_COLOURS, SEQUENCE_COLOURS, SPLIT_COLOURS], ids=len)
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_palettes_stay_apart_in_colour_blind_eyes(palette, deficiency):
    rgb = np.array([to_rgb(colour) for colour in palette.values()])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(DEFICIENCIES[deficiency]), 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
    a, b = np.triu_indices(len(lab), 1)
    assert deltaE_ciede2000(lab[a], lab[b]).min() > 20


def test_a_styled_figure_keeps_its_type_when_it_is_saved_outside_the_style(tmp_path):
    @styled
    def draw():
        fig = new_figure(SINGLE_COLUMN_MM, 40)
        fig.subplots().plot([0, 1000])
        return fig

    with plt.rc_context({"xtick.labelsize": 20}):
        fig = draw()
        fig.savefig(tmp_path / "figure.png")
    assert fig.get_size_inches()[0] * 25.4 == pytest.approx(89)
    assert {label.get_fontsize() for label in fig.axes[0].get_xticklabels()} == {6}
    assert fig.number not in plt.get_fignums()


NOTHING = "no lesions: nothing to show"


@pytest.mark.parametrize("given", [[], {}, pd.DataFrame(columns=["x"])])
def test_a_figure_of_nothing_says_so(given):
    fig = styled(lambda table, other: 1 / 0)(given, pd.DataFrame(columns=["y"]))
    assert [text.get_text() for text in fig.texts] == [NOTHING]


def test_a_panel_of_nothing_says_so_and_one_with_data_does_not():
    @styled
    def draw(table):
        fig = new_figure(SINGLE_COLUMN_MM, 40)
        empty, full = fig.subplots(1, 2)
        for ax, values in ((empty, []), (full, [1.0])):
            ax.plot(values, values)
            ax.axhline(0)
        return fig

    empty, full = draw([1]).axes
    assert [text.get_text() for text in empty.texts] == [NOTHING.replace(": ", ":\n")]
    assert not full.texts
