"""Between the worker and its launcher: JSON objects, one a line, over a pair of sockets."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping
from typing import Any


class Channel:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        self._socket, self._came = end, b""
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send_message(self, what: Mapping[str, Any]) -> None:
        """Raises OSError where the other end is gone."""
        self._socket.sendall(json.dumps(what).encode() + b"\n")

    def read_message(self, seconds: float | None = None) -> dict[str, Any] | None:
        """What the other end told; None if nothing came in so many seconds. Raises OSError where it is gone."""
        while b"\n" not in self._came:
            if not self._poll.poll(None if seconds is None else 1000 * seconds):
                return None
            came = self._socket.recv(65536)
            if not came:
                raise ConnectionResetError("the other end is gone")
            self._came += came
        line, _, self._came = self._came.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def close(self) -> None:
        self._socket.close()
