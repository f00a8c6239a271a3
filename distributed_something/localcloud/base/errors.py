"""The only exception that this package raises for its callers, so that they need one `except`."""

from __future__ import annotations


class LocalCloudError(Exception):
    """Failure of the local cloud. The message is one line, written for the user."""
