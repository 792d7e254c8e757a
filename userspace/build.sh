#!/usr/bin/env bash
# Makes userspace/out/userspace-ARCH.tar.gz from Debian's busybox-static, reproducibly.
set -euo pipefail
arch=${1:-amd64}
here=$(cd "$(dirname "$0")" && pwd)
out=$here/out
mkdir -p "$out"
want=$(awk -v a="$arch" '$1 == a { print $2 }' "$here/checksums")
[ -n "$want" ] || { echo "userspace: no checksum for architecture $arch in userspace/checksums" >&2; exit 1; }
if [ -f "$out/userspace-$arch.tar.gz" ] && [ -f "$out/.busybox-$arch" ] && [ "$(cat "$out/.busybox-$arch")" = "$want" ]; then
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
if ! apt-get download -q "busybox-static:$arch" >/dev/null 2>&1; then
  apt-get update -q >/dev/null
  apt-get download -q "busybox-static:$arch" >/dev/null
fi
dpkg -x ./*.deb tree
bin=tree/bin/busybox
[ -f "$bin" ] || bin=tree/usr/bin/busybox
got=$(sha256sum "$bin" | cut -d' ' -f1)
if [ "$got" != "$want" ]; then
  echo "userspace: busybox for $arch has sha256 $got, pinned is $want (userspace/checksums)" >&2
  exit 1
fi
mkdir -p root/bin root/etc root/tmp root/usr/share/licenses/busybox
install -m 0755 "$bin" root/bin/busybox
cp tree/usr/share/doc/busybox-static/copyright root/usr/share/licenses/busybox/copyright
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > root/etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' > root/etc/group
# busybox of another architecture cannot be asked here, so the applets are listed in a file.
while read -r applet; do ln -s busybox "root/bin/$applet"; done < "$here/applets"
chmod 1777 root/tmp
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --format=ustar -C root -cf - . | gzip -9n > "$out/userspace-$arch.tar.gz.tmp"
mv "$out/userspace-$arch.tar.gz.tmp" "$out/userspace-$arch.tar.gz"
echo "$want" > "$out/.busybox-$arch"
