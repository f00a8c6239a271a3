#!/usr/bin/env bash
# show-results.sh RESULTS: prints the greeting of each job in RESULTS (such as local/your-bucket-name), one per line.
set -euo pipefail
for greeting in "$1"/ice_cream-pizza/*/HelloWorld.txt; do
  printf '%s\n' "$(<"$greeting")"
done
