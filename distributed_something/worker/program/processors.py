"""Restricts the worker's threads to one processor, because Python runs only one thread at a time.

If the threads used several processors, every switch between threads would wake another processor and refill its caches,
and short jobs would take about 50% longer. Two kinds of threads still use all processors: threads that transfer files,
because hashing and encryption run in parallel, and threads that run hooks, because programs started by a hook would
otherwise inherit the restriction. On systems other than Linux, these functions do nothing.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress


def _get_allowed_processors() -> Set[int]:
    return os.sched_getaffinity(0) if sys.platform == "linux" else frozenset()


_ALL_PROCESSORS = _get_allowed_processors()
# Chosen at random, because the containers on a machine cannot coordinate their choices.
_ONE_PROCESSOR = frozenset(random.sample(sorted(_ALL_PROCESSORS), min(1, len(_ALL_PROCESSORS))))


def use_one_processor() -> None:
    """Restrict the calling thread to one processor, the same for all threads that call this."""
    _set_allowed_processors(_ONE_PROCESSOR)


def use_all_processors() -> None:
    """Let the calling thread run on all processors."""
    _set_allowed_processors(_ALL_PROCESSORS)


@contextmanager
def run_on_all_processors() -> Iterator[None]:
    """Let the calling thread, and the programs that it starts, run on all processors inside the context."""
    before = _get_allowed_processors()
    use_all_processors()
    try:
        yield
    finally:
        _set_allowed_processors(before)


def _set_allowed_processors(processors: Set[int]) -> None:
    if sys.platform == "linux":
        with suppress(OSError):  # the container may no longer be allowed to use these processors
            os.sched_setaffinity(0, processors)
