#!/usr/bin/env bash
# All that a GPU should run, once and briefly, side by side: what fails there, and what a step costs, before longer runs.
#
# Usage: benchmarks/gpu/trial.sh [WHEELS, default wheels]; about 5 minutes
#
# WHEELS is the folder of benchmarks/gpu/wheels.sh; without it the installed packages are used. Logs and results arrive in
# $OUT, or in runs/gpu-trial.
set -u
cd "$(dirname "$0")/../.."
wheels=${1:-wheels}
out=${OUT:-runs/gpu-trial}
mkdir -p "$out"
python=${PYTHON:-python3}
if [ -d "$wheels" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --target site "$wheels"/*.whl
fi
export PYTHONPATH=$PWD/site:$PWD/src PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
work=$(mktemp -d)

part() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2
    shift 2
    timeout "$limit" "$@" > "$out/$name.log" 2>&1
    echo "$name: exit status $?"
    cat "$work/$name"/runs/*/failure.txt >> "$out/$name.log" 2> /dev/null
}

suite() { # NAME STEPS METHODS...
    local name=$1 steps=$2
    shift 2
    part "$name" 200 "$python" -m cryovox benchmark "$name" --tier cpu --methods "$@" --seeds 1 --time no --steps "$steps" \
        --at-once 2 --device cuda --quiet --out "$work/$name" --json "$out/$name.json"
}

part decisive 290 "$python" benchmarks/gpu/decisive.py --work "$work/decisive" --seconds 170 --name gpu-decisive-trial &
part tests 120 "$python" -m pytest -m gpu --no-cov -q -p no:cacheprovider tests &
OMP_NUM_THREADS=4 part speed 140 "$python" benchmarks/gpu/speed.py &
OMP_NUM_THREADS=2 part match 150 "$python" benchmarks/gpu/match.py --seconds 25 &
part embedded 170 "$python" benchmarks/embedded.py --work "$work/embedded" --size m --voxel-size 12 --device cuda \
    --precision bf16-mixed --processes 4 --batch 16 --clock wall --time 60s --name embedded-gpu-trial &
suite semi 120 supervised "pseudo-labels, two rounds" semi-etpicker "mean teacher" fixmatch "heavy augmentation" &
suite uda-shift 40 source-only adaptive-bn coral mmd dann advent mean-teacher mic vox-uda "vox-uda, as published" &
suite zsda-classes 40 heavy-augmentation vox-zsda "vox-zsda, balanced graph" &
wait
cp benchmarks/results/gpu-*.json "$out" || true
cp "$work/embedded/run/metrics.csv" "$out/embedded-metrics.csv" || true
tail --lines=12 "$out"/*.log | cut -c1-300
rm -rf "$work"
