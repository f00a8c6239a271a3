"""Tests for observing machines: EC2 instances, page by page, and the cluster's container instances."""

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
    list_absent_ids,
    list_running_machines,
    observe_container_instances,
    parse_machine,
)
from tests.support.fakes import START, ExactClients, expect_exact_calls

FILTERS = [{"Name": "tag:app", "Values": ["App"]}]
AT_START = datetime.fromtimestamp(START, UTC)


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as stubbed_aws:
        yield stubbed_aws


def test_pages_after_an_empty_page_are_read(aws: ExactClients) -> None:
    query = {"Filters": FILTERS, "MaxResults": 1000}
    aws.expect_call("ec2.describe_instances", query, Reservations=[], NextToken="more")
    reservations = [{"Instances": [{"InstanceId": "i-1"}]}, {"Instances": [{"InstanceId": "i-2"}]}]
    aws.expect_call("ec2.describe_instances", query | {"NextToken": "more"}, Reservations=reservations)
    ids = [instance["InstanceId"] for instance in iter_instances(aws.clients.ec2, FILTERS)]
    assert ids == ["i-1", "i-2"]


def test_no_pages_beyond_the_limit_are_read(aws: ExactClients) -> None:
    reservations = [{"Instances": [{"InstanceId": f"i-{number}"}]} for number in range(5)]
    query = {"Filters": FILTERS, "MaxResults": 5}
    aws.expect_call("ec2.describe_instances", query, Reservations=reservations, NextToken="more")
    assert len(list(iter_instances(aws.clients.ec2, FILTERS, limit=5))) == 5
    assert aws.calls == ["ec2.DescribeInstances"]


def test_only_a_terminated_machine_has_an_end_code_and_reason() -> None:
    described = {"InstanceId": "i-1", "State": {"Name": "running"}, "LaunchTime": AT_START}
    assert parse_machine(described) == ObservedMachine("i-1", "running", START, has_public_address=False)
    reason = {"Code": "Server.SpotInstanceTermination", "Message": "by EC2"}
    termination = {"State": {"Name": "terminated"}, "StateReason": reason, "PublicIpAddress": "192.0.2.1"}
    machine = parse_machine(described | termination)
    assert (machine.state, machine.end_code, machine.has_public_address) == (
        "terminated",
        "Server.SpotInstanceTermination",
        True,
    )
    assert machine.end_reason == "Server.SpotInstanceTermination: by EC2"


def describe_container_instance(number: int, **fields: Any) -> dict[str, Any]:
    return {"ec2InstanceId": f"i-{number}", "containerInstanceArn": f"arn:{number}", "agentConnected": True,
            "registeredAt": AT_START} | fields  # fmt: skip


def test_container_instances_are_parsed_with_connection_state_and_task_count(
    aws: ExactClients,
) -> None:
    query = {"cluster": "app-cluster", "containerInstances": ["arn:1", "arn:2", "arn:3", "arn:4"]}
    response = [
        describe_container_instance(1, runningTasksCount=1, pendingTasksCount=2),
        describe_container_instance(2, agentConnected=False),
        describe_container_instance(3, status="DRAINING"),
        describe_container_instance(4, status="DEREGISTERING"),
    ]
    aws.expect_call("ecs.describe_container_instances", query, containerInstances=response)
    instances = observe_container_instances(aws.clients.ecs, "app-cluster", query["containerInstances"])
    assert instances == [
        ContainerInstance("i-1", "arn:1", 3, START),
        ContainerInstance("i-2", "arn:2", 0, START, is_connected=False),
        ContainerInstance("i-3", "arn:3", 0, START, is_draining=True),
    ]


def test_an_empty_list_of_container_instances_needs_no_call(aws: ExactClients) -> None:
    assert observe_container_instances(aws.clients.ecs, "app-cluster", []) == []
    assert aws.calls == []


def test_a_missing_cluster_has_no_idle_machines(aws: ExactClients) -> None:
    query = {"cluster": "app-cluster", "filter": "runningTasksCount == 0", "maxResults": 100}
    aws.expect_error("ecs.list_container_instances", "ClusterNotFoundException", request=query)
    assert list(iter_idle_instances(aws.clients.ecs, "app-cluster")) == []


def test_machines_that_are_not_in_the_cluster_are_found_with_one_query_per_50_of_them(aws: ExactClients) -> None:
    ids = [f"i-{number}" for number in range(60)]
    for batch, joined in ((ids[:50], range(48)), (ids[50:], ())):
        names = ", ".join(f"'{instance}'" for instance in batch)
        arns = [f"arn:{number}" for number in joined]
        query = {"cluster": "app-cluster", "filter": f"ec2InstanceId in [{names}]", "maxResults": 100}
        aws.expect_call("ecs.list_container_instances", query, containerInstanceArns=arns)
        if arns:
            described = [describe_container_instance(number) for number in joined]
            request = {"cluster": "app-cluster", "containerInstances": arns}
            aws.expect_call("ecs.describe_container_instances", request, containerInstances=described)
    assert list_absent_ids(aws.clients.ecs, "app-cluster", ids) == ids[48:]


def test_the_launch_times_of_running_machines_are_read_with_200_ids_a_call(aws: ExactClients) -> None:
    ids = [f"i-{number}" for number in range(201)]
    for batch in (ids[:200], ids[200:]):
        filters = [
            {"Name": "instance-id", "Values": batch}, {"Name": "instance-state-name", "Values": ["running"]}
        ]  # fmt: skip
        described = {"InstanceId": batch[0], "State": {"Name": "running"}, "LaunchTime": AT_START}
        reservations = [{"Instances": [described]}]
        aws.expect_call("ec2.describe_instances", {"Filters": filters, "MaxResults": 1000}, Reservations=reservations)
    machines = list_running_machines(aws.clients.ec2, ids)
    assert [(machine.id, machine.launch_time) for machine in machines] == [("i-0", START), ("i-200", START)]
