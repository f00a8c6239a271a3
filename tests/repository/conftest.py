"""These tests parse all modules, during which the garbage collector must not run."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """Stop the garbage collector: in CPython 3.11, `ast.parse` can fail with SystemError if it runs finalizers.

    The reason is that both use one count of the depth (CPython issue 106905).
    """
    gc.disable()
    yield
    gc.enable()
