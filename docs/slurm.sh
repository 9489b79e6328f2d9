#!/bin/bash
#SBATCH --job-name=advloss
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --gpus-per-node=2
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#
# A launcher on several hosts, one process a GPU, in a folder that all of them see:
#
#   sbatch docs/slurm.sh sweep --config=configs/lmcl_sweep.py:paper --workdir=runs/margins
#
# Three minutes before its time is up the run is asked to save, and the job goes back into
# the queue, to continue where it stopped; a job that is finished ends.
set -uo pipefail
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-4}"  # srun no longer inherits it.
launcher=$1
shift
cd "${SLURM_SUBMIT_DIR}" || exit 1
source "${VENV:-.venv}/bin/activate"

asked=
srun --kill-on-bad-exit=1 python -m "experiments.${launcher}" --distributed "$@" &
step=$!
# By scancel: of a SIGTERM of its own srun makes a SIGKILL for its tasks.
trap 'asked=yes; scancel --signal=TERM "${SLURM_JOB_ID}"' TERM
wait "${step}"
status=$?
if [ -n "${asked}" ]; then  # That wait was cut short; now it has saved.
    wait "${step}"
    status=$?
    [ "${status}" -ne 0 ] || scontrol requeue "${SLURM_JOB_ID}"
fi
exit "${status}"
