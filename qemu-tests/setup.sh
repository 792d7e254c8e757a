#!/usr/bin/env bash
# QEMU, Debian's kernels and their modules, by package and only unpacked: setup.sh [armv7|arm64|amd64 ...] (default: armv7 arm64).
# Everything goes below ${K3RS_QEMU_DIR:-$HOME/.cache/k3rs-qemu}; nothing is installed. A directory is complete when it has its file `done`.
#   tools/    QEMU, depmod, mksquashfs and the libraries that this machine lacks; tools/env is sourced to use them
#   ARCH/     kernel (the image), release (its name), root/lib/modules/RELEASE
set -euo pipefail
dir=${K3RS_QEMU_DIR:-$HOME/.cache/k3rs-qemu}
kernels=bookworm
mkdir -p "$dir"
[ $# -gt 0 ] || set -- armv7 arm64

# One set-up at a time: worktrees and CI runs share the directory.
exec 9>"$dir/lock"
flock 9

say() { echo "qemu setup: $*" >&2; }

# The machine's own Debian mirror, so that a proxy or a mirror of the site is used here too.
mirror() {
  local found
  found=$({
    cat /etc/apt/sources.list.d/*.sources | sed -n 's/^URIs: *//p'
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list | sed -n 's/^deb  *\(\[[^]]*\] *\)\?\([^ ]*\) .*/\2/p'
  } 2>/dev/null | sed -n '/\/debian\/*$/p' | sort -u | head -1) || true
  echo "${found:-http://deb.debian.org/debian}"
}

# Package lists of an architecture and a release of Debian, apart from the machine's own: sets the array `apt`.
private_lists() {
  local debian_arch=$1 suite=$2 apt_dir="$dir/apt-$1-$2"
  mkdir -p "$apt_dir/lists/partial" "$apt_dir/cache/archives/partial"
  : >"$apt_dir/status"
  local options="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
  echo "deb $options $(mirror) $suite main" >"$apt_dir/sources.list"
  apt=(-o APT::Architecture="$debian_arch" -o APT::Architectures="$debian_arch" -o Dir::State::Lists="$apt_dir/lists"
    -o Dir::State::status="$apt_dir/status" -o Dir::Cache="$apt_dir/cache" -o Dir::Etc::sourcelist="$apt_dir/sources.list"
    -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o APT::Sandbox::User=root -o Debug::NoLocking=true -o Acquire::Languages=none)
  apt-get "${apt[@]}" update -q >"$apt_dir/update.log" 2>&1 || { cat "$apt_dir/update.log" >&2; return 1; }
}

unpack_tools() {
  local tools="$dir/tools" names
  [ -e "$tools/done" ] && return
  rm -rf "$tools" && mkdir -p "$tools/debs"
  say "QEMU and tools"
  # What an installation would add is what this machine lacks; a package that it would remove stays, as nothing is installed.
  private_lists "$(dpkg --print-architecture)" "$(. /etc/os-release; echo "$VERSION_CODENAME")"
  apt+=(-o Dir::State::status=/var/lib/dpkg/status)
  names=$(apt-get "${apt[@]}" install -s --no-install-recommends qemu-system-arm qemu-system-x86 kmod squashfs-tools |
    sed -n 's/^Inst \([^ ]*\) .*(\([^ ]*\) .*/\1=\2/p')
  [ -z "$names" ] || (cd "$tools/debs" && apt-get "${apt[@]}" download -q $names >/dev/null)
  local deb
  for deb in "$tools"/debs/*.deb; do [ ! -e "$deb" ] || dpkg -x "$deb" "$tools"; done
  rm -rf "$tools/debs"
  # Its links point into an installed system.
  [ ! -e "$tools/bin/kmod" ] || ln -sf ../bin/kmod "$tools/sbin/depmod"
  cat >"$tools/env" <<END
export PATH=$tools/usr/bin:$tools/usr/sbin:$tools/sbin:$tools/bin:\$PATH
export LD_LIBRARY_PATH=$tools/usr/lib/$(uname -m)-linux-gnu:$tools/lib/$(uname -m)-linux-gnu
export QEMU_MODULE_DIR=$tools/usr/lib/$(uname -m)-linux-gnu/qemu
K3RS_QEMU_DATA="-L $tools/usr/share/qemu -L $tools/usr/share/seabios"
END
  (. "$tools/env"; qemu-system-arm --version >&2; depmod --version >/dev/null; mksquashfs -version >/dev/null)
  touch "$tools/done"
}

unpack_kernel() {
  local arch=$1 debian_arch=$2 meta=$3 package release
  [ -e "$dir/$arch/done" ] && return
  rm -rf "${dir:?}/$arch" && mkdir -p "$dir/$arch/deb"
  private_lists "$debian_arch" "$kernels"
  package=$(apt-cache "${apt[@]}" depends "$meta" | sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -1)
  say "$package for $arch"
  (cd "$dir/$arch/deb" && apt-get "${apt[@]}" download -q "$package" >/dev/null)
  dpkg -x "$dir/$arch"/deb/*.deb "$dir/$arch/root"
  rm -rf "$dir/$arch/deb"
  release=${package#linux-image-}
  release=${release%-unsigned}
  mv "$dir/$arch/root/boot/vmlinuz-$release" "$dir/$arch/kernel"
  mv "$dir/$arch/root/boot/config-$release" "$dir/$arch/config"
  rm -rf "$dir/$arch/root/boot" "$dir/$arch/root/usr/share/doc"
  (. "$dir/tools/env"; depmod -b "$dir/$arch/root" "$release")
  echo "$release" >"$dir/$arch/release"
  touch "$dir/$arch/done"
}

unpack_tools
for arch in "$@"; do
  case "$arch" in
    armv7) unpack_kernel armv7 armhf linux-image-armmp ;;
    arm64) unpack_kernel arm64 arm64 linux-image-cloud-arm64 ;;
    amd64) unpack_kernel amd64 amd64 linux-image-cloud-amd64 ;;
    *) say "unknown architecture $arch"; exit 1 ;;
  esac
done
