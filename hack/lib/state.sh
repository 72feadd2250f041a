# What a cluster is made of, on record: its settings, its processes, their logs. Everything that a cluster
# starts is written down by the process itself before it becomes what it will be, so that nothing is ever
# looked for by name, and a process id that the kernel gave to somebody else is never signalled.
# shellcheck shell=bash disable=SC2034  # settings are used by the files that source this one

state_home=${STAGEKEEPER_STATE:-$HOME/.local/state/stagekeeper}/clusters

# use_cluster NAME: names the paths of a cluster, and reads its settings where it has some.
use_cluster() {
  [[ $1 =~ ^[a-z][a-z0-9-]{0,19}$ ]] ||
    die "\`$1\` is no name for a cluster" "use up to 20 lower-case letters, digits and dashes"
  name=$1
  dir=$state_home/$name
  run=$dir/run logs=$dir/log pki=$dir/pki
  profile='' subnet=''
  if [[ -f $dir/settings ]]; then
    # shellcheck disable=SC1091
    source "$dir/settings"
  fi
}

exists() { [[ -f $dir/settings ]]; }

require_cluster() {
  exists || die "there is no cluster \`$name\`" "hack/cluster up $name"
}

# One command at a time changes a cluster. Descriptor 9 must not leak into what stays running.
lock_cluster() {
  mkdir -p "$state_home"
  exec 9>"$state_home/.$name.lock"
  flock --timeout 300 9 || die "another command holds cluster \`$name\`" "wait for it, or look for it with: fuser $state_home/.$name.lock"
}

