"""Tests the lists of resources that remain from a run, from all runs, and from older runs, with and without delays."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.core.names import build_monitor_rule_name
from distributed_something.core.text import TERMINAL_COLUMNS
from distributed_something.observe.resources import ResourceKind, ResourceState, format_resource
from distributed_something.run.cleanup.find_run import NO_FLEET_ID, recover_monitor_file
from distributed_something.run.cleanup.inventory import (
    ENDING_WAIT_SECONDS,
    REMAINING_WAIT_SECONDS,
    Inventory,
    RunNames,
    format_inventory,
    observe_all_resources,
    observe_run_resources,
    wait_for_removal,
)
from distributed_something.run.cleanup.orphans import (
    delete_orphans,
    find_orphans,
    format_orphan_removal,
    format_orphans,
)
from distributed_something.run.cleanup.report import format_cleanup_report
from distributed_something.run.dashboard import build_dashboard
from distributed_something.worker.machine.idle_alarm import build_alarm_request
from tests.support.account import Account, emulate_account
from tests.support.emulated_runs import RunFactory, build_tags, emulated_account
from tests.support.fakes import (
    MISSING_QUEUE,
    MONITOR_FILE,
    QUEUE_URL,
    RUN,
    SETTINGS,
    START,
    FakeTime,
    build_queue_counts,
)
from tests.support.run_account import EMPTY_ACCOUNT

FLEET_ID = MONITOR_FILE.MONITOR_FLEET_ID
NAMES = RunNames(MONITOR_FILE, "AppDead")


def join_rows(text: str) -> list[str]:
    """Return the labeled lines of a text, each without its line breaks, after checking that they fit a terminal."""
    assert max(map(len, text.splitlines())) <= TERMINAL_COLUMNS, text
    joined = re.sub(r" \\\n +", " ", text)  # of a command
    return re.sub(r"\n +", " ", joined).splitlines()


OLDER_RUN = "20260101T000000Z"


@pytest.fixture
def clients() -> Iterator[Clients]:
    with emulated_account() as clients:
        yield clients


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def runs(clients: Clients) -> RunFactory:
    return RunFactory(clients)


def count_kinds(
    inventory: Inventory, state: ResourceState = ResourceState.REMAINING, app: str = "App"
) -> dict[str, int]:
    kinds = [resource.kind for resource in inventory.filter_by_state(state) if resource.app == app]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


RESOURCES_OF_A_RUN = {
    "alarm": 2, "cluster": 1, "dashboard": 1, "fleet": 1, "launch template": 1, "machine": 2, "queue": 2, "rule": 1,
    "service": 1, "task definition": 1, "volume": 1,
}  # fmt: skip


# Scenarios


def test_all_resources_of_an_active_run_appear_in_both_inventories(runs: RunFactory) -> None:
    fleet_id = runs.create_run()
    for inventory in (
        observe_run_resources(runs.clients, runs.build_names("App", fleet_id)),
        observe_all_resources(runs.clients),
    ):
        assert inventory.unchecked_parts == []
        assert count_kinds(inventory) == RESOURCES_OF_A_RUN
        assert not inventory.is_clean


def test_a_cleanup_deletes_everything_from_the_run_and_another_run_stays_unchanged(
    runs: RunFactory, time: FakeTime
) -> None:
    fleet_id = runs.create_run()
    runs.create_run("AppTwo")
    names = runs.build_names("App", fleet_id)
    report = runs.clean_up(names)
    assert report.failed == []
    inventory = wait_for_removal(runs.clients, names, time.sleep)
    assert inventory.is_clean, format_inventory(inventory)
    assert format_inventory(inventory) == "nothing is left"
    assert not wait_for_removal(runs.clients, None, time.sleep).is_clean, "the other run still exists"
    all_runs = observe_all_resources(runs.clients)
    assert count_kinds(all_runs) == {}
    assert count_kinds(all_runs, app="AppTwo") == RESOURCES_OF_A_RUN
    assert runs.clean_up(names).removed == [], "a second cleanup finds nothing"


def test_a_cleanup_from_another_computer_needs_only_the_config(runs: RunFactory, time: FakeTime) -> None:
    """If there is no monitor file and no copy in the bucket, cleanup uses the names from the config and the tags."""
    runs.create_run()
    settings = SETTINGS.model_copy(update={
        "SQS_DEAD_LETTER_QUEUE": "AppDeadMessages", "ECS_CLUSTER": "App-cluster", "SQS_QUEUE_NAME": "AppQueue"
    })  # fmt: skip
    file = recover_monitor_file(runs.clients, settings, time.now)
    names = RunNames(file, "AppDeadMessages")
    assert runs.clean_up(names, whole_app=True).failed == []
    assert wait_for_removal(runs.clients, names, time.sleep).is_clean
    assert observe_all_resources(runs.clients).is_clean
    assert file.run == RUN, "the run name comes from the fleet's tag"
    second_file = recover_monitor_file(runs.clients, settings, time.now)
    assert second_file.MONITOR_FLEET_ID == NO_FLEET_ID
    assert runs.clean_up(RunNames(second_file, "AppDeadMessages"), whole_app=True).removed == []


def test_a_whole_app_cleanup_ends_both_of_its_fleets(runs: RunFactory) -> None:
    fleet_id = runs.create_run()
    runs.create_fleet("App", run=OLDER_RUN)
    names = runs.build_names("App", fleet_id)
    report = runs.clean_up(names, whole_app=True)
    assert len(report.list_removed(ResourceKind.FLEET)) == 2
    assert count_kinds(observe_run_resources(runs.clients, names)) == {}


def test_only_failed_jobs_are_kept(runs: RunFactory) -> None:
    names = runs.build_names("App", runs.create_run())
    url = runs.clients.sqs.get_queue_url(QueueName="AppDeadMessages")["QueueUrl"]
    runs.clients.sqs.send_message(QueueUrl=url, MessageBody="{}")
    expected = "kept dead-letter queue AppDeadMessages (it is not empty; cleanup --failed-too deletes it)"
    assert expected in " ".join(format_cleanup_report(runs.clean_up(names)).split())
    for inventory in (observe_run_resources(runs.clients, names), observe_all_resources(runs.clients)):
        assert inventory.is_clean
        assert [format_resource(resource) for resource in inventory.filter_by_state(ResourceState.KEPT)] == [
            "queue AppDeadMessages (app App, holds 1 failed job)"
        ]
    assert runs.clean_up(names, failed_too=True).list_removed(ResourceKind.DEAD_LETTER_QUEUE) == ["AppDeadMessages"]
    assert observe_run_resources(runs.clients, names).resources == []


def test_a_remaining_queue_is_listed_with_its_job_count(runs: RunFactory) -> None:
    runs.create_run(jobs=3)
    assert "REMAINING       queue AppQueue (app App, holds 3 jobs)" in format_inventory(
        observe_all_resources(runs.clients)
    )


def test_foreign_resources_with_the_tag_app_do_not_count_as_remaining(runs: RunFactory) -> None:
    """The tag `app` is common, so it does not prove that a resource belongs to this package."""
    runs.clients.sqs.create_queue(QueueName="orders", tags={"app": "webshop"})
    runs.clients.ecs.create_cluster(clusterName="shop", tags=[{"key": "app", "value": "webshop"}])
    runs.clients.cloudwatch.put_metric_alarm(
        AlarmName="webshop_i-0123456789abcdef0", Namespace="AWS/EC2", MetricName="CPUUtilization", Statistic="Maximum",
        Dimensions=[{"Name": "InstanceId", "Value": "i-0123456789abcdef0"}], Period=300, EvaluationPeriods=3,
        Threshold=1, ComparisonOperator="LessThanThreshold", AlarmActions=["arn:aws:sns:us-east-1:123456789012:mail"],
    )  # fmt: skip
    tags: Any = [{"key": "app", "value": "webshop"}]
    containers: Any = [{"name": "shop", "image": "shop", "memory": 100}]
    for family in ("webshopTask", "shop"):
        runs.clients.ecs.register_task_definition(family=family, containerDefinitions=containers, tags=tags)
    runs.clients.ecs.create_service(cluster="shop", serviceName="webshopService", taskDefinition="shop", tags=tags)
    inventory = observe_all_resources(runs.clients)
    assert inventory.is_clean
    assert count_kinds(inventory, ResourceState.UNKNOWN, "webshop") == {"cluster": 1, "queue": 1}
    assert find_orphans(runs.clients, compute_later).orphans == []
    assert "unknown origin  queue orders (app webshop, empty)" in format_inventory(inventory)


FOREIGN_FLEETS: tuple[tuple[str, dict[str, str]], ...] = (
    ("active", {"app": "webshop"}),
    ("active", {"app": "webshop", "run": "nightly"}),
    ("active", {"app": "webshop", "run": "20261399T104500Z"}),
    ("cancelled_terminating", {"app": "webshop"}),
)


@pytest.mark.parametrize(("state", "tags"), FOREIGN_FLEETS)
def test_a_foreign_fleet_with_the_tag_app_is_neither_an_orphan_nor_remaining(
    empty_account: Account, state: str, tags: dict[str, str]
) -> None:
    """Only a fleet whose tag `run` is a valid run name is ours. (Canceling a fleet terminates its machines.)"""
    foreign_fleet = build_fleet(state, Tags=build_tags(**tags))
    ending_machine = {"InstanceId": "i-0", "State": {"Name": "shutting-down"}, "Tags": build_tags(app="webshop")}
    empty_account.responses["ec2.DescribeSpotFleetRequests"] = {"SpotFleetRequestConfigs": [foreign_fleet]}
    empty_account.responses["ec2.DescribeInstances"] = {"Reservations": [{"Instances": [ending_machine]}]}
    empty_account.responses["ecs.DescribeTaskDefinition"] = build_missing_error(
        "DescribeTaskDefinition", "ClientException"
    )
    report = find_orphans(empty_account.clients, lambda: START + 7200)
    assert [orphan for orphan in report.orphans if orphan.kind == "fleet"] == []
    inventory = observe_all_resources(empty_account.clients)
    assert inventory.is_clean
    assert count_kinds(inventory, ResourceState.UNKNOWN, "webshop") == {"fleet": 1, "machine": 1}


# Delayed responses from AWS


def build_fleet(state: str = "active", **changes: Any) -> dict[str, Any]:
    return {"SpotFleetRequestId": FLEET_ID, "SpotFleetRequestState": state, "Tags": build_tags(app="App", run=RUN),
            "SpotFleetRequestConfig": {"IamFleetRole": "role", "TargetCapacity": 3},
            "CreateTime": datetime.fromtimestamp(START, UTC), **changes}  # fmt: skip


def build_machine(state: str, name: str = "i-0a", **tags: str) -> dict[str, Any]:
    machine_tags = build_tags(app="App", run=RUN, Name="AppWorker", **tags)
    machine_tags.append({"Key": "aws:ec2spot:fleet-request-id", "Value": FLEET_ID})
    return {"Reservations": [{"Instances": [{"InstanceId": name, "State": {"Name": state}, "Tags": machine_tags}]}]}


def build_missing_error(call: str, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "none"}}, call)


@pytest.fixture
def empty_account() -> Iterator[Account]:
    with emulate_account(EMPTY_ACCOUNT) as aws_account:
        yield aws_account


class ResponseSequence:
    """Responses to consecutive calls; the last response repeats."""

    def __init__(self, *responses: Any) -> None:
        self.responses = list(responses)

    def __call__(self, parameters: dict[str, Any]) -> Any:
        response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        if isinstance(response, BaseException):
            raise response
        return response


def test_an_empty_account_is_clean_after_one_check_with_12_calls(empty_account: Account, time: FakeTime) -> None:
    inventory = wait_for_removal(empty_account.clients, NAMES, time.sleep)
    assert (inventory.is_clean, time.slept) == (True, [])
    assert len(empty_account.calls) == 12
    expected = {"Filters": [{"Name": "tag:app", "Values": ["App"]}]}
    assert empty_account.get_parameters("ec2.DescribeLaunchTemplates") == expected
    assert empty_account.get_parameters("events.ListRules") == {"NamePrefix": "distributed-something-App"}


def test_a_volume_that_the_fleet_file_says_to_keep_does_not_count_as_remaining(
    empty_account: Account, time: FakeTime
) -> None:
    tags = build_tags(app="App", run=RUN, Name="AppWorker", keep="DeleteOnTermination is false")
    empty_account.responses["ec2.DescribeVolumes"] = {"Volumes": [{"VolumeId": "vol-0", "Tags": tags}]}
    inventory = wait_for_removal(empty_account.clients, NAMES, time.sleep)
    expected = f"kept            volume vol-0 (app App, run {RUN}, kept, as the Fleet file requests)"
    assert join_rows(format_inventory(inventory)) == [expected, "nothing is left"]


def test_verification_waits_for_a_fleet_and_a_machine_that_are_ending(empty_account: Account, time: FakeTime) -> None:
    fleets = [
        {"SpotFleetRequestConfigs": [build_fleet(state)]} for state in ("active", "cancelled_terminating", "cancelled")
    ]
    empty_account.responses["ec2.DescribeSpotFleetRequests"] = ResponseSequence(*fleets)
    no_machines: dict[str, Any] = {"Reservations": []}
    empty_account.responses["ec2.DescribeInstances"] = ResponseSequence(
        build_machine("running"), build_machine("running"), build_machine("shutting-down"), no_machines
    )
    inventory = wait_for_removal(empty_account.clients, NAMES, time.sleep)
    assert inventory.is_clean
    assert time.slept == [10.0] * 3


def test_a_machine_that_keeps_running_is_reported_after_a_minute(empty_account: Account, time: FakeTime) -> None:
    empty_account.responses["ec2.DescribeInstances"] = build_machine("running")
    inventory = wait_for_removal(empty_account.clients, NAMES, time.sleep)
    assert format_inventory(inventory) == f"REMAINING       machine i-0a (app App, run {RUN}, running)"
    assert sum(time.slept) == REMAINING_WAIT_SECONDS


def test_a_fleet_that_does_not_end_is_reported_after_five_minutes(empty_account: Account, time: FakeTime) -> None:
    empty_account.responses["ec2.DescribeSpotFleetRequests"] = {
        "SpotFleetRequestConfigs": [build_fleet("cancelled_terminating")]
    }
    empty_account.responses["ec2.DescribeInstances"] = build_machine("running")
    inventory = wait_for_removal(empty_account.clients, NAMES, time.sleep)
    assert count_kinds(inventory, ResourceState.ENDING) == {"fleet": 1, "machine": 1}
    assert not inventory.is_clean
    assert sum(time.slept) == ENDING_WAIT_SECONDS


def test_a_queue_that_was_just_deleted_does_not_count_as_remaining(empty_account: Account, time: FakeTime) -> None:
    empty_account.responses["sqs.GetQueueUrl"] = {"QueueUrl": QUEUE_URL}
    empty_account.responses["sqs.GetQueueAttributes"] = build_missing_error("GetQueueAttributes", MISSING_QUEUE)
    assert wait_for_removal(empty_account.clients, NAMES, time.sleep).is_clean
    empty_account.responses["sqs.ListQueues"] = {"QueueUrls": [QUEUE_URL]}
    empty_account.responses["sqs.ListQueueTags"] = ResponseSequence(
        build_missing_error("ListQueueTags", MISSING_QUEUE), {"Tags": {"app": "App"}}
    )
    for _ in range(2):
        assert observe_all_resources(empty_account.clients).resources == []


def test_without_permission_to_list_a_kind_the_inventory_is_not_clean(empty_account: Account, time: FakeTime) -> None:
    empty_account.refuse_call("cloudwatch.DescribeAlarms", "AccessDenied")
    inventory = wait_for_removal(empty_account.clients, NAMES, time.sleep)
    assert not inventory.is_clean
    (part,) = inventory.unchecked_parts
    assert part.is_denied
    (line,) = join_rows(format_inventory(inventory))
    assert line.startswith("NOT CHECKED     ")
    assert "looking for alarms: AccessDenied" in line
    assert "events.ListRules" in empty_account.calls, "the kinds that follow are still listed"
    assert time.slept == [], "waiting does not help if a permission is missing"


def test_a_throttled_call_is_retried(empty_account: Account, time: FakeTime) -> None:
    throttling = build_missing_error("DescribeVolumes", "RequestLimitExceeded")
    empty_account.responses["ec2.DescribeVolumes"] = ResponseSequence(throttling, {"Volumes": []})
    assert wait_for_removal(empty_account.clients, NAMES, time.sleep).is_clean
    assert time.slept == [10.0]


def test_all_pages_of_all_responses_are_read(empty_account: Account) -> None:
    """The only resource of each kind is on the second page."""
    arn = "arn:aws:ecs:us-east-1:123456789012"

    def build_pages(key: str, token: str, **second_page: Any) -> Any:
        def respond(parameters: dict[str, Any]) -> Any:
            return second_page if parameters.get(token) == "more" else {key: [], token: "more"}

        return respond

    volume = {"VolumeId": "vol-0", "Tags": build_tags(app="App", run=RUN)}
    template = {"LaunchTemplateId": "lt-0", "LaunchTemplateName": f"App-{RUN}", "Tags": build_tags(app="App")}
    empty_account.responses |= {
        "ec2.DescribeSpotFleetRequests": build_pages(
            "SpotFleetRequestConfigs", "NextToken", SpotFleetRequestConfigs=[build_fleet()]
        ),
        "ec2.DescribeInstances": build_pages("Reservations", "NextToken", **build_machine("running")),
        "ec2.DescribeVolumes": build_pages("Volumes", "NextToken", Volumes=[volume]),
        "ec2.DescribeLaunchTemplates": build_pages("LaunchTemplates", "NextToken", LaunchTemplates=[template]),
        "sqs.ListQueues": build_pages("QueueUrls", "NextToken", QueueUrls=[QUEUE_URL]),
        "sqs.ListQueueTags": {"Tags": {"app": "App"}},
        "sqs.ListDeadLetterSourceQueues": build_pages("queueUrls", "NextToken", queueUrls=[QUEUE_URL]),
        "sqs.GetQueueAttributes": {"Attributes": build_queue_counts()},
        "ecs.ListClusters": build_pages("clusterArns", "nextToken", clusterArns=[f"{arn}:cluster/app-cluster"]),
        "ecs.DescribeClusters": {
            "clusters": [{"clusterName": "app-cluster", "status": "ACTIVE", "tags": [{"key": "app", "value": "App"}]}]
        },
        "ecs.ListServices": build_pages(
            "serviceArns", "nextToken", serviceArns=[f"{arn}:service/app-cluster/AppService"]
        ),
        "ecs.DescribeServices": {
            "services": [
                {
                    "serviceName": "AppService",
                    "status": "DRAINING",
                    "runningCount": 1,
                    "taskDefinition": f"{arn}:task-definition/AppTask:7",
                    "tags": [{"key": "app", "value": "App"}],
                }
            ]
        },
        "ecs.ListTaskDefinitions": build_pages(
            "taskDefinitionArns", "nextToken", taskDefinitionArns=[f"{arn}:task-definition/AppTask:7"]
        ),
        "ecs.DescribeTaskDefinition": {
            "taskDefinition": {
                "containerDefinitions": [{"environment": [{"name": "SQS_QUEUE_URL", "value": QUEUE_URL}]}]
            },
            "tags": [{"key": "app", "value": "App"}],
        },
        "cloudwatch.DescribeAlarms": build_pages(
            "MetricAlarms", "NextToken", MetricAlarms=[build_alarm("App", "i-0a")]
        ),
        "cloudwatch.ListDashboards": build_pages(
            "DashboardEntries", "NextToken", DashboardEntries=[{"DashboardName": "App"}]
        ),
        "cloudwatch.GetDashboard": {"DashboardBody": json.dumps(build_dashboard(SETTINGS, FLEET_ID))},
        "events.ListRules": build_pages("Rules", "NextToken", Rules=[{"Name": build_monitor_rule_name("App")}]),
    }
    inventory = observe_all_resources(empty_account.clients)
    assert inventory.unchecked_parts == []
    assert count_kinds(inventory) == {
        "alarm": 1, "cluster": 1, "dashboard": 1, "fleet": 1, "launch template": 1, "machine": 1, "queue": 1, "rule": 1,
        "task definition": 1, "volume": 1,
    }  # fmt: skip
    assert count_kinds(inventory, ResourceState.ENDING) == {"service": 1}


def build_alarm(app: str, machine_id: str) -> dict[str, Any]:
    request = build_alarm_request(app, machine_id, "us-east-1", "aws", 2)
    return {key: value for key, value in request.items() if key != "Tags"}


# Older runs


def compute_later(hours: float = 48) -> float:
    return (datetime.now(UTC) + timedelta(hours=hours)).timestamp()


def test_an_active_run_has_no_orphans(runs: RunFactory) -> None:
    runs.create_run(jobs=1)
    report = find_orphans(runs.clients, compute_later)
    assert (report.orphans, report.unchecked_parts) == ([], [])
    assert format_orphans(report) == "nothing is left from older runs"


def test_orphans_from_an_interrupted_cleanup_are_found_and_deleted(runs: RunFactory) -> None:
    """The cleanup deleted only the queue and the service. Two other apps have active runs."""
    runs.create_run()
    runs.create_run("AppTwo", jobs=1)
    runs.create_run("AppThree", jobs=1)
    runs.clients.sqs.delete_queue(QueueUrl=runs.get_queue_url("App"))
    runs.clients.ecs.delete_service(cluster="App-cluster", service="AppService", force=True)
    report = find_orphans(runs.clients, compute_later)
    assert report.unchecked_parts == []
    assert [(orphan.kind, orphan.reason) for orphan in report.orphans] == [
        ("fleet", "the queue of its app App does not exist")
    ]
    assert delete_orphans(runs.clients, report).failed == []
    # Now that the fleet and its machines are gone, more resources are orphans.
    report = find_orphans(runs.clients, compute_later)
    assert sorted(orphan.kind for orphan in report.orphans) == [
        "alarm", "alarm", "dashboard", "launch template", "log group", "log group", "rule", "task definition", "volume",
    ]  # fmt: skip
    assert delete_orphans(runs.clients, report).failed == []
    assert find_orphans(runs.clients, compute_later).orphans == []
    all_runs = observe_all_resources(runs.clients)
    assert count_kinds(all_runs) == {"cluster": 1, "queue": 1}
    for app in ("AppTwo", "AppThree"):
        assert count_kinds(all_runs, app=app) == RESOURCES_OF_A_RUN


def test_resources_less_than_an_hour_old_are_not_orphans(runs: RunFactory) -> None:
    runs.create_run()
    runs.clients.sqs.delete_queue(QueueUrl=runs.get_queue_url("App"))
    young = find_orphans(runs.clients, lambda: compute_later(0)).orphans
    assert [orphan for orphan in young if orphan.kind == "fleet"] == []
    old = find_orphans(runs.clients, lambda: compute_later(2)).orphans
    assert [orphan.kind for orphan in old] == ["fleet"]


def test_machines_without_a_fleet_are_orphans(empty_account: Account) -> None:
    empty_account.responses["ec2.DescribeInstances"] = build_machine("running")
    report = find_orphans(empty_account.clients, lambda: START)
    assert format_orphans(report) == (f"orphan          machine i-0a: running, but its fleet {FLEET_ID} does not exist")
    empty_account.responses["ec2.TerminateInstances"] = {}
    removal = delete_orphans(empty_account.clients, report)
    assert removal.removed == report.orphans
    assert format_orphan_removal(removal, report) == "removed         machine i-0a"
    assert empty_account.get_parameters("ec2.TerminateInstances") == {"InstanceIds": ["i-0a"]}
    empty_account.responses["ec2.DescribeSpotFleetRequests"] = {
        "SpotFleetRequestConfigs": [build_fleet("cancelled_running")]
    }
    empty_account.responses["ecs.DescribeTaskDefinition"] = build_missing_error(
        "DescribeTaskDefinition", "ClientException"
    )
    orphans = find_orphans(empty_account.clients, lambda: START + 7200).orphans
    assert [orphan.kind for orphan in orphans] == ["fleet"], "canceling the fleet terminates its machines"


def test_alarms_for_missing_machines_are_deleted_in_batches_of_100(empty_account: Account) -> None:
    """Machines are looked up with a filter, because EC2 rejects a call with an id it no longer knows about."""
    ids = [f"i-{number:017x}" for number in range(450)]
    live_ids = set(ids[100:200])
    empty_account.responses["cloudwatch.DescribeAlarms"] = {
        "MetricAlarms": [build_alarm("App", instance_id) for instance_id in ids]
    }

    def describe_instances(parameters: dict[str, Any]) -> Any:
        name_filter = parameters["Filters"][0]
        requested = name_filter["Values"] if name_filter["Name"] == "instance-id" else []
        running: Any = [
            {"InstanceId": instance_id, "State": {"Name": "running"}}
            for instance_id in requested
            if instance_id in live_ids
        ]
        terminated = [{"InstanceId": ids[0], "State": {"Name": "terminated"}}]
        assert len(name_filter["Values"]) <= 200
        return {"Reservations": [{"Instances": [*running, *terminated]}]}

    empty_account.responses["ec2.DescribeInstances"] = describe_instances
    empty_account.responses["cloudwatch.DeleteAlarms"] = {}
    report = find_orphans(empty_account.clients, lambda: START)
    assert len(report.orphans) == 350
    assert len(delete_orphans(empty_account.clients, report).removed) == 350
    batches = [
        parameters["AlarmNames"] for call, parameters in empty_account.requests if call == "cloudwatch.DeleteAlarms"
    ]
    assert [len(batch) for batch in batches] == [100, 100, 100, 50]
    assert not {f"App_{instance_id}" for instance_id in live_ids} & {name for batch in batches for name in batch}


def test_untagged_resources_of_the_published_system_are_listed_but_never_changed(
    empty_account: Account,
) -> None:
    tag_specifications = [{"ResourceType": "instance", "Tags": build_tags(Name="OldAppWorker")}]
    config = {
        "IamFleetRole": "role",
        "TargetCapacity": 3,
        "LaunchSpecifications": [{"TagSpecifications": tag_specifications}],
    }
    foreign = {"IamFleetRole": "role", "TargetCapacity": 3, "LaunchSpecifications": [{}]}
    fleets = [build_fleet(Tags=[], SpotFleetRequestConfig=config),
              build_fleet(Tags=[], SpotFleetRequestConfig=foreign, SpotFleetRequestId="sfr-0ther")]  # fmt: skip
    old_dashboard = {
        "widgets": [{"properties": {"metrics": [["AWS/EC2Spot", "FulfilledCapacity", "FleetRequestId", "sfr-old"]]}}]
    }
    arn = "arn:aws:logs:us-east-1:123456789012:log-group"
    groups = [{"logGroupName": name, "storedBytes": 0, "creationTime": 0, "arn": f"{arn}:{name}:*"}
              for name in ("Old", "Old_perInstance", "alone")]  # fmt: skip
    rule = build_monitor_rule_name("A" * 80)
    empty_account.responses |= {
        "ec2.DescribeSpotFleetRequests": {"SpotFleetRequestConfigs": fleets},
        "cloudwatch.ListDashboards": {"DashboardEntries": [{"DashboardName": "OldApp"}]},
        "cloudwatch.GetDashboard": {"DashboardBody": json.dumps(old_dashboard)},
        "logs.DescribeLogGroups": {"logGroups": groups},
        "logs.ListTagsForResource": {"tags": {}},
        "events.ListRules": {"Rules": [{"Name": rule}]},
    }
    report = find_orphans(empty_account.clients, lambda: START + 7200)
    assert report.unchecked_parts == []
    assert [(orphan.kind, orphan.name, orphan.is_ours) for orphan in report.orphans] == [
        ("fleet", FLEET_ID, False), ("rule", rule, False), ("dashboard", "OldApp", False),
        ("log group", "Old", False), ("log group", "Old_perInstance", False),
    ]  # fmt: skip
    command = f"aws ec2 cancel-spot-fleet-requests --terminate-instances --spot-fleet-request-ids {FLEET_ID}"
    assert report.orphans[0].command == command
    requests = [parameters for call, parameters in empty_account.requests if call == "logs.ListTagsForResource"]
    assert requests[0] == {"resourceArn": f"{arn}:Old"}, "tags are requested for the ARN without :*"
    calls = len(empty_account.calls)
    removal = delete_orphans(empty_account.clients, report)
    assert (removal.removed, removal.failed, len(empty_account.calls)) == ([], [], calls)
    lines = join_rows(format_orphan_removal(removal, report))
    assert [line.split()[0] for line in lines] == ["kept"] * 5
    assert lines[0].endswith(f"it has no tag with a run name; to cancel it, run: {command}")
    assert lines[3].endswith("to delete it, run: aws logs delete-log-group --log-group-name Old")
    assert len(join_rows(format_orphans(report))) == 5


def test_foreign_dashboards_and_dashboards_of_active_apps_are_not_orphans(empty_account: Account) -> None:
    """One dashboard has no fleet, one is deleted between two calls, one has a live fleet, and one has a live app."""
    bodies = {"foreign": {"widgets": []}, "OldApp": build_dashboard(SETTINGS, FLEET_ID),
             "App": build_dashboard(SETTINGS, "sfr-old")}  # fmt: skip
    empty_account.responses["ec2.DescribeSpotFleetRequests"] = {"SpotFleetRequestConfigs": [build_fleet(Tags=[])]}
    empty_account.responses["cloudwatch.ListDashboards"] = {
        "DashboardEntries": [{"DashboardName": name} for name in (*bodies, "deleted")]
    }

    def get_dashboard(parameters: dict[str, Any]) -> Any:
        if parameters["DashboardName"] == "deleted":
            raise build_missing_error("GetDashboard", "ResourceNotFound")
        return {"DashboardBody": json.dumps(bodies[parameters["DashboardName"]])}

    empty_account.responses["cloudwatch.GetDashboard"] = get_dashboard
    empty_account.responses["ecs.DescribeTaskDefinition"] = build_missing_error(
        "DescribeTaskDefinition", "ClientException"
    )
    empty_account.responses["sqs.GetQueueUrl"] = {"QueueUrl": QUEUE_URL}
    report = find_orphans(empty_account.clients, lambda: START)
    assert (report.orphans, report.unchecked_parts) == ([], [])
    empty_account.responses["sqs.GetQueueUrl"] = build_missing_error("GetQueueUrl", MISSING_QUEUE)
    assert [orphan.name for orphan in find_orphans(empty_account.clients, lambda: START).orphans] == ["App"]


def test_orphans_of_other_kinds_are_deleted_if_one_kind_cannot_be_listed(empty_account: Account) -> None:
    empty_account.refuse_call("ecs.ListTaskDefinitions")
    empty_account.responses["ec2.DescribeInstances"] = build_machine("running")
    empty_account.responses["cloudwatch.DescribeAlarms"] = {"MetricAlarms": [build_alarm("App", "i-0b")]}
    report = find_orphans(empty_account.clients, lambda: START)
    assert [orphan.kind for orphan in report.orphans] == ["machine", "alarm"]
    expected = "looking for task definitions from older runs: AccessDeniedException"
    assert expected in join_rows(format_orphans(report))[-1].partition("NOT CHECKED")[2]
    empty_account.refuse_call("ec2.TerminateInstances", "UnauthorizedOperation")
    empty_account.responses["cloudwatch.DeleteAlarms"] = {}
    lines = join_rows(format_orphan_removal(delete_orphans(empty_account.clients, report), report))
    assert lines[0] == "removed         alarm App_i-0b"
    assert expected in lines[1].partition("NOT REMOVED")[2]
    assert lines[2].startswith("NOT REMOVED     machine i-0a: ")
    assert len(lines) == 3


def test_an_orphaned_fleet_that_ec2_does_not_cancel_is_reported(empty_account: Account) -> None:
    empty_account.responses["ec2.DescribeSpotFleetRequests"] = {"SpotFleetRequestConfigs": [build_fleet()]}
    empty_account.responses["ecs.DescribeTaskDefinition"] = build_missing_error(
        "DescribeTaskDefinition", "ClientException"
    )
    failure = {"SpotFleetRequestId": FLEET_ID, "Error": {"Code": "unexpectedError", "Message": "not now"}}
    empty_account.responses["ec2.CancelSpotFleetRequests"] = {"UnsuccessfulFleetRequests": [failure]}
    report = find_orphans(empty_account.clients, lambda: START + 7200)
    (line,) = join_rows(format_orphan_removal(delete_orphans(empty_account.clients, report), report))
    assert line.startswith(f"NOT REMOVED     fleet {FLEET_ID}: ")
    assert "unexpectedError: not now" in line
    expected = {"SpotFleetRequestIds": [FLEET_ID], "TerminateInstances": True}
    assert empty_account.get_parameters("ec2.CancelSpotFleetRequests") == expected
