#!/usr/bin/env bash
# Makes userspace/out/userspace-ARCH.tar.lzma (and .sha256, of the tar in it) from Debian's busybox-static, reproducibly.
# Needs the network once per pinned version; later runs, and other work trees, take it from the cache.
set -euo pipefail
arch=${1:-amd64}
here=$(cd "$(dirname "$0")" && pwd)
out=$here/out/userspace-$arch.tar.lzma
stamp=$here/out/.inputs-$arch
cache=${K3RS_USERSPACE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/k3rs-userspace}
fail() { echo "userspace: $*" >&2; exit 1; }

read -r debian version want < <(awk -v a="$arch" '$1 == a { print $2, $3, $4 }' "$here/checksums") ||
  fail "no line for architecture $arch in userspace/checksums (amd64, arm64 and armv7 have one)"

# How it is compressed: each architecture's own filter turns call targets into absolute ones, which repeat.
# `src/k3rs/userspace.rs` knows the same figures: they are not in the stream, which has no header.
case $arch in
  amd64) filter=--x86 figures=lc=4,lp=0,pb=0 ;;
  arm64) filter=--arm64 figures=lc=2,lp=2,pb=2 ;;
  *) filter=--armthumb figures=lc=3,lp=1,pb=1 ;;
esac

# What the output is made from. It is left alone while that, and the output itself, are as they were.
inputs=$(cat "$here/build.sh" "$here/applets" <(echo "$debian $version $want") | sha256sum | cut -d' ' -f1)
made() { cat "$out" "${out%.lzma}.sha256" 2>/dev/null | sha256sum | cut -d' ' -f1; }
if [ "$(cat "$stamp" 2>/dev/null)" = "$inputs $(made)" ]; then
  exit 0
fi
if ! command -v xz >/dev/null; then
  [ "$(id -u)" = 0 ] || fail "install xz-utils (or run as root, then this does)"
  apt-get install -y -q xz-utils >/dev/null 2>&1 || { apt-get update -q >/dev/null && apt-get install -y -q xz-utils >/dev/null; }
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$cache" "$here/out"
package=$cache/busybox-static-$want.deb

# Debian packages of any architecture, without touching the system's apt: lists, status and cache of our own,
# and only the one index that has the package, from the mirror that this machine uses.
download() {
  local mirror
  mirror=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(SITE)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" && $2 == "main" && $3 !~ /security/ { print $3; exit }')
  local key=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -f "$key" ] || fail "$key is missing: install debian-archive-keyring"
  mkdir -p "$work"/apt/{lists/partial,cache/archives/partial,deb}
  : > "$work/apt/status"
  echo "deb [signed-by=$key] ${mirror:-http://deb.debian.org/debian} bookworm main" > "$work/apt/sources.list"
  local options=(-q -o "APT::Architecture=$debian" -o "APT::Architectures=$debian"
    -o "Dir::State::Lists=$work/apt/lists" -o "Dir::State::status=$work/apt/status" -o "Dir::Cache=$work/apt/cache"
    -o "Dir::Etc::sourcelist=$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Acquire::Languages=none -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update > "$work/apt/log" 2>&1 ||
    { cat "$work/apt/log" >&2; fail "cannot read the package index of ${mirror:-deb.debian.org} for $debian"; }
  (cd "$work/apt/deb" && apt-get "${options[@]}" download "busybox-static=$version" > "$work/apt/log" 2>&1) || {
    cat "$work/apt/log" >&2
    fail "busybox-static $version for $debian, pinned in userspace/checksums, cannot be downloaded. The mirror has:" \
      "$(apt-cache "${options[@]}" madison busybox-static | awk '{ print $3 }' | paste -sd' ')." \
      "Pin that (version and sha256 of bin/busybox), or put the old package at $package"
  }
  cp "$work"/apt/deb/*.deb "$package.tmp" && mv "$package.tmp" "$package"
}

[ -f "$package" ] || download
dpkg-deb -x "$package" "$work/tree" || { rm -f "$package"; fail "the downloaded package was damaged and is deleted: try again"; }
busybox=$work/tree/bin/busybox
[ -f "$busybox" ] || busybox=$work/tree/usr/bin/busybox
got=$(sha256sum "$busybox" | cut -d' ' -f1)
[ "$got" = "$want" ] || { rm -f "$package"; fail "busybox for $arch has sha256 $got, pinned is $want (userspace/checksums)"; }
license=/usr/share/common-licenses/GPL-2
[ "$(sha256sum < "$license" | cut -d' ' -f1)" = 8177f97513213526df2cf6184d8ff986c675afb514d4e68a404010521b880643 ] ||
  fail "$license (of Debian's base-files) is missing or not the text of the GNU GPL 2"

umask 022
cd "$work"
licenses=root/usr/share/licenses/busybox
mkdir -p root/bin root/etc root/root root/tmp $licenses
install -m 0755 "$busybox" root/bin/busybox
install -m 0644 tree/usr/share/doc/busybox-static/copyright $licenses/copyright
install -m 0644 "$license" $licenses/GPL-2
echo "Debian's package busybox-static $version ($debian), unchanged. Its source: https://snapshot.debian.org/package/busybox/" \
  > $licenses/SOURCE
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > root/etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' > root/etc/group
# busybox of another architecture cannot be asked here, so the applets are listed in a file. All three have the same.
while read -r applet; do ln -s busybox "root/bin/$applet"; done < "$here/applets"
chmod 0700 root/root
chmod 1777 root/tmp
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --format=ustar -C root -cf userspace.tar .
xz --threads=1 --format=raw $filter --lzma1=preset=9e,dict=1MiB,nice=273,mf=bt4,depth=1000,$figures -c userspace.tar > "$out.tmp"
sha256sum < userspace.tar | cut -d' ' -f1 > "${out%.lzma}.sha256"
mv "$out.tmp" "$out"
echo "$inputs $(made)" > "$stamp"
