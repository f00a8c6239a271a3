"""Tests every call that cleanup makes: what it deletes and in what order, what it keeps, and how it handles errors."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.response import StreamingBody

from distributed_something.core.errors import CloudError, InputError
from distributed_something.core.monitor_file import MonitorFile, build_monitor_file
from distributed_something.core.tags import KEPT_VOLUME_TAG
from distributed_something.observe.resources import ResourceKind
from distributed_something.run.cleanup.find_run import NO_FLEET_ID, check_cleanup_safety, recover_monitor_file
from distributed_something.run.cleanup.remove import MAX_STEP_ATTEMPTS, CleanupRequest, delete_run_resources
from distributed_something.run.cleanup.report import (
    CleanupReport,
    KeepReason,
    KeptResource,
    RemovedResource,
    format_cleanup_report,
)
from tests.support.fakes import (
    DEAD_URL,
    MISSING_QUEUE,
    MONITOR_FILE,
    QUEUE_ATTRIBUTES,
    QUEUE_URL,
    RUN,
    SETTINGS,
    START,
    ExactClients,
    FakeTime,
    expect_exact_calls,
)

FLEET_ID = MONITOR_FILE.MONITOR_FLEET_ID
OTHER_FLEET = "sfr-0ffe0ffe"
FAMILY_ARN = "arn:aws:ecs:us-east-1:123456789012:task-definition/AppTask"
CLUSTER_QUERY = {"clusters": ["app-cluster"], "include": ["TAGS"]}
SERVICE_QUERY = {"cluster": "app-cluster", "services": ["AppService"]}
MACHINES_QUERY = {
    "Filters": [
        {"Name": "tag:app", "Values": ["App"]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "shutting-down", "stopping", "stopped"]},
    ],
    "MaxResults": 1000,
}
VOLUMES_QUERY = {
    "Filters": [{"Name": "tag:app", "Values": ["App"]}, {"Name": "status", "Values": ["available"]}],
    "MaxResults": 1000,
}
TEMPLATES_QUERY = {"Filters": [{"Name": "tag:app", "Values": ["App"]}]}
RULE = "distributed-something-App"
ALARMS = [f"App_i-{number:04x}" for number in range(250)]
# These names have the same prefix as the app's alarms, but not the same format.
FOREIGN_ALARMS = ["App_i-0abc_by_hand", "App_i-XYZ"]
WRITES = ("Create", "Put", "Update", "Set", "Deregister", "Request", "Modify", "Delete", "Cancel", "Tag", "Terminate")


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as aws:
        yield aws


def list_writes(aws: ExactClients) -> list[str]:
    return [call for call in aws.calls if call.partition(".")[2].startswith(WRITES)]


def build_service(desired: int = 0) -> dict[str, Any]:
    counts = {"desiredCount": desired, "runningCount": 0, "pendingCount": 0}
    return {"serviceName": "AppService", "status": "ACTIVE", **counts}


def build_cluster(**changes: Any) -> dict[str, Any]:
    tags = [{"key": "app", "value": "App"}]
    return {"clusterName": "app-cluster", "status": "ACTIVE", "tags": tags, "activeServicesCount": 0,
            "registeredContainerInstancesCount": 0, "runningTasksCount": 0, **changes}  # fmt: skip


def build_fleet(name: str = FLEET_ID, app: str = "App", state: str = "active", run: str = RUN) -> dict[str, Any]:
    tags = [{"Key": "app", "Value": app}, {"Key": "run", "Value": run}]
    return {"SpotFleetRequestId": name, "SpotFleetRequestState": state, "Tags": tags,
            "SpotFleetRequestConfig": {"IamFleetRole": "role", "TargetCapacity": 3},
            "CreateTime": datetime.fromtimestamp(START, UTC)}  # fmt: skip


def build_machine(name: str, state: str = "running", **tags: str) -> dict[str, Any]:
    return {
        "InstanceId": name,
        "State": {"Name": state},
        "Tags": build_ec2_tags(**{"app": "App", "Name": "AppWorker"} | tags),
    }


def build_ec2_tags(**tags: str) -> list[dict[str, str]]:
    names = {"fleet": "aws:ec2spot:fleet-request-id"}
    return [{"Key": names.get(key, key), "Value": value} for key, value in tags.items()]


class Cleaner:
    """A cleanup, step by step. Each method expects the calls of one step and sets their responses."""

    def __init__(self, aws: ExactClients) -> None:
        self.aws, self.time = aws, FakeTime()

    def clean_up(self, *, failures: int = 0, file: MonitorFile = MONITOR_FILE, **options: Any) -> CleanupReport:
        """Return the report. Exactly `failures` steps must fail; a call that the test does not expect also fails."""
        request = CleanupRequest(file, "AppDead", pause=10.0, **options)
        report = delete_run_resources(self.aws.clients, request, self.time.sleep)
        assert len(report.failed) == failures, report.failed
        return report

    def service(self) -> None:
        self.aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[build_service(6)])
        expected = {"cluster": "app-cluster", "service": "AppService", "desiredCount": 0}
        self.aws.expect_call("ecs.update_service", expected)
        self.aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[build_service()])
        self.aws.expect_call("ecs.delete_service", {"cluster": "app-cluster", "service": "AppService", "force": True})

    def no_service(self) -> None:
        for _ in range(2):  # once before the containers are stopped, and once before the service is deleted
            self.aws.expect_call("ecs.describe_services", SERVICE_QUERY, services=[])

    def fleet(self) -> None:
        self.describe_fleet()
        self.cancel_fleet()

    def describe_fleet(self, name: str = FLEET_ID, state: str = "active", machines: int = 2) -> None:
        expected = {"SpotFleetRequestIds": [name]}
        fleets = [build_fleet(name, state=state)]
        self.aws.expect_call("ec2.describe_spot_fleet_requests", expected, SpotFleetRequestConfigs=fleets)
        instances = [{"InstanceId": f"i-{number}"} for number in range(machines)]
        expected_instances = {"SpotFleetRequestId": name, "MaxResults": 1000}
        self.aws.expect_call("ec2.describe_spot_fleet_instances", expected_instances, ActiveInstances=instances)

    def cancel_fleet(self, name: str = FLEET_ID, **response: Any) -> None:
        expected = {"SpotFleetRequestIds": [name], "TerminateInstances": True}
        self.aws.expect_call("ec2.cancel_spot_fleet_requests", expected, **response)

    def machines(self, *machines: dict[str, Any]) -> None:
        self.aws.expect_call("ec2.describe_instances", MACHINES_QUERY, Reservations=[{"Instances": list(machines)}])

    def terminate(self, *ids: str) -> None:
        self.aws.expect_call("ec2.terminate_instances", {"InstanceIds": list(ids)})

    def alarms(self, *names: str) -> None:
        alarms = [{"AlarmName": name} for name in names]
        self.aws.expect_call("cloudwatch.describe_alarms", {"AlarmNamePrefix": "App_i-"}, MetricAlarms=alarms)

    def dashboards(self, *names: str) -> None:
        entries = [{"DashboardName": name} for name in names]
        self.aws.expect_call("cloudwatch.list_dashboards", {"DashboardNamePrefix": "App"}, DashboardEntries=entries)

    def dead_letters(self, waiting: int, *sources: str, owner: str = "App") -> None:
        self.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
        self.counts(DEAD_URL, waiting)
        tags = {"Tags": {"app": owner}} if owner else {}
        self.aws.expect_call("sqs.list_queue_tags", {"QueueUrl": DEAD_URL}, **tags)
        urls = [QUEUE_URL.replace("AppQueue", name) for name in sources]
        request = {"QueueUrl": DEAD_URL, "MaxResults": 1000}
        self.aws.expect_call("sqs.list_dead_letter_source_queues", request, queueUrls=urls)

    def counts(self, url: str, waiting: int, running: int = 0) -> None:
        values = dict(zip(QUEUE_ATTRIBUTES, (str(waiting), str(running), "0"), strict=False))
        expected = {"QueueUrl": url, "AttributeNames": QUEUE_ATTRIBUTES}
        self.aws.expect_call("sqs.get_queue_attributes", expected, Attributes=values)

    def queue(self) -> None:
        self.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
        self.aws.expect_call("sqs.delete_queue", {"QueueUrl": QUEUE_URL})

    def definitions(self, *revisions: str) -> None:
        arns = [f"{FAMILY_ARN.removesuffix('AppTask')}{revision}" for revision in revisions]
        expected = {"familyPrefix": "AppTask", "status": "ACTIVE"}
        self.aws.expect_call("ecs.list_task_definitions", expected, taskDefinitionArns=arns)

    def deregister(self, revision: str) -> None:
        arn = f"{FAMILY_ARN.removesuffix('AppTask')}{revision}"
        self.aws.expect_call("ecs.deregister_task_definition", {"taskDefinition": arn})

    def templates(self, *templates: dict[str, Any]) -> None:
        self.aws.expect_call("ec2.describe_launch_templates", TEMPLATES_QUERY, LaunchTemplates=list(templates))

    def volumes(self, *volumes: dict[str, Any]) -> None:
        self.aws.expect_call("ec2.describe_volumes", VOLUMES_QUERY, Volumes=list(volumes))

    def cluster(self, *services: str, **changes: Any) -> None:
        self.aws.expect_call("ecs.describe_clusters", CLUSTER_QUERY, clusters=[build_cluster(**changes)])
        arns = [f"arn:aws:ecs:us-east-1:123456789012:service/app-cluster/{name}" for name in services]
        self.aws.expect_call("ecs.list_services", {"cluster": "app-cluster"}, serviceArns=arns)

    def delete_cluster(self) -> None:
        self.aws.expect_call("ecs.delete_cluster", {"cluster": "app-cluster"})

    def monitor_file(self) -> None:
        """Expect the read that precedes the deletion of the rule, because a newer run's rule has the same name."""
        expected = {"Bucket": "app-bucket", "Key": "monitors/AppSpotFleetRequestId.json"}
        self.aws.expect_error("s3.get_object", "NoSuchKey", request=expected)

    def rule(self) -> None:
        self.monitor_file()
        self.aws.expect_call("events.remove_targets", {"Rule": RULE, "Ids": ["auto-monitor"]})
        self.aws.expect_call("events.delete_rule", {"Name": RULE})


