#!/usr/bin/env bash
# Fetches the pinned cross tools into $K3RS_CROSS_DIR (about 140 MB, once a machine): setup.sh TARGET.
# Nothing is installed: Debian's packages are only unpacked. Safe to interrupt and to run twice at once.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/env.sh"
target=$(rust_target "${1:?usage: cross/setup.sh armv7|arm64|amd64}")
mark=$cross_dir/complete
want="rustc $rustc_pin, zig $zig_pin, cargo-zigbuild $zigbuild_pin"

main() {
  mkdir -p "$cross_dir"
  exec 9>"$cross_dir/lock"
  flock 9
  if [ "$(cat "$mark" 2>/dev/null)" != "$want" ]; then
    # What an interrupted or older set-up left is not trusted; downloads of crates may stay.
    rm -rf "$mark" "$cross_dir/bin" "$cross_dir/rust" "$cross_dir/venv" "$cross_dir/zigbuild"
    mkdir -p "$cross_dir/bin"
    compiler_of_rustup || compiler_of_debian
    linker
    check
    echo "$want" > "$mark"
  fi
  correct_library
}

# The standard library waits with the futex call of 32-bit time on every 32-bit target, but with musl's 64-bit time_t it
# hands it a 64-bit time: what is below a second is lost, so every timed wait ends early and its caller spins.
# Uptime fits in 32 bits, so the old call gets what it reads; it is there on every kernel, unlike futex_time64.
correct_library() {
  local file
  file=$("$cross_dir/bin/rustc" --print sysroot)/lib/rustlib/src/rust/library/std/src/sys/pal/unix/futex.rs
  grep -q 'k3rs: 32-bit time' "$file" && return
  sed -i -e '0,/\.and_then(.t. t\.to_timespec());/s//&\n    #[cfg(all(target_pointer_width = "32", target_env = "musl"))] \/\/ k3rs: 32-bit time\n    let timespec = timespec.map(|t| [t.tv_sec as i32, t.tv_nsec as i32]);/' \
    -e '0,/|t| t as \*const libc::timespec)/s//|t| crate::ptr::from_ref(t).cast::<libc::timespec>())/' "$file"
  [ "$(grep -c 'k3rs: 32-bit time\|from_ref(t).cast::<libc::timespec>' "$file")" = 2 ] || { echo "cross: $file is not the one that is known to need a correction" >&2; exit 1; }
}

# The simple path: rustup has the pinned compiler, this target and the library's sources.
# It could only be read, not tried, on the machine this was written on: there rustup cannot download.
compiler_of_rustup() {
  command -v rustup >/dev/null 2>&1 || return 1
  # The cheap question first: a machine that cannot have the target should not fetch a compiler to learn it.
  timeout 60 rustup target add "$target" >/dev/null 2>&1 || return 1
  timeout 300 rustup toolchain install "$rustc_pin" --profile minimal --target "$target" --component rust-src >/dev/null 2>&1 || return 1
  echo "cross: rustup's compiler $rustc_pin"
  local tool
  for tool in rustc cargo rustdoc; do
    ln -s "$(rustup which --toolchain "$rustc_pin" "$tool")" "$cross_dir/bin/$tool"
  done
}

