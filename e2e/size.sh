#!/usr/bin/env bash
# Each binary's size against its budget, and its ten largest parts: size.sh HOST_BINARY; dist/* are taken along where built.
set -euo pipefail
cd "$(dirname "$0")/.."
# In KiB. With the whole Kubernetes API, what several servers need, the ingress with Gateway API, charts, kubectl, the CRI, CSI, CNI and S3, a
# 64-bit program that is given away (dist/) may have 15.5 MiB, armv7's 10.9 MiB. The host's own build has glibc in it, and may have 17.25 MiB.
host=17664 wide=15872 narrow=11136
goal=$((8 * 1024 * 1024))
failed=0

show() {
  local name=$1 binary=$2 size verdict="" budget=$((wide * 1024))
  [ "$name" != armv7 ] || budget=$((narrow * 1024))
  [ "$name" != host ] || budget=$((host * 1024))
  size=$(stat -c %s "$binary")
  if [ "$size" -le "$goal" ]; then verdict="goal met"; fi
  [ "$size" -le "$budget" ] || { verdict="ABOVE THE BUDGET"; failed=1; }
  printf '%s: %d bytes (budget %d, goal %d) %s\n' "$name" "$size" "$budget" "$goal" "$verdict"
  if [ -f "$binary.parts" ]; then
    head -10 "$binary.parts"
  else
    # Stripped, and nothing was written beside it: sections say what it is made of.
    size -A -d "$binary" | awk 'NR > 2 && $2 > 0 && $1 != "Total" { print $2, $1 }' | sort -rn | head -10 | awk '{ printf "%10d  %s\n", $1, $2 }'
  fi
}

show "host" "$1"
for name in armv7 arm64 amd64; do
  if [ -f "dist/k3rs-$name" ]; then show "$name" "dist/k3rs-$name"; fi
done
[ $failed = 0 ] || { echo "size: above the budget" >&2; exit 1; }
