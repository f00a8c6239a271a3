"""Tests that cleanup selects the machines to terminate by their fleet, never by the app's name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from distributed_something.observe.resources import FLEET_ID_TAG, ResourceKind
from distributed_something.run.cleanup.remove import CleanupRequest, delete_run_resources
from distributed_something.run.cleanup.report import CleanupReport, RemovedResource
from tests.support.account import Account, emulate_account
from tests.support.fakes import MONITOR_FILE, RUN, START, FakeTime, build_client_error
from tests.support.run_account import EMPTY_ACCOUNT

FLEET_ID = MONITOR_FILE.MONITOR_FLEET_ID
OTHER_FLEET = "sfr-0ffe0ffe"
NAMES = ["App", "fleet x", f"fleet {FLEET_ID}", f"fleet {OTHER_FLEET} and its", "other fleets ", "NOT REMOVED fleet"]


class NamedRun:
    """A run whose app name can be set, with one machine in its own fleet and one machine in another fleet."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.terminated: list[str] = []

    def clean_up(self, name: str, **cancellation: Any) -> CleanupReport:
        """Return the report; `cancellation` is EC2's response when the fleet is canceled."""
        tags = {"app": name, "run": RUN, "Name": f"{name}Worker"}
        fleet = {
            "SpotFleetRequestId": FLEET_ID, "SpotFleetRequestState": "active", "Tags": build_tag_list(tags),
            "SpotFleetRequestConfig": {"IamFleetRole": "role", "TargetCapacity": 1},
            "CreateTime": datetime.fromtimestamp(START, UTC),
        }  # fmt: skip
        machines = [
            {
                "InstanceId": instance,
                "State": {"Name": "running"},
                "Tags": build_tag_list(tags | {FLEET_ID_TAG: fleet_id}),
            }
            for instance, fleet_id in (("i-1", FLEET_ID), ("i-2", OTHER_FLEET))
        ]
        self.account.responses |= {
            "ec2.DescribeSpotFleetRequests": {"SpotFleetRequestConfigs": [fleet]},
            "ec2.DescribeSpotFleetInstances": {"ActiveInstances": [{"InstanceId": "i-1"}]},
            "ec2.CancelSpotFleetRequests": cancellation,
            "ec2.DescribeInstances": {"Reservations": [{"Instances": machines}]},
            "ec2.TerminateInstances": self._terminate,
            "s3.GetObject": build_client_error("NoSuchKey", "GetObject"),
            "events.RemoveTargets": build_client_error("ResourceNotFoundException", "RemoveTargets"),
        }
        file = replace(MONITOR_FILE, MONITOR_APP_NAME=name, MONITOR_QUEUE_NAME=name)
        return delete_run_resources(self.account.clients, CleanupRequest(file, "AppDead"), FakeTime().sleep)

    def _terminate(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.terminated += parameters["InstanceIds"]
        return {}


def build_tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


@pytest.fixture
def run() -> Iterator[NamedRun]:
    with emulate_account(EMPTY_ACCOUNT) as empty_account:
        yield NamedRun(empty_account)


@pytest.mark.parametrize("name", NAMES)
def test_machines_are_not_terminated_if_ec2_does_not_cancel_their_fleet(run: NamedRun, name: str) -> None:
    """The fleet would replace the machines."""
    error = {"Code": "unexpectedError", "Message": "not now"}
    report = run.clean_up(name, UnsuccessfulFleetRequests=[{"SpotFleetRequestId": FLEET_ID, "Error": error}])
    assert [failure.kind for failure in report.failed] == [ResourceKind.FLEET]
    assert run.terminated == []


@pytest.mark.parametrize("name", NAMES)
def test_only_machines_without_a_canceled_fleet_are_terminated(run: NamedRun, name: str) -> None:
    report = run.clean_up(name)
    assert report.failed == []
    assert report.removed == [
        RemovedResource(ResourceKind.FLEET, FLEET_ID, machines=1),
        RemovedResource(ResourceKind.MACHINE, "outside the fleet", count=1),
    ]
    assert run.terminated == ["i-2"]
