"""Finds processes on this computer. It uses psutil because `ps` may not be installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psutil


def list_processes_with(words: str) -> list[int]:
    """Return the IDs of the running processes with these words in their arguments."""
    processes = psutil.process_iter(["cmdline"])
    return [process.pid for process in processes if words in " ".join(process.info["cmdline"] or [])]


def iter_marked_processes(name: str, value: str) -> Iterator[int]:
    """Yield the IDs of the running processes with NAME=VALUE in their environment."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(name) == value:
                yield process.pid
