"""Reads and checks the values of a message's keys. Every function raises BadValue for a value that is not valid."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from distributed_something.worker.job.addresses import BadAddress, check_endpoint

MAX_JOB_SECONDS = 11 * 3600  # SQS ends the lease of a received message after 12 hours


class BadValue(ValueError):
    """A value that is not valid. The error message contains the key and the value."""


def read_text(message: Mapping[str, Any], key: str, default: str) -> str:
    """Return the key's text, which must not be empty."""
    value = message.get(key, default)
    if not isinstance(value, str) or not value:
        raise BadValue(f"`{key}` is {reprlib.repr(value)}, not a non-empty string")
    return value


def read_text_list(message: Mapping[str, Any], key: str) -> list[str]:
    """Return the key's list of texts; an empty one if the key is missing."""
    value = message.get(key, [])
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise BadValue(f"`{key}` is {reprlib.repr(value)}, not a list of non-empty strings")
    return value


def read_boolean(message: Mapping[str, Any], key: str) -> bool:
    """Return the key's Boolean; False if the key is missing."""
    value = message.get(key, False)
    if not isinstance(value, bool):  # any other value would be guesswork about where results go and who pays
        raise BadValue(f"`{key}` is {reprlib.repr(value)}, not true or false")
    return value


def read_file_count(message: Mapping[str, Any], key: str) -> int:
    """Return the key's number of files; 0 if the key is missing."""
    value = message.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadValue(f"`{key}` is {reprlib.repr(value)}, not a whole number of at least 0")
    return value


def read_timeout_seconds(message: Mapping[str, Any]) -> float:
    """Return the time limit in `timeout_minutes`, in seconds, or the maximum."""
    value = message.get("timeout_minutes", MAX_JOB_SECONDS / 60)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise BadValue(f"`timeout_minutes` is {reprlib.repr(value)}, not a number above 0")
    return min(value, MAX_JOB_SECONDS / 60) * 60.0


def read_endpoint(message: Mapping[str, Any], key: str, *, allow_unsafe: bool) -> str:
    """Return the address of the S3 server in the key, or "" for AWS, if the key is missing, empty, or null.

    `allow_unsafe`: as ALLOW_UNSAFE_INPUTS in the config.
    """
    value = message.get(key) or ""
    try:
        if not isinstance(value, str):
            raise BadAddress(f"{reprlib.repr(value)} is not the address of an S3 server")
        if value:
            check_endpoint(value, allow_unsafe=allow_unsafe)
    except BadAddress as error:
        raise BadValue(f"`{key}`: {error}") from None
    return value
