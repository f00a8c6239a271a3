#!/usr/bin/env bash
# Prints the folder of bioformats2raw, where it is installed. Where it is not, that of a STAND-IN for it, which is for this
# example alone: standin/bioformats2raw, a Python script. What both need beside, requirements.txt has.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if command -v bioformats2raw >/dev/null; then
  dirname "$(command -v bioformats2raw)"
else
  echo "bioformats2raw is not installed here: a stand-in takes its place, see examples/omezarr/README.md" >&2
  echo "$here/standin"
fi
