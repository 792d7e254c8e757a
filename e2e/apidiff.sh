#!/usr/bin/env bash
# k3rs beside a stock kube-apiserver, the same questions to both: apidiff.sh K3RS SEEDS CASES [ARGUMENTS of apidiff.py].
# INSTRUMENTS is where apidiff/ and conformance/ lie. KUBE_APISERVER names a binary; without it one is built from its Go
# module below .run/conformance. etcd is Debian's. Reports: .run/apidiff/report-SEED.md.
set -euo pipefail
cd "$(dirname "$0")/.."
instruments=$(readlink -f "${INSTRUMENTS:-../shared}") || true
[ -e "$instruments/apidiff/apidiff.py" ] || { echo "apidiff: no $instruments/apidiff; INSTRUMENTS=DIRECTORY says where it lies" >&2; exit 1; }
k3rs=$(readlink -f "$1") seeds=$2 cases=$3 work=$PWD/.run/apidiff
shift 3
mkdir -p "$work"
stock=${KUBE_APISERVER:-$PWD/.run/conformance/conf/bin/kube-apiserver}
[ -x "$stock" ] || "$instruments/conformance/conformance.sh" "$k3rs" "$PWD/.run/conformance" stock
if ! command -v etcd >/dev/null 2>&1; then
  # Unpacked, not installed: its service is not wanted.
  [ -x "$work/etcd/usr/bin/etcd" ] || (cd "$work" && apt-get download -q etcd-server >/dev/null && dpkg -x etcd-server_*.deb etcd && rm -f etcd-server_*.deb)
  export PATH=$work/etcd/usr/bin:$PATH
fi
python3 -c 'import yaml' 2>/dev/null || { echo "apidiff: python3-yaml is needed" >&2; exit 1; }
exec python3 e2e/apidiff.py "$k3rs" "$stock" "$instruments/apidiff" "$work" "$seeds" "$cases" "$@"
