#!/bin/bash
# Train on several machines under Slurm, from the top of the repository:
#
#     sbatch training/accelerate/slurm.sh RECIPE.yaml [--field value ...]
#
# Two minutes before the time is over Slurm sends SIGTERM: a checkpoint is saved, for which the launcher leaves its
# workers 30 seconds. The same command goes on from it.
#SBATCH --job-name=vanilla_transformer
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120

export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK   # srun does not take it over by itself
export FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun bash -c '.venv/bin/accelerate launch --config_file training/accelerate/multi_node.yaml \
    --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * SLURM_GPUS_ON_NODE))" \
    --machine_rank "$SLURM_NODEID" --main_process_ip "$FIRST" \
    -m training.train "$@" --resume_from_checkpoint auto' train "$@"
