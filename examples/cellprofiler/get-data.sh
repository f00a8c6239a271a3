#!/usr/bin/env bash
# Copies CellProfiler's fly example from the installed program, unless this was done before. The example consists of nine
# images (9 MB), the pipeline, and a table with the images' paths in the mounted bucket, as in published data files. The
# link data/ next to this script points to the files.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

make_data() {
  local program fly
  program=$("$here/get-program.sh")
  fly=$(echo "$program"/../program/lib/python3*/site-packages/cellprofiler/data/examples/ExampleFly)
  mkdir images workspace
  cp "$fly"/images/*.TIF images/
  python3 "$here/make_workspace.py" "$fly/ExampleFly.cppipe" workspace
}

if [[ ${1:-} == make ]]; then
  make_data
else
  made_by=$(cat "$here/make_workspace.py")
  folder=$(python3 "$here/../once.py" cellprofiler/data "$here/get-data.sh" make "$made_by")
  ln -sfn "$folder" "$here/data"
fi
