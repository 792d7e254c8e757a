#!/usr/bin/env bash
# Shows that a build is reproducible: builds TARGET again from a copy of the sources at another path, into an
# empty target directory, and compares checksums: repro.sh armv7|arm64|amd64.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/env.sh"
name=${1:?usage: cross/repro.sh armv7|arm64|amd64}
# The time of the commit is in the binary (src/k3rs/build.rs), and the copy has no git to ask.
if [ -z "${SOURCE_DATE_EPOCH:-}" ] && epoch=$(git -C "$root" log -1 --format=%ct 2>/dev/null); then export SOURCE_DATE_EPOCH=$epoch; fi
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
"$here/build.sh" "$name"
mkdir "$copy/elsewhere"
(cd "$root" && tar -cf - --exclude=./target --exclude=./dist --exclude=./.git --exclude=./.run --exclude=./userspace/out .) | tar -xf - -C "$copy/elsewhere"
"$copy/elsewhere/cross/build.sh" "$name"
sha256sum "$root/dist/k3rs-$name" "$copy/elsewhere/dist/k3rs-$name"
cmp "$root/dist/k3rs-$name" "$copy/elsewhere/dist/k3rs-$name" || { echo "cross: two builds of $name differ" >&2; exit 1; }
echo "cross: two builds of $name are identical"