# Debian's backport of a recent compiler, unpacked into a prefix. Its sysroot is relative to its binary.
# apt gets lists and a state of its own: it comes from the security archive, which the machine's sources may lack or not have
# read lately, and nobody needs to be root.
compiler_of_debian() {
  command -v apt-get >/dev/null 2>&1 || { echo "cross: neither rustup nor apt can provide rustc $rustc_pin" >&2; exit 1; }
  echo "cross: rustup cannot add $target here; unpacking Debian's compiler into $cross_dir/rust"
  local apt=$cross_dir/apt key=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -f "$key" ] || { echo "cross: $key is missing: install debian-archive-keyring" >&2; exit 1; }
  rm -rf "$apt"
  mkdir -p "$apt"/{lists/partial,cache/archives/partial,debs} "$cross_dir/rust"
  : > "$apt/status"
  # The mirrors that the machine uses, else Debian's.
  local sites main security
  sites=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(SITE)' 'Created-By: Packages' 2>/dev/null | awk '$1 == "Debian" && $2 == "main" { print $3 }' | sort -u)
  main=$(grep -v security <<< "$sites" | head -1) || true
  security=$(grep security <<< "$sites" | head -1) || true
  echo "deb [signed-by=$key] ${main:-http://deb.debian.org/debian} bookworm main" > "$apt/sources.list"
  echo "deb [signed-by=$key] ${security:-http://deb.debian.org/debian-security} bookworm-security main" >> "$apt/sources.list"
  local options=(-q -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o "Dir::State::Lists=$apt/lists" -o "Dir::State::status=$apt/status"
    -o "Dir::Cache=$apt/cache" -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Acquire::Languages=none -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update > "$apt/log" 2>&1 || { cat "$apt/log" >&2; echo "cross: cannot read Debian's package lists" >&2; exit 1; }
  local version packages
  version=$(apt-cache "${options[@]}" madison rustc-web | awk '{ print $3 }' | grep "^$rustc_pin+" | head -1) || true
  [ -n "$version" ] || {
    echo "cross: Debian has rustc-web $(apt-cache "${options[@]}" madison rustc-web | awk '{ print $3 }' | paste -sd' '), but cross/env.sh pins $rustc_pin" >&2
    exit 1
  }
  # Names of libraries change with their versions, so apt is asked for them.
  packages=$(apt-cache "${options[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances rustc-web cargo-web libstd-rust-web-dev |
    grep -E '^(libstd-rust-web-[0-9.]+|libllvm[0-9]+|libgit2-[0-9.]+|libhttp-parser[0-9.]+|libmbed(crypto|tls)[0-9]+|libmbedx509-[0-9]+)$' | sort -u)
  # What an installation would add is what this machine lacks of what those libraries stand on (a bare one: libz3, libcurl, ...).
  packages+=" $(apt-get "${options[@]}" -o Dir::State::status=/var/lib/dpkg/status install -s --no-install-recommends "rustc-web=$version" "cargo-web=$version" |
    sed -n 's/^Inst \(lib[^ ]*\) .*/\1/p' | grep -vE -- '-dev$' | paste -sd' ')" || true
  # shellcheck disable=SC2086
  (cd "$apt/debs" && apt-get "${options[@]}" download "rustc-web=$version" "cargo-web=$version" "rust-web-src=$version" "libstd-rust-web-dev=$version" $packages > "$apt/log" 2>&1) ||
    { cat "$apt/log" >&2; exit 1; }
  local deb
  for deb in "$apt"/debs/*.deb; do dpkg -x "$deb" "$cross_dir/rust"; done
  rm -rf "$apt"
  local tool
  for tool in rustc cargo rustdoc; do
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s/rust/usr/lib/x86_64-linux-gnu exec %s/rust/usr/bin/%s "$@"\n' "$cross_dir" "$cross_dir" "$tool" > "$cross_dir/bin/$tool"
    chmod 0755 "$cross_dir/bin/$tool"
  done
}

# zig is C compiler, linker and musl for all targets; cargo-zigbuild speaks rustc's linker flags to it.
linker() {
  python3 -m venv "$cross_dir/venv" || { echo "cross: python3 with venv is needed (apt-get install python3-venv)" >&2; exit 1; }
  "$cross_dir/venv/bin/pip" install -q "ziglang==$zig_pin" "cargo-zigbuild==$zigbuild_pin"
}

check() {
  local got
  got=$("$cross_dir/bin/rustc" --version | cut -d' ' -f2)
  [ "$got" = "$rustc_pin" ] || {
    echo "cross: the compiler is $got, cross/env.sh pins $rustc_pin; other compilers give other binaries: change the pin on purpose" >&2
    exit 1
  }
  "$cross_dir/venv/bin/python" -m ziglang version >/dev/null
}

main
