"""The scan and the network of one item of work, kept in memory for the next item that needs the same."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from lib.network.published import NORMALISATION, own_image
from lib.network.weights import load_weights
from lib.provenance import weight_files
from lib.scans import FILES, load_scan

_network = lru_cache(1)(lambda path, device, changed: load_weights(path, device))


def loaded_scan(row, description=None):
    """`load_scan` of a row of the scans table (a dict), read again only if another one or a file has changed.

    description: of a network (`load_weights`); its image is then normalised as that wants it.  Raises ValueError if the
    network was trained on voxels of another size.
    """
    of_scan = tuple((name, value) for name, value in row.items() if name.startswith(("scan", *FILES)))
    wanted = description or {}
    spacing = wanted.get("spacing_mm")
    kept = wanted.get("normalisation", NORMALISATION), spacing and tuple(spacing)
    return _scan(of_scan, *kept, _changed(*filter(None, (row[name] for name in FILES))))


@lru_cache(1)
def _scan(row, normalisation, spacing_mm, _):
    row = dict(row)
    if normalisation == NORMALISATION and not spacing_mm:
        return load_scan(row)
    scan = load_scan(row, normalised=normalisation == NORMALISATION)
    if spacing_mm:
        sizes = np.array(scan.brain.shape)
        if (np.round(sizes * scan.spacing_mm / spacing_mm) != sizes).any():
            raise ValueError(
                f"scan {row['scan']}: its voxels are {_by(scan.spacing_mm)} mm, those of the network's training "
                f"{_by(spacing_mm)} mm: resample the scan and its lesions to them"
            )
    return scan if normalisation == NORMALISATION else replace(scan, image=own_image(scan.image, normalisation))


def _by(sizes):
    return " x ".join(f"{size:.2f}" for size in sizes)


def loaded_network(path, device):
    """`load_weights`: model and description, read again only if they are others or a file has changed."""
    return _network(path, device, _changed(path, *weight_files(Path(path))))


def _changed(*files):
    """When files were changed, for a cache; None for one that is missing, which its reader tells better."""
    return tuple(Path(file).stat().st_mtime_ns if Path(file).exists() else None for file in files)
