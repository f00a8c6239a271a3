"""What is seen of machines: by EC2, page by page, and by the cluster that they have joined."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from distributed_something.observe.machines import (
    ContainerInstance,
    ObservedMachine,
    iter_idle_instances,
    iter_instances,
    observe_container_instances,
    parse_machine,
)
from tests.support.fakes import START, Exact, exact

FILTERS = [{"Name": "tag:app", "Values": ["App"]}]
AT_START = datetime.fromtimestamp(START, UTC)


@pytest.fixture
def aws() -> Iterator[Exact]:
    with exact() as made:
        yield made


def test_an_empty_page_is_not_the_last_one(aws: Exact) -> None:
    wanted = {"Filters": FILTERS, "MaxResults": 1000}
    aws.answer("ec2.describe_instances", wanted, Reservations=[], NextToken="more")
    reservations = [{"Instances": [{"InstanceId": "i-1"}]}, {"Instances": [{"InstanceId": "i-2"}]}]
    aws.answer("ec2.describe_instances", wanted | {"NextToken": "more"}, Reservations=reservations)
    found = [instance["InstanceId"] for instance in iter_instances(aws.clients.ec2, FILTERS)]
    assert found == ["i-1", "i-2"]


def test_no_further_page_is_asked_for_than_the_limit_allows(aws: Exact) -> None:
    reservations = [{"Instances": [{"InstanceId": f"i-{number}"}]} for number in range(5)]
    wanted = {"Filters": FILTERS, "MaxResults": 5}
    aws.answer("ec2.describe_instances", wanted, Reservations=reservations, NextToken="more")
    assert len(list(iter_instances(aws.clients.ec2, FILTERS, limit=5))) == 5
    assert aws.calls == ["ec2.DescribeInstances"]


def test_a_machine_that_has_ended_says_why_and_one_that_runs_does_not() -> None:
    described = {"InstanceId": "i-1", "State": {"Name": "running"}, "LaunchTime": AT_START}
    assert parse_machine(described) == ObservedMachine("i-1", "running", START, public=False)
    reason = {"Code": "Server.SpotInstanceTermination", "Message": "by EC2"}
    more = {"State": {"Name": "terminated"}, "StateReason": reason, "PublicIpAddress": "192.0.2.1"}
    ended = parse_machine(described | more)
    assert (ended.state, ended.end_code, ended.public) == ("terminated", "Server.SpotInstanceTermination", True)
    assert ended.why_ended == "Server.SpotInstanceTermination: by EC2"


def described(number: int, **more: Any) -> dict[str, Any]:
    return {"ec2InstanceId": f"i-{number}", "containerInstanceArn": f"arn:{number}", "agentConnected": True,
            "registeredAt": AT_START} | more  # fmt: skip


def test_a_container_instance_without_its_agent_is_not_connected_and_tasks_that_wait_count(aws: Exact) -> None:
    wanted = {"cluster": "app-cluster", "containerInstances": ["arn:1", "arn:2", "arn:3", "arn:4"]}
    answer = [
        described(1, runningTasksCount=1, pendingTasksCount=2),
        described(2, agentConnected=False),
        described(3, status="DRAINING"),
        described(4, status="DEREGISTERING"),
    ]
    aws.answer("ecs.describe_container_instances", wanted, containerInstances=answer)
    found = observe_container_instances(aws.clients.ecs, "app-cluster", wanted["containerInstances"])
    assert found == [
        ContainerInstance("i-1", "arn:1", 3, START),
        ContainerInstance("i-2", "arn:2", 0, START, connected=False),
        ContainerInstance("i-3", "arn:3", 0, START, draining=True),
    ]


def test_of_no_container_instances_nothing_is_asked(aws: Exact) -> None:
    assert observe_container_instances(aws.clients.ecs, "app-cluster", []) == []
    assert aws.calls == []


def test_in_a_cluster_that_is_gone_no_machine_is_idle(aws: Exact) -> None:
    wanted = {"cluster": "app-cluster", "filter": "runningTasksCount == 0", "maxResults": 100}
    aws.refuse("ecs.list_container_instances", "ClusterNotFoundException", wanted=wanted)
    assert list(iter_idle_instances(aws.clients.ecs, "app-cluster")) == []
