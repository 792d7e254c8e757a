#!/usr/bin/env bash
# Emulated ARM machines, set-up included: qemu.sh [--arch ARCH] [--full|--floor|...], see run.py.
# QEMU_ARCH names the architectures (armv7 arm64); BIN_ARMV7 and BIN_ARM64 name binaries that need not be built.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v kubectl >/dev/null 2>&1 || { echo "qemu-tests: kubectl is needed" >&2; exit 1; }
arches=${QEMU_ARCH:-armv7 arm64}
qemu-tests/setup.sh $arches
chosen=()
for arch in $arches; do
  chosen+=(--arch "$arch")
  variable=BIN_${arch^^}
  [ -n "${!variable:-}" ] || make --no-print-directory cross TARGET="$arch"
done
exec python3 qemu-tests/run.py "${chosen[@]}" "$@"
