#!/usr/bin/env bash
# Prints the folder that contains bwa and samtools. If they are not installed, it fetches them from Debian once.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if command -v samtools >/dev/null && command -v bwa >/dev/null; then
  dirname "$(command -v bwa)"
else
  folder=$(python3 "$here/../once.py" biocontainer/program "$here/../from-debian.sh" bwa samtools)
  echo "$folder/bin"
fi
