"""What the viewer is sent: volumes in their place in the world, in the colours of the figures."""

import nibabel as nib
import numpy as np
import pytest
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from lib.scans import Scan
from lib.style import KIND_COLOURS, SALIENCY_MAP
from lib.viewer import Viewer

SHAPE = (30, 34, 28)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
AFFINE[:3, 3] = -10, -20, -30


@pytest.fixture
def scan():
    brain = np.zeros(SHAPE, bool)
    brain[8:22, 9:25, 7:21] = True
    image = np.random.default_rng(0).normal(100, 10, (2, *SHAPE)).astype(np.float32) * brain
    return Scan("sub-01", image, brain, np.zeros(SHAPE, bool), AFFINE)


@pytest.fixture
def masks():
    found = np.zeros((3, *SHAPE), bool)
    found[0, 10:15, 11:16, 9:14] = found[1, 17:19, 11:13, 9:11] = found[2, 10:15, 11:16, 9:14] = True
    return {"prediction": {"TP": found[0], "FP": found[1]}, "annotation": {"annotation": found[2]}}


@pytest.fixture
def viewer(scan, masks):
    viewer = Viewer()
    viewer.show(scan, masks)
    viewer.style("FLAIR", ["prediction", "annotation"], 1)
    return viewer


def volume(viewer, name):
    return next(one for one in viewer.widget.volumes if one.name == f"{name}.nii")


def whole(one):
    """Voxels of a volume that was sent, and where each lies in the scan: (n, 3) indices and (n,) values."""
    image = nib.Nifti1Image.from_bytes(one.data)
    values = np.asanyarray(image.dataobj)
    world = nib.affines.apply_affine(image.affine, np.argwhere(np.ones(values.shape)))
    return np.rint(nib.affines.apply_affine(np.linalg.inv(AFFINE), world)).astype(int), values.ravel()


def test_anatomy_is_cut_to_the_brain_and_stays_in_its_place(viewer, scan):
    for name, channel in (("FLAIR", scan.image[0]), ("MPRAGE", scan.image[1])):
        viewer.style(name, [], 1)
        places, levels = whole(volume(viewer, name))
        assert places.min(0).tolist() == [4, 5, 3]
        assert places.max(0).tolist() == [25, 28, 24]
        original = channel[tuple(places.T)]
        assert ((levels > 0) == (original != 0)).all()
        inside = original[original != 0]
        low, high = np.percentile(inside, (0.5, 99.8))
        expected = 1 + 254 * (inside.clip(low, high) - low) / (high - low)
        np.testing.assert_allclose(levels[original != 0], expected, atol=1)


def test_outlines_are_the_surfaces_of_the_masks_in_the_colours_of_their_kinds(viewer, masks):
    sent = volume(viewer, "prediction")
    places, numbers = whole(sent)
    drawn = np.zeros(SHAPE, int)
    drawn[tuple(places.T)] = numbers
    assert (drawn == 1).sum() == 5**3 - 3**3  # the shell of a cube
    assert (drawn == 2).sum() == 2**3
    assert not drawn[~(masks["prediction"]["TP"] | masks["prediction"]["FP"])].any()
    colours = np.reshape(sent.colormap_label.lut, (-1, 4))
    assert colours[0, 3] == 0
    for number, kind in ((1, "TP"), (2, "FP")):
        assert "#{:02x}{:02x}{:02x}".format(*colours[number, :3]) == KIND_COLOURS[kind]


def test_maps_have_the_colours_of_the_figures_where_they_are_not_zero(viewer):
    values = np.zeros(SHAPE, np.float32)
    values[12, 13, 10], values[14, 15, 12] = 2.0, -1.0
    scale = ScalarMappable(Normalize(-2, 2), SALIENCY_MAP)
    viewer.show_maps({"FLAIR": values, "MPRAGE": -values}, scale)
    for name, sign in (("FLAIR", 1), ("MPRAGE", -1)):
        viewer.style(name, [], 1)
        places, colours = whole(volume(viewer, f"saliency-{name}"))
        assert len(places) == 27
        rgba = {tuple(place): tuple(colour) for place, colour in zip(places.tolist(), colours.tolist(), strict=True)}
        assert rgba[12, 13, 10] == SALIENCY_MAP(0.5 + sign * 0.5, bytes=True)
        assert rgba[14, 15, 12] == SALIENCY_MAP(0.5 - sign * 0.25, bytes=True)
        assert rgba[13, 14, 11][3] <= 1  # of 255: where the map is 0 the anatomy shows


def test_only_what_is_seen_is_in_the_browser(viewer):
    def seen():
        return {one.name.removesuffix(".nii"): one.opacity for one in viewer.widget.volumes}

    values, scale = np.ones(SHAPE, np.float32), ScalarMappable(Normalize(-1, 1), SALIENCY_MAP)
    assert seen() == {"FLAIR": 1, "prediction": 1, "annotation": 1}
    viewer.show_maps({"FLAIR": values, "MPRAGE": values}, scale)
    viewer.style("MPRAGE", ["annotation"], 0.4)
    assert seen() == {"MPRAGE": 1, "annotation": 1, "saliency-MPRAGE": 0.4}
    viewer.show_maps({})
    viewer.style("MPRAGE", ["annotation"], 0.4)
    assert seen() == {"MPRAGE": 1, "annotation": 1}
    viewer.show_maps({"both": values}, scale)
    viewer.style("FLAIR", [], 1)
    assert seen() == {"FLAIR": 1, "saliency-both": 1}


def test_a_map_of_zeros_is_shown_as_nothing(viewer):
    viewer.show_maps({"both": np.zeros(SHAPE, np.float32)}, ScalarMappable(Normalize(0, 1), SALIENCY_MAP))
    viewer.style("FLAIR", [], 1)
    assert len(whole(volume(viewer, "saliency-both"))[0]) == 1


def test_the_crosshair_goes_to_the_middle_of_a_voxel_of_the_part_that_is_shown(viewer):
    viewer.look_at((4, 5, 3))
    np.testing.assert_allclose(viewer.widget.scene.crosshair_pos, [0.5 / 22, 0.5 / 24, 0.5 / 22])
