"""Three planes of a scan in JupyterLab (ipyniivue): anatomy, outlines of its lesions, saliency maps over it.

Volumes are sent as bytes, outlines and maps in their final colours: nothing is fetched, and a map looks as in the figures.
"""

import nibabel as nib
import numpy as np
from ipyniivue import LUT, DragMode, MultiplanarType, NiiVue, ShowRender, Volume
from matplotlib.colors import to_rgb
from scipy import ndimage

from lib.panels import ANNOTATION_COLOUR, SEQUENCES
from lib.style import KIND_COLOURS

HEIGHT_PX = 430
MARGIN = 4  # voxels shown around the brain
OUTLINE_COLOURS = KIND_COLOURS | {"annotation": ANNOTATION_COLOUR}
RGBA = np.dtype([(channel, np.uint8) for channel in "RGBA"])


class Viewer:
    """widget: what is displayed.  `show` gives it a scan, `show_maps` the maps of a lesion, `style` says what is seen.

    Only volumes that are seen are in the browser: without a graphics card it takes long to redraw each of them.
    """

    def __init__(self):
        self.widget = NiiVue(
            height=HEIGHT_PX, multiplanar_layout=MultiplanarType.ROW, multiplanar_show_render=ShowRender.NEVER,
            is_nearest_interpolation=True, drag_and_drop_enabled=False, drag_mode=DragMode.PAN,
            crosshair_color=(0.5, 0.9, 0.5, 1.0), crosshair_width=0.8, crosshair_width_unit="mm", crosshair_gap=20.0,
        )  # fmt: skip
        self._layers, self._maps = {}, {}

    def show(self, scan, outlines):
        """Take a scan, with intensities as stored, and outlines of masks; no map.

        outlines: {layer: {name in OUTLINE_COLOURS: (X, Y, Z) bool}}.
        """
        corners = np.argwhere(scan.brain)
        low, high = np.maximum(corners.min(0) - MARGIN, 0), np.minimum(corners.max(0) + 1 + MARGIN, scan.brain.shape)
        self._affine, self._start, self._size = scan.affine, low, high - low
        box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
        self._maps, self._layers = {}, {}
        for name, channel in zip(SEQUENCES, scan.image, strict=True):
            grey = {"colormap": "gray", "cal_min": 0.0, "cal_max": 255.0}
            self._layers[name] = self._volume(_grey_levels(channel)[box], low, name, **grey)
        for layer, masks in outlines.items():
            lut = LUT(lut=_lookup(masks), min=0, max=len(masks))
            self._layers[layer] = self._volume(_surfaces(masks)[box], low, layer, colormap_label=lut)

    def show_maps(self, maps, scale=None):
        """Take maps {sequence: (X, Y, Z)} of one lesion, cut to where they are not 0, in the colours of a ScalarMappable."""
        self._maps = {}
        for name, values in maps.items():
            box = ndimage.find_objects((values != 0).astype(np.uint8))
            box = box[0] if box else (slice(0, 1),) * 3
            colours = np.ascontiguousarray(scale.cmap(scale.norm(values[box]), bytes=True)).view(RGBA)[..., 0]
            self._maps[name] = self._volume(colours, [side.start for side in box], f"saliency-{name}")

    def style(self, sequence, layers, opacity):
        """Show this sequence with the outlines of `layers` (names), its map with `opacity` (0 to 1)."""
        shown = [volume for name, volume in self._layers.items() if name == sequence or name in layers]
        for volume in [volume for name, volume in self._maps.items() if name in (sequence, "both")]:
            volume.opacity = opacity
            shown.append(volume)
        if shown != self.widget.volumes:
            self.widget.load_volumes(shown)

    def look_at(self, voxel):
        """Move the crosshair to a voxel (x, y, z) of the scan."""
        self.widget.scene.crosshair_pos = ((np.asarray(voxel) - self._start + 0.5) / self._size).tolist()

    def _volume(self, data, start, name, **style):
        affine = np.array(self._affine, float)
        affine[:3, 3] = nib.affines.apply_affine(affine, start)
        return Volume(data=nib.Nifti1Image(data, affine).to_bytes(), name=f"{name}.nii", **style)


def _grey_levels(channel):
    """1 to 255 between percentiles 0.5 and 99.8 of the brain, as in the figures; 0 in the background."""
    low, high = np.percentile(channel[channel != 0], (0.5, 99.8))
    levels = 1 + 254 * (channel - low) / (high - low)
    return np.where(channel != 0, levels.clip(1, 255), 0).astype(np.uint8)


def _surfaces(masks):
    """Number of the mask, from 1, in voxels that touch its outside by a face; 0 elsewhere. The last mask wins."""
    numbers = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for number, mask in enumerate(masks.values(), 1):
        numbers[mask & ~ndimage.binary_erosion(mask)] = number
    return numbers


def _lookup(names):
    """Flat list of RGBA: nothing for 0, then the colours of the names."""
    colours = [(*to_rgb(OUTLINE_COLOURS[name]), 1) for name in names]
    return [0, 0, 0, 0, *(round(255 * part) for colour in colours for part in colour)]
