#!/usr/bin/env bash
# The product for real: e2e.sh BINARY [SCENARIO ...]. Needs root; skips, saying so, without it.
set -euo pipefail
binary=$(readlink -f "$1"); shift
cd "$(dirname "$0")"
if [ "$(id -u)" != 0 ]; then echo "e2e: skipped: containers need root"; exit 0; fi
venv=$(cd .. && pwd)/.run/venv
if ! "$venv/bin/python" -c 'import kubernetes' 2>/dev/null; then
  rm -rf "$venv"
  python3 -m venv "$venv" 2>/dev/null || { apt-get install -y -q python3-venv >/dev/null && python3 -m venv "$venv"; }
  "$venv/bin/pip" install -q kubernetes==32.0.1
fi
python=$venv/bin/python
"$python" scenarios.py "$binary" "$@"
[ $# = 0 ] || exit 0
# Faults that strangers found (docs/security.md).
"$python" faults.py "$binary"
# What docs/ tells people to type.
"$python" docs.py "$binary"
# What gateways go through, beside the next, for it mostly waits; the slowest (`python3 e2e/adversity.py BINARY`) only by hand.
said=$(mktemp) adversity=
trap '[ -z "$adversity" ] || kill "$adversity" 2>/dev/null || true; rm -f "$said"' EXIT
K3RS_E2E_REST=${K3RS_E2E_REST:-15} "$python" adversity.py "$binary" clock_1970 moves no_default_route no_address >"$said" 2>&1 &
adversity=$!
failed=0
"$python" pressure.py "$binary" || failed=1
wait "$adversity" || failed=1
adversity=
cat "$said"
[ $failed = 0 ]
# Pods that try to get out, for a moment; five minutes of it are `make hostile`.
"$python" hostile.py "$binary" --seconds 30 --seed 7
