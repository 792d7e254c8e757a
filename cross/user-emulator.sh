#!/usr/bin/env bash
# Prints the path of QEMU's user-mode emulator for TARGET, fetched once into $K3RS_CROSS_DIR; prints nothing for amd64.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/env.sh"
case "${1:?usage: cross/user-emulator.sh armv7|arm64|amd64}" in
  armv7) name=qemu-arm-static ;;
  arm64) name=qemu-aarch64-static ;;
  *) exit 0 ;;
esac
if command -v "$name"; then exit 0; fi
mkdir -p "$cross_dir"
exec 9>"$cross_dir/lock-emulator"
flock 9
if [ ! -x "$cross_dir/emulator/usr/bin/$name" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  (cd "$work" && apt-get download -q qemu-user-static >/dev/null 2>&1 || { apt-get update -q >/dev/null && apt-get download -q qemu-user-static >/dev/null; } && dpkg -x ./*.deb "$work/tree")
  rm -rf "$cross_dir/emulator"
  mv "$work/tree" "$cross_dir/emulator"
fi
echo "$cross_dir/emulator/usr/bin/$name"
