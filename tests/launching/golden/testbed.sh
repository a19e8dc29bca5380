#!/bin/bash
#SBATCH --job-name=zoo
#SBATCH --array=0-1%2
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --qos=normal
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
#SBATCH --gpus-per-node=1
#SBATCH --mem=4G
#SBATCH --time=60
#SBATCH --signal=USR2@20
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=/runs/.slurm/100%%/%A_%a.out

runs=(
  /runs/zoo/first-seed0-0123
  '/runs/zoo/with space'
)

set -e
export OMP_NUM_THREADS=1
export PYTHONPATH=/runs/.code/89ab${PYTHONPATH:+:$PYTHONPATH}
exec srun --kill-on-bad-exit=1 --wait=0 --cpus-per-task=1 \
  /venv/bin/python -P -m harness.launching.job \
  "${runs[$SLURM_ARRAY_TASK_ID]}" http://tracking:5000
