#!/usr/bin/env bash
# The budget table as measured, and what the API costs: bench.sh BINARY [URL,TOKEN]. Needs root.
# URL,TOKEN: another API server, whose lists, creates and gets are measured beside ours.
set -euo pipefail
binary=$(readlink -f "$1")
cd "$(dirname "$0")"
if [ "$(id -u)" != 0 ]; then echo "bench: skipped: containers need root"; exit 0; fi
status=0
python3 bench.py "$binary" || status=$?
python3 bench_api.py "$binary" "${@:2}"
exit $status
