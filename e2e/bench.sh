#!/usr/bin/env bash
# The budget table as measured, and what the API costs: bench.sh BINARY [URL,TOKEN]. Needs root.
# URL,TOKEN: another API server, whose lists, creates and gets are measured beside ours. Where a stock kube-apiserver is (KUBE_APISERVER, or
# where `make apidiff` and `make conformance` build it), k3rs and it are asked the same.
set -euo pipefail
binary=$(readlink -f "$1")
cd "$(dirname "$0")"
if [ "$(id -u)" != 0 ]; then echo "bench: skipped: containers need root"; exit 0; fi
status=0
python3 bench.py "$binary" || status=$?
python3 bench_api.py "$binary" "${@:2}"
stock=$(readlink -f "${KUBE_APISERVER:-../.run/conformance/conf/bin/kube-apiserver}") || true
instruments=$(readlink -f "${INSTRUMENTS:-../../shared}") || true
etcd=$(readlink -f ../.run/apidiff/etcd/usr/bin) || true
export PATH=$PATH:$etcd
if [ ! -x "$stock" ] || [ ! -e "$instruments/apidiff/stock.sh" ] || ! command -v etcd >/dev/null; then
  echo "bench: there is no stock kube-apiserver with etcd to compare with; make apidiff builds it"
else
  python3 bench_stock.py "$binary" "$stock" "$instruments/apidiff" || status=$?
fi
exit $status
