#!/usr/bin/env bash
# Starts k3rs on a throw-away data directory with one sample workload; Ctrl-C takes everything away again.
set -euo pipefail
# What `make run` is about to do, said before the first minutes without a sign of it.
if [ "${1:-}" = --building ]; then
  [ "$(id -u)" = 0 ] || { echo "make run: containers and networks need root" >&2; exit 1; }
  if [ -e "$2" ]; then
    echo "Building what changed (seconds to a minute or two), then starting k3rs ..."
  else
    cores=$(nproc)
    minutes=$(( (7 + cores - 1) / cores + 1 ))
    echo "Building k3rs and everything it needs from source, SQLite and TLS included, then starting it."
    echo "The first time takes about 7 minutes of processor time: some $minutes minutes on this machine's $cores cores. Cargo tells how far it is; afterwards it takes seconds."
  fi
  exit 0
fi
binary=$(readlink -f "$1")
[ "$(id -u)" = 0 ] || { echo "make run: containers and networks need root" >&2; exit 1; }
cd "$(dirname "$0")/.."
here=$(pwd)
mkdir -p .run
dir=$(mktemp -d "$here/.run/XXXXXX")
export K3RS_ETC_DIR=$dir/etc K3RS_RUN_DIR=$dir/run K3RS_LOG_DIR=$dir/log K3RS_KUBELET_DIR=$dir/kubelet
args=(--data-dir "$dir/data" --write-kubeconfig "$dir/kubeconfig" --write-kubeconfig-mode 0600 --node-name "${K3RS_RUN_NODE:-k3rs}" --https-listen-port "${K3RS_RUN_PORT:-6443}")
mkdir -p "$dir/data/server/manifests" "$dir/log"
cp e2e/sample.yaml "$dir/data/server/manifests/sample.yaml"
pid=
cleanup() {
  trap - EXIT
  trap '' INT TERM
  echo
  echo "Stopping k3rs and taking everything away again ..."
  # After a signal the first wait may end at once, and what is taken away before k3rs has ended stays.
  if [ -n "$pid" ]; then
    kill -TERM "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do wait "$pid" 2>/dev/null || sleep 0.05; done
  fi
  "$binary" uninstall "${args[@]}" || true
  rm -rf "$dir"
  rmdir "$here/.run" 2>/dev/null || true
}
trap cleanup EXIT
trap 'exit 0' INT TERM
# A process group of its own: Ctrl-C is for this script, which ends k3rs in order.
setsid "$binary" server "${args[@]}" >"$dir/log/k3rs.log" 2>&1 &
pid=$!
api() { curl -fsS --max-time 5 --cacert "$dir/data/server/tls/server-ca.crt" --cert "$dir/data/server/tls/client-admin.crt" --key "$dir/data/server/tls/client-admin.key" "https://127.0.0.1:${K3RS_RUN_PORT:-6443}$1" 2>/dev/null; }
for _ in $(seq 300); do
  kill -0 "$pid" 2>/dev/null || { cat "$dir/log/k3rs.log"; pid=; exit 1; }
  api /api/v1/namespaces/default/endpoints/sample | grep -q '"ip"' && break
  sleep 0.1
done
node=$(api /api/v1/nodes | tr '{}' '\n\n' | sed -n '/InternalIP/s/.*"address":"\([^"]*\)".*/\1/p' | head -1)
grep 'up and running' "$dir/log/k3rs.log" || true
cat <<EOT

k3rs runs. The sample is a web server in two pods behind a Service, from the image built into the binary.

  the sample:   curl http://${node:-127.0.0.1}:30080/
  the cluster:  export KUBECONFIG=$dir/kubeconfig
                kubectl get pods,services
  the log:      tail -f $dir/log/k3rs.log

Ctrl-C ends it and removes everything it made.
EOT
wait "$pid" || { cat "$dir/log/k3rs.log"; pid=; exit 1; }
