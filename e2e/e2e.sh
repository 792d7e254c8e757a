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
"$venv/bin/python" scenarios.py "$binary" "$@"
# Faults that strangers found (docs/security.md).
[ $# -gt 0 ] || "$venv/bin/python" faults.py "$binary"
# What gateways go through; the slowest (`python3 e2e/adversity.py BINARY`) only by hand.
[ $# -gt 0 ] || K3RS_E2E_REST=${K3RS_E2E_REST:-15} "$venv/bin/python" adversity.py "$binary" clock_1970 moves no_default_route no_address
[ $# -gt 0 ] || "$venv/bin/python" pressure.py "$binary"
# Pods that try to get out, for a moment; five minutes of it are `make hostile`.
[ $# -gt 0 ] || "$venv/bin/python" hostile.py "$binary" --seconds 30 --seed 7
