#!/usr/bin/env bash
# build.sh NAME [BASE_IMAGE]: builds an example's image with the name in its config.py. It first builds an image with the
# program from the example's worker/Dockerfile (unless you specify a BASE_IMAGE that contains the program). It then adds the
# worker, in which the example's own files (*.py, scripts/, requirements-own.txt) replace the template's files.
# Set the environment variable DOCKER_BUILD to use a command other than `docker build`.
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra build <<<"${DOCKER_BUILD:-docker build}"
example=examples/$1

# constant NAME DEFAULT: prints a constant from the example's config.
constant() {
  "${PYTHON:-python3}" -c 'import runpy, sys; print(runpy.run_path(sys.argv[1]).get(*sys.argv[2:]))' \
    "$example/config.py" "$@" 2>/dev/null || {
    echo "$example/config.py cannot be read; to see the error: python run.py --local --project $example setup" >&2
    exit 1
  }
}
image=$(constant DOCKERHUB_TAG "")
mount=$(constant MOUNT_S3 False)
base=${2:-}
if [[ -z $base ]]; then
  base=$image-program # this extends the tag, or the name if there is no tag
  "${build[@]}" --tag "$base" "$example/worker"
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
distributed_something/worker/image/make-context.sh "$context" worker "$example/worker"
cp worker/Dockerfile "$context" # the example's Dockerfile builds only the program's image
"${build[@]}" --build-arg BASE_IMAGE="$base" --build-arg MOUNT_S3="$mount" --tag "$image" "$context"
