"""The auto-monitor's code as Lambda takes it: a zip of `control/`, and of what that imports of the worker's machinery.

The same files give the same bytes, whatever their dates or the computer, so that a comparison with what Lambda has
tells whether the code changed. Nothing else is in it: Lambda brings boto3, and what the auto-monitor imports needs no
other package (a test imports it so).
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

HANDLER = "control.auto_monitor.handler"
FOLDERS = ("control", "worker/machinery")
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip's file; the dates of files say when they were cloned
_READABLE = 0o644 << 16  # Lambda runs as a user of its own
_UNIX = 3


def files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Name in the zip and content of every Python file, sorted by name."""
    found = (path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    for path in sorted(found, key=lambda path: path.relative_to(root).as_posix()):
        # A checkout may have written other line ends than the repository holds.
        yield path.relative_to(root).as_posix(), path.read_bytes().replace(b"\r\n", b"\n")


def build(root: Path) -> bytes:
    """The zip of the project at `root`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files(root):
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.external_attr, entry.create_system = _READABLE, _UNIX
            archive.writestr(entry, content)  # stored: compressed bytes differ between versions of zlib
    return buffer.getvalue()


def digest(content: bytes) -> str:
    """What Lambda calls CodeSha256."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
