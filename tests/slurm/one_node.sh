#!/usr/bin/env bash
# Runs a command with a SLURM of its own: one node, this one, on 127.0.0.1 only.
# Needs root and Debian's packages, which it installs; where that cannot be, it says
# "skipped: WHY" and succeeds. All daemons have ended when it has.
#   tests/slurm/one_node.sh COMMAND...
set -euo pipefail

skip() {
    echo "skipped: $*"
    exit 0
}
[ "$(id -u)" = 0 ] || skip "a SLURM cannot be started without root"
if ! command -v slurmctld slurmd munged sbatch >/dev/null; then
    command -v apt-get >/dev/null || skip "SLURM is not installed, and there is no apt"
    export DEBIAN_FRONTEND=noninteractive
    { timeout 120 apt-get update && timeout 300 apt-get install -y --no-install-recommends \
        slurmctld slurmd slurm-client munge; } >/dev/null 2>&1 </dev/null ||
        skip "SLURM cannot be installed from the archive"
fi

work=$(mktemp -d /tmp/slurm.XXXXXX)
chmod 755 "$work"
pids=()
finish() {
    local pid
    for pid in $(squeue -h -o %A 2>/dev/null); do scancel "$pid" 2>/dev/null || true; done
    sleep 1
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do
        timeout 20 tail --pid="$pid" -f /dev/null || kill -9 "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT

mkdir "$work"/{munge,ctld,d}
dd if=/dev/urandom of="$work/munge/key" bs=1024 count=1 2>/dev/null
chmod 400 "$work/munge/key"
munged --foreground --force --socket="$work/munge/socket" --key-file="$work/munge/key" \
    --pid-file="$work/munge/pid" --log-file="$work/munge/log" --seed-file="$work/munge/seed" \
    2>"$work/munge/out" &
pids+=($!)

host=$(hostname -s)
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
export SLURM_CONF=$work/slurm.conf
cat >"$SLURM_CONF" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
KillWait=2
StateSaveLocation=$work/ctld
SlurmdSpoolDir=$work/d
SlurmctldPidFile=$work/ctld.pid
SlurmdPidFile=$work/d.pid
SlurmctldLogFile=$work/ctld.log
SlurmdLogFile=$work/d.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=$host MaxTime=2 State=UP
CONF
sleep 1
slurmctld -D >/dev/null 2>&1 &
pids+=($!)
slurmd -D >/dev/null 2>&1 &
pids+=($!)
for _ in $(seq 60); do
    if timeout 5 sinfo -h -o %T 2>/dev/null | grep -qx idle; then ready=yes && break; fi
    sleep 0.5
done
if [ -z "${ready:-}" ]; then
    tail -n 5 "$work"/munge/out "$work"/ctld.log "$work"/d.log 2>/dev/null || true
    skip "SLURM was started, but its node did not become idle"
fi
"$@" </dev/null
