#!/usr/bin/env bash
# Installs CellProfiler 4.2.8 on this computer, once, outside the tree (800 MB, a minute), and prints its folder.
# That needs a JDK, a C compiler and a Python 3.9, which uv fetches where there is none.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

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

make_program() {
  python3 -m venv tools
  tools/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
  tools/bin/uv venv --quiet --python "$(old_python)" program
  printf '%s\n' 'numpy==1.24.4' 'cython<3' >build.txt # what python-javabridge is built with
  VIRTUAL_ENV=program tools/bin/uv pip install --quiet --no-deps --build-constraint build.txt -r "$here/program.txt"
  mkdir bin # only the program: workers must find their own python3
  ln -s ../program/bin/cellprofiler bin/cellprofiler
  bin/cellprofiler --version >&2
}

if [[ ${1:-} == make ]]; then
  make_program
elif ! command -v javac >/dev/null && [[ -z ${JAVA_HOME:-} ]]; then
  echo "CellProfiler needs a JDK; on Debian: sudo apt-get install openjdk-17-jdk-headless" >&2
  exit 1
elif ! command -v cc >/dev/null; then
  echo "CellProfiler needs a C compiler; on Debian: sudo apt-get install build-essential" >&2
  exit 1
else
  folder=$(python3 "$here/../once.py" cellprofiler/program "$here/get-program.sh" make "$(cat "$here/program.txt")")
  echo "$folder/bin"
fi