@pytest.fixture
def cleaner(aws: ExactClients) -> Cleaner:
    return Cleaner(aws)


def list_kept_lines(report: CleanupReport) -> list[str]:
    """Return the lines about kept resources."""
    text = format_cleanup_report(report).replace("\n" + " " * 16, " ")  # long ones are wrapped
    return [line for line in text.splitlines() if line.startswith("kept ")]


def skip_steps(cleaner: Cleaner, *steps: str) -> None:
    """Let these steps find nothing to delete."""
    expect_error = cleaner.aws.expect_error

    def no_rule(*, of_run: bool = True) -> None:
        if of_run:
            cleaner.monitor_file()
        expect_error("events.remove_targets", "ResourceNotFoundException")

    empty: dict[str, Callable[[], None]] = {
        "service": cleaner.no_service,
        "fleet": lambda: expect_error("ec2.describe_spot_fleet_requests", "InvalidSpotFleetRequestId.NotFound"),
        "machines": cleaner.machines,
        "alarms": cleaner.alarms,
        "dashboard": cleaner.dashboards,
        "dead-letter queue": lambda: expect_error("sqs.get_queue_url", MISSING_QUEUE),
        "queue": lambda: expect_error("sqs.get_queue_url", MISSING_QUEUE),
        "definitions": cleaner.definitions,
        "templates": cleaner.templates,
        "volumes": cleaner.volumes,
        "cluster": lambda: cleaner.aws.expect_call("ecs.describe_clusters", CLUSTER_QUERY, clusters=[]),
        "rule": no_rule,
        "app's rule": lambda: no_rule(of_run=False),
    }
    for step in steps:
        empty[step]()


