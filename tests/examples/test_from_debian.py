"""examples/from-debian.sh, with an `apt-get` and a `dpkg-deb` that only play theirs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.project import ROOT

# It knows no package before `update`; `tool` needs `libtool`, which is not installed.
APT_GET = r"""#!/bin/sh
echo "apt-get $*" >> "$NOTES"
case "$1" in
  update) : > "$NOTES.lists" ;;
  install) [ -e "$NOTES.lists" ] && echo "Inst libtool (1.2)" && echo "Inst tool (1.2)" ;;
  download) [ -e "$NOTES.lists" ] && shift 2 && for one; do : > "${one}_1.2.deb"; done ;;
esac
"""
DPKG_DEB = r"""#!/bin/sh
mkdir -p "$3/usr/bin" "$3/usr/lib/any-linux-gnu"
printf '#!/bin/sh\necho "$0 finds libraries in $LD_LIBRARY_PATH"\n' > "$3/usr/bin/${2%%_*}"
chmod +x "$3/usr/bin/${2%%_*}"
"""


class Debian:
    """A computer with these two, and a folder to unpack into."""

    def __init__(self, home: Path, *, lists: bool) -> None:
        self.notes, self.folder = home / "notes", home / "unpacked"
        self.folder.mkdir()
        (home / "bin").mkdir()
        for name, text in (("apt-get", APT_GET), ("dpkg-deb", DPKG_DEB)):
            (home / "bin" / name).write_text(text)
            (home / "bin" / name).chmod(0o755)
        if lists:
            Path(f"{self.notes}.lists").touch()
        self.env = {"PATH": f"{home / 'bin'}:/usr/bin:/bin", "NOTES": str(self.notes)}

    def get(self) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "examples" / "from-debian.sh"), "tool"]
        return subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)

    def asked(self) -> list[str]:
        return [line.split()[1] for line in self.notes.read_text().splitlines()]


def test_a_package_comes_with_what_it_needs_and_its_program_finds_its_libraries(tmp_path: Path) -> None:
    debian = Debian(tmp_path, lists=True)
    assert debian.get().returncode == 0
    assert sorted(path.name for path in (debian.folder / "bin").iterdir()) == ["libtool", "tool"]
    assert list(debian.folder.glob("*.deb")) == []
    said = subprocess.run([debian.folder / "bin" / "tool"], capture_output=True, text=True, check=True).stdout
    assert "usr/lib/any-linux-gnu" in said
    assert "update" not in debian.asked()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may update the lists")
def test_root_has_the_lists_updated_where_they_are_missing(tmp_path: Path) -> None:
    debian = Debian(tmp_path, lists=False)
    assert debian.get().returncode == 0
    assert debian.asked().count("update") == 1
    assert (debian.folder / "bin" / "tool").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root updates the lists")
def test_another_user_is_told_to(tmp_path: Path) -> None:
    done = Debian(tmp_path, lists=False).get()
    assert done.returncode != 0
    assert done.stderr == "apt-get cannot get tool; type: sudo apt-get update\n"
