#!/usr/bin/env bash
# Prints the folder that contains bioformats2raw. If it is not installed, prints the folder of a STAND-IN that is only for
# this example: standin/bioformats2raw, a Python script. The packages that this example needs are in requirements.txt.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if command -v bioformats2raw >/dev/null; then
  dirname "$(command -v bioformats2raw)"
else
  echo "bioformats2raw is not installed; using a stand-in instead, see examples/omezarr/README.md" >&2
  echo "$here/standin"
fi
