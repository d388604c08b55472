#!/bin/bash
# One job starts the scheduler and submits the workers; it needs little itself.
#SBATCH --job-name=cryovox-find
#SBATCH --cpus-per-task=2 --mem=8G --time=12:00:00
#SBATCH --signal=B:TERM@120
# usage: sbatch find.sh 'tomograms/*.mrc' found
set -euo pipefail
exec cryovox find "$1" --out "$2" --cluster "${CRYOVOX_CLUSTER:-cluster.yaml}"
