#!/usr/bin/env bash
# The budget table as measured: bench.sh BINARY. Needs root.
set -euo pipefail
binary=$(readlink -f "$1")
cd "$(dirname "$0")"
if [ "$(id -u)" != 0 ]; then echo "bench: skipped: containers need root"; exit 0; fi
exec python3 bench.py "$binary"
