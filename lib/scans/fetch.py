"""`make fetch`: the scans of a public data set, each file held against its checksum.

python -m lib.scans.fetch    settings are taken from the environment, as the Makefile hands them on: DATASET, OUT
"""

import hashlib
import os
import sys
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import pandas as pd
from tqdm.auto import tqdm

from lib.provenance import ROOT, write_atomically
from lib.scans.public import PUBLIC

# Where files lie that anybody may download and of which checksums are at hand: those of the repository's tree of this commit.
ADDRESSES = {
    "ljubljana": "https://raw.githubusercontent.com/muschellij2/open_ms_data/65704901f60650824565aa5a4818611aa89716f4/"
}
SECONDS = 60  # without an answer, after which a download is given up


def known_files(name):
    """{path: checksum (`git_blob`)} of the scans of a public data set. Raises ValueError, with how it is to be had, of one that
    is not fetched."""
    if name not in ADDRESSES:
        how = f"{name} is to be had from {PUBLIC[name].get}" if name in PUBLIC else f"known are {', '.join(PUBLIC)}"
        raise ValueError(f"DATASET={name}: {' and '.join(ADDRESSES)} alone can be fetched; {how}")
    return pd.read_csv(Path(__file__).with_name(f"{name}.tsv"), sep="\t", index_col="path")["git_blob"].to_dict()


def git_blob(content):
    """The SHA-1 by which git knows a file with this content (bytes)."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def fetch_files(address, files, folder):
    """Download files {path: checksum} from below an address to below a folder; those that are there stay.

    A file appears whole, with its checksum, or not at all. Raises ValueError that names the file whose content is another,
    OSError or HTTPException if it is not to be had.
    """
    for path, checksum in tqdm(files.items(), desc="fetch", unit="file"):
        file = Path(folder) / path
        if not (file.exists() and git_blob(file.read_bytes()) == checksum):
            with urlopen(address + path, timeout=SECONDS) as answer:
                content = answer.read()
            if git_blob(content) != checksum:
                raise ValueError(f"{address}{path} has other content than it had: nothing of it is kept")
            write_atomically(file, lambda temporary, content=content: temporary.write_bytes(content))


def main():
    name, out = os.environ.get("RUN_DATASET", ""), Path(os.environ.get("RUN_OUT") or ".").expanduser()
    folder = ROOT / out / "build" / name
    try:
        files = known_files(name)
        print(f"{len(files)} files of {name}, {PUBLIC[name].licence}, to {folder}; cite {PUBLIC[name].cite}")
        fetch_files(ADDRESSES[name], files, folder)
    except ValueError as error:
        sys.exit(str(error))
    except (OSError, HTTPException) as error:  # no network, or an answer that broke off
        sys.exit(f"{error}: the same command goes on from here")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on from here")
    print(f"then: make paper DATA={name}:{folder}")


if __name__ == "__main__":
    main()
