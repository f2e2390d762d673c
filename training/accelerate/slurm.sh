#!/bin/bash
# Train on several machines under Slurm, from the top of the repository:
#
#     sbatch training/accelerate/slurm.sh RECIPE.yaml [--field value ...]
#
# Three minutes before the time is over the training gets SIGTERM: a checkpoint is saved, for which the launcher leaves
# its workers 30 seconds. The job is then queued again and goes on from it. After a preemption or a failure of a machine
# Slurm queues it again by itself.
#SBATCH --job-name=vanilla_transformer
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append

export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK   # srun does not take it over by itself
export FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
over=
trap 'over=yes; kill -TERM "$training"' USR1   # srun passes it on to all machines
srun bash -c 'exec .venv/bin/accelerate launch --config_file training/accelerate/multi_node.yaml \
    --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * SLURM_GPUS_ON_NODE))" \
    --machine_rank "$SLURM_NODEID" --main_process_ip "$FIRST" \
    -m training.train "$@" --resume_from_checkpoint auto' train "$@" &
training=$!
wait "$training"
status=$?
if [ "$over" ]; then
    wait "$training"   # the first one was broken off by the signal
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
