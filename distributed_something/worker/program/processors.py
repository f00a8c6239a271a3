"""Which processors the worker's own threads run on: one, since Python lets one of them run at a time.

On several, each turn wakes another processor and moves what the interpreter has in its caches there, which costs a
short job half as much again. Hashing and encryption run beside Python: threads that move files use all processors. So
does what a developer wrote, as it may start programs, which inherit this. Elsewhere than on Linux nothing is done.
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
# At random: a machine's containers know nothing of each other.
_ONE_PROCESSOR = frozenset(random.sample(sorted(_ALL_PROCESSORS), min(1, len(_ALL_PROCESSORS))))


def use_one_processor() -> None:
    """From now on the calling thread shares one processor with all others that call this."""
    _set_allowed_processors(_ONE_PROCESSOR)


def use_all_processors() -> None:
    """From now on the calling thread runs wherever there is room."""
    _set_allowed_processors(_ALL_PROCESSORS)


@contextmanager
def run_on_all_processors() -> Iterator[None]:
    """All processors for the calling thread, and for what it starts."""
    before = _get_allowed_processors()
    use_all_processors()
    try:
        yield
    finally:
        _set_allowed_processors(before)


def _set_allowed_processors(processors: Set[int]) -> None:
    if sys.platform == "linux":
        with suppress(OSError):  # the container's own set may have changed
            os.sched_setaffinity(0, processors)
