"""The scan and the network of one item of work, kept in memory for the next item that needs the same."""

from functools import lru_cache
from pathlib import Path

from lib.network.weights import load_weights
from lib.scans import FILES, load_scan

_scan = lru_cache(1)(lambda row, changed: load_scan(dict(row)))
_network = lru_cache(1)(lambda path, device, changed: load_weights(path, device))


def loaded_scan(row):
    """`load_scan` of a row of the scans table (a dict), read again only if another one or a file has changed."""
    of_scan = tuple((name, value) for name, value in row.items() if name.startswith(("scan", *FILES)))
    return _scan(of_scan, _changed(*filter(None, (row[name] for name in FILES))))


def loaded_network(path, device):
    """`load_weights`: model and description, read again only if they are others or a file has changed."""
    return _network(path, device, _changed(path, Path(path).with_suffix(".json")))


def _changed(*files):
    """When files were changed, for a cache; None for one that is missing, which its reader tells better."""
    return tuple(Path(file).stat().st_mtime_ns if Path(file).exists() else None for file in files)
