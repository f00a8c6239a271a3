"""Reads the constants of config.py, which the container gets as environment variables."""

from __future__ import annotations

import os

from distributed_something.worker import BadMessage


def read_constant(name: str) -> str:
    """Return a constant, or "" if it is not set. The published config writes 'False' or '' then."""
    value = os.environ.get(name, "").strip()
    return "" if value.lower() == "false" else value


def is_true(name: str) -> bool:
    """Return whether a constant is 'True'. Raise BadMessage if it is neither 'True' nor 'False'."""
    value = read_constant(name)
    if value.lower() not in ("", "true"):
        raise BadMessage(f"config.py: {name}: {value!r} is neither 'True' nor 'False'; write one of the two")
    return bool(value)
