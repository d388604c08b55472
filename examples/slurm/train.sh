#!/bin/bash
# Two nodes with four GPUs each; submit again to continue.
#SBATCH --job-name=cryovox-train
#SBATCH --nodes=2 --ntasks-per-node=1 --gres=gpu:4 --cpus-per-task=32 --time=08:00:00
#SBATCH --signal=TERM@300
# usage: sbatch train.sh dataset run
set -euo pipefail
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
exec srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 4 --max-restarts 3 \
    --rdzv-backend c10d --rdzv-endpoint "$host:29500" --rdzv-id "$SLURM_JOB_ID" \
    --no-python cryovox train supervised --data "$1" --out "$2" --devices 4
