"""Batches for AWS calls, which accept a limited number of entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def split_into_batches(items: Sequence[_T], size: int) -> Iterator[list[_T]]:
    """Yield the items in lists of at most `size`."""
    for first in range(0, len(items), size):
        yield list(items[first : first + size])
