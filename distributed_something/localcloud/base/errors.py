"""The only exception that callers of this package need to catch."""

from __future__ import annotations


class LocalCloudError(Exception):
    """A failure of the local cloud. The message is one line written for the user; run.py exits with `exit_code`."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
