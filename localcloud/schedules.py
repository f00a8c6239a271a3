"""EventBridge's schedules, played: rules with a rate call the Lambda functions that are their targets.

A minute of a rate lasts two seconds here, so that nobody waits at a desk. A call that still goes on is not joined by
another one of the same rule: the next is late.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from moto.awslambda.exceptions import UnknownFunctionException

from .functions import Call, Functions, input_of

MINUTE = 2.0
"""Seconds that a minute of a rule's rate lasts here."""

UNITS = {"minute": 1, "hour": 60, "day": 24 * 60}
"""Minutes of each."""

log = logging.getLogger(__name__)


class Schedules:
    """The rules of one region. `environment`: of a region, for boto3 in a function."""

    def __init__(
        self, events: Any, lambda_: Any, functions: Functions, environment: Callable[[str], dict[str, str]]
    ) -> None:
        self._events, self._lambda = events, lambda_
        self._functions, self._environment = functions, environment
        self._due: dict[str, float] = {}
        self._calls: dict[str, list[Call]] = {}

    def play(self, now: float) -> list[str]:
        """One step; names the rules that were deleted since the last one, and whose last calls have ended."""
        rules = {rule.name: rule for rule in self._rules()}
        for name, calls in list(self._calls.items()):
            self._calls[name] = [call for call in calls if not call.is_over(now)]
        for name, rule in rules.items():
            due = self._due.setdefault(name, now + period(rule.scheduled_expression))
            if now >= due and not self._calls.get(name):
                self._due[name] = now + period(rule.scheduled_expression)
                self._calls[name] = list(self._begin(rule, now))
        ended = [name for name in self._due if name not in rules and not self._calls.get(name)]
        for name in ended:
            del self._due[name]
        return ended

    def end(self) -> None:
        """Ends every call, now."""
        for call in (call for calls in self._calls.values() for call in calls):
            call.kill()

    def _rules(self) -> list[Any]:
        buses = list(self._events.event_buses.values())
        rules = [rule for bus in buses for rule in list(bus.rules.values())]
        return [rule for rule in rules if rule.state == "ENABLED" and period(rule.scheduled_expression)]

    def _begin(self, rule: Any, now: float) -> list[Call]:
        calls = []
        for target in rule.targets:
            if ":lambda:" not in target["Arn"]:
                continue
            try:
                function = self._lambda.get_function(target["Arn"])
            except UnknownFunctionException:
                log.error("the rule %s calls %s, which is not there", rule.name, target["Arn"])
                continue
            environment = self._environment(self._events.region_name)
            calls.append(self._functions.call(function, input_of(target), environment, now))
        return calls


def period(expression: str | None) -> float:
    """Seconds between two calls of `rate(N UNIT)`, here; 0 for what is no rate."""
    found = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression or "")
    return int(found[1]) * UNITS[found[2]] * MINUTE if found else 0.0
