"""Three planes of a scan in JupyterLab (ipyniivue): anatomy, outlines of its lesions, saliency maps over it."""

import nibabel as nib
import numpy as np
from ipyniivue import DragMode, MultiplanarType, NiiVue, ShowRender, Volume
from matplotlib.colors import to_rgb
from scipy import ndimage

from lib.figures import OUTLINE_COLOURS
from lib.scans import SEQUENCES

HEIGHT_PX = 430
MARGIN = 4  # voxels shown around the brain
RGB = np.dtype([(channel, np.uint8) for channel in "RGB"])


class Viewer:
    """widget: what is displayed.  `show` takes a scan, `show_maps` the maps of a lesion, `style` draws what is to be seen.

    One volume a scan is loaded by the browser, in its final colours and sent as bytes, so that nothing is fetched and a map
    looks as in the figures; then it is sent the voxels that change: without a graphics card it takes long to load a volume,
    to redraw it and to lay one over another.
    """

    def __init__(self):
        self.widget = NiiVue(
            height=HEIGHT_PX, multiplanar_layout=MultiplanarType.ROW, multiplanar_show_render=ShowRender.NEVER,
            is_nearest_interpolation=True, drag_and_drop_enabled=False, drag_mode=DragMode.PAN,
            crosshair_color=(0.5, 0.9, 0.5, 1.0), crosshair_width=0.8, crosshair_width_unit="mm", crosshair_gap=20.0,
        )  # fmt: skip
        self._grey, self._maps = {}, {}

    def show(self, scan, outlines):
        """Take a scan, with intensities as stored, and outlines of masks; no map.

        outlines: {layer: {name in OUTLINE_COLOURS: (X, Y, Z) bool}}.
        """
        corners = np.argwhere(scan.brain)
        low, high = np.maximum(corners.min(0) - MARGIN, 0), np.minimum(corners.max(0) + 1 + MARGIN, scan.brain.shape)
        self._start, self._size = low, high - low
        self._affine = nib.affines.from_matvec(scan.affine[:3, :3], nib.affines.apply_affine(scan.affine, low))
        box = self._box = tuple(map(slice, low, high))
        self._grey = {name: _grey_levels(channel)[box] for name, channel in zip(SEQUENCES, scan.image, strict=True)}
        self._outlines = [
            (layer, OUTLINE_COLOURS[name], mask[box] & ~ndimage.binary_erosion(mask[box]))  # voxels with a face outside
            for layer, masks in outlines.items()
            for name, mask in masks.items()
        ]
        self._maps, self._volume = {}, None

    def show_maps(self, maps, scale=None):
        """Take maps {sequence: (X, Y, Z)} of one lesion, in the colours of a ScalarMappable."""
        self._maps = {}
        for name, values in maps.items():
            values = values[self._box]
            for part in ndimage.find_objects((values != 0).astype(np.uint8)):
                self._maps[name] = part, scale.cmap(scale.norm(values[part]))

    def style(self, sequence, layers, opacity):
        """Draw this sequence with the outlines of `layers` (names), and its map with `opacity` (0 to 1) over them; nothing
        before there is a scan."""
        if not self._grey:
            return
        picture = np.repeat(self._grey[sequence][..., None], 3, axis=3)
        for layer, colour, surface in self._outlines:
            if layer in layers:
                picture[surface] = np.rint(255 * np.array(to_rgb(colour)))
        for name, (part, colours) in self._maps.items():
            if name in (sequence, "both"):
                cover = opacity * colours[..., 3:]
                picture[part] = np.rint(cover * 255 * colours[..., :3] + (1 - cover) * picture[part])
        self._drawn = picture.transpose(2, 1, 0, 3).ravel()  # as NIfTI stores them
        if self._volume is None:
            image = nib.Nifti1Image(picture.view(RGB)[..., 0], self._affine)
            self._volume = Volume(data=image.to_bytes(), name="scan.nii")
            self._volume.observe(lambda _: self._send(), "img")
            self.widget.load_volumes([self._volume])
        self._send()

    def look_at(self, voxel):
        """Move the crosshair to a voxel (x, y, z) of the scan."""
        self.widget.scene.crosshair_pos = ((np.asarray(voxel) - self._start + 0.5) / self._size).tolist()

    def _send(self):
        """Send what has changed; not before the browser has the volume, which it says by giving `img`."""
        if self._volume.img is not None and self._volume.img is not self._drawn:
            self._volume.img = self._drawn


def _grey_levels(channel):
    """1 to 255 between percentiles 0.5 and 99.8 of the brain, as in the figures; 0 in the background."""
    low, high = np.percentile(channel[channel != 0], (0.5, 99.8))
    levels = 1 + 254 * (channel - low) / (high - low)
    return np.where(channel != 0, levels.clip(1, 255), 0).astype(np.uint8)
