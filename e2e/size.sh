#!/usr/bin/env bash
# The binary's size against its budget, and its ten largest parts.
set -euo pipefail
binary=$1
budget=$((12 * 1024 * 1024))
size=$(stat -c %s "$binary")
printf 'binary %s: %d bytes, budget %d\n' "$(basename "$(dirname "$(dirname "$binary")")")" "$size" "$budget"
# Section sizes say what it is made of; symbols are stripped from the release build.
size -A -d "$binary" 2>/dev/null | awk 'NR > 2 && $2 > 0 { print $2, $1 }' | sort -rn | head -10 | awk '{ printf "  %10d  %s\n", $1, $2 }'
[ "$size" -le "$budget" ] || { echo "size: above the budget" >&2; exit 1; }
