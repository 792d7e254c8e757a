#!/usr/bin/env bash
# Builds dist/k3rs-etcd-TARGET, etcd as one static stripped file, for the embedded etcd: etcd.sh armv7|arm64|amd64 [DIST_DIR].
# Which etcd is in etcd/go.mod, what it is made of in etcd/go.sum. It wants the Go that go.mod names, or one that fetches it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=${1:?usage: cross/etcd.sh armv7|arm64|amd64}
dist=${2:-$here/../dist}
case "$name" in
  armv7) export GOARCH=arm GOARM=7 ;;
  arm64 | amd64) export GOARCH=$name ;;
  *) echo "cross: unknown target '$name' (armv7, arm64 or amd64)" >&2; exit 1 ;;
esac
command -v go >/dev/null 2>&1 || { echo "cross: Go is needed to build etcd (go.dev/dl), $(grep '^go ' "$here/etcd/go.mod") or later" >&2; exit 1; }
mkdir -p "$dist"
dist=$(cd "$dist" && pwd)
cd "$here/etcd"
# No path, time or build id of this machine is in it: two builds give one checksum.
GOOS=linux CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o "$dist/.k3rs-etcd-$name.new" .
mv "$dist/.k3rs-etcd-$name.new" "$dist/k3rs-etcd-$name"
echo "cross: dist/k3rs-etcd-$name, $(stat -c %s "$dist/k3rs-etcd-$name") bytes, etcd $(sed -n 's/^require go.etcd.io\/etcd\/server\/v3 //p' go.mod)"
