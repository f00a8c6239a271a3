#!/usr/bin/env bash
# show-results.sh RESULTS: draws the plate from the results of the 96 jobs in RESULTS (such as local/your-bucket-name).
# The image, plate.png, is saved next to that folder.
set -euo pipefail
python3 "$(dirname "$0")/program/draw_plate.py" "$1/cellcount/results" "$(dirname "$1")/plate.png"
