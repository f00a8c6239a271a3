#!/bin/sh
# make-context.sh CONTEXT FOLDER...: fills the folder CONTEXT, in which `docker build` makes a worker's image: the files
# of each FOLDER (`worker`; of two, the later one's replace the earlier one's), and the worker's package.
set -eu
context=$1
shift
for folder in "$@"; do cp -R "$folder/." "$context"; done
package=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$context/distributed_something"
cp -R "$package/__init__.py" "$package/worker" "$context/distributed_something"
find "$context" -name __pycache__ -prune -exec rm -rf {} +
