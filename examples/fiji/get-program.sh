#!/usr/bin/env bash
# Prints the folder that contains Fiji if Fiji is installed. If not, builds a program with the same command line once
# (130 MB, about 15 seconds). The program consists of ImageJ 1.51 and SciJava from CellProfiler's package prokaryote,
# Debian's Jython, and Launcher.java. Building it requires a JDK.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
classes='prokaryote/prokaryote-2.4.4.jar:usr/share/java/*'

make_program() {
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest . prokaryote==2.4.4
  python3 -m zipfile -e prokaryote-*.whl .
  rm prokaryote-*.whl
  "$here/../from-debian.sh" jython
  rm -r bin
  javac -proc:none -d . -cp "$classes" "$here/Launcher.java"
  mkdir bin
  cat >bin/ImageJ-linux64 <<'LAUNCHER'
#!/bin/sh
here=$(dirname "$0")/..
exec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 --add-opens java.base/java.lang=ALL-UNNAMED -Djava.awt.headless=true \
  '-Dscijava.plugin.blacklist=.*ResultsPostprocessor' \
  -cp "$here:$here/prokaryote/prokaryote-2.4.4.jar:$here/usr/share/java/*" Launcher "$@"
LAUNCHER
  chmod +x bin/ImageJ-linux64
}

if [[ ${1:-} == make ]]; then
  make_program
elif command -v ImageJ-linux64 >/dev/null; then
  dirname "$(command -v ImageJ-linux64)"
elif ! command -v javac >/dev/null; then
  echo "ImageJ needs a JDK; on Debian, install it: sudo apt-get install openjdk-17-jdk-headless" >&2
  exit 1
else
  folder=$(python3 "$here/../once.py" fiji/program "$here/get-program.sh" make "$(cat "$here/Launcher.java")")
  echo "$folder/bin"
fi
