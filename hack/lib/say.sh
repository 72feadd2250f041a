# What a person sees: one line per step with elapsed time; on failure what failed, the log's tail
# and the next thing to try. Sourced by the other scripts under hack/.
# shellcheck shell=bash

# Milliseconds since the epoch, without starting a process.
now_ms() { local t=${EPOCHREALTIME/[.,]/}; REPLY=$((t / 1000)); }

# seconds MILLISECONDS: "12.3 s" in REPLY.
seconds() { REPLY="$(($1 / 1000)).$((($1 % 1000) / 100)) s"; }

say() { printf '%s\n' "$*" >&2; }

# die WHAT NEXT [LOG]: what failed, the log's tail, what to try next; exits 1.
die() {
  stop_ticker
  printf '\nfailed: %s\n' "$1" >&2
  if [[ -n ${3:-} && -s $3 ]]; then
    printf '  last lines of %s:\n' "$3" >&2
    tail -n 15 -- "$3" | cut -c1-400 | sed 's/^/  | /' >&2
  fi
  printf '  try:   %s\n' "$2" >&2
  exit 1
}

# step TITLE COMMAND…: runs the command in this shell and prints one line with its elapsed time.
# On a terminal the line counts up while the command runs. Its standard output is left to it.
step() {
  local title=$1 started status=0
  shift
  now_ms; started=$REPLY
  if [[ -t 2 ]]; then
    tick "$title" & ticker=$!
  fi
  "$@" || status=$?
  stop_ticker
  now_ms; seconds $((REPLY - started))
  if ((status == 0)); then
    printf '  ok    %-52s %8s\n' "$title" "$REPLY" >&2
  else
    printf '  FAIL  %-52s %8s\n' "$title" "$REPLY" >&2
  fi
  return "$status"
}

ticker=
stop_ticker() {
  [[ -n $ticker ]] || return 0
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  ticker=
  printf '\r\033[K' >&2
}

tick() {
  local title=$1 second=0
  while :; do
    printf '\r  ...   %-52s %6d s' "$title" "$second" >&2
    sleep 1
    second=$((second + 1))
  done
}

# as_root COMMAND…: through sudo when this is not root already.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo --preserve-env=PATH,DEBIAN_FRONTEND -- "$@"
  else
    die "\`$1\` needs root, and there is no sudo here" "run this as root, or install sudo"
  fi
}
