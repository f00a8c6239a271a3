#!/usr/bin/env bash
# build.sh NAME [BASE_IMAGE]: builds an example's image, as its config.py names it, in two steps: the program's image from
# its worker/Dockerfile (or BASE_IMAGE, which has the program), then the worker on top, with what the example has of its
# own (generic-worker.py, other *.py, scripts/, requirements-own.txt) in place of the template's.
# DOCKER_BUILD in the environment is the command that builds.
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra build <<<"${DOCKER_BUILD:-docker build}"
example=examples/$1

# constant NAME ELSE: a constant of the example's config, as text.
constant() {
  "${PYTHON:-python3}" -c 'import runpy, sys; print(runpy.run_path(sys.argv[1]).get(*sys.argv[2:]))' \
    "$example/config.py" "$@" 2>/dev/null || {
    echo "$example/config.py cannot be read: python run.py --local --project $example setup says why" >&2
    exit 1
  }
}
image=$(constant DOCKERHUB_TAG "")
mount=$(constant MOUNT_S3 False)
base=${2:-}
if [[ -z $base ]]; then
  base=$image-program # a tag of its own, or a name where there is none
  "${build[@]}" --tag "$base" "$example/worker"
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
distributed_something/worker/image/make-context.sh "$context" worker "$example/worker"
cp worker/Dockerfile "$context" # the example's is the program's alone
"${build[@]}" --build-arg BASE_IMAGE="$base" --build-arg MOUNT_S3="$mount" --tag "$image" "$context"
