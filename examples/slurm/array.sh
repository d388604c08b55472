#!/bin/bash
# Without Dask: the tasks of a job array share one output folder.
#SBATCH --job-name=cryovox-array
#SBATCH --array=0-9 --gres=gpu:1 --cpus-per-task=8 --mem=48G --time=04:00:00
#SBATCH --signal=B:TERM@120
# usage: sbatch array.sh 'tomograms/*.mrc' found
set -euo pipefail
exec cryovox find "$1" --out "$2" --max-ram 44G
