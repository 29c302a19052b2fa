"""The scan and the network of one item of work, kept in memory for the next item that needs the same."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from lib.network.published import NORMALISATION, own_image, own_levels
from lib.network.weights import load_weights, scan_channels
from lib.provenance import weight_files
from lib.scans import FILES, SEQUENCES, load_scan

_network = lru_cache(1)(lambda path, device, changed: load_weights(path, device))


def loaded_scan(row, description=None):
    """`own_scan` of a row of the scans table (a dict), read again only if another one or a file has changed."""
    of_scan = tuple((name, value) for name, value in row.items() if name.startswith(("scan", *FILES)))
    return _scan(of_scan, _image_settings(description or {}), _changed(*filter(None, (row[name] for name in FILES))))


@lru_cache(1)
def _scan(row, settings, _):
    return _own_scan(load_scan(dict(row), normalised=False), *settings)


def own_scan(scan, description):
    """A scan, as stored, with its image normalised as a network wants it.  description: of the network (`load_weights`).

    Raises ValueError if the network was trained on voxels of another size.
    """
    return _own_scan(scan, *_image_settings(description))


def _image_settings(description):
    """Normalisation, sides of voxels (of any size: none) and channels by which voxels are told from air."""
    normalisation = description.get("normalisation", NORMALISATION)
    channels = SEQUENCES if normalisation == NORMALISATION else scan_channels(description.get("channels", SEQUENCES))
    return normalisation, tuple(description.get("spacing_mm", ())), tuple(map(SEQUENCES.index, channels))


def _own_scan(scan, normalisation, spacing_mm, used):
    sizes = np.array(scan.brain.shape)
    if spacing_mm and (np.round(sizes * scan.spacing_mm / spacing_mm) != sizes).any():
        raise ValueError(
            f"scan {scan.id}: its voxels are {_by(scan.spacing_mm)} mm, those of the network's training "
            f"{_by(spacing_mm)} mm: resample the scan and its lesions to them"
        )
    levels = None if normalisation == NORMALISATION else own_levels(scan.image, normalisation, used)
    return replace(scan, image=own_image(scan.image, normalisation, used), levels=levels)


def _by(sizes):
    return " x ".join(f"{size:.2f}" for size in sizes)


def loaded_network(path, device):
    """`load_weights`: model and description, read again only if they are others or a file has changed."""
    return _network(path, device, _changed(path, *weight_files(Path(path))))


def _changed(*files):
    """When files were changed, for a cache; None for one that is missing, which its reader tells better."""
    return tuple(Path(file).stat().st_mtime_ns if Path(file).exists() else None for file in files)
