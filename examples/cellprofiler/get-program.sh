#!/usr/bin/env bash
# Installs CellProfiler 4.2.8 in the user's cache (800 MB, about a minute) if it is not there yet, and prints its folder.
# This requires a JDK, a C compiler, and Python 3.9, which uv downloads if it is not installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# Prints the path of a Python 3.9, or only the version number, which makes uv download it. Runs each candidate, because
# pyenv's commands fail for versions that are not selected.
find_python() {
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
  tools/bin/uv venv --quiet --python "$(find_python)" program
  printf '%s\n' 'numpy==1.24.4' 'cython<3' >build.txt # needed to build python-javabridge
  VIRTUAL_ENV=program tools/bin/uv pip install --quiet --no-deps --build-constraint build.txt -r "$here/program.txt"
  mkdir bin # contains only the program, so that workers still find their own python3
  ln -s ../program/bin/cellprofiler bin/cellprofiler
  bin/cellprofiler --version >&2
}

if [[ ${1:-} == make ]]; then
  make_program
elif ! command -v javac >/dev/null && [[ -z ${JAVA_HOME:-} ]]; then
  echo "CellProfiler needs a JDK; on Debian, install it: sudo apt-get install openjdk-17-jdk-headless" >&2
  exit 1
elif ! command -v cc >/dev/null; then
  echo "CellProfiler needs a C compiler; on Debian, install it: sudo apt-get install build-essential" >&2
  exit 1
else
  folder=$(python3 "$here/../once.py" cellprofiler/program "$here/get-program.sh" make "$(cat "$here/program.txt")")
  echo "$folder/bin"
fi
