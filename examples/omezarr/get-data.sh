#!/usr/bin/env bash
# Makes two small plates of TIFFs, once, out of the 96 pictures of the example cellcount. The link data/ beside this leads to
# them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [[ ${1:-} == make ]]; then
  python3 "$here/make_plates.py" "$here/../cellcount/images" .
else
  folder=$(python3 "$here/../once.py" omezarr/data "$here/get-data.sh" make "$(cat "$here/make_plates.py")")
  ln -sfn "$folder" "$here/data"
fi
