#!/usr/bin/env bash
# Lays CellProfiler's own fly example into data/: nine pictures (9 MB) and the pipeline, out of the installed program, and a
# LoadData table that names the pictures below the mounted bucket, as published ones do.
set -euo pipefail
cd "$(dirname "$0")"
program=$(./get-program.sh)
example=$(echo "$program"/../program/lib/python3*/site-packages/cellprofiler/data/examples/ExampleFly)

rm -rf data.new
mkdir -p data.new/images data.new/workspace
cp "$example"/images/*.TIF data.new/images/
python3 make_workspace.py "$example/ExampleFly.cppipe" data.new/workspace
rm -rf data
mv data.new data
