#!/usr/bin/env bash
# Builds dist/k3rs-TARGET, one static stripped file with everything embedded: build.sh armv7|arm64|amd64 [TARGET_DIR [DIST_DIR]].
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/env.sh"
# In braces, so that bash reads all of it before it runs: an edit during a build changes nothing.
{
name=${1:?usage: cross/build.sh armv7|arm64|amd64}
target=$(rust_target "$name")
target_dir=${2:-$root/target/cross}
dist=${3:-$root/dist}
"$here/setup.sh" "$name"
"$root/userspace/build.sh" "$name"
use_tools "$name"
cd "$root"
# panic_unwind: k3rs catches panics at the borders of its tasks (ARCHITECTURE.md).
cargo-zigbuild zigbuild --release --locked -p k3rs --target "$target" --target-dir "$target_dir" \
  -Zbuild-std=std,panic_unwind -Zbuild-std-features=optimize_for_size
mkdir -p "$dist"
built=$target_dir/$target/release
# What is in it, for `make size`. rustc links below deps/, where the file with the symbols stays.
python3 "$here/parts.py" "$(ls -t "$built"/deps/k3rs-*.symbols | head -1)" "$root/userspace/out/userspace-$name.tar.lzma" > "$dist/k3rs-$name.parts"
cp "$built/k3rs" "$dist/.k3rs-$name.new"
mv "$dist/.k3rs-$name.new" "$dist/k3rs-$name"
exit 0
}
