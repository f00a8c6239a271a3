"""Ctrl-C and other signals: none of them may leave a machine, a process, or a file behind."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, `kill`, and a closed terminal


@contextmanager
def raise_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt for each of these signals that is not ignored, so that the program can clean up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handle_signals(interrupt):
        yield


@contextmanager
def postpone_interrupts(report: Callable[[], None]) -> Iterator[None]:
    """Call `report` for each of these signals that is not ignored, and continue."""
    with _handle_signals(lambda number, frame: report()):
        yield


@contextmanager
def _handle_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    # nohup and shells ignore signals for programs that are to continue without their terminal.
    handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, old in former.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)  # None: C code set it, and Python cannot
