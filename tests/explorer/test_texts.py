"""Texts of the panel: lesions in order and in columns, values with sign and unit."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from lib.explorer.session import Settings
from lib.explorer.texts import HEADER, lesion_options, numbers_html, place_html

SPACE = "\N{NO-BREAK SPACE}"


def explained(method="smoothgrad_max", unit="logit per z-score"):
    maps = {"FLAIR": np.full((2, 2, 2), 0.25), "MPRAGE": np.full((2, 2, 2), -0.0125)}
    numbers = pd.DataFrame(
        {"sequence": ["FLAIR"], "peak": [-0.3], "mean_inside": [0.1234], "mean_perilesional": [np.nan]}
    )
    opened = SimpleNamespace(unit=unit)
    return SimpleNamespace(opened=opened, maps=maps, settings=Settings(method, 1, 0.1), numbers=numbers)


def test_lesions_are_listed_by_kind_and_size_below_their_columns():
    table = pd.DataFrame(
        {"kind": ["FN", "TP", "FP", "TP"], "label": [1, 2, 3, 14], "volume_mm3": [9.0, 5.0, 7.0, 12345.0]},
        index=[10, 11, 12, 13],
    ).assign(mean_probability=0.5, centroid_x_mm=-120.4, centroid_y_mm=3.0, centroid_z_mm=70.0)
    options = lesion_options(table)
    assert [index for _, index in options] == [13, 11, 12, 10]
    assert options[0][0].split(SPACE * 2)[0] == "TP"
    assert {len(text) for text, _ in options} == {len(options[0][0])}
    assert options[0][0].replace(SPACE, " ").split() == ["TP", "14", "12345", "0.50", "-120", "3", "70"]
    for name, value in (("label", "14"), ("mm³", "12345"), ("prob.", "0.50")):  # a number ends where its title ends
        assert options[0][0].index(value) + len(value) == HEADER.index(name) + len(name)


def test_predicted_lesions_fit_in_the_columns():
    table = pd.DataFrame({"kind": ["predicted"], "label": [2], "volume_mm3": [9.0]})
    table = table.assign(mean_probability=0.5, centroid_x_mm=-120.4, centroid_y_mm=3.0, centroid_z_mm=70.0)
    ((text, _),) = lesion_options(table)
    assert text.startswith("predicted" + SPACE)
    assert text.index("0.50") + 4 == HEADER.index("prob.") + 5


def test_a_place_is_described_in_world_millimetres_with_units():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 3] = -10
    opened = SimpleNamespace(
        scan=SimpleNamespace(affine=affine),
        volume=np.zeros((1, 2, 2, 2, 2)),
        probability=np.full((2, 2, 2), 0.75),
        unit="logit per z-score",
    )
    opened.volume[0, 1, 1, 0, 1] = -1.5
    text = place_html(opened, explained(), (1, 0, 1))
    assert "x \N{MINUS SIGN}8, y 0, z 2 mm" in text
    assert "FLAIR +0.00, MPRAGE \N{MINUS SIGN}1.50 z-score" in text
    assert "lesion probability 0.75" in text
    assert "saliency FLAIR +0.25, MPRAGE \N{MINUS SIGN}0.013 logit per z-score" in text
    assert "saliency" not in place_html(opened, None, (1, 0, 1))


def test_numbers_have_signs_and_the_unit_of_their_method():
    html = numbers_html(explained())
    assert "saliency (logit per z-score)" in html
    assert ">\N{MINUS SIGN}0.3<" in html
    assert ">+0.123<" in html
    assert "a.u." in numbers_html(explained("grad_cam"))
    assert "saliency (log-odds per range)" in numbers_html(explained(unit="log-odds per range"))