FIRST_STEPS = ("service", "fleet", "machines", "alarms", "dashboard")  # the steps before the queues
LAST_STEPS = ("definitions", "templates", "volumes", "cluster", "rule")  # the steps after the queues
LAST_APP_STEPS = (*LAST_STEPS[:-1], "app's rule")


# The complete cleanup


def test_a_complete_cleanup_makes_exactly_these_calls(cleaner: Cleaner) -> None:
    """It deletes 100 alarms per call, and makes no calls for other apps' alarms, dashboards, or task definitions."""
    cleaner.service()
    cleaner.fleet()
    cleaner.machines()
    cleaner.alarms(*ALARMS, *FOREIGN_ALARMS)
    for first in (0, 100, 200):
        cleaner.aws.expect_call("cloudwatch.delete_alarms", {"AlarmNames": ALARMS[first : first + 100]})
    cleaner.dashboards("App", "AppTwo")
    cleaner.aws.expect_call("cloudwatch.delete_dashboards", {"DashboardNames": ["App"]})
    cleaner.dead_letters(0, "AppQueue")
    cleaner.aws.expect_call("sqs.delete_queue", {"QueueUrl": DEAD_URL})
    cleaner.queue()
    cleaner.definitions("AppTask:1", "AppTaskTwo:1", "AppTask:2")
    cleaner.deregister("AppTask:1")
    cleaner.deregister("AppTask:2")
    cleaner.templates(build_template(f"App-{RUN}"))
    cleaner.aws.expect_call("ec2.delete_launch_template", {"LaunchTemplateId": "lt-0"})
    cleaner.volumes({"VolumeId": "vol-0", "Tags": build_ec2_tags(app="App", run=RUN)})
    cleaner.aws.expect_call("ec2.delete_volume", {"VolumeId": "vol-0"})
    cleaner.cluster("AppService")
    cleaner.delete_cluster()
    cleaner.rule()
    report = cleaner.clean_up()
    assert format_cleanup_report(report).splitlines() == [
        f"removed         fleet {FLEET_ID} and its 2 machines", "removed         service AppService",
        "removed         250 alarms", "removed         dashboard App", "removed         dead-letter queue AppDead",
        "removed         queue AppQueue", "removed         2 task definitions AppTask",
        f"removed         launch template App-{RUN}", "removed         volume vol-0",
        "removed         cluster app-cluster", f"removed         rule {RULE}",
        "kept            log group AppLogs (its entries expire after 60 days)",
        "kept            log group AppLogs_perInstance (its entries expire after 60 days)",
    ]  # fmt: skip
    assert cleaner.aws.calls.index("ecs.UpdateService") < cleaner.aws.calls.index("ec2.CancelSpotFleetRequests")
    assert cleaner.time.slept == []


def build_template(name: str, **tags: str) -> dict[str, Any]:
    template_tags = build_ec2_tags(**{"app": "App", "run": RUN} | tags)
    return {"LaunchTemplateId": "lt-0", "LaunchTemplateName": name, "Tags": template_tags}


