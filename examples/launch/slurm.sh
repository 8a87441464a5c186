#!/bin/bash
# One search over all GPUs of a Slurm job: sbatch slurm.sh [SEARCH.YAML]
# The same script starts the run, continues it after a pre-emption or the time limit, and may be submitted again.
#SBATCH --job-name=mergesmith
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=mergesmith-%j.log
set -u
search=${1:-/shared/search.yaml}

# On a shared node, keep this Ray apart from other jobs' and closed to other users: its ports let anyone run code here.
export RAY_TMPDIR=/tmp/ray-$SLURM_JOB_ID
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
export RAY_USAGE_STATS_ENABLED=0
port=$((20000 + SLURM_JOB_ID % 10000)) # above the ports of Ray's workers, below the system's ephemeral ports

driver= stop=
on_signal() {
    stop=$1
    [ -z "$driver" ] || kill -s "$1" "$driver" 2>/dev/null
}
trap 'on_signal TERM' TERM # pre-empted, or the time limit is near
trap 'on_signal INT' INT   # scancel --batch --signal=INT: stop for good
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT

on_nodes=(srun --overlap --ntasks-per-node=1 "--cpus-per-task=$SLURM_CPUS_PER_TASK")
start_ray() { # NODES, which ones, options of `ray start`
    "${on_nodes[@]}" --nodes="$1" --ntasks="$1" "$2" ray start "${@:3}" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
}

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
ip=$("${on_nodes[@]}" --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
start_ray 1 --nodelist="$head" --head --node-ip-address="$ip" --port="$port" --include-dashboard=false
for ((try = 0; try < 60; try++)); do
    if [ -n "$stop" ] || ray health-check --address "$ip:$port" >/dev/null 2>&1; then break; fi
    sleep 2
done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    start_ray $((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" --address="$ip:$port"
fi

RAY_ADDRESS=$ip:$port mergesmith search "$search" --resume &
driver=$!
[ -z "$stop" ] || kill -s "$stop" "$driver" # the signal arrived before the driver started
wait "$driver"
while kill -0 "$driver" 2>/dev/null; do wait "$driver"; done # a signal interrupts `wait`, not the search
wait "$driver"                                               # the search's exit code
code=$?
echo "mergesmith ended with exit code $code"

# 143: stopped by SIGTERM, so continue later. 0 is done, 2 a mistake in the input, 130 stopped by the user: final.
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID" || echo "not requeued by this script; where Slurm does not do so either, submit it again"
fi
exit "$code"
