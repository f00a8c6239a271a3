"""The processes of this computer, as tests look for them; psutil finds them where `ps` is not installed, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psutil


def list_processes_with(words: str) -> list[int]:
    """Return the ids of the processes with these words in their arguments; one that ended has none."""
    processes = psutil.process_iter(["cmdline"])
    return [process.pid for process in processes if words in " ".join(process.info["cmdline"] or [])]


def iter_marked_processes(name: str, value: str) -> Iterator[int]:
    """Yield the ids of the processes with NAME=value in their environment; those that ended have none."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(name) == value:
                yield process.pid
