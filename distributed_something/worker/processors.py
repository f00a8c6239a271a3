"""Which processors a thread may use.

Python runs only one thread of a process at a time. If the threads use several processors, each switch between them
wakes another processor and refills its caches: the worker then runs 140 short jobs a second instead of 220, and
`submitJob` sends 8,000 messages a second instead of 10,800. Therefore, threads that send many requests share one
processor.

A thread or process starts with the processors of the thread that starts it. What really runs in parallel gets all of
them: programs, hooks (which may start programs), and transfers (whose hashing and encryption run outside of Python's
lock). On systems other than Linux, nothing is restricted.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress


def _get_processors() -> Set[int]:
    return os.sched_getaffinity(0) if sys.platform == "linux" else frozenset()


_ALL_PROCESSORS = _get_processors()
# Chosen at random, because a machine's containers cannot agree on who uses which.
_ONE_PROCESSOR = frozenset(random.sample(sorted(_ALL_PROCESSORS), min(1, len(_ALL_PROCESSORS))))


def use_one_processor() -> None:
    """Restrict the calling thread to one processor, the same one for all threads that call this function."""
    _set_processors(_ONE_PROCESSOR)


def use_all_processors() -> None:
    """Let the calling thread use all processors."""
    _set_processors(_ALL_PROCESSORS)


@contextmanager
def on_one_processor() -> Iterator[None]:
    """Restrict the calling thread, and the threads that are started inside the context, to one processor."""
    with _restore_processors():
        use_one_processor()
        yield


@contextmanager
def on_all_processors() -> Iterator[None]:
    """Let the calling thread, and the threads and processes that are started inside the context, use all processors."""
    with _restore_processors():
        use_all_processors()
        yield


@contextmanager
def _restore_processors() -> Iterator[None]:
    before = _get_processors()
    try:
        yield
    finally:
        _set_processors(before)


def _set_processors(processors: Set[int]) -> None:
    if sys.platform == "linux":
        with suppress(OSError):  # the container may no longer be allowed to use these processors
            os.sched_setaffinity(0, processors)
