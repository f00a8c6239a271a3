"""Explanations of AWS events, which depend on the events' data and not on printed text."""

from __future__ import annotations

import pytest

from distributed_something.aws import ec2_fleet
from distributed_something.aws.ec2_fleet import list_fleet_problems
from distributed_something.core.aws_errors import AWSEvent

QUOTA = AWSEvent(1.0, "launchSpecUnusable", "MaxSpotInstanceCountExceeded: no\n more")
UNKNOWN = AWSEvent(3.0, "error", "Hamster\tasleep")


def test_an_explanation_does_not_depend_on_how_it_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = list_fleet_problems([QUOTA, UNKNOWN])
    monkeypatch.setattr(ec2_fleet, "format_one_line", lambda text: "?")
    assert list_fleet_problems([QUOTA, UNKNOWN]) == problems
    assert [problem.pattern is None for problem in problems] == [False, True]
