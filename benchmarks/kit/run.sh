#!/bin/sh
# Measures on this machine: bash run.sh --out RESULTS [--seconds 540] [--slices environment,step] [--size full]
# PYTHON names the interpreter that has JAX and PyTorch.
kit=$(cd "$(dirname "$0")" && pwd) || exit
# Without -P the packages in the current folder would be found before those of the kit.
PYTHONPATH="$kit:$kit/base:$kit/runtime${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -P -m benchmarks.kit.run "$@"
