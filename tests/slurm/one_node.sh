#!/bin/sh
# A Slurm of one node on this machine, all of it below one folder: tests/slurm/one_node.sh start|stop FOLDER
#
# Needs root and Debian's slurm-wlm (apt-get install slurm-wlm), but none of the system's configuration or services.
# Afterwards, export SLURM_CONF=FOLDER/slurm.conf and use sbatch, squeue, scontrol as ever.
set -eu
action=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
export SLURM_CONF="$folder/slurm.conf"

stop() {
  for name in slurmd slurmctld munged; do
    if [ -f "$folder/$name.pid" ]; then kill "$(cat "$folder/$name.pid")" 2>/dev/null || true; fi
  done
}

wait_for() { # until a command succeeds, 30 s at most
  for _ in $(seq 150); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.2
  done
  echo "in vain: $*; see $folder/*.log" >&2
  stop
  exit 1
}

start() {
  chmod 755 "$folder"
  mkdir -p "$folder/state" "$folder/spool"
  host=$(hostname -s)
  cores=$(nproc)
  # No control groups, accounting or mail; a requeued job may start 10 s later instead of two minutes.
  cat >"$SLURM_CONF" <<END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${SLURM_PORT:-26817}
SlurmdPort=$((${SLURM_PORT:-26817} + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=5
JobRequeue=1
KillWait=30
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores State=UNKNOWN
PartitionName=one Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
  dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 2>/dev/null
  chmod 400 "$folder/munge.key"
  munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
  wait_for munge --socket="$folder/munge.socket" -n
  slurmctld -c
  wait_for scontrol ping
  slurmd -c
  wait_for sh -c 'sinfo -h -o %t | grep -q idle'
  sinfo
}

case $action in
  start) start ;;
  stop) stop ;;
  *) echo "start or stop?" >&2 && exit 2 ;;
esac
