#!/usr/bin/env bash
# monai 1.6.1 beside Jupyter: a quarter of the time or more of `import monai` goes into a grammar of internationalised web addresses, which it never asks for.
#
# jupyterlab needs jupyter-events, which needs jsonschema with its extra format-nongpl; from jsonschema 4.25 on that extra brings rfc3987-syntax 1.1.0, whose import
# has lark build an Earley parser of RFC 3987. jsonschema imports it as soon as it is there, monai imports jsonschema (monai.bundle), and nbformat does, so every notebook that uses
# monai pays for it, and papermill once more. Seen on a busy core: 2.6 of 9.0 s of `import monai` in one environment and 49 % in another, 2.1 of 3.0 s of `import papermill` and 75 %. With jsonschema 4.24.1 the extra has no such
# package.
#
# Prints the shares; fails if a grammar is no longer built by either import, or is with jsonschema 4.24.1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'torch==2.13.0' 'numpy==2.4.6' 'monai==1.6.1' 'papermill==2.7.0' 'jupyter-events==0.12.1' 'jsonschema[format-nongpl]==4.26.0' 'rfc3987-syntax==1.1.0' 'lark==1.3.1'
share() { # of the time of importing $1 that is spent on the grammar, in per cent; 0 if none is built
    "$folder/env/bin/python" -X importtime -c "import $1" 2>&1 | awk -F'|' -v module="$1" '
        { name = $3; gsub(/ /, "", name) } name == "rfc3987_syntax" { grammar = $2 } name == module { whole = $2 }
        END { printf "%.0f\n", 100 * grammar / whole }'
}
for module in monai papermill; do
    found=$(share "$module")
    echo "jsonschema 4.26.0: $found % of import $module"
    [ "$found" -ge 5 ] || { echo "no grammar is built any more"; exit 1; }
done
"$folder/env/bin/pip" uninstall --quiet --yes rfc3987-syntax lark
"$folder/env/bin/pip" install --quiet 'jsonschema[format-nongpl]==4.24.1'
for module in monai papermill; do
    found=$(share "$module")
    echo "jsonschema 4.24.1: $found % of import $module"
    [ "$found" = 0 ] || { echo "a grammar is built here too"; exit 1; }
done
