#!/usr/bin/env bash
# Makes two small plates of TIFF files from the 96 images of the example cellcount, once. The link data/ beside this script
# points to them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [[ ${1:-} == make ]]; then
  python3 "$here/make_plates.py" "$here/../cellcount/images" .
else
  folder=$(python3 "$here/../once.py" omezarr/data "$here/get-data.sh" make "$(cat "$here/make_plates.py")")
  ln -sfn "$folder" "$here/data"
fi
