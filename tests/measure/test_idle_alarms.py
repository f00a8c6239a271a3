"""Idle alarms of many machines that arrive together, with CloudWatch's limit on how often alarms can be created."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from distributed_something.worker.machine.idle_alarm import RETRY_SECONDS, iter_retry_pauses

CALLS_PER_SECOND = 3  # of PutMetricAlarm, in an account and region
BOTOCORE_ATTEMPTS, MAX_BOTOCORE_PAUSE_SECONDS = 8, 20.0  # the worker's clients: "standard" mode
ARRIVAL_SECONDS = 60.0  # in which all machines of a fleet start


class AlarmCaller:
    """The calls that `ensure_idle_alarm` makes in one container. botocore attempts each call several times."""

    def __init__(self, machine: int, choose: random.Random) -> None:
        self.machine, self._choose = machine, choose
        self._pauses, self._attempts = iter_retry_pauses(choose.random), 0

    def choose_pause(self) -> float | None:
        """Return the seconds until the attempt after a throttled one, or None if there are no more."""
        self._attempts += 1
        if self._attempts % BOTOCORE_ATTEMPTS:
            longest = min(2.0 ** (self._attempts % BOTOCORE_ATTEMPTS - 1), MAX_BOTOCORE_PAUSE_SECONDS)
            return self._choose.random() * longest
        return next(self._pauses, None)


def list_alarm_times(machines: int, containers: int, seed: int) -> dict[int, float]:
    """Return when each machine got its alarm, in seconds; machines whose calls all failed are missing."""
    choose = random.Random(seed)
    callers = [AlarmCaller(number // containers, choose) for number in range(machines * containers)]
    events = [(choose.random() * ARRIVAL_SECONDS, number) for number in range(len(callers))]
    heapq.heapify(events)
    accepted: Counter[int] = Counter()  # calls in each second
    alarms: dict[int, float] = {}
    while events:
        at, number = heapq.heappop(events)
        if accepted[int(at)] < CALLS_PER_SECOND:
            accepted[int(at)] += 1
            alarms.setdefault(callers[number].machine, at)
        elif (pause := callers[number].choose_pause()) is not None:
            heapq.heappush(events, (at + pause, number))
    return alarms


@pytest.mark.parametrize("containers", [1, 4])
def test_1000_machines_that_arrive_together_all_get_an_idle_alarm_within_the_hour(containers: int) -> None:
    for seed in range(3):
        alarms = list_alarm_times(1000, containers, seed)
        assert len(alarms) == 1000
        assert max(alarms.values()) <= RETRY_SECONDS
