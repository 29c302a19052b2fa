"""The panel of notebook 00_explore, in an event loop as a kernel has one: choices, their results, and what goes wrong."""

import asyncio
import json
import re
from html import unescape
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lib.explorer.panel import Explorer

SETTINGS = {"n_samples": 2, "noise_fraction": 0.05, "largest_radius_mm": 6}
SOURCE = {"data": "", "weights": "", "layer": "model.1.submodule.2.conv", "device": "cpu", "seed": 0}


def with_panel(run, use, **changes):
    """What the coroutine function `use` returns of a panel in a running event loop, as in a kernel."""

    async def session():
        return await use(Explorer(run, **SETTINGS, **SOURCE | changes))

    return asyncio.run(session())


async def settled(panel):
    """Wait until the panel has done what was asked for. Returns what it says."""
    while not panel._task.done():
        await asyncio.sleep(0.01)
    return panel.message.value


def test_the_first_lesion_is_explained_and_another_choice_explains_that(explored_run):
    async def use(panel):
        await settled(panel)
        first, context, shares = panel.explained, panel.context, panel.shares
        assert first.lesion["kind"] == "TP"
        assert "saliency FLAIR" in panel.place.value  # at the crosshair, which is in its middle
        assert first.lesion["volume_mm3"] <= 50
        assert context["radius_mm"].tolist() == [0, 1, 2, 3, 4, 5, 6]
        assert list(shares.loc[shares["place"] == "all", "sequence"]) == ["FLAIR", "MPRAGE"]
        assert bytes(panel.share_bars.value[:4]) == b"\x89PNG"
        other = next(index for _, index in panel.lesion.options if panel.opened.lesions.loc[index, "kind"] == "FN")
        panel.lesion.value = other
        assert "explained in" in await settled(panel)
        assert panel.explained.lesion.name == other
        panel.method.value = "grad_cam"
        await settled(panel)
        assert list(panel.explained.maps) == ["both"]
        assert bytes(panel.curves.value[:4]) == b"\x89PNG"
        panel.scan.value = "sub-002"
        await settled(panel)
        return panel

    panel = with_panel(explored_run, use)
    assert panel.explained.opened.row["scan"] == "sub-002"
    assert len(panel.viewer.widget.volumes) == 1


def test_of_a_scan_without_annotation_a_predicted_lesion_is_explained(explored_run, tmp_path):
    scans = explored_run.scans()[["subject", "session", "flair", "t1w"]]
    scans.to_csv(tmp_path / "bare.tsv", sep="\t", index=False)

    async def use(panel):
        return await settled(panel), panel

    given = {"data": str(tmp_path / "bare.tsv"), "weights": str(explored_run.weights())}
    elsewhere = explored_run.parameters | {"build": str(tmp_path), "figures": str(tmp_path)}
    said, panel = with_panel(type(explored_run)("00_explore", elsewhere), use, **given)
    assert "predicted" in said and "explained in" in said
    assert set(panel.opened.lesions["kind"]) == {"predicted"}
    assert panel.explained.lesion["volume_mm3"] <= 50
    outlines = panel.opened.outlines()
    assert (outlines["prediction"]["predicted"] == (panel.opened.predicted > 0)).all()
    assert not any(mask.any() for mask in outlines["annotation"].values())
    legend = next(one.value for one in panel.children[0].children if "outlines:" in str(getattr(one, "value", "")))
    colour = re.search(r'color:(#\w+)">[^<]*</span> predicted', legend)[1]
    assert (255 * np.array(to_rgb(colour))).round().tolist() in panel.viewer._drawn.reshape(-1, 3).tolist()


def test_a_choice_takes_the_place_of_what_is_being_computed(explored_run):
    async def use(panel):
        await settled(panel)
        panel.n_samples.value = 1000
        while panel.progress.value == 0:
            await asyncio.sleep(0.001)
        long, panel.n_samples.value = panel._task, 3
        await settled(panel)
        return long, panel

    long, panel = with_panel(explored_run, use)
    assert long.cancelled()
    assert panel.explained.settings.n_samples == 3


def test_a_click_chooses_the_lesion_under_it(explored_run):
    async def use(panel):
        await settled(panel)
        before = panel.lesion.value
        _, other = panel.lesion.options[-1]
        place = nib.affines.apply_affine(panel.opened.scan.affine, panel.opened.middle(panel.opened.lesions.loc[other]))
        for content in (
            {"event": "location_change", "data": {"mm": [*place, 1.0]}},
            {"event": "mouse_up", "data": {"is_dragging": False, "mouse_pos": [0, 0], "frac_pos": [0, 0, 0]}},
        ):
            panel.viewer.widget._handle_custom_msg(content, [])
        await settled(panel)
        return before, other, panel

    before, other, panel = with_panel(explored_run, use)
    assert before != other == panel.explained.lesion.name
    assert "lesion probability" in panel.place.value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "nowhere.tsv"}, "nowhere.tsv does not exist: give a BIDS folder or a scans table"),
        ({"weights": "nowhere.safetensors"}, "nowhere.safetensors is missing: the weights"),
    ],
)
def test_a_bad_choice_is_said_in_the_panel(explored_run, changes, message):
    async def use(panel):
        if panel._task:
            await settled(panel)
        return panel.message.value

    said = with_panel(explored_run, use, **changes)
    assert message in unescape(said)
    assert "error" in said


def test_a_method_that_fails_says_why_and_the_next_works(explored_run):
    async def use(panel):
        await settled(panel)
        panel.method.value = "grad_cam"
        wrong = await settled(panel)
        panel.method.value = "smoothgrad_mean"
        return wrong, await settled(panel)

    wrong, right = with_panel(explored_run, use, layer="model.9")
    assert "no layer 'model.9'" in unescape(wrong)
    assert "explained in" in right


def test_without_shares_the_panel_says_why_and_saves_the_rest(explored_run, monkeypatch):
    def refuse(*_):
        raise ValueError("nothing to share <out>")

    monkeypatch.setattr("lib.explorer.session.share_score", refuse)

    async def use(panel):
        await settled(panel)
        said, bars, disabled = panel.not_shared.value, panel.share_bars.value, panel.save.disabled
        panel.save.click()
        return said, bars, disabled, await settled(panel)

    said, bars, disabled, saved = with_panel(explored_run, use)
    assert "nothing to share &lt;out&gt;" in said
    assert not bars and not disabled
    path = unescape(saved).partition("saved ")[2].partition(": .pdf")[0]
    assert json.loads(Path(f"{path}.json").read_text())["shares"] is None
