#!/usr/bin/env bash
# Shows that a build is reproducible: builds TARGET again from a copy of the sources at another path, into an
# empty target directory, and compares checksums: repro.sh armv7|arm64|amd64.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/env.sh"
name=${1:?usage: cross/repro.sh armv7|arm64|amd64}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
"$here/build.sh" "$name"
mkdir "$copy/elsewhere"
(cd "$root" && tar -cf - --exclude=./target --exclude=./dist --exclude=./.git --exclude=./.run --exclude=./userspace/out .) | tar -xf - -C "$copy/elsewhere"
"$copy/elsewhere/cross/build.sh" "$name"
sha256sum "$root/dist/k3rs-$name" "$copy/elsewhere/dist/k3rs-$name"
cmp "$root/dist/k3rs-$name" "$copy/elsewhere/dist/k3rs-$name" || { echo "cross: two builds of $name differ" >&2; exit 1; }
echo "cross: two builds of $name are identical"
