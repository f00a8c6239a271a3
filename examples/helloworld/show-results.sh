#!/usr/bin/env bash
# show-results.sh RESULTS: what the jobs said, a line each, below RESULTS (such as local/your-bucket-name).
set -euo pipefail
for said in "$1"/ice_cream-pizza/*/HelloWorld.txt; do
  printf '%s\n' "$(<"$said")"
done
