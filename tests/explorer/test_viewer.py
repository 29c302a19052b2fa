"""What the viewer is sent: volumes in their place in the world, in the colours of the figures."""

import nibabel as nib
import numpy as np
import pytest
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb

from lib.explorer.viewer import Viewer
from lib.figures.style import KIND_COLOURS, SALIENCY_MAP
from lib.scans.images import Scan

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


class Browser:
    """The volume of a viewer as a browser has it: loaded, then changed by messages. received: numbers that were sent."""

    def __init__(self, viewer):
        (self.volume,) = viewer.widget.volumes
        self.image = nib.Nifti1Image.from_bytes(self.volume.data)
        self.pixels = np.frombuffer(np.asanyarray(self.image.dataobj).tobytes(order="F"), np.uint8).copy()
        self.received, self.volume.send = 0, self.receive
        self.volume.img = self.pixels.copy()  # it says that it has it

    def receive(self, content, buffers):
        places, values = np.frombuffer(buffers[0], np.uint32), np.frombuffer(buffers[1], np.uint8)
        assert content["type"] == "buffer_update"
        self.pixels[places] = values
        self.received += len(places)

    def picture(self):
        """Colours at the voxels of the scan, (X, Y, Z, 3), -1 where nothing was sent."""
        inside = nib.affines.apply_affine(self.image.affine, np.argwhere(np.ones(self.image.shape)))
        voxels = np.rint(nib.affines.apply_affine(np.linalg.inv(AFFINE), inside)).astype(int)
        found = np.full((*SHAPE, 3), -1)
        found[tuple(voxels.T)] = self.pixels.reshape(*self.image.shape[::-1], 3).transpose(2, 1, 0, 3).reshape(-1, 3)
        return found


def bytes_of(colour):
    return np.rint(255 * np.array(to_rgb(colour))).astype(int)


def test_anatomy_is_cut_to_the_brain_and_stays_in_its_place(viewer, scan):
    browser = Browser(viewer)
    for name, channel in (("FLAIR", scan.image[0]), ("MPRAGE", scan.image[1])):
        viewer.style(name, [], 1)
        picture = browser.picture()
        sent = np.argwhere(picture[..., 0] >= 0)
        assert sent.min(0).tolist() == [4, 5, 3]
        assert sent.max(0).tolist() == [25, 28, 24]
        assert (np.ptp(picture, 3) == 0).all()
        brain = channel != 0
        assert ((picture[..., 0] > 0) == brain).all()
        low, high = np.percentile(channel[brain], (0.5, 99.8))
        expected = 1 + 254 * (channel[brain].clip(low, high) - low) / (high - low)
        np.testing.assert_allclose(picture[brain, 0], expected, atol=1)


def test_outlines_are_the_surfaces_of_the_masks_in_the_colours_of_their_kinds(viewer, masks):
    browser = Browser(viewer)
    viewer.style("FLAIR", ["prediction"], 1)
    picture = browser.picture()
    for kind, size in (("TP", 5**3 - 3**3), ("FP", 2**3)):  # the shell of a cube
        drawn = (picture == bytes_of(KIND_COLOURS[kind])).all(3)
        assert drawn.sum() == size
        assert not drawn[~masks["prediction"][kind]].any()
    viewer.style("FLAIR", ["annotation"], 1)
    assert (browser.picture() == 255).all(3)[masks["annotation"]["annotation"]].sum() == 5**3 - 3**3


def test_maps_have_the_colours_of_the_figures_over_what_is_below(viewer):
    values = np.zeros(SHAPE, np.float32)
    values[12, 13, 10], values[14, 15, 12], values[10, 11, 9] = 2.0, -1.0, 0.3
    scale = ScalarMappable(Normalize(-2, 2), SALIENCY_MAP)
    browser = Browser(viewer)
    for name, sign in (("FLAIR", 1), ("MPRAGE", -1)):
        viewer.show_maps({})
        viewer.style(name, ["prediction"], 1)
        below = browser.picture()
        viewer.show_maps({"FLAIR": values, "MPRAGE": -values}, scale)
        for opacity in (1, 0.4):
            viewer.style(name, ["prediction"], opacity)
            picture = browser.picture()
            for voxel in zip(*np.nonzero(values), strict=True):
                *colour, cover = SALIENCY_MAP(0.5 + sign * values[voxel] / 4)
                expected = opacity * cover * 255 * np.array(colour) + (1 - opacity * cover) * below[voxel]
                np.testing.assert_allclose(picture[voxel], expected, atol=1)
            np.testing.assert_allclose(picture[values == 0], below[values == 0], atol=1)


def test_the_browser_loads_a_scan_once_and_is_sent_what_changes(viewer, scan, masks):
    loaded = viewer.widget.volumes
    values, scale = np.zeros(SHAPE, np.float32), ScalarMappable(Normalize(-1, 1), SALIENCY_MAP)
    values[12, 13:15, 10] = 1
    viewer.show_maps({"both": values}, scale)
    viewer.style("FLAIR", ["prediction", "annotation"], 1)
    browser = Browser(viewer)  # that has the volume only now
    assert (browser.picture()[12, 13:15, 10] == bytes_of(SALIENCY_MAP(1.0))).all()
    assert 0 < browser.received <= 6
    viewer.show_maps({})
    viewer.style("FLAIR", ["prediction", "annotation"], 1)
    assert browser.received <= 12
    assert viewer.widget.volumes == loaded
    viewer.show(scan, masks)
    viewer.style("FLAIR", [], 1)
    assert viewer.widget.volumes != loaded


def test_nothing_is_drawn_before_there_is_a_scan():
    viewer = Viewer()
    viewer.style("FLAIR", ["prediction"], 1)
    assert viewer.widget.volumes == []


def test_a_map_of_zeros_is_shown_as_nothing(viewer):
    browser = Browser(viewer)
    viewer.show_maps({"both": np.zeros(SHAPE, np.float32)}, ScalarMappable(Normalize(0, 1), SALIENCY_MAP))
    viewer.style("FLAIR", ["prediction", "annotation"], 1)
    assert browser.received == 0


def test_the_crosshair_goes_to_the_middle_of_a_voxel_of_the_part_that_is_shown(viewer):
    viewer.look_at((4, 5, 3))
    np.testing.assert_allclose(viewer.widget.scene.crosshair_pos, [0.5 / 22, 0.5 / 24, 0.5 / 22])