def test_a_second_cleanup_deletes_nothing(cleaner: Cleaner) -> None:
    skip_steps(cleaner, *FIRST_STEPS, "dead-letter queue", "queue", *LAST_STEPS)
    assert cleaner.clean_up().removed == []
    assert list_writes(cleaner.aws) == []


def test_all_pages_of_a_response_are_read(cleaner: Cleaner) -> None:
    skip_steps(cleaner, "service", "fleet", "machines")
    query = {"AlarmNamePrefix": "App_i-"}
    first, second = [[{"AlarmName": name}] for name in ("App_i-0a", "App_i-0b")]
    cleaner.aws.expect_call("cloudwatch.describe_alarms", query, MetricAlarms=first, NextToken="more")
    cleaner.aws.expect_call("cloudwatch.describe_alarms", {**query, "NextToken": "more"}, MetricAlarms=second)
    cleaner.aws.expect_call("cloudwatch.delete_alarms", {"AlarmNames": ["App_i-0a", "App_i-0b"]})
    skip_steps(cleaner, "dashboard", "dead-letter queue", "queue")
    query = {"familyPrefix": "AppTask", "status": "ACTIVE"}
    for number, token in ((1, {}), (2, {"nextToken": "1"}), (3, {"nextToken": "2"})):
        arns, next_token = [f"{FAMILY_ARN}:{number}"], {"nextToken": str(number)} if number < 3 else {}
        cleaner.aws.expect_call("ecs.list_task_definitions", query | token, taskDefinitionArns=arns, **next_token)
    for number in (1, 2, 3):
        cleaner.deregister(f"AppTask:{number}")
    skip_steps(cleaner, "templates", "volumes", "cluster", "rule")
    assert cleaner.clean_up().removed == [
        RemovedResource(ResourceKind.ALARM, count=2),
        RemovedResource(ResourceKind.TASK_DEFINITION, "AppTask", count=3),
    ]


def test_the_dashboard_of_an_app_whose_name_has_the_same_prefix_is_kept(cleaner: Cleaner) -> None:
    skip_steps(cleaner, "service", "fleet", "machines", "alarms")
    cleaner.dashboards("AppTwo")
    skip_steps(cleaner, "dead-letter queue", "queue", *LAST_STEPS)
    assert cleaner.clean_up().removed == []


def test_the_dashboard_is_kept_if_the_config_says_so(cleaner: Cleaner) -> None:
    skip_steps(cleaner, "service", "fleet", "machines", "alarms")
    cleaner.dashboards("App")
    skip_steps(cleaner, "dead-letter queue", "queue", *LAST_STEPS)
    report = cleaner.clean_up(file=replace(MONITOR_FILE, CLEAN_DASHBOARD=False))
    assert report.kept[0] == KeptResource(ResourceKind.DASHBOARD, "App", KeepReason.CLEAN_DASHBOARD)
    assert list_kept_lines(report)[0] == "kept            dashboard App (CLEAN_DASHBOARD is 'False')"


# Steps that fail


def test_a_failing_step_is_retried_and_does_not_stop_the_others(cleaner: Cleaner) -> None:
    """The auto-monitor's rule is kept, so that the auto-monitor retries the step."""
    for _ in range(MAX_STEP_ATTEMPTS):
        cleaner.aws.expect_error("ecs.describe_services", "AccessDeniedException")
    cleaner.fleet()
    cleaner.machines()
    for _ in range(MAX_STEP_ATTEMPTS):
        cleaner.aws.expect_error("ecs.describe_services", "AccessDeniedException")
    cleaner.aws.expect_error("cloudwatch.describe_alarms", "ThrottlingException")
    cleaner.alarms("App_i-0a")
    cleaner.aws.expect_call("cloudwatch.delete_alarms", {"AlarmNames": ["App_i-0a"]})
    skip_steps(cleaner, "dashboard", "dead-letter queue")
    cleaner.queue()
    skip_steps(cleaner, "definitions", "templates", "volumes", "cluster")
    report = cleaner.clean_up(failures=2)
    lines = re.sub(r"\n +", " ", format_cleanup_report(report)).splitlines()  # long ones are wrapped
    assert lines[:3] == [
        f"removed         fleet {FLEET_ID} and its 2 machines", "removed         1 alarm",
        "removed         queue AppQueue",
    ]  # fmt: skip
    assert [line.partition(":")[0] for line in lines[-2:]] == [
        "NOT REMOVED     service AppService (stopping its containers)", "NOT REMOVED     service AppService",
    ]  # fmt: skip
    assert all("ask your administrator" in line for line in lines[-2:])
    assert cleaner.time.slept == [10.0] * (2 * (MAX_STEP_ATTEMPTS - 1) + 1)


