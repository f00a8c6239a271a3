"""The channel between the worker and a launcher: JSON objects, one per line, over a socket pair."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping
from typing import Any


class Channel:
    """One end of a channel."""

    def __init__(self, end: socket.socket) -> None:
        self._socket, self._received = end, b""
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send_message(self, message: Mapping[str, Any]) -> None:
        """Send a message. Raise OSError if the other end is closed."""
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def read_message(self, seconds: float | None = None) -> dict[str, Any] | None:
        """Return the next message from the other end, or None if none arrives within `seconds` (None: no limit).

        Raise OSError if the other end is closed.
        """
        while b"\n" not in self._received:
            if not self._poll.poll(None if seconds is None else 1000 * seconds):
                return None
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionResetError("the other end is closed")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        self._socket.close()
