#!/usr/bin/env bash
# statsmodels 0.15.0: every call of multipletests runs a full garbage collection, whatever the number of p-values.
#
# Its documentation says nothing of it. Beside large libraries a collection of all objects takes a tenth of a second and more, so that many small
# corrections (one a group of ten tests) cost more than the tests. Seen: 5 calls of 3 p-values each, 5 full collections (generation 2).
# Holm's correction of such groups is two lines of pandas, equal to the last bit.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'statsmodels==0.15.0' 'numpy==2.4.6' 'scipy==1.17.1' 'pandas==3.1.1'
"$folder/env/bin/python" - <<'PYTHON'
import gc

import pandas as pd
import statsmodels
from statsmodels.stats.multitest import multipletests

full = []
gc.callbacks.append(lambda phase, info: full.append(info) if phase == "start" and info["generation"] == 2 else None)
gc.collect()
full.clear()
p = [0.01, 0.02, 0.04]
found = [multipletests(p, method="holm")[1] for _ in range(5)]
print(f"statsmodels {statsmodels.__version__}: 5 calls, {len(full)} full collections")
ordered = pd.Series(p).sort_values()
by_hand = (ordered * range(len(p), 0, -1)).cummax().clip(upper=1)
assert (by_hand.to_numpy() == found[0]).all()
assert len(full) == 5, "multipletests does not collect garbage once a call any more"
PYTHON
