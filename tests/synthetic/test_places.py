"""Places and heights of sites whose surroundings are planes, and shares of lesions whose detection is known."""

import numpy as np
import pandas as pd
import pytest

from lib.synthetic.places import recall_by_place, rising_contrasts, site_places, sites_by_height
from lib.synthetic.sites import DEEP

SHAPE = (30, 30, 30)


def test_sites_have_the_place_of_their_lesions_voxels_and_the_third_of_the_brain_they_lie_in():
    brain = np.zeros(SHAPE, bool)
    brain[:, :, 2:29] = True  # thirds of nine voxels
    x, y, _ = np.indices(SHAPE, dtype=float)
    distances = {"beside ventricle": abs(x - 5), "beside cortex": abs(y - 25)}
    sites = {"deep white matter": np.array([(15, 12, 10), (11, 12, 11)]), "beside cortex": np.zeros((0, 3), int)}
    sites["beside ventricle"] = np.array([(10, 21, 19), (15, 21, 20)])  # 5 mm: 2 voxels on each side
    found = site_places(sites, brain, distances, 5.0, (1.0, 1.0, 1.0))
    assert found[["surroundings", "site"]].to_numpy().tolist() == [
        ["deep white matter", 0], ["deep white matter", 1], ["beside ventricle", 0], ["beside ventricle", 1],
    ]  # fmt: skip
    deep = "deep or infratentorial"
    assert found["place"].tolist() == [deep, deep, "periventricular", "juxtacortical"]  # 4 mm away is too far
    assert found["height"].tolist() == ["lower third", "middle third", "middle third", "upper third"]


@pytest.fixture
def lesions():
    """Eight 5 mm lesions of two patients: contrast 1 finds those of the upper third, 2 all, 0 none; MPRAGE finds none."""
    where = pd.DataFrame(
        [(scan, "deep white matter", site, "juxtacortical" if site == 0 else "periventricular", height)
         for scan in "ab" for site, height in enumerate(["upper third", "upper third", "lower third", "lower third"])],
        columns=["scan", "surroundings", "site", "place", "height"],
    )  # fmt: skip
    rows = [
        (scan, scan, "deep white matter", site, 5.0, contrast, sequences)
        for scan in "ab" for site in range(4) for contrast in (0.0, 1.0, 2.0) for sequences in ("FLAIR", "MPRAGE")
    ]  # fmt: skip
    names = ["subject", "scan", "surroundings", "site", "diameter_mm", "contrast", "sequences"]
    table = pd.DataFrame(rows, columns=names)
    found = (table["contrast"] == 2) | ((table["contrast"] == 1) & (table["site"] < 2))
    return table.assign(detected=found & (table["sequences"] == "FLAIR")), where


def test_a_contrast_rises_where_neither_nearly_none_nor_nearly_all_are_found(lesions):
    insertions, _ = lesions
    other = insertions.assign(diameter_mm=8.0, detected=True)
    assert rising_contrasts(pd.concat([insertions, other]), 5.0) == {"FLAIR": [1.0]}
    assert rising_contrasts(other, 8.0) == {}


def test_shares_are_over_the_contrasts_on_the_rise_by_place_and_height(lesions):
    options = {"n_resamples": 50, "generator": np.random.default_rng(0)}
    found = recall_by_place(*lesions, {"FLAIR": [1.0]}, **options)
    assert set(found["sequences"]) == {"FLAIR"} and set(found["contrasts"]) == {"1"} and set(found["patients"]) == {2}
    found = found.set_index(["place", "height"])
    assert found["value"].to_dict() == {
        ("all", "all"): 0.5, ("all", "lower third"): 0.0, ("all", "upper third"): 1.0,
        ("periventricular", "all"): pytest.approx(1 / 3), ("periventricular", "lower third"): 0.0,
        ("periventricular", "upper third"): 1.0, ("juxtacortical", "all"): 1.0, ("juxtacortical", "upper third"): 1.0,
    }  # fmt: skip
    assert found.loc[("periventricular", "all"), "lesions"] == 6
    assert found.loc[("all", "all"), ["low", "high"]].tolist() == [0.5, 0.5]  # both patients are alike
    both = recall_by_place(*lesions, {"FLAIR": [1.0, 2.0]}, **options).iloc[0]
    assert (both["contrasts"], both["value"], both["lesions"]) == ("1, 2", 0.75, 8)  # of a lesion, not of a contrast
    assert len(recall_by_place(*lesions, {}, **options)) == 0


def test_sites_lie_in_every_third_with_their_margin():
    white, brain = np.zeros((24, 24, 40), bool), np.zeros((24, 24, 40), bool)
    white[4:20, 4:20, 5:35], brain[2:22, 2:22, 5:35] = True, True
    margins = {"margin_mm": 3.0, "beside_margin_mm": 2.0, "spacing_mm": (1.0, 1.0, 1.0)}
    sites = sites_by_height(white, {DEEP: None}, brain, 2, **margins, generator=np.random.default_rng(0))[DEEP]
    z = sites[:, 2] - 5  # thirds of ten voxels: a margin of three leaves the middle four or six
    assert (z // 10).tolist() == [0, 0, 1, 1, 2, 2]
    assert np.isin(z % 10, range(2, 8)).all()
    only = white.copy()
    only[..., 15:] = False
    assert len(sites_by_height(only, {DEEP: None}, brain, 2, **margins, generator=np.random.default_rng(0))[DEEP]) == 2
