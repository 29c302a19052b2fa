"""The same digits on every x86-64 processor: which kernels the libraries choose, and with how many threads BLAS works.

They read `digits.env` from the environment when they are loaded: `lib` sets it when it is first imported, and the
Makefile before any program is started. What else digits depend on is told in lib/README.md.
"""

import hashlib
import os
import platform
import sys
import warnings
from pathlib import Path

FILE = Path(__file__).with_name("digits.env")
SETTINGS = dict(line.split("=") for line in FILE.read_text().split())
BEFORE = "export $(cat lib/digits.env)"  # what is said in a shell before Python, if not `make`, is started
LATE = "numpy imported before lib"
PINNED = f"digits.env {hashlib.sha256(FILE.read_bytes()).hexdigest()[:6]}"


def other_machine():
    """What kind of machine this is, if these settings are not for it: not Linux on x86-64 with AVX2; "" if they are."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"{platform.system()} on {platform.machine()}"
    return "" if " avx2 " in Path("/proc/cpuinfo").read_text() else "an x86-64 processor without AVX2"


def _pin():
    """Put the settings into the environment. Returns where kernels come from: `PINNED`, `LATE` or `other_machine`.

    Warns if numpy was imported before with others, as every library that computes imports it.
    """
    if machine := other_machine():
        for name in SETTINGS:
            os.environ.pop(name, None)
        return machine
    late = "numpy" in sys.modules and not SETTINGS.items() <= os.environ.items()
    os.environ.update(SETTINGS)
    if late:
        warnings.warn(
            "numpy was imported before lib: last digits may differ from those of other processors; import lib first, or "
            f"start Python after `{BEFORE}`",
            stacklevel=4,
        )
    return LATE if late else PINNED


KERNELS = _pin()
