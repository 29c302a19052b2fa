#!/usr/bin/env bash
# Maps of an NVIDIA GPU against those of the CPU, and the time of 50 noisy copies, from a fresh clone within 8 minutes:
#
#     bash benchmarks/gpu.sh                      builds the environment first (make env)
#     PYTHON=python3 bash benchmarks/gpu.sh       with an environment that is there
#
# Options are those of benchmarks/gpu.py. What is not measured after 8 minutes is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
  make --no-print-directory env
  PYTHON=.venv/bin/python
fi
exec timeout --foreground $((480 > SECONDS ? 480 - SECONDS : 1)) "$PYTHON" -u benchmarks/gpu.py "$@"
