#!/usr/bin/env bash
# Installs CellProfiler 4.2.8 on this computer, once, outside the tree (750 MB, a minute), and prints the folder to put on
# PATH. Needs a JDK, a C compiler, and a Python 3.9, which uv fetches where there is none.
set -euo pipefail
cd "$(dirname "$0")"

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

command -v javac >/dev/null || [[ -n ${JAVA_HOME:-} ]] || fail "CellProfiler needs a JDK; on Debian: sudo apt-get install openjdk-17-jdk-headless"
command -v cc >/dev/null || fail "CellProfiler needs a C compiler; on Debian: sudo apt-get install build-essential"

# A Python 3.9 that really runs: pyenv's shims are there for versions that are not chosen, and then do not.
old_python() {
  local candidate
  for candidate in python3.9 ~/.pyenv/versions/3.9.*/bin/python3; do
    if "$candidate" -c 'import ctypes, sys; sys.exit(sys.version_info[:2] != (3, 9))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo 3.9
}

# shellcheck disable=SC2016 # the recipe's own variables
recipe='
set -euo pipefail
python3 -m venv tools
tools/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
tools/bin/uv venv --quiet --python "$1" program
printf "%s\n" "${@:2}" >versions.txt
printf "%s\n" "numpy==1.24.4" "cython<3" >build.txt # what python-javabridge and centrosome are built with
VIRTUAL_ENV=program tools/bin/uv pip install --quiet --no-deps --build-constraint build.txt --requirement versions.txt
mkdir bin # only the program: the workers must find their own python3
ln -s ../program/bin/cellprofiler bin/cellprofiler
bin/cellprofiler --version >&2
'
mapfile -t versions < <(grep -v '^#' program.txt)
folder=$(../once.py cellprofiler bash -c "$recipe" install "$(old_python)" "${versions[@]}")
echo "$folder/bin"
