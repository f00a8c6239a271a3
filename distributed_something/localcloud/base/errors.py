"""The one error of this package, so that a caller needs one `except`."""

from __future__ import annotations


class LocalCloudError(Exception):
    """The cloud in this computer cannot do what was asked; the message is one line for the user."""
