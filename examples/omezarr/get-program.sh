#!/usr/bin/env bash
# Prints the folder that contains bioformats2raw. If it is not installed, prints the folder of a STAND-IN that works only
# with this example: standin/bioformats2raw, a Python script. requirements.txt lists the packages that this example needs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if command -v bioformats2raw >/dev/null; then
  dirname "$(command -v bioformats2raw)"
else
  echo "bioformats2raw is not installed; using a stand-in instead (see examples/omezarr/README.md)" >&2
  echo "$here/standin"
fi