def test_without_retries_each_step_is_attempted_once(cleaner: Cleaner) -> None:
    skip_steps(cleaner, "service", "fleet", "machines")
    cleaner.aws.expect_error("cloudwatch.describe_alarms", "ThrottlingException")
    skip_steps(cleaner, "dashboard", "dead-letter queue", "queue", "definitions", "templates", "volumes")
    cleaner.cluster(registeredContainerInstancesCount=2)
    assert [failure.label for failure in cleaner.clean_up(failures=2, retry_steps=False).failed] == [
        "alarms App_i-…", "cluster app-cluster",
    ]  # fmt: skip
    assert cleaner.time.slept == []
    skip_steps(cleaner, *FIRST_STEPS, "dead-letter queue", "queue", "definitions", "templates", "volumes", "cluster")
    cleaner.clean_up(retry_steps=False, keep_rule=True)


def test_a_fleet_that_ec2_does_not_cancel_is_reported_and_its_machines_are_not_terminated(cleaner: Cleaner) -> None:
    """The fleet would replace the machines."""
    skip_steps(cleaner, "service")
    failure = {"SpotFleetRequestId": FLEET_ID, "Error": {"Code": "unexpectedError", "Message": "not now"}}
    for _ in range(MAX_STEP_ATTEMPTS):
        cleaner.describe_fleet()
        cleaner.cancel_fleet(UnsuccessfulFleetRequests=[failure])
    skip_steps(
        cleaner, "alarms", "dashboard", "dead-letter queue", "queue", "definitions", "templates", "volumes", "cluster"
    )
    report = cleaner.clean_up(failures=1)
    expected = f"NOT REMOVED     fleet {FLEET_ID}: EC2 did not cancel the fleet: not now"
    assert format_cleanup_report(report).splitlines()[-1] == expected
    assert [failure.kind for failure in report.failed] == [ResourceKind.FLEET]


def test_a_queue_that_was_just_deleted_is_not_deleted_again(cleaner: Cleaner) -> None:
    """SQS returns the URL of a deleted queue for up to a minute."""
    skip_steps(cleaner, *FIRST_STEPS)
    cleaner.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
    cleaner.aws.expect_error("sqs.get_queue_attributes", MISSING_QUEUE)
    cleaner.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    cleaner.aws.expect_error("sqs.delete_queue", MISSING_QUEUE)
    skip_steps(cleaner, *LAST_STEPS)
    assert cleaner.clean_up().removed == []
    assert cleaner.time.slept == []


# Machines


def test_machines_of_the_run_without_a_fleet_are_terminated(cleaner: Cleaner) -> None:
    """A fleet that was canceled by hand may leave its machines running."""
    skip_steps(cleaner, "service", "fleet")
    cleaner.machines(
        build_machine("i-1", run=RUN),
        build_machine("i-2", fleet=FLEET_ID),
        build_machine("i-3", fleet=OTHER_FLEET),
        build_machine("i-4", run="20261124T000000Z"),
        build_machine("i-5", "shutting-down", run=RUN),
    )
    cleaner.terminate("i-1", "i-2")
    skip_steps(cleaner, "alarms", "dashboard", "dead-letter queue", "queue", *LAST_STEPS)
    report = cleaner.clean_up()
    assert report.removed == [RemovedResource(ResourceKind.MACHINE, "outside the fleet", count=2)]
    assert format_cleanup_report(report).splitlines()[0] == "removed         2 machines outside the fleet"


def test_a_whole_app_cleanup_ends_all_fleets_and_machines_of_the_app_and_no_others(cleaner: Cleaner) -> None:
    skip_steps(cleaner, "service", "fleet")
    fleets = [build_fleet(OTHER_FLEET, run="20260101T000000Z"), build_fleet("sfr-0abc0abc", app="AppTwo")]
    cleaner.aws.expect_call(
        "ec2.describe_spot_fleet_requests", {}, SpotFleetRequestConfigs=fleets[:1], NextToken="more"
    )
    cleaner.aws.expect_call(
        "ec2.describe_spot_fleet_requests", {"NextToken": "more"}, SpotFleetRequestConfigs=fleets[1:]
    )
    cleaner.describe_fleet(OTHER_FLEET)
    cleaner.cancel_fleet(OTHER_FLEET)
    cleaner.machines(
        build_machine("i-1", run="20260101T000000Z"),
        build_machine("i-2", fleet=OTHER_FLEET),  # the canceled fleet terminates this machine
        build_machine("i-3", Name="webserver"),  # belongs to someone else who also uses the tag `app`
        build_machine("i-4", Name="webserver", run="nightly"),
    )
    cleaner.terminate("i-1")
    skip_steps(cleaner, "alarms", "dashboard", "dead-letter queue", "queue", *LAST_APP_STEPS)
    assert cleaner.clean_up(whole_app=True).removed == [
        RemovedResource(ResourceKind.FLEET, OTHER_FLEET, machines=2),
        RemovedResource(ResourceKind.MACHINE, "outside the fleet", count=1),
    ]


def test_machines_are_terminated_in_batches_of_100(cleaner: Cleaner) -> None:
    skip_steps(cleaner, "service", "fleet")
    names = [f"i-{number:08x}" for number in range(150)]
    cleaner.machines(*(build_machine(name, run=RUN) for name in names))
    cleaner.terminate(*names[:100])
    cleaner.terminate(*names[100:])
    skip_steps(cleaner, "alarms", "dashboard", "dead-letter queue", "queue", *LAST_STEPS)
    cleaner.clean_up()


