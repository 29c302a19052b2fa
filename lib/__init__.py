"""The library that the notebooks share."""

import sys

# monai imports jsonschema, which compiles the grammar of this optional package for 4 s: every kernel would wait for it.
sys.modules.setdefault("rfc3987_syntax", None)
