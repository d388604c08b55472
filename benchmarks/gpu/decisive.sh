#!/usr/bin/env bash
# MVGFormer's question at published sizes, then the tests for GPUs: at most 10 minutes on one H200.
#
# Usage: benchmarks/gpu/decisive.sh [WHEELS, default wheels] [options of decisive.py]
#
# WHEELS is the folder of benchmarks/gpu/wheels.sh; without it the installed packages are used. Results arrive in $OUT, or in
# benchmarks/results. With options for a CPU it runs end to end in minutes:
#   LIMIT=3600 benchmarks/gpu/decisive.sh none --device cpu --size s --batch 2 --precision 32-true --seconds 1 \
#       --trained 1 --tested 1 --species 1 --timed 1 --name gpu-decisive-trial
set -euo pipefail
cd "$(dirname "$0")/../.."
wheels=${1:-wheels}
shift || true
python=${PYTHON:-python3}
if [ -d "$wheels" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --target site "$wheels"/*.whl
fi
export PYTHONPATH=$PWD/site:$PWD/src OMP_NUM_THREADS=1
work=$(mktemp -d)
status=0
timeout "${LIMIT:-510}" "$python" benchmarks/gpu/decisive.py --work "$work" "$@" || status=$?
if [ -n "${OUT:-}" ]; then
    cp benchmarks/results/gpu-decisive*.json "$OUT"/ || true
fi
timeout 75 "$python" -m pytest -m gpu --no-cov -q -p no:cacheprovider tests || echo "tests for GPUs: exit status $?"
rm -rf "$work"
exit "$status"