def test_launch_templates_and_volumes_that_belong_to_someone_else_are_kept(cleaner: Cleaner) -> None:
    skip_steps(cleaner, *FIRST_STEPS, "dead-letter queue", "queue", "definitions")
    cleaner.templates(build_template("App-handmade"), build_template(f"App-Two-{RUN}"), build_template(f"AppTwo-{RUN}"))
    tags = build_ec2_tags(app="App", Name="precious data")
    cleaner.volumes({"VolumeId": "vol-0", "Tags": tags})
    skip_steps(cleaner, "cluster", "rule")
    assert cleaner.clean_up(whole_app=False).removed == []


def test_an_older_launch_template_is_deleted_and_a_newer_launch_template_is_kept(cleaner: Cleaner) -> None:
    """The older start has no fleet, because an app can have only one. The newer start may be about to request one."""
    skip_steps(cleaner, *FIRST_STEPS, "dead-letter queue", "queue", "definitions")
    older, newer = "20250101T000000Z", "20270101T000000Z"
    cleaner.templates(build_template(f"App-{older}", run=older), build_template(f"App-{newer}", run=newer))
    cleaner.aws.expect_call("ec2.delete_launch_template", {"LaunchTemplateId": "lt-0"})
    skip_steps(cleaner, "volumes", "cluster", "rule")
    assert cleaner.clean_up().removed == [RemovedResource(ResourceKind.LAUNCH_TEMPLATE, f"App-{older}")]


def test_a_volume_that_the_fleet_file_says_to_keep_is_not_deleted(cleaner: Cleaner) -> None:
    skip_steps(cleaner, *FIRST_STEPS, "dead-letter queue", "queue", "definitions", "templates")
    tags = build_ec2_tags(app="App", run=RUN, Name="AppWorker", **KEPT_VOLUME_TAG)
    cleaner.volumes({"VolumeId": "vol-0", "Tags": tags})
    skip_steps(cleaner, "cluster", "rule")
    assert cleaner.clean_up().removed == []


def test_a_whole_app_cleanup_deletes_the_launch_template_of_a_killed_start(cleaner: Cleaner) -> None:
    """The start was killed before it requested its fleet."""
    skip_steps(cleaner, "service", "fleet")
    cleaner.aws.expect_call("ec2.describe_spot_fleet_requests", {}, SpotFleetRequestConfigs=[])
    skip_steps(cleaner, "machines", "alarms", "dashboard", "dead-letter queue", "queue", "definitions")
    cleaner.templates(build_template("App-20250101T000000Z", app="App", run="20250101T000000Z"))
    cleaner.aws.expect_call("ec2.delete_launch_template", {"LaunchTemplateId": "lt-0"})
    skip_steps(cleaner, "volumes", "cluster", "app's rule")
    removed = cleaner.clean_up(whole_app=True).removed
    assert removed == [RemovedResource(ResourceKind.LAUNCH_TEMPLATE, "App-20250101T000000Z")]


# The dead-letter queue


OWN, OTHER = "AppQueue", "AppTwoQueue"


@pytest.mark.parametrize("failed_too", [False, True])
@pytest.mark.parametrize(
    ("owner", "sources", "reason"),
    [
        ("App", [OWN, OTHER], "other queues use it"),
        ("App", [OTHER], "other queues use it"),
        ("shared", [OWN, OTHER], "several apps share it"),
        ("shared", [], "several apps share it"),
        ("Other", [OWN, OTHER], "it belongs to the app Other, whose cleanup deletes it"),
        ("Other", [], "it belongs to the app Other, whose cleanup deletes it"),
        ("", [OWN], "not created by this app"),
    ],
)
@pytest.mark.parametrize("waiting", [0, 3])
def test_a_dead_letter_queue_that_is_not_this_apps_alone_is_kept_and_the_cleanup_is_complete(
    cleaner: Cleaner, waiting: int, owner: str, sources: list[str], reason: str, failed_too: bool
) -> None:
    skip_steps(cleaner, *FIRST_STEPS)
    cleaner.dead_letters(waiting, *sources, owner=owner)
    cleaner.queue()
    skip_steps(cleaner, *LAST_STEPS)
    report = cleaner.clean_up(failed_too=failed_too, count_recorded_failures=lambda: 3)
    assert list_kept_lines(report)[0] == f"kept            dead-letter queue AppDead ({reason})"
    assert report.is_complete


