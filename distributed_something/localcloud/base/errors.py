"""The only exception that callers of this package need to catch."""

from __future__ import annotations


class LocalCloudError(Exception):
    """A failure of the local cloud. The message is one line written for the user."""
