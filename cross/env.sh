# Sourced by the scripts beside it: names of targets, where the tools are, the flags of every cross build.
# Callers have `set -euo pipefail`. Nothing here touches the disk.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cross_dir=${K3RS_CROSS_DIR:-$HOME/.cache/k3rs-cross}

# The exact compiler and tools. Another compiler gives another checksum, so a change of these lines is a change of the product.
rustc_pin=1.96.0
zig_pin=0.17.0
zigbuild_pin=0.24.0

# Our name of a target -> Rust's.
rust_target() {
  case "$1" in
    armv7) echo armv7-unknown-linux-musleabihf ;;
    arm64) echo aarch64-unknown-linux-musl ;;
    amd64) echo x86_64-unknown-linux-musl ;;
    *) echo "cross: unknown target '$1' (armv7, arm64 or amd64)" >&2; return 1 ;;
  esac
}

# Puts the pinned tools in front, and keeps what they cache inside the tool directory: use_tools armv7|arm64|amd64.
use_tools() {
  export PATH=$cross_dir/bin:$cross_dir/venv/bin:$root/cross:$PATH
  export CARGO_HOME=$cross_dir/cargo-home
  export CARGO_ZIGBUILD_CACHE_DIR=$cross_dir/zigbuild ZIG_GLOBAL_CACHE_DIR=$cross_dir/zig ZIG_LOCAL_CACHE_DIR=$cross_dir/zig
  unset RUSTC RUSTC_WRAPPER RUSTUP_TOOLCHAIN CARGO_BUILD_TARGET CARGO_TARGET_DIR CARGO_ENCODED_RUSTFLAGS
  # The standard library is built from source: Debian ships none for musl, rustup's has a 32-bit time_t on armv7,
  # and ours is built for size. That needs switches which a stable compiler only takes when told so.
  export RUSTC_BOOTSTRAP=1
  # 64-bit time_t on armv7 (musl since 1.2.3); read by the build script of every copy of the libc crate.
  export RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
  # Paths of this machine stay out of the binary: two checkouts give one checksum.
  local registry=$CARGO_HOME/registry/src/index.crates.io-1949cf8c6b5b557f
  # musl takes the size of threads' stacks from the binary unless they say their own; zig would write 16 MiB there.
  # The cfg stands for setup.sh's correction of the library: cargo does not see that its sources have changed.
  local rust="--cfg=library_time_corrected -Clinker=zig-fold-cc -Clink-self-contained=no -Crelocation-model=static -Clink-arg=-Wl,-z,stack-size=1048576" c=""
  # Thumb-2 is what Debian's armhf is built as too: a quarter smaller than ARM instructions.
  if [ "$1" = armv7 ]; then rust+=" -Ctarget-feature=+thumb-mode" c=" -mthumb"; fi
  # What came out the same in many functions becomes a function, if that saves more than its unwind table takes. On 64-bit ARM
  # outlining is the compiler's own choice for size; on 32 bits no panic gets through such a function.
  if [ "$1" != armv7 ]; then rust+=" -Cllvm-args=-outliner-benefit-threshold=24"; fi
  # With a frame pointer, which 64-bit ARM has anyway, unwind tables need not follow each push.
  if [ "$1" = amd64 ]; then rust+=" -Cllvm-args=-enable-machine-outliner=always -Cforce-frame-pointers=yes"; fi
  export RUSTFLAGS="$rust --remap-path-prefix=$registry/= --remap-path-prefix=$root/= --remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust/=/rust/"
  # C (SQLite, ring) never unwinds.
  export CFLAGS="$c -fno-unwind-tables -fno-asynchronous-unwind-tables -ffile-prefix-map=$registry/= -ffile-prefix-map=$root/="
}