@pytest.mark.parametrize(
    ("letters", "recorded", "failed_too", "is_deleted"),
    [
        (0, 0, False, True),
        (2, 0, False, False),  # no record contains these jobs
        (2, 2, False, True),
        (1, 2, False, True),  # a worker could not send one of the messages, but its record contains it
        (3, 2, False, False),  # one of them is from an earlier run
        (3, 2, True, True),
    ],
)
def test_the_apps_own_dead_letter_queue_is_deleted_only_if_records_contain_its_messages_or_on_request(
    cleaner: Cleaner, letters: int, recorded: int, failed_too: bool, is_deleted: bool
) -> None:
    skip_steps(cleaner, *FIRST_STEPS)
    cleaner.dead_letters(letters, OWN)
    if is_deleted:
        cleaner.aws.expect_call("sqs.delete_queue", {"QueueUrl": DEAD_URL})
    skip_steps(cleaner, "queue", *LAST_STEPS)
    report = cleaner.clean_up(count_recorded_failures=lambda: recorded, failed_too=failed_too)
    assert (RemovedResource(ResourceKind.DEAD_LETTER_QUEUE, "AppDead") in report.removed) == is_deleted
    expected = "kept            dead-letter queue AppDead (it is not empty; cleanup --failed-too deletes it)"
    assert (expected in list_kept_lines(report)) != is_deleted
    assert report.is_complete


def test_a_dead_letter_queue_that_is_deleted_during_the_lookup_is_not_kept(cleaner: Cleaner) -> None:
    skip_steps(cleaner, *FIRST_STEPS)
    cleaner.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
    cleaner.counts(DEAD_URL, 2)
    for call in ("sqs.list_queue_tags", "sqs.delete_queue"):
        cleaner.aws.expect_error(call, MISSING_QUEUE)
    skip_steps(cleaner, "queue", *LAST_STEPS)
    report = cleaner.clean_up()
    assert report.is_complete
    assert report.list_removed(ResourceKind.DEAD_LETTER_QUEUE) == []


# The cluster


@pytest.mark.parametrize(
    "tags", [[], [{"key": "app", "value": "AppTwo"}], [{"key": "other", "value": "App"}]], ids=["none", "two", "other"]
)
def test_a_cluster_that_setup_did_not_create_for_this_app_is_kept(cleaner: Cleaner, tags: list[dict[str, str]]) -> None:
    skip_steps(cleaner, *FIRST_STEPS, "dead-letter queue", "queue", "definitions", "templates", "volumes")
    cleaner.aws.expect_call("ecs.describe_clusters", CLUSTER_QUERY, clusters=[build_cluster(tags=tags)])
    skip_steps(cleaner, "rule")
    expected = "kept            cluster app-cluster (not created by this app)"
    assert list_kept_lines(cleaner.clean_up())[0] == expected


def test_the_cluster_is_kept_while_another_service_uses_it(cleaner: Cleaner) -> None:
    skip_steps(cleaner, *FIRST_STEPS, "dead-letter queue", "queue", "definitions", "templates", "volumes")
    cleaner.cluster("AppService", "AppTwoService")
    skip_steps(cleaner, "rule")
    assert list_kept_lines(cleaner.clean_up())[0] == "kept            cluster app-cluster (other services use it)"


def test_the_cluster_is_deleted_after_its_machines_end(cleaner: Cleaner) -> None:
    skip_steps(cleaner, *FIRST_STEPS, "dead-letter queue", "queue", "definitions", "templates", "volumes")
    for _ in range(4):
        cleaner.cluster(registeredContainerInstancesCount=2)
    cleaner.cluster()
    cleaner.aws.expect_error("ecs.delete_cluster", "ClusterContainsTasksException")
    cleaner.cluster()
    cleaner.delete_cluster()
    skip_steps(cleaner, "rule")
    assert cleaner.clean_up().removed == [RemovedResource(ResourceKind.CLUSTER, "app-cluster")]
    assert cleaner.time.slept == [10.0] * 5


# Jobs that would be lost


