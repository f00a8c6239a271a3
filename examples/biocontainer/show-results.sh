#!/usr/bin/env bash
# show-results.sh RESULTS: what samtools counted in the merged alignment, below RESULTS (such as local/your-bucket-name).
set -euo pipefail
cat "$1"/biocontainer/merged/*/lambda.txt
