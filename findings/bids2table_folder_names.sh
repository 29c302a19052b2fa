#!/usr/bin/env bash
# bids2table 2.3.1: whether a BIDS data set is indexed depends on the name of the folder that holds it.
#
# A folder with a dot in its name ("study.v2") is not taken for a data set: the index is empty, with a line in the log. Before Python 3.13 a folder with
# brackets ("study[2]") is taken for one and its index is empty without a word, since the path goes into glob.glob unescaped. Seen: one file,
# indexed in "study", in neither of the others.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'bids2table==2.3.1'
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import bids2table

found = {}
for name in ("study", "study.v2", "study[2]"):
    anat = Path(sys.argv[1], name, "sub-01", "anat")
    anat.mkdir(parents=True)
    (anat / "sub-01_T1w.nii.gz").touch()
    found[name] = bids2table.index_dataset(Path(sys.argv[1], name)).num_rows
print(f"files found: {found}")
assert found["study"] == 1 and found["study.v2"] == 0, "a dot in the name of a folder no longer matters"
assert sys.version_info >= (3, 13) or found["study[2]"] == 0, "brackets in the name of a folder no longer matter"
PYTHON
