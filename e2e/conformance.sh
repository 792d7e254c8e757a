#!/usr/bin/env bash
# The official conformance suite against one node: conformance.sh K3RS [FOCUS [SKIP]].
# INSTRUMENTS is where conformance/conformance.sh lies. What it builds (the suite and its images, from the Go module proxy and
# Debian packages: half an hour of two cores, the first time) stays below .run/conformance.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${INSTRUMENTS:-../shared}/conformance/conformance.sh
[ -x "$suite" ] || { echo "conformance: no $suite; INSTRUMENTS=DIRECTORY says where conformance/ lies" >&2; exit 1; }
for tool in go kubectl; do
  command -v $tool >/dev/null 2>&1 || { echo "conformance: $tool is needed" >&2; exit 1; }
done
k3rs=$(readlink -f "$1") work=$PWD/.run/conformance focus=${2:-} skip=${3:-}
mkdir -p "$work"
# A part that is there is not built again, so this takes seconds then.
"$suite" "$k3rs" "$work" build
[ -n "$(ls "$work"/images/*.tar 2>/dev/null)" ] || "$suite" "$k3rs" "$work" images
# How full others made this host's disk is not the node's affair: with upstream's percentages it evicts the suite's pods.
export SERVER_ARGS="--kubelet-arg=eviction-hard=memory.available<100Mi,nodefs.available<256Mi --kubelet-arg=image-gc-high-threshold=100 ${SERVER_ARGS:-}"
trap '"$suite" "$k3rs" "$work" stop || true' EXIT
"$suite" "$k3rs" "$work" stop 2>/dev/null || true
"$suite" "$k3rs" "$work" start
began=$SECONDS rc=0
"$suite" "$k3rs" "$work" run last "$focus" "$skip" >"$work/summary" || rc=$?
# What one node cannot show is no failure, and is said by name.
two='at least 2|requires [2-9] |[Nn]ot enough nodes|[2-9] schedulable nodes|two nodes'
echo "== need more than one node:"
grep -E -A1 '^(skipped|failed)' "$work/summary" | grep -E -B1 "$two" | sed -n 's/^\(skipped\|failed\) *[0-9.]*s  /  /p' || true
echo "== failed:"
grep -E -A1 '^(failed|timedout|panicked|interrupted|aborted)' "$work/summary" || true
tail -1 "$work/summary"
echo "== $((SECONDS - began)) s; every spec: $work/summary, output: $work/conf-report/last"
exit $rc
