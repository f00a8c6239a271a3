#!/usr/bin/env bash
# show-results.sh RESULTS: prints the statistics that samtools wrote for the merged alignment.
# RESULTS is the folder with the results, such as local/your-bucket-name.
set -euo pipefail
cat "$1"/biocontainer/merged/*/lambda.txt
