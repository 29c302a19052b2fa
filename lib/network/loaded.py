"""The scan and the network of one item of work, kept in memory for the next item, and tried before the first.

python -m lib.network.loaded weights=<file> initial=<file> layer=<name> data=<scans> choose=<how> spacing_mm=<of the cohort>
python -m lib.network.loaded digest=<file>    # of a network, printed
"""

import sys
from collections import defaultdict
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from lib.network.architectures import named_layer
from lib.network.published import NORMALISATION, own_image, own_levels, scan_channels
from lib.network.weights import load_weights, recorded_threshold
from lib.provenance import ROOT, names_function, weight_files
from lib.scans import FILES, SEQUENCES, find_scans, load_scan, voxel_grid

COHORT_VOXELS = 256  # more than a cohort of 1 mm or more has along any axis: voxels alike for so many are so for it

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
    if other := _other_voxels(f"scan {scan.id}", scan.brain.shape, scan.spacing_mm, spacing_mm):
        raise ValueError(other)
    levels = None if normalisation == NORMALISATION else own_levels(scan.image, normalisation, used)
    return replace(scan, image=own_image(scan.image, normalisation, used), levels=levels)


def _other_voxels(name, sizes, found_mm, spacing_mm, cure="resample the scan and its lesions to them"):
    """What is wrong with voxels of sides `found_mm` for a network of `spacing_mm` (empty: of any), or None.

    They are of one size if the scan, resampled, would have as many voxels as it has."""
    if spacing_mm and (np.round(np.multiply(sizes, found_mm) / spacing_mm) != sizes).any():
        return (
            f"{name}: its voxels are {_by(found_mm)} mm, those of the network's training {_by(spacing_mm)} mm: {cure}"
        )
    return None


def _by(sizes):
    return " x ".join(f"{size:.2f}" for size in sizes)


def loaded_network(path, device):
    """`load_weights`: model and description, read again only if they are others or a file has changed; of a function, whose
    code and weights may lie anywhere, each time."""
    if names_function(Path(path)):
        return load_weights(path, device)
    return _network(path, device, _changed(path, *weight_files(Path(path))))


def _changed(*files):
    """When files were changed, for a cache; None for one that is missing, which its reader tells better."""
    return tuple(Path(file).stat().st_mtime_ns if Path(file).exists() else None for file in files)


def check_run(weights=(), initial=(), layer=(), data=(), choose=("",), spacing_mm=()):
    """Load weights to predict with and weights to train from, and hold those to predict with against what they are for.

    layer: of Grad-CAM++ in them.  data, choose: scans as `find_scans` takes them; headers of FLAIRs alone are read, and what
    is wrong with a file is left to `check_scans`.  spacing_mm: of a cohort that is still to be drawn.
    Raises ValueError as `load_weights`, if weights that are to predict have no threshold, if they have no such layer
    (`named_layer`), and with all scans whose voxels are of another size than those that a network was trained on.
    """
    for file in initial:
        load_weights(ROOT / file)
    for file in weights:
        model, description = load_weights(ROOT / file)
        recorded_threshold(description, file)
        for name in layer:
            named_layer(model, name)
        if wanted_mm := description.get("spacing_mm"):
            grids = [grid for source in data for grid in _grids(find_scans(source, *choose))]
            others = [other for grid in grids if (other := _other_voxels(*grid, wanted_mm))]
            for mm in spacing_mm:
                cohort = "the cohort", (COHORT_VOXELS,) * 3, (float(mm),) * 3
                others += filter(None, [_other_voxels(*cohort, wanted_mm, "set 00_cohort.spacing_mm")])
            if others:
                raise ValueError("\n".join(others))


def _grids(table):
    """(name, voxels, their sides in mm) of each scan of a scans table whose FLAIR can be read."""
    for row in table.to_dict("records"):
        try:
            yield f"scan {row['scan']}", *voxel_grid(row["flair"])
        except Exception:  # of many kinds; notebook 1 names the file, among all that have something
            continue


def main(given):
    """`check_run` of arguments "name=value", or the digest of a network."""
    named = defaultdict(list)
    for text in given:
        name, _, value = text.partition("=")
        named[name].append(value)
    if "digest" in named:
        print(load_weights(ROOT / named["digest"][0])[1]["digest"])
    else:
        check_run(**named)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(str(error))
