#!/usr/bin/env bash
# from-debian.sh PACKAGE…: unpacks Debian packages into the current folder, together with any dependencies that are not
# installed. It does not install anything; the programs are in bin/. It requires Debian or Ubuntu, and root permissions only
# if the package lists are missing or outdated.
set -euo pipefail

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

for tool in apt-get dpkg-deb; do
  command -v "$tool" >/dev/null || fail "$tool does not exist on this computer; install these yourself: $*"
done

# Downloads the packages and their dependencies that are not installed.
download() {
  local missing
  missing=$(apt-get install --simulate --no-install-recommends "$@" | awk '$1 == "Inst" { print $2 }') &&
    printf '%s\n' "$@" "$missing" | sort -u | xargs apt-get download -qq
}

if ! download "$@" 2>/dev/null; then # the package lists are missing or outdated
  ((EUID == 0)) || fail "apt-get cannot download $*; update its package lists: sudo apt-get update"
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
