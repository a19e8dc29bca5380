#!/bin/bash
#SBATCH --job-name=zoo
#SBATCH --array=0-1%16
#SBATCH --partition=gpu
#SBATCH --account=vision
#SBATCH --qos=normal
#SBATCH --constraint='a100&ib'
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=6
#SBATCH --gpus-per-node=4
#SBATCH --mem=320G
#SBATCH --time=2880
#SBATCH --signal=USR2@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=/runs/.slurm/100%%/%A_%a.out

runs=(
  /runs/zoo/first-seed0-0123
  '/runs/zoo/with space'
)

type module > /dev/null 2>&1 || . /etc/profile
set -e
module load cuda/12.4
module load nccl/2.21
export NCCL_DEBUG=WARN
export PYTHONPATH=/runs/.code/89ab${PYTHONPATH:+:$PYTHONPATH}
export HARNESS_STAGING='/scratch/$USER/harness'
ulimit -n 65536
exec srun --kill-on-bad-exit=1 --wait=0 --cpus-per-task=6 \
  /venv/bin/python -P -m harness.launching.job \
  "${runs[$SLURM_ARRAY_TASK_ID]}" http://tracking:5000