class SafetyCheck:
    """The safety check before a cleanup that the user runs."""

    def __init__(self, aws: ExactClients) -> None:
        self.aws, self.time, self.cleaner = aws, FakeTime(), Cleaner(aws)

    def fleets(self, *fleets: dict[str, Any]) -> None:
        self.aws.expect_call("ec2.describe_spot_fleet_requests", {}, SpotFleetRequestConfigs=list(fleets))

    def jobs(self, *waiting: int) -> None:
        for number in waiting:
            self.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
            self.cleaner.counts(QUEUE_URL, number, running=number // 2)

    def run(self, *, yes: bool = False) -> None:
        check_cleanup_safety(self.aws.clients, MONITOR_FILE, "monitor.json", self.time.clock, yes=yes)


@pytest.fixture
def safety_check(aws: ExactClients) -> SafetyCheck:
    return SafetyCheck(aws)


def test_a_cleanup_that_would_lose_jobs_fails_and_reports_how_many_there_are(safety_check: SafetyCheck) -> None:
    safety_check.fleets(build_fleet())
    safety_check.jobs(40)
    with pytest.raises(InputError, match=r"monitor\.json: queue AppQueue: it still holds 60 jobs, .*add --yes"):
        safety_check.run()
    assert list_writes(safety_check.aws) == []


def test_with_yes_a_cleanup_may_lose_jobs(safety_check: SafetyCheck) -> None:
    safety_check.fleets(build_fleet())
    safety_check.jobs(40)
    safety_check.run(yes=True)


def test_a_queue_counts_as_empty_only_after_three_counts_of_zero(safety_check: SafetyCheck) -> None:
    """SQS's counts are approximate."""
    safety_check.fleets()
    safety_check.jobs(0, 0, 2)
    with pytest.raises(InputError, match="3 jobs"):
        safety_check.run()
    safety_check.fleets()
    safety_check.jobs(0, 0, 0)
    safety_check.run()
    assert safety_check.time.slept == [5.0] * 4


def test_a_deleted_queue_counts_as_empty(safety_check: SafetyCheck) -> None:
    safety_check.fleets()
    safety_check.aws.expect_error("sqs.get_queue_url", MISSING_QUEUE)
    for _ in range(2):
        safety_check.aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
        safety_check.aws.expect_error("sqs.get_queue_attributes", MISSING_QUEUE)
    safety_check.run()


def test_a_cleanup_of_an_older_run_fails_while_a_newer_run_is_active(safety_check: SafetyCheck) -> None:
    """Both runs use the same queue, service, and cluster."""
    safety_check.fleets(build_fleet("sfr-0abc0abc", app="AppTwo"), build_fleet(OTHER_FLEET))
    with pytest.raises(InputError, match=f"MONITOR_FLEET_ID: .*{OTHER_FLEET}, which belongs to a newer run of App, is"):
        safety_check.run(yes=True)


def test_a_cleanup_without_permission_to_count_jobs_fails(safety_check: SafetyCheck) -> None:
    safety_check.fleets()
    safety_check.aws.expect_error("sqs.get_queue_url", "AccessDenied")
    with pytest.raises(CloudError, match="counting the jobs in AppQueue: AccessDenied"):
        safety_check.run(yes=True)


# Without a monitor file


class Finder:
    """A search for the run from a computer that has only the config."""

    def __init__(self, aws: ExactClients) -> None:
        self.aws = aws

    def fleets(self, *fleets: dict[str, Any]) -> None:
        self.aws.expect_call("ec2.describe_spot_fleet_requests", {}, SpotFleetRequestConfigs=list(fleets))

    def store_copy(self, content: object) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        expected = {"Bucket": "app-bucket", "Key": "monitors/AppSpotFleetRequestId.json"}
        self.aws.expect_call("s3.get_object", expected, Body=StreamingBody(io.BytesIO(raw), len(raw)))

    def refuse_copy(self, code: str = "NoSuchKey") -> None:
        self.aws.expect_error("s3.get_object", code)

    def find(self) -> MonitorFile:
        return recover_monitor_file(self.aws.clients, SETTINGS, lambda: START)


@pytest.fixture
def finder(aws: ExactClients) -> Finder:
    return Finder(aws)


def test_the_run_is_identified_by_the_copy_of_the_monitor_file(finder: Finder) -> None:
    for fleets in ([], [build_fleet()]):
        finder.fleets(*fleets)
        finder.store_copy(asdict(MONITOR_FILE))
        assert finder.find() == MONITOR_FILE


def test_an_active_fleet_takes_precedence_over_the_copy_of_an_older_run(finder: Finder) -> None:
    finder.fleets(build_fleet("sfr-0abc0abc", app="AppTwo"), build_fleet(OTHER_FLEET))
    finder.store_copy(asdict(MONITOR_FILE))
    assert finder.find() == build_monitor_file(SETTINGS, OTHER_FLEET, START)


def test_the_run_name_comes_from_the_fleet_tag_or_else_from_the_time_of_the_fleet_request(finder: Finder) -> None:
    for run, name in (("20261122T000000Z", "20261122T000000Z"), ("nightly", RUN), ("20269922T000000Z", RUN)):
        finder.fleets(build_fleet(run=run))
        finder.refuse_copy()
        assert finder.find().run == name


@pytest.mark.parametrize("content", [b"no JSON", [], {"MONITOR_APP_NAME": 7}, asdict(MONITOR_FILE) | {
    "MONITOR_APP_NAME": "AppTwo"}])  # fmt: skip
def test_an_invalid_copy_is_ignored_and_the_config_is_used(finder: Finder, content: object) -> None:
    finder.fleets()
    finder.store_copy(content)
    assert finder.find() == build_monitor_file(SETTINGS, NO_FLEET_ID, START)


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchBucket", "AccessDenied"])
def test_without_a_copy_the_run_is_identified_by_the_config_and_the_tags(finder: Finder, code: str) -> None:
    finder.fleets(build_fleet())
    finder.refuse_copy(code)
    file = finder.find()
    assert (file.MONITOR_FLEET_ID, file.MONITOR_QUEUE_NAME, file.run) == (FLEET_ID, "AppQueue", RUN)


def test_without_permission_to_list_fleets_the_search_for_the_run_fails(finder: Finder) -> None:
    finder.aws.expect_error("ec2.describe_spot_fleet_requests", "UnauthorizedOperation")
    with pytest.raises(CloudError, match="UnauthorizedOperation"):
        finder.find()
