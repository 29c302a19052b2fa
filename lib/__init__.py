"""The library that the notebooks share, in rooms; from the top, each imports only what stands below it.

explorer     the panel of notebook 00_explore
context      how much of the tissue around a lesion the network needs (06)
sanity       checks of the maps (07)
synthetic    lesions inserted, removed, moved and swapped (05)
saliency     the explainers, and what is measured on their maps (04, 08)
network      networks, weights, training, prediction (02, 03)
run          parameters, paths, execution, sweeps, report, workers
figures      one look, one function a figure
cohort       the synthetic cohort, made and described (00)
scans        scans tables, BIDS, checks, loading, maps as NIfTI (01)
lesions      instances, metrics, healthy tissue (03)
statistics   intervals over patients, tests, matching, the ledger of claims
exact        exact windows, and gradients on parts of the grid
"""

import sys

from lib import digits as digits  # first of all: it chooses the kernels of what is imported after it

# monai imports jsonschema, which compiles the grammar of this optional package for 4 s: every kernel would wait for it.
sys.modules.setdefault("rfc3987_syntax", None)
