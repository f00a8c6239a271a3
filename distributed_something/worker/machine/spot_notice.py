"""Watches for EC2's notices that this spot machine will soon be terminated, or is at elevated risk of interruption."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from distributed_something.worker.machine.metadata import InstanceMetadata

SPOT_CHECK_SECONDS = 5.0  # as EC2's documentation recommends
SPOT_NOTICE_SECONDS = 120.0  # the time that EC2 promises between the notice and the machine's end
SPOT_NOTICE_PATH = "/latest/meta-data/spot/instance-action"
REBALANCE_PATH = "/latest/meta-data/events/recommendations/rebalance"
log = logging.getLogger("worker")


class SpotWatcher:
    """Watches for spot notices and rebalance recommendations, and reports each of them once.

    `on_notice` is called with the time when the machine is terminated (seconds since 1970), `on_rebalance` without
    arguments. A callback that raises an error is called again in the next round. `now()` returns the seconds since
    1970.
    """

    def __init__(
        self,
        metadata: InstanceMetadata,
        on_notice: Callable[[float], None],
        on_rebalance: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        self._metadata, self._on_notice, self._on_rebalance, self._now = metadata, on_notice, on_rebalance, now
        self._handled_notices: set[tuple[str, datetime | None]] = set()

    def run(self, ended: threading.Event) -> None:
        """Check for notices every SPOT_CHECK_SECONDS until `ended`. Outside EC2, return at once."""
        while self._metadata.is_on_ec2 and not ended.is_set():
            try:
                self.tick()
            except Exception:  # otherwise this thread would end and miss the next notice
                log.exception("a spot notice could not be handled; retrying in %.0f s", SPOT_CHECK_SECONDS)
            ended.wait(SPOT_CHECK_SECONDS)

    def tick(self) -> None:
        """Check once. A missing response counts as no notice, because the next check follows soon."""
        self._check_notice(SPOT_NOTICE_PATH, "time", lambda end: self._on_notice(self._compute_end_time(end)))
        self._check_notice(REBALANCE_PATH, "noticeTime", lambda _: self._on_rebalance())

    def _check_notice(self, path: str, key: str, handle: Callable[[datetime | None], None]) -> None:
        text = self._metadata.get(path)
        if text is None:
            return
        notice = path, _parse_notice_time(text, key)
        if notice not in self._handled_notices:
            handle(notice[1])
            self._handled_notices.add(notice)

    def _compute_end_time(self, announced: datetime | None) -> float:
        """Return when the machine is terminated:

        at most two minutes from now, even if the clock or the notice is wrong.
        """
        latest = self._now() + SPOT_NOTICE_SECONDS
        return min(announced.timestamp(), latest) if announced else latest


def _parse_notice_time(text: str, key: str) -> datetime | None:
    """Return the time in a notice; None if the notice is broken, so that all broken notices count as the same one."""
    try:
        time = datetime.fromisoformat(json.loads(text)[key])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return time.replace(tzinfo=time.tzinfo or UTC)
