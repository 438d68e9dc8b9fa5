#!/usr/bin/env bash
# Everything that the project wants to know of one GPU or TPU, in at most nine minutes:
#
#     experiments/benchmarks/accelerator.sh --out=FOLDER
#
# PYTHON names the interpreter; docs/benchmarks.md says what must be installed. See accelerator.py
# for all flags.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python3}" -m experiments.benchmarks.accelerator "$@"