# recorded KEY: the values of a setting in all clusters, in one line.
recorded() { cat "$state_home"/*/settings 2>/dev/null | sed -n "s/^$1=//p" | tr '\n' ' ' || true; }

# free_port: a TCP port in REPLY that nobody listens on and no other cluster has on record. Below the range
# from which the kernel takes ports for outgoing connections.
free_port() {
  local taken port
  taken=" $(ss -ltnH | awk '{n = split($4, part, ":"); printf "%s ", part[n]}') ${ports[*]:-} "
  taken+=" $(recorded '.*_port') "
  while :; do
    port=$((20000 + RANDOM % 10000))
    [[ $taken == *" $port "* ]] || break
  done
  ports+=("$port")
  REPLY=$port
}

# free_subnet: X in REPLY, so that this machine knows no route into 10.X.0.0/16 and no other cluster has it.
free_subnet() {
  local candidate used
  used=" $(recorded subnet) "
  for candidate in {210..249}; do
    [[ $used == *" $candidate "* ]] && continue
    [[ -z $(ip -4 route show table all root "10.$candidate.0.0/16") ]] || continue
    # A wider route than the default one (a company's 10.0.0.0/8, say) would be shadowed for this /16.
    [[ -z $(ip -4 route show table all match "10.$candidate.0.0/16" | sed '/^default/d') ]] || continue
    REPLY=$candidate
    return
  done
  die "no free network between 10.210.0.0/16 and 10.249.0.0/16" "take unused clusters down: hack/cluster list"
}

# Runs in the new process: writes its own id and start time to the file named first, then becomes the rest.
# shellcheck disable=SC2016
record_and_become='read -r stat <"/proc/$$/stat"; rest=(${stat##*) }); echo "$$ ${rest[19]}" >"$0"; exec "$@"'

# launch WHERE COMPONENT COMMAND…: keeps the command on record, so that `start` runs the very same, and runs it.
#   host    in the machine's own namespaces
#   mounts  there too, but with the node's view of /tmp and /run
#   node    inside the node's namespaces
launch() {
  local where=$1 component=$2
  shift 2
  printf '%s\0' "$where" "$@" >"$run/$component.command"
  spawn "$component"
}

spawn() {
  local component=$1 command where prefix=()
  mapfile -d '' command <"$run/$component.command"
  where=${command[0]}
  command=("${command[@]:1}")
  if [[ $where != host ]]; then
    node_pid || die "the node's namespaces are gone" "hack/cluster down $name; hack/cluster up $name"
  fi
  case $where in
    host) ;;
    mounts) prefix=(nsenter "--mount=/proc/$REPLY/ns/mnt" --) ;;
    node) spawn_in_node "$component" "$REPLY" "${command[@]}"; return ;;
  esac
  setsid bash -c "$record_and_become" "$run/$component.pid" "${prefix[@]}" "${command[@]}" \
    >>"$logs/$component.log" 2>&1 </dev/null 9>&- &
  local waited=0
  while ! alive "$component" && kill -0 $! 2>/dev/null && ((waited++ < 100)); do sleep 0.01; done
}

# nsenter must fork to enter a process namespace. Its child is the component; nsenter itself is not needed any more.
# Whatever lives in there ends with the node, so recording it a moment later leaves nothing behind.
spawn_in_node() {
  local component=$1 node=$2 entrance child='' waited=0
  shift 2
  setsid nsenter --target "$node" --mount --uts --ipc --net --pid -- "$@" \
    >>"$logs/$component.log" 2>&1 </dev/null 9>&- &
  entrance=$!
  while [[ -z $child ]] && kill -0 "$entrance" 2>/dev/null && ((waited++ < 200)); do
    child=$(ps --ppid "$entrance" -o pid= | tr -d ' ') || true
    [[ -n $child ]] || sleep 0.01
  done
  [[ -n $child ]] || return 0
  start_time "$child" && echo "$child $REPLY" >"$run/$component.pid"
  kill -KILL "$entrance" 2>/dev/null || true
  wait "$entrance" 2>/dev/null || true
}

# start_time PID: when it started, in the kernel's ticks, in REPLY; false for a process that has ended: a killed one
# whose first thread is a zombie holds its files and ports as long as there are others.
start_time() {
  local stat rest
  read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
  read -r -a rest <<<"${stat##*) }"
  [[ ${rest[0]} != [ZX] ]] || ((rest[17] > 1)) || return 1
  REPLY=${rest[19]}
}

# alive COMPONENT: whether the process on record still runs; its id in pid.
alive() {
  local since
  pid=
  [[ -s $run/$1.pid ]] || return 1
  read -r pid since <"$run/$1.pid" && start_time "$pid" && [[ $REPLY == "$since" ]] && [[ $booted == "$boot" ]]
}

boot=$(</proc/sys/kernel/random/boot_id)

# signal COMPONENT SIGNAL: to the process, if it lives, and, for Postgres, to the backends that it has made: they
# would go on answering their clients without it. It is stopped first, so that it makes no more meanwhile.
signal() {
  local everyone
  alive "$1" || return 0
  everyone=("$pid")
  if [[ $1 == postgres ]]; then
    kill -STOP "$pid" 2>/dev/null || return 0
    mapfile -t -O 1 everyone < <(ps --ppid "$pid" -o pid= | tr -d ' ')
  fi
  kill -"$2" "${everyone[@]}" 2>/dev/null || true # one of them may have ended by itself meanwhile
}

# end COMPONENT…: SIGKILL, and waits until the kernel has let go of each.
end() {
  local component pid
  for component in "$@"; do
    signal "$component" KILL
  done
  for component in "$@"; do
    wait_until 20 gone "$component" || die "$component of cluster \`$name\` (process $pid) does not end" "look at /proc/$pid/stack; then hack/cluster down $name"
  done
}

gone() { ! alive "$1"; }

# wait_until SECONDS COMMAND…: true as soon as the command is; looks every 50 ms, or every $poll seconds.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || return 1
    sleep "${poll:-0.05}"
  done
}

# await SECONDS COMPONENT COMMAND…: waits for a component to answer; says why when it ends or never does.
await() {
  local seconds=$1 component=$2
  shift 2
  local deadline=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    alive "$component" ||
      die "$component ended while starting" "read all of $logs/$component.log; then hack/cluster up $name" "$logs/$component.log"
    ((SECONDS < deadline)) ||
      die "$component does not answer after $seconds s" "read all of $logs/$component.log; then hack/cluster up $name" "$logs/$component.log"
    sleep 0.05
  done
}

components() {
  local file
  for file in "$run"/*.command; do
    [[ -e $file ]] || continue
    file=${file##*/}
    printf '%s\n' "${file%.command}"
  done
}
