#!/usr/bin/env bash
# Installs what a fresh Debian machine with a Rust toolchain lacks, and makes the userspace tarball.
# With the word `test`, also the peers that tests talk to; without them those tests would be skipped.
# With the word `cross`, also what the cross builds' own set-up stands on.
set -euo pipefail
cd "$(dirname "$0")/.."
missing=()
need() { command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] || missing+=("$2"); }
need cc gcc
need ar binutils
need /usr/include/stdio.h libc6-dev
need curl curl
need python3 python3
need ip iproute2
need nft nftables
need nsenter util-linux
if [ "${1:-}" = test ]; then
  need /bin/busybox busybox-static
  need rpm rpm
  need dig bind9-dnsutils
  need docker-registry docker-registry
  need skopeo skopeo
  need openssl openssl
  need etcdctl etcd-client
  need /usr/lib/postgresql postgresql
  need /usr/sbin/mariadbd mariadb-server
fi
if [ "${1:-}" = cross ]; then
  need xz xz-utils
  python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
fi
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || { echo "setup: install ${missing[*]} (or run as root, then this does)" >&2; exit 1; }
  echo "setup: installing ${missing[*]}"
  apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || { apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null; }
fi
command -v cargo >/dev/null 2>&1 || { echo "setup: a Rust toolchain is needed (rustup.rs)" >&2; exit 1; }
case "$(uname -m)" in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; armv7*) arch=armv7 ;; *) arch=unknown ;; esac
userspace/build.sh "$arch"
