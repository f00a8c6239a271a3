#!/usr/bin/env bash
# from-debian.sh PACKAGE…: unpacks Debian's packages into the current folder, with the libraries that this computer lacks,
# and installs nothing. Their programs are in bin/. Needs Debian or Ubuntu, and no root where `apt-get update` was done.
set -euo pipefail

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

for tool in apt-get dpkg-deb; do
  command -v "$tool" >/dev/null || fail "please install by hand: $* (this computer has no $tool to get them with)"
done

# The packages, and what they need of what is not installed.
download() {
  local lacking
  lacking=$(apt-get install --simulate --no-install-recommends "$@" | awk '$1 == "Inst" { print $2 }') &&
    printf '%s\n' "$@" "$lacking" | sort -u | xargs apt-get download -qq
}

if ! download "$@" 2>/dev/null; then # the lists of packages are missing or old
  ((EUID == 0)) || fail "apt-get cannot get $*; type: sudo apt-get update"
  apt-get update -qq
  download "$@"
fi
for package in *.deb; do
  dpkg-deb --extract "$package" .
  rm "$package"
done

mkdir -p bin
for program in usr/bin/*; do
  [[ -f $program ]] || continue
  name=${program##*/}
  cat >"bin/$name" <<'WRAPPER'
#!/bin/sh
here=$(dirname "$0")/..
for folder in "$here"/usr/lib/*-linux-gnu; do LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; done
export LD_LIBRARY_PATH
exec "$here/usr/bin/${0##*/}" "$@"
WRAPPER
  chmod +x "bin/$name"
done
