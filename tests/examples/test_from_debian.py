"""examples/from-debian.sh, with simulated `apt-get` and `dpkg-deb`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.project import ROOT

# The simulated `apt-get` does not find any package before `update`. The package `tool` depends on `libtool`, which is
# not installed.
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


class SimulatedDebian:
    """A computer with the simulated commands, and a folder for unpacked packages."""

    def __init__(self, home: Path, *, has_lists: bool) -> None:
        self.notes, self.folder = home / "notes", home / "unpacked"
        self.folder.mkdir()
        (home / "bin").mkdir()
        for name, text in (("apt-get", APT_GET), ("dpkg-deb", DPKG_DEB)):
            (home / "bin" / name).write_text(text)
            (home / "bin" / name).chmod(0o755)
        if has_lists:
            Path(f"{self.notes}.lists").touch()
        self.env = {"PATH": f"{home / 'bin'}:/usr/bin:/bin", "NOTES": str(self.notes)}

    def unpack_tool(self) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "examples" / "from-debian.sh"), "tool"]
        return subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)

    def list_apt_commands(self) -> list[str]:
        return [line.split()[1] for line in self.notes.read_text().splitlines()]


def test_a_package_is_unpacked_with_its_dependencies_and_its_program_finds_its_libraries(tmp_path: Path) -> None:
    debian = SimulatedDebian(tmp_path, has_lists=True)
    assert debian.unpack_tool().returncode == 0
    assert sorted(path.name for path in (debian.folder / "bin").iterdir()) == ["libtool", "tool"]
    assert list(debian.folder.glob("*.deb")) == []
    output = subprocess.run([debian.folder / "bin" / "tool"], capture_output=True, text=True, check=True).stdout
    assert "usr/lib/any-linux-gnu" in output
    assert "update" not in debian.list_apt_commands()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can update the package lists")
def test_missing_package_lists_are_updated_for_root(tmp_path: Path) -> None:
    debian = SimulatedDebian(tmp_path, has_lists=False)
    assert debian.unpack_tool().returncode == 0
    assert debian.list_apt_commands().count("update") == 1
    assert (debian.folder / "bin" / "tool").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="the script updates the package lists for root")
def test_other_users_are_asked_to_update_missing_package_lists(tmp_path: Path) -> None:
    completed = SimulatedDebian(tmp_path, has_lists=False).unpack_tool()
    assert completed.returncode != 0
    assert completed.stderr == "apt-get cannot download tool; update its package lists: sudo apt-get update\n"
