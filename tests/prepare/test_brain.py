"""What is stripped, and masks of installed tools."""

import numpy as np
import pytest
from heads import blobs, save

from lib.prepare import brain
from lib.prepare.brain import brain_by_tool, find_brain, is_stripped
from lib.prepare.volumes import from_array, to_array


def test_stripped_is_a_brain_that_does_not_touch_the_faces():
    array, affine = blobs()
    array = np.where(array > 0.4, array, 0)
    assert is_stripped(from_array(array, affine))
    assert not is_stripped(from_array(array, affine @ np.diag([2, 2, 2, 1])))  # of more than 2 litres
    assert not is_stripped(from_array(array[12:-12, 12:-12, 12:-12], affine))


def fake_tool(folder, monkeypatch, name, script):
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("hd-bet", "-i image.nii.gz -o brain.nii.gz -device cpu --disable_tta --save_bet_mask --no_bet_image"),
        ("mri_synthstrip", "-i image.nii.gz -m brain_bet.nii.gz"),
    ],
)
def test_the_mask_is_what_a_tool_says(tmp_path, monkeypatch, tool, given):
    array, affine = blobs()
    save(tmp_path / "answer.nii.gz", (array > 0.5).astype("uint8"), affine)
    fake_tool(
        tmp_path,
        monkeypatch,
        tool,
        f'[ "$*" = "{given}" ] && test -f image.nii.gz && cp {tmp_path}/answer.nii.gz brain_bet.nii.gz',
    )
    mask = brain_by_tool(from_array(array - 0.2, affine), tool)
    assert np.array_equal(to_array(mask) > 0, array > 0.5)


def test_a_tool_that_fails_is_named_with_its_words(tmp_path, monkeypatch):
    fake_tool(tmp_path, monkeypatch, "hd-bet", "echo no weights >&2; exit 3")
    with pytest.raises(RuntimeError, match="hd-bet ended with 3.*no weights"):
        brain_by_tool(from_array(*blobs()), "hd-bet")


def test_a_tool_that_takes_everything_for_brain_has_found_none(tmp_path, monkeypatch):
    array, affine = blobs()
    save(tmp_path / "answer.nii.gz", np.ones_like(array, dtype="uint8"), affine)
    fake_tool(tmp_path, monkeypatch, "hd-bet", f"cp {tmp_path}/answer.nii.gz brain_bet.nii.gz")
    with pytest.raises(RuntimeError, match="hd-bet found no brain"):
        brain_by_tool(from_array(array, affine), "hd-bet")


def test_a_given_mask_is_taken_where_intensities_show_no_brain(monkeypatch):
    """Every other voxel of the FLAIR is dark: nothing is left of it once thin bridges are cut."""
    array, affine = blobs()
    dark = np.where(np.indices(array.shape).sum(0) % 2, 0.01, 1).astype(np.float32)
    images = {"FLAIR": from_array(dark, affine), "T1w": from_array(array + 0.01, affine)}
    given = from_array(array > 0.5, affine)
    monkeypatch.setattr(brain, "fit_template", lambda t1w, mask: (t1w, mask))
    assert find_brain(images, given) == (given, "given", (images["T1w"], given))
    with pytest.raises(ValueError, match="no brain is found"):
        find_brain(images)
