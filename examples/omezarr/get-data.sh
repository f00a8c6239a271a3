#!/usr/bin/env bash
# Creates two small plates of TIFF files from the cellcount example's 96 images, unless this was done before. The link data/
# next to this script points to the plates.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [[ ${1:-} == make ]]; then
  python3 "$here/make_plates.py" "$here/../cellcount/images" .
else
  folder=$(python3 "$here/../once.py" omezarr/data "$here/get-data.sh" make "$(cat "$here/make_plates.py")")
  ln -sfn "$folder" "$here/data"
fi
