#!/usr/bin/env bash
# Prints the folder of bwa and samtools on this computer: where they are installed, or else Debian's, fetched once.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if command -v samtools >/dev/null && command -v bwa >/dev/null; then
  dirname "$(command -v bwa)"
else
  folder=$(python3 "$here/../once.py" biocontainer/program "$here/../from-debian.sh" bwa samtools)
  echo "$folder/bin"
fi
