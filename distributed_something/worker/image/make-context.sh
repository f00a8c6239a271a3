#!/bin/sh
# Usage: make-context.sh CONTEXT FOLDER...
#
# Copy the files in each FOLDER (usually `worker`) and the worker's package to CONTEXT, the folder in which `docker build`
# builds a worker's image. If two folders contain the same file, the one from the later folder is used.
set -eu
context=$1
shift
for folder in "$@"; do cp -R "$folder/." "$context"; done
package=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$context/distributed_something"
cp -R "$package/__init__.py" "$package/worker" "$context/distributed_something"
find "$context" -name __pycache__ -prune -exec rm -rf {} +
