"""Reads many small objects at a time, because a single request to S3 takes tens of milliseconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

READER_THREADS = 16
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def read_in_parallel(keys: Iterable[_Key], read: Callable[[_Key], _Value]) -> Iterator[tuple[_Key, _Value]]:
    """Yield each key with what `read` returns for it, in order. At most READER_THREADS results wait in memory."""
    waiting: deque[tuple[_Key, Future[_Value]]] = deque()
    with ThreadPoolExecutor(READER_THREADS) as pool:
        for key in keys:
            waiting.append((key, pool.submit(read, key)))
            if len(waiting) >= READER_THREADS:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()
