"""Which machines clean-up terminates depends on what happened to their fleet, never on how an app is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from distributed_something.observe.resources import FLEET_ID_TAG, ResourceKind
from distributed_something.run.cleanup.remove import CleanupRequest, delete_run_resources
from distributed_something.run.cleanup.report import CleanupReport, RemovedResource
from tests.support.account import Account, account
from tests.support.fakes import MONITOR_FILE, RUN, START, FakeTime, refused
from tests.support.run_account import EMPTY_ACCOUNT

FLEET_ID = MONITOR_FILE.MONITOR_FLEET_ID
OTHER_FLEET = "sfr-0ffe0ffe"
NAMES = ["App", "fleet x", f"fleet {FLEET_ID}", f"fleet {OTHER_FLEET} and its", "other fleets ", "NOT REMOVED fleet"]


class NamedRun:
    """A run whose app and queue have this name, with a machine of its fleet, and one that another fleet left."""

    def __init__(self, made: Account) -> None:
        self.account = made
        self.terminated: list[str] = []

    def clean(self, name: str, **cancelled: Any) -> CleanupReport:
        """`cancelled`: EC2's answer to the cancellation."""
        tags = {"app": name, "run": RUN, "Name": f"{name}Worker"}
        fleet = {
            "SpotFleetRequestId": FLEET_ID, "SpotFleetRequestState": "active", "Tags": pairs(tags),
            "SpotFleetRequestConfig": {"IamFleetRole": "role", "TargetCapacity": 1},
            "CreateTime": datetime.fromtimestamp(START, UTC),
        }  # fmt: skip
        machines = [
            {"InstanceId": instance, "State": {"Name": "running"}, "Tags": pairs(tags | {FLEET_ID_TAG: fleet_id})}
            for instance, fleet_id in (("i-1", FLEET_ID), ("i-2", OTHER_FLEET))
        ]
        self.account.answers |= {
            "ec2.DescribeSpotFleetRequests": {"SpotFleetRequestConfigs": [fleet]},
            "ec2.DescribeSpotFleetInstances": {"ActiveInstances": [{"InstanceId": "i-1"}]},
            "ec2.CancelSpotFleetRequests": cancelled,
            "ec2.DescribeInstances": {"Reservations": [{"Instances": machines}]},
            "ec2.TerminateInstances": self._terminate,
            "s3.GetObject": refused("NoSuchKey", "GetObject"),
            "events.RemoveTargets": refused("ResourceNotFoundException", "RemoveTargets"),
        }
        file = replace(MONITOR_FILE, MONITOR_APP_NAME=name, MONITOR_QUEUE_NAME=name)
        return delete_run_resources(self.account.clients, CleanupRequest(file, "AppDead"), FakeTime().sleep)

    def _terminate(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.terminated += asked["InstanceIds"]
        return {}


def pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


@pytest.fixture
def run() -> Iterator[NamedRun]:
    with account(EMPTY_ACCOUNT) as made:
        yield NamedRun(made)


@pytest.mark.parametrize("name", NAMES)
def test_a_fleet_that_ec2_does_not_cancel_keeps_its_machines_from_being_terminated(run: NamedRun, name: str) -> None:
    """It would only replace them."""
    error = {"Code": "unexpectedError", "Message": "not now"}
    report = run.clean(name, UnsuccessfulFleetRequests=[{"SpotFleetRequestId": FLEET_ID, "Error": error}])
    assert [failure.kind for failure in report.failed] == [ResourceKind.FLEET]
    assert run.terminated == []


@pytest.mark.parametrize("name", NAMES)
def test_just_the_machines_that_no_cancelled_fleet_ends_are_terminated(run: NamedRun, name: str) -> None:
    report = run.clean(name)
    assert report.failed == []
    assert report.removed == [
        RemovedResource(ResourceKind.FLEET, FLEET_ID, machines=1),
        RemovedResource(ResourceKind.MACHINE, "outside the fleet", count=1),
    ]
    assert run.terminated == ["i-2"]
