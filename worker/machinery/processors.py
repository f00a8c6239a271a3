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


def _allowed() -> Set[int]:
    return os.sched_getaffinity(0) if sys.platform == "linux" else frozenset()


_ALL = _allowed()
_ONE = frozenset(random.sample(sorted(_ALL), min(1, len(_ALL))))  # a machine's containers know nothing of each other


def keep_to_one() -> None:
    """From now on the calling thread shares one processor with all others that call this."""
    _keep_to(_ONE)


def use_all() -> None:
    """From now on the calling thread runs wherever there is room."""
    _keep_to(_ALL)


@contextmanager
def all_of_them() -> Iterator[None]:
    """All processors for the calling thread, and for what it starts."""
    before = _allowed()
    use_all()
    try:
        yield
    finally:
        _keep_to(before)


def _keep_to(processors: Set[int]) -> None:
    if sys.platform == "linux":
        with suppress(OSError):  # the container's own set may have changed
            os.sched_setaffinity(0, processors)
