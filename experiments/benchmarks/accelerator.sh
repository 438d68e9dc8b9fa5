#!/usr/bin/env bash
# Everything that the project wants to know of one GPU or TPU, in at most nine minutes:
#
#     experiments/benchmarks/accelerator.sh --out=FOLDER
#
# PYTHON names the interpreter; it needs jax for the device, flax, optax, chex, absl-py, numpy and
# scikit-learn. With torch, PyTorch is measured beside; with pytest, tests run on the device.
# Nothing is installed. See accelerator.py for all flags.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python3}" -m experiments.benchmarks.accelerator "$@"
