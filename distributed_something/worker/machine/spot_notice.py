"""Watches for EC2's word that this spot machine goes, about two minutes ahead, or is likely to go."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from distributed_something.worker.machine.metadata import InstanceMetadata

SPOT_CHECK_SECONDS = 5.0  # EC2's documentation recommends it
SPOT_NOTICE_SECONDS = 120.0  # between notice and end, which is all that EC2 promises
SPOT_NOTICE_PATH = "/latest/meta-data/spot/instance-action"
REBALANCE_PATH = "/latest/meta-data/events/recommendations/rebalance"
log = logging.getLogger("worker")


class SpotWatcher:
    """`on_notice` is told when the machine goes (seconds since 1970), once a notice; `on_rebalance` likewise.

    `now`: seconds since 1970. A callback that raises is called again in the next round.
    """

    def __init__(
        self,
        metadata: InstanceMetadata,
        on_notice: Callable[[float], None],
        on_rebalance: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        self._metadata, self._on_notice, self._on_rebalance, self._now = metadata, on_notice, on_rebalance, now
        self._told: set[tuple[str, datetime | None]] = set()

    def run(self, ended: threading.Event) -> None:
        """Looks every SPOT_CHECK_SECONDS until `ended`; not on EC2 it returns at once."""
        while self._metadata.is_on_ec2 and not ended.is_set():
            try:
                self.tick()
            except Exception:  # the loop's edge: without it the next notice would go unheard
                log.exception("a spot notice could not be handled: trying again in %.0f s", SPOT_CHECK_SECONDS)
            ended.wait(SPOT_CHECK_SECONDS)

    def tick(self) -> None:
        """Looks once. No answer counts as no notice: the next look is soon."""
        self._check_notice(SPOT_NOTICE_PATH, "time", lambda when: self._on_notice(self._compute_end_time(when)))
        self._check_notice(REBALANCE_PATH, "noticeTime", lambda _: self._on_rebalance())

    def _check_notice(self, path: str, key: str, tell: Callable[[datetime | None], None]) -> None:
        text = self._metadata.get(path)
        if text is None:
            return
        notice = path, _parse_notice_time(text, key)
        if notice not in self._told:
            tell(notice[1])
            self._told.add(notice)

    def _compute_end_time(self, when: datetime | None) -> float:
        """EC2 gives two minutes: a later time is a wrong clock, no time a broken notice."""
        latest = self._now() + SPOT_NOTICE_SECONDS
        return min(when.timestamp(), latest) if when else latest


def _parse_notice_time(text: str, key: str) -> datetime | None:
    """The time in a notice; None in a broken one, so that all broken ones count as the same."""
    try:
        when = datetime.fromisoformat(json.loads(text)[key])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return when.replace(tzinfo=when.tzinfo or UTC)
