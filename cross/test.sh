#!/usr/bin/env bash
# Runs unit tests of rooms on another architecture's ABI, by QEMU's user-mode emulation: test.sh armv7|arm64|amd64 [ROOM...].
# The rooms named by default need nothing of the kernel that user-mode emulation lacks (namespaces, clone3, netlink, seccomp).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/env.sh"
name=${1:?usage: cross/test.sh armv7|arm64|amd64 [ROOM...]}
shift
target=$(rust_target "$name")
rooms=("$@")
[ ${#rooms[@]} -gt 0 ] || rooms=(stdx wire rt api store sched control netplan)
"$here/setup.sh" "$name"
emulator=$("$here/user-emulator.sh" "$name")
use_tools "$name"
upper=$(echo "$target" | tr 'a-z-' 'A-Z_')
[ -z "$emulator" ] || export "CARGO_TARGET_${upper}_RUNNER=$emulator"
export CARGO_PROFILE_DEV_DEBUG=0
cd "$root"
cargo-zigbuild test --locked --no-fail-fast "${rooms[@]/#/-p}" --target "$target" --target-dir "$root/target/cross" \
  -Zbuild-std=std,panic_unwind,test
