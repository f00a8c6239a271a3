"""What AWS's events mean: decided by AWS's own words, told once a cause."""

from __future__ import annotations

import pytest

from distributed_something.core import aws_errors
from distributed_something.core.aws_errors import (
    FLEET_FAILURE_PATTERNS,
    AWSEvent,
    FleetFailure,
    explain_fleet_events,
    find_failure_pattern,
    format_fleet_events,
    format_fleet_failure,
)

QUOTA = AWSEvent(1.0, "launchSpecUnusable", "MaxSpotInstanceCountExceeded: no\n more")
QUOTA_AGAIN = AWSEvent(2.0, "error", "VcpuLimitExceeded")
UNKNOWN = AWSEvent(3.0, "error", "Hamster\tasleep")


def test_each_cause_is_told_once_with_its_remedy_and_ec2s_first_words() -> None:
    quota, unknown = explain_fleet_events([QUOTA, QUOTA_AGAIN, UNKNOWN, UNKNOWN])
    assert quota.cause == "the account's quota of spot machines (virtual CPUs) is used up"
    assert quota.remedy.startswith("ask for more at Service Quotas")
    assert quota.words == "launchSpecUnusable: MaxSpotInstanceCountExceeded: no\n more"
    assert unknown == FleetFailure("error: Hamster\tasleep")
    assert format_fleet_failure(quota) == (
        f"{quota.cause} — {quota.remedy} (launchSpecUnusable: MaxSpotInstanceCountExceeded: no more)"
    )
    assert format_fleet_failure(unknown) == "error: Hamster asleep"


def test_the_cause_does_not_depend_on_how_it_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    causes = list(format_fleet_events([QUOTA, UNKNOWN]))
    monkeypatch.setattr(aws_errors, "format_one_line", lambda text: "?")
    assert list(format_fleet_events([QUOTA, UNKNOWN])) == causes


def test_a_line_end_in_awss_words_hides_nothing() -> None:
    found = find_failure_pattern(FLEET_FAILURE_PATTERNS, "error: the service-linked\n   role is missing")
    assert found is not None
    assert found.remedy.startswith("run once: aws iam create-service-linked-role")
