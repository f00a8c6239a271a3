"""Clean-up, call for call: what goes, in which order, what stays, and what AWS's late or refused answers cost."""

from __future__ import annotations

import io
import json
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
    Exact,
    FakeTime,
    exact,
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
NOT_OURS = ["App_i-0abc_by_hand", "App_i-XYZ"]  # the prefix's, but not named as this app names its alarms
WRITES = ("Create", "Put", "Update", "Set", "Deregister", "Request", "Modify", "Delete", "Cancel", "Tag", "Terminate")


@pytest.fixture
def aws() -> Iterator[Exact]:
    with exact() as made:
        yield made


def writes(aws: Exact) -> list[str]:
    return [call for call in aws.calls if call.partition(".")[2].startswith(WRITES)]


def described_service(desired: int = 0) -> dict[str, Any]:
    counts = {"desiredCount": desired, "runningCount": 0, "pendingCount": 0}
    return {"serviceName": "AppService", "status": "ACTIVE", **counts}


def described_cluster(**more: Any) -> dict[str, Any]:
    tags = [{"key": "app", "value": "App"}]
    return {"clusterName": "app-cluster", "status": "ACTIVE", "tags": tags, "activeServicesCount": 0,
            "registeredContainerInstancesCount": 0, "runningTasksCount": 0, **more}  # fmt: skip


def described_fleet(name: str = FLEET_ID, app: str = "App", state: str = "active", run: str = RUN) -> dict[str, Any]:
    tags = [{"Key": "app", "Value": app}, {"Key": "run", "Value": run}]
    return {"SpotFleetRequestId": name, "SpotFleetRequestState": state, "Tags": tags,
            "SpotFleetRequestConfig": {"IamFleetRole": "role", "TargetCapacity": 3},
            "CreateTime": datetime.fromtimestamp(START, UTC)}  # fmt: skip


def described_machine(name: str, state: str = "running", **tags: str) -> dict[str, Any]:
    return {
        "InstanceId": name,
        "State": {"Name": state},
        "Tags": ec2_tags(**{"app": "App", "Name": "AppWorker"} | tags),
    }


def ec2_tags(**tags: str) -> list[dict[str, str]]:
    names = {"fleet": "aws:ec2spot:fleet-request-id"}
    return [{"Key": names.get(key, key), "Value": value} for key, value in tags.items()]


class Cleaner:
    """A clean-up, step by step. Each method lists one step's calls."""

    def __init__(self, aws: Exact) -> None:
        self.aws, self.time = aws, FakeTime()

    def clean(self, *, left: int = 0, file: MonitorFile = MONITOR_FILE, **more: bool) -> CleanupReport:
        """The report, in which so many things could not be removed. A call that no test listed counts as one."""
        run = CleanupRequest(file, "AppDead", pause=10.0, **more)
        report = delete_run_resources(self.aws.clients, run, self.time.sleep)
        assert len(report.failed) == left, report.failed
        return report

    def service(self) -> None:
        self.aws.answer("ecs.describe_services", SERVICE_QUERY, services=[described_service(6)])
        wanted = {"cluster": "app-cluster", "service": "AppService", "desiredCount": 0}
        self.aws.answer("ecs.update_service", wanted)
        self.aws.answer("ecs.describe_services", SERVICE_QUERY, services=[described_service()])
        self.aws.answer("ecs.delete_service", {"cluster": "app-cluster", "service": "AppService", "force": True})

    def no_service(self) -> None:
        for _ in range(2):  # one look before its tasks are stopped, one before it goes
            self.aws.answer("ecs.describe_services", SERVICE_QUERY, services=[])

    def fleet(self) -> None:
        self.fleet_has()
        self.cancel()

    def fleet_has(self, name: str = FLEET_ID, state: str = "active", machines: int = 2) -> None:
        wanted = {"SpotFleetRequestIds": [name]}
        found = [described_fleet(name, state=state)]
        self.aws.answer("ec2.describe_spot_fleet_requests", wanted, SpotFleetRequestConfigs=found)
        instances = [{"InstanceId": f"i-{number}"} for number in range(machines)]
        wanted_instances = {"SpotFleetRequestId": name, "MaxResults": 1000}
        self.aws.answer("ec2.describe_spot_fleet_instances", wanted_instances, ActiveInstances=instances)

    def cancel(self, name: str = FLEET_ID, **answer: Any) -> None:
        wanted = {"SpotFleetRequestIds": [name], "TerminateInstances": True}
        self.aws.answer("ec2.cancel_spot_fleet_requests", wanted, **answer)

    def machines(self, *found: dict[str, Any]) -> None:
        self.aws.answer("ec2.describe_instances", MACHINES_QUERY, Reservations=[{"Instances": list(found)}])

    def end(self, *ids: str) -> None:
        self.aws.answer("ec2.terminate_instances", {"InstanceIds": list(ids)})

    def alarms(self, *names: str) -> None:
        found = [{"AlarmName": name} for name in names]
        self.aws.answer("cloudwatch.describe_alarms", {"AlarmNamePrefix": "App_i-"}, MetricAlarms=found)

    def dashboards(self, *names: str) -> None:
        found = [{"DashboardName": name} for name in names]
        self.aws.answer("cloudwatch.list_dashboards", {"DashboardNamePrefix": "App"}, DashboardEntries=found)

    def dead_letters(self, waiting: int, *sources: str) -> None:
        self.aws.answer("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
        self.counts(DEAD_URL, waiting)
        urls = [QUEUE_URL.replace("AppQueue", name) for name in sources]
        self.aws.answer("sqs.list_dead_letter_source_queues", {"QueueUrl": DEAD_URL}, queueUrls=urls)

    def counts(self, url: str, waiting: int, running: int = 0) -> None:
        values = dict(zip(QUEUE_ATTRIBUTES, (str(waiting), str(running), "0"), strict=False))
        wanted = {"QueueUrl": url, "AttributeNames": QUEUE_ATTRIBUTES}
        self.aws.answer("sqs.get_queue_attributes", wanted, Attributes=values)

    def queue(self) -> None:
        self.aws.answer("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
        self.aws.answer("sqs.delete_queue", {"QueueUrl": QUEUE_URL})

    def definitions(self, *revisions: str) -> None:
        arns = [f"{FAMILY_ARN.removesuffix('AppTask')}{revision}" for revision in revisions]
        wanted = {"familyPrefix": "AppTask", "status": "ACTIVE"}
        self.aws.answer("ecs.list_task_definitions", wanted, taskDefinitionArns=arns)

    def deregister(self, revision: str) -> None:
        arn = f"{FAMILY_ARN.removesuffix('AppTask')}{revision}"
        self.aws.answer("ecs.deregister_task_definition", {"taskDefinition": arn})

    def templates(self, *found: dict[str, Any]) -> None:
        self.aws.answer("ec2.describe_launch_templates", TEMPLATES_QUERY, LaunchTemplates=list(found))

    def volumes(self, *found: dict[str, Any]) -> None:
        self.aws.answer("ec2.describe_volumes", VOLUMES_QUERY, Volumes=list(found))

    def cluster(self, *services: str, **more: Any) -> None:
        self.aws.answer("ecs.describe_clusters", CLUSTER_QUERY, clusters=[described_cluster(**more)])
        arns = [f"arn:aws:ecs:us-east-1:123456789012:service/app-cluster/{name}" for name in services]
        self.aws.answer("ecs.list_services", {"cluster": "app-cluster"}, serviceArns=arns)

    def delete_cluster(self) -> None:
        self.aws.answer("ecs.delete_cluster", {"cluster": "app-cluster"})

    def monitor_file(self) -> None:
        """Looked at first: a newer run's rule has the same name."""
        wanted = {"Bucket": "app-bucket", "Key": "monitors/AppSpotFleetRequestId.json"}
        self.aws.refuse("s3.get_object", "NoSuchKey", wanted=wanted)

    def rule(self) -> None:
        self.monitor_file()
        self.aws.answer("events.remove_targets", {"Rule": RULE, "Ids": ["auto-monitor"]})
        self.aws.answer("events.delete_rule", {"Name": RULE})


@pytest.fixture
def cleaner(aws: Exact) -> Cleaner:
    return Cleaner(aws)


def kept_lines(report: CleanupReport) -> list[str]:
    """What a user reads of what stays."""
    return [line for line in format_cleanup_report(report).splitlines() if line.startswith("kept ")]


def nothing(cleaner: Cleaner, *steps: str) -> None:
    """The named steps find nothing to do."""
    refuse = cleaner.aws.refuse

    def no_rule(*, of_run: bool = True) -> None:
        if of_run:
            cleaner.monitor_file()
        refuse("events.remove_targets", "ResourceNotFoundException")

    empty: dict[str, Callable[[], None]] = {
        "service": cleaner.no_service,
        "fleet": lambda: refuse("ec2.describe_spot_fleet_requests", "InvalidSpotFleetRequestId.NotFound"),
        "machines": cleaner.machines,
        "alarms": cleaner.alarms,
        "dashboard": cleaner.dashboards,
        "dead": lambda: refuse("sqs.get_queue_url", MISSING_QUEUE),
        "queue": lambda: refuse("sqs.get_queue_url", MISSING_QUEUE),
        "definitions": cleaner.definitions,
        "templates": cleaner.templates,
        "volumes": cleaner.volumes,
        "cluster": lambda: cleaner.aws.answer("ecs.describe_clusters", CLUSTER_QUERY, clusters=[]),
        "rule": no_rule,
        "app's rule": lambda: no_rule(of_run=False),
    }
    for step in steps:
        empty[step]()


FIRST = ("service", "fleet", "machines", "alarms", "dashboard")  # the steps before the queues
LAST = ("definitions", "templates", "volumes", "cluster", "rule")  # those after
APPS_LAST = (*LAST[:-1], "app's rule")


# The whole


def test_a_whole_clean_up_call_by_call(cleaner: Cleaner) -> None:
    """Alarms by hundreds, only those named as this app's; not one call for another app's dashboard or definition."""
    cleaner.service()
    cleaner.fleet()
    cleaner.machines()
    cleaner.alarms(*ALARMS, *NOT_OURS)
    for first in (0, 100, 200):
        cleaner.aws.answer("cloudwatch.delete_alarms", {"AlarmNames": ALARMS[first : first + 100]})
    cleaner.dashboards("App", "AppTwo")
    cleaner.aws.answer("cloudwatch.delete_dashboards", {"DashboardNames": ["App"]})
    cleaner.dead_letters(0, "AppQueue")
    cleaner.aws.answer("sqs.delete_queue", {"QueueUrl": DEAD_URL})
    cleaner.queue()
    cleaner.definitions("AppTask:1", "AppTaskTwo:1", "AppTask:2")
    cleaner.deregister("AppTask:1")
    cleaner.deregister("AppTask:2")
    cleaner.templates(template(f"App-{RUN}"))
    cleaner.aws.answer("ec2.delete_launch_template", {"LaunchTemplateId": "lt-0"})
    cleaner.volumes({"VolumeId": "vol-0", "Tags": ec2_tags(app="App", run=RUN)})
    cleaner.aws.answer("ec2.delete_volume", {"VolumeId": "vol-0"})
    cleaner.cluster("AppService")
    cleaner.delete_cluster()
    cleaner.rule()
    report = cleaner.clean()
    assert format_cleanup_report(report).splitlines() == [
        f"removed         fleet {FLEET_ID} and its 2 machines", "removed         service AppService",
        "removed         250 alarms", "removed         dashboard App", "removed         dead-letter queue AppDead",
        "removed         queue AppQueue", "removed         2 task definitions AppTask",
        f"removed         launch template App-{RUN}", "removed         volume vol-0",
        "removed         cluster app-cluster", f"removed         rule {RULE}",
        "kept            log group AppLogs (60 days)", "kept            log group AppLogs_perInstance (60 days)",
    ]  # fmt: skip
    assert cleaner.aws.calls.index("ecs.UpdateService") < cleaner.aws.calls.index("ec2.CancelSpotFleetRequests")
    assert cleaner.time.slept == []


def template(name: str, **tags: str) -> dict[str, Any]:
    found = ec2_tags(**{"app": "App", "run": RUN} | tags)
    return {"LaunchTemplateId": "lt-0", "LaunchTemplateName": name, "Tags": found}


def test_a_clean_up_after_a_clean_up_only_looks(cleaner: Cleaner) -> None:
    nothing(cleaner, *FIRST, "dead", "queue", *LAST)
    assert cleaner.clean().removed == []
    assert writes(cleaner.aws) == []


def test_the_pages_of_an_answer_are_all_read(cleaner: Cleaner) -> None:
    nothing(cleaner, "service", "fleet", "machines")
    asked = {"AlarmNamePrefix": "App_i-"}
    first, second = [[{"AlarmName": name}] for name in ("App_i-0a", "App_i-0b")]
    cleaner.aws.answer("cloudwatch.describe_alarms", asked, MetricAlarms=first, NextToken="more")
    cleaner.aws.answer("cloudwatch.describe_alarms", {**asked, "NextToken": "more"}, MetricAlarms=second)
    cleaner.aws.answer("cloudwatch.delete_alarms", {"AlarmNames": ["App_i-0a", "App_i-0b"]})
    nothing(cleaner, "dashboard", "dead", "queue")
    asked = {"familyPrefix": "AppTask", "status": "ACTIVE"}
    for number, token in ((1, {}), (2, {"nextToken": "1"}), (3, {"nextToken": "2"})):
        arns, more = [f"{FAMILY_ARN}:{number}"], {"nextToken": str(number)} if number < 3 else {}
        cleaner.aws.answer("ecs.list_task_definitions", asked | token, taskDefinitionArns=arns, **more)
    for number in (1, 2, 3):
        cleaner.deregister(f"AppTask:{number}")
    nothing(cleaner, "templates", "volumes", "cluster", "rule")
    assert cleaner.clean().removed == [
        RemovedResource(ResourceKind.ALARM, count=2),
        RemovedResource(ResourceKind.TASK_DEFINITION, "AppTask", count=3),
    ]


def test_another_apps_dashboard_of_the_same_beginning_stays(cleaner: Cleaner) -> None:
    nothing(cleaner, "service", "fleet", "machines", "alarms")
    cleaner.dashboards("AppTwo")
    nothing(cleaner, "dead", "queue", *LAST)
    assert cleaner.clean().removed == []


def test_a_dashboard_stays_where_the_config_says_so(cleaner: Cleaner) -> None:
    nothing(cleaner, "service", "fleet", "machines", "alarms")
    cleaner.dashboards("App")
    nothing(cleaner, "dead", "queue", *LAST)
    report = cleaner.clean(file=replace(MONITOR_FILE, CLEAN_DASHBOARD=False))
    assert report.kept[0] == KeptResource(ResourceKind.DASHBOARD, "App", KeepReason.CLEAN_DASHBOARD)
    assert kept_lines(report)[0] == "kept            dashboard App (CLEAN_DASHBOARD is 'False')"


# What fails


def test_a_step_that_fails_is_tried_again_and_keeps_no_other_from_being_tried(cleaner: Cleaner) -> None:
    """And the auto-monitor's rule stays, so that it comes again."""
    for _ in range(MAX_STEP_ATTEMPTS):
        cleaner.aws.refuse("ecs.describe_services", "AccessDeniedException")
    cleaner.fleet()
    cleaner.machines()
    for _ in range(MAX_STEP_ATTEMPTS):
        cleaner.aws.refuse("ecs.describe_services", "AccessDeniedException")
    cleaner.aws.refuse("cloudwatch.describe_alarms", "ThrottlingException")
    cleaner.alarms("App_i-0a")
    cleaner.aws.answer("cloudwatch.delete_alarms", {"AlarmNames": ["App_i-0a"]})
    nothing(cleaner, "dashboard", "dead")
    cleaner.queue()
    nothing(cleaner, "definitions", "templates", "volumes", "cluster")
    report = cleaner.clean(left=2)
    lines = format_cleanup_report(report).splitlines()
    assert lines[:3] == [
        f"removed         fleet {FLEET_ID} and its 2 machines", "removed         1 alarm",
        "removed         queue AppQueue",
    ]  # fmt: skip
    assert [line.partition(":")[0] for line in lines[-2:]] == [
        "NOT REMOVED     service AppService (stopping its tasks)", "NOT REMOVED     service AppService",
    ]  # fmt: skip
    assert all("ask your administrator" in line for line in lines[-2:])
    assert cleaner.time.slept == [10.0] * (2 * (MAX_STEP_ATTEMPTS - 1) + 1)


def test_a_caller_that_comes_again_by_itself_waits_for_nothing(cleaner: Cleaner) -> None:
    nothing(cleaner, "service", "fleet", "machines")
    cleaner.aws.refuse("cloudwatch.describe_alarms", "ThrottlingException")
    nothing(cleaner, "dashboard", "dead", "queue", "definitions", "templates", "volumes")
    cleaner.cluster(registeredContainerInstancesCount=2)
    assert [failure.what for failure in cleaner.clean(left=2, patient=False).failed] == [
        "alarms App_i-…", "cluster app-cluster",
    ]  # fmt: skip
    assert cleaner.time.slept == []
    nothing(cleaner, *FIRST, "dead", "queue", "definitions", "templates", "volumes", "cluster")
    cleaner.clean(patient=False, keep_rule=True)


def test_a_fleet_that_ec2_does_not_cancel_is_listed_with_the_reason_and_its_machines_are_let_be(
    cleaner: Cleaner,
) -> None:
    """It would only replace them."""
    nothing(cleaner, "service")
    refused = {"SpotFleetRequestId": FLEET_ID, "Error": {"Code": "unexpectedError", "Message": "not now"}}
    for _ in range(MAX_STEP_ATTEMPTS):
        cleaner.fleet_has()
        cleaner.cancel(UnsuccessfulFleetRequests=[refused])
    nothing(cleaner, "alarms", "dashboard", "dead", "queue", "definitions", "templates", "volumes", "cluster")
    report = cleaner.clean(left=1)
    told = f"NOT REMOVED     fleet {FLEET_ID}: EC2 refused to cancel it: not now"
    assert format_cleanup_report(report).splitlines()[-1] == told
    assert [failure.kind for failure in report.failed] == [ResourceKind.FLEET]


def test_a_queue_that_was_deleted_a_minute_ago_is_gone(cleaner: Cleaner) -> None:
    """SQS still gives its URL."""
    nothing(cleaner, *FIRST)
    cleaner.aws.answer("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
    cleaner.aws.refuse("sqs.get_queue_attributes", MISSING_QUEUE)
    cleaner.aws.answer("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    cleaner.aws.refuse("sqs.delete_queue", MISSING_QUEUE)
    nothing(cleaner, *LAST)
    assert cleaner.clean().removed == []
    assert cleaner.time.slept == []


# Machines


def test_machines_that_no_fleet_ends_are_ended_but_only_this_runs(cleaner: Cleaner) -> None:
    """A fleet that was cancelled by hand leaves its machines behind."""
    nothing(cleaner, "service", "fleet")
    cleaner.machines(
        described_machine("i-1", run=RUN),
        described_machine("i-2", fleet=FLEET_ID),
        described_machine("i-3", fleet=OTHER_FLEET),
        described_machine("i-4", run="20261124T000000Z"),
        described_machine("i-5", "shutting-down", run=RUN),
    )
    cleaner.end("i-1", "i-2")
    nothing(cleaner, "alarms", "dashboard", "dead", "queue", *LAST)
    report = cleaner.clean()
    assert report.removed == [RemovedResource(ResourceKind.MACHINE, "outside the fleet", count=2)]
    assert format_cleanup_report(report).splitlines()[0] == "removed         2 machines outside the fleet"


def test_a_clean_up_of_the_whole_app_ends_all_its_fleets_and_machines_and_no_others(cleaner: Cleaner) -> None:
    nothing(cleaner, "service", "fleet")
    found = [described_fleet(OTHER_FLEET, run="20260101T000000Z"), described_fleet("sfr-0abc0abc", app="AppTwo")]
    cleaner.aws.answer("ec2.describe_spot_fleet_requests", {}, SpotFleetRequestConfigs=found[:1], NextToken="more")
    cleaner.aws.answer("ec2.describe_spot_fleet_requests", {"NextToken": "more"}, SpotFleetRequestConfigs=found[1:])
    cleaner.fleet_has(OTHER_FLEET)
    cleaner.cancel(OTHER_FLEET)
    cleaner.machines(
        described_machine("i-1", run="20260101T000000Z"),
        described_machine("i-2", fleet=OTHER_FLEET),  # its fleet ends it
        described_machine("i-3", Name="webserver"),  # another's use of the tag `app`
        described_machine("i-4", Name="webserver", run="nightly"),
    )
    cleaner.end("i-1")
    nothing(cleaner, "alarms", "dashboard", "dead", "queue", *APPS_LAST)
    assert cleaner.clean(whole_app=True).removed == [
        RemovedResource(ResourceKind.FLEET, OTHER_FLEET, machines=2),
        RemovedResource(ResourceKind.MACHINE, "outside the fleet", count=1),
    ]


def test_machines_are_ended_by_hundreds(cleaner: Cleaner) -> None:
    nothing(cleaner, "service", "fleet")
    names = [f"i-{number:08x}" for number in range(150)]
    cleaner.machines(*(described_machine(name, run=RUN) for name in names))
    cleaner.end(*names[:100])
    cleaner.end(*names[100:])
    nothing(cleaner, "alarms", "dashboard", "dead", "queue", *LAST)
    cleaner.clean()


def test_launch_templates_and_volumes_of_others_stay(cleaner: Cleaner) -> None:
    nothing(cleaner, *FIRST, "dead", "queue", "definitions")
    cleaner.templates(template("App-handmade"), template(f"App-Two-{RUN}"), template(f"AppTwo-{RUN}"))
    tags = ec2_tags(app="App", Name="precious data")
    cleaner.volumes({"VolumeId": "vol-0", "Tags": tags})
    nothing(cleaner, "cluster", "rule")
    assert cleaner.clean(whole_app=False).removed == []


def test_the_launch_template_of_an_older_start_goes_along_and_that_of_a_newer_one_stays(cleaner: Cleaner) -> None:
    """No fleet was made of the older one, or there would be no newer run; the newer may get its fleet any moment."""
    nothing(cleaner, *FIRST, "dead", "queue", "definitions")
    older, newer = "20250101T000000Z", "20270101T000000Z"
    cleaner.templates(template(f"App-{older}", run=older), template(f"App-{newer}", run=newer))
    cleaner.aws.answer("ec2.delete_launch_template", {"LaunchTemplateId": "lt-0"})
    nothing(cleaner, "volumes", "cluster", "rule")
    assert cleaner.clean().removed == [RemovedResource(ResourceKind.LAUNCH_TEMPLATE, f"App-{older}")]


def test_a_volume_that_the_fleet_file_keeps_stays(cleaner: Cleaner) -> None:
    nothing(cleaner, *FIRST, "dead", "queue", "definitions", "templates")
    tags = ec2_tags(app="App", run=RUN, Name="AppWorker", **KEPT_VOLUME_TAG)
    cleaner.volumes({"VolumeId": "vol-0", "Tags": tags})
    nothing(cleaner, "cluster", "rule")
    assert cleaner.clean().removed == []


def test_the_launch_template_of_a_start_that_was_killed_before_its_fleet_was_there_goes_with_the_app(
    cleaner: Cleaner,
) -> None:
    nothing(cleaner, "service", "fleet")
    cleaner.aws.answer("ec2.describe_spot_fleet_requests", {}, SpotFleetRequestConfigs=[])
    nothing(cleaner, "machines", "alarms", "dashboard", "dead", "queue", "definitions")
    cleaner.templates(template("App-20250101T000000Z", app="App", run="20250101T000000Z"))
    cleaner.aws.answer("ec2.delete_launch_template", {"LaunchTemplateId": "lt-0"})
    nothing(cleaner, "volumes", "cluster", "app's rule")
    removed = cleaner.clean(whole_app=True).removed
    assert removed == [RemovedResource(ResourceKind.LAUNCH_TEMPLATE, "App-20250101T000000Z")]


# The dead-letter queue


@pytest.mark.parametrize(
    ("waiting", "sources", "why"),
    [(2, ["AppQueue"], "it holds 2 failed jobs"), (0, ["AppQueue", "AppTwoQueue"], "other queues use it")],
)
def test_a_dead_letter_queue_with_jobs_or_of_others_is_kept(
    cleaner: Cleaner, waiting: int, sources: list[str], why: str
) -> None:
    nothing(cleaner, *FIRST)
    cleaner.dead_letters(waiting, *sources)
    cleaner.queue()
    nothing(cleaner, *LAST)
    assert kept_lines(cleaner.clean())[0] == f"kept            dead-letter queue AppDead ({why})"


def test_failed_jobs_go_where_the_user_says_so_but_never_those_of_others(cleaner: Cleaner) -> None:
    for sources, gone in ((["AppQueue"], True), (["AppQueue", "AppTwoQueue"], False)):
        nothing(cleaner, *FIRST)
        cleaner.dead_letters(2, *sources)
        if gone:
            cleaner.aws.answer("sqs.delete_queue", {"QueueUrl": DEAD_URL})
        nothing(cleaner, "queue", *LAST)
        removed = cleaner.clean(failed_too=True).removed
        assert (RemovedResource(ResourceKind.DEAD_LETTER_QUEUE, "AppDead") in removed) == gone


# The cluster


@pytest.mark.parametrize(
    "tags", [[], [{"key": "app", "value": "AppTwo"}], [{"key": "other", "value": "App"}]], ids=["none", "two", "other"]
)
def test_the_cluster_of_others_is_kept(cleaner: Cleaner, tags: list[dict[str, str]]) -> None:
    nothing(cleaner, *FIRST, "dead", "queue", "definitions", "templates", "volumes")
    cleaner.aws.answer("ecs.describe_clusters", CLUSTER_QUERY, clusters=[described_cluster(tags=tags)])
    nothing(cleaner, "rule")
    told = "kept            cluster app-cluster (it was there before this app)"
    assert kept_lines(cleaner.clean())[0] == told


def test_our_cluster_is_kept_while_another_service_uses_it(cleaner: Cleaner) -> None:
    nothing(cleaner, *FIRST, "dead", "queue", "definitions", "templates", "volumes")
    cleaner.cluster("AppService", "AppTwoService")
    nothing(cleaner, "rule")
    assert kept_lines(cleaner.clean())[0] == "kept            cluster app-cluster (other services use it)"


def test_the_cluster_goes_once_its_machines_have_ended(cleaner: Cleaner) -> None:
    nothing(cleaner, *FIRST, "dead", "queue", "definitions", "templates", "volumes")
    for _ in range(4):
        cleaner.cluster(registeredContainerInstancesCount=2)
    cleaner.cluster()
    cleaner.aws.refuse("ecs.delete_cluster", "ClusterContainsTasksException")
    cleaner.cluster()
    cleaner.delete_cluster()
    nothing(cleaner, "rule")
    assert cleaner.clean().removed == [RemovedResource(ResourceKind.CLUSTER, "app-cluster")]
    assert cleaner.time.slept == [10.0] * 5


# Jobs that would be lost


class Asker:
    """The question before a clean-up by hand."""

    def __init__(self, aws: Exact) -> None:
        self.aws, self.time, self.cleaner = aws, FakeTime(), Cleaner(aws)

    def fleets(self, *found: dict[str, Any]) -> None:
        self.aws.answer("ec2.describe_spot_fleet_requests", {}, SpotFleetRequestConfigs=list(found))

    def jobs(self, *waiting: int) -> None:
        for number in waiting:
            self.aws.answer("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
            self.cleaner.counts(QUEUE_URL, number, running=number // 2)

    def ask(self, *, yes: bool = False) -> None:
        check_cleanup_safety(self.aws.clients, MONITOR_FILE, "monitor.json", self.time.clock, yes=yes)


@pytest.fixture
def asker(aws: Exact) -> Asker:
    return Asker(aws)


def test_jobs_that_would_be_lost_are_counted_and_asked_for(asker: Asker) -> None:
    asker.fleets(described_fleet())
    asker.jobs(40)
    with pytest.raises(InputError, match=r"monitor\.json: queue AppQueue: 60 jobs are still in it.*add --yes"):
        asker.ask()
    assert writes(asker.aws) == []


def test_who_says_yes_loses_them(asker: Asker) -> None:
    asker.fleets(described_fleet())
    asker.jobs(40)
    asker.ask(yes=True)


def test_a_zero_is_believed_only_at_the_third_look(asker: Asker) -> None:
    """SQS's counts lag behind."""
    asker.fleets()
    asker.jobs(0, 0, 2)
    with pytest.raises(InputError, match="3 jobs"):
        asker.ask()
    asker.fleets()
    asker.jobs(0, 0, 0)
    asker.ask()
    assert asker.time.slept == [5.0] * 4


def test_a_queue_that_is_gone_or_was_deleted_a_minute_ago_holds_nothing(asker: Asker) -> None:
    asker.fleets()
    asker.aws.refuse("sqs.get_queue_url", MISSING_QUEUE)
    for _ in range(2):
        asker.aws.answer("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
        asker.aws.refuse("sqs.get_queue_attributes", MISSING_QUEUE)
    asker.ask()


def test_an_older_monitor_file_does_not_end_the_run_that_goes_on_now(asker: Asker) -> None:
    """Both have the same queue, service and cluster."""
    asker.fleets(described_fleet("sfr-0abc0abc", app="AppTwo"), described_fleet(OTHER_FLEET))
    with pytest.raises(InputError, match=f"MONITOR_FLEET_ID: .*{OTHER_FLEET} of a newer run of App is"):
        asker.ask(yes=True)


def test_without_the_right_to_count_nothing_is_removed(asker: Asker) -> None:
    asker.fleets()
    asker.aws.refuse("sqs.get_queue_url", "AccessDenied")
    with pytest.raises(CloudError, match="counting the jobs in AppQueue: AccessDenied"):
        asker.ask(yes=True)


# Without a monitor file


class Finder:
    """From a computer that has the config alone."""

    def __init__(self, aws: Exact) -> None:
        self.aws = aws

    def fleets(self, *found: dict[str, Any]) -> None:
        self.aws.answer("ec2.describe_spot_fleet_requests", {}, SpotFleetRequestConfigs=list(found))

    def copy(self, content: object) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        wanted = {"Bucket": "app-bucket", "Key": "monitors/AppSpotFleetRequestId.json"}
        self.aws.answer("s3.get_object", wanted, Body=StreamingBody(io.BytesIO(raw), len(raw)))

    def no_copy(self, code: str = "NoSuchKey") -> None:
        self.aws.refuse("s3.get_object", code)

    def find(self) -> MonitorFile:
        return recover_monitor_file(SETTINGS, self.aws.clients, lambda: START)


@pytest.fixture
def finder(aws: Exact) -> Finder:
    return Finder(aws)


def test_the_copy_in_the_bucket_names_the_run(finder: Finder) -> None:
    for fleets in ([], [described_fleet()]):
        finder.fleets(*fleets)
        finder.copy(asdict(MONITOR_FILE))
        assert finder.find() == MONITOR_FILE


def test_a_fleet_that_is_active_goes_before_an_older_copy(finder: Finder) -> None:
    finder.fleets(described_fleet("sfr-0abc0abc", app="AppTwo"), described_fleet(OTHER_FLEET))
    finder.copy(asdict(MONITOR_FILE))
    assert finder.find() == build_monitor_file(SETTINGS, OTHER_FLEET, START)


def test_the_fleets_tag_names_the_run_and_without_one_its_making_does(finder: Finder) -> None:
    for run, name in (("20261122T000000Z", "20261122T000000Z"), ("nightly", RUN), ("20269922T000000Z", RUN)):
        finder.fleets(described_fleet(run=run))
        finder.no_copy()
        assert finder.find().run == name


@pytest.mark.parametrize("content", [b"no JSON", [], {"MONITOR_APP_NAME": 7}, asdict(MONITOR_FILE) | {
    "MONITOR_APP_NAME": "AppTwo"}])  # fmt: skip
def test_a_copy_that_is_none_leaves_the_names_of_the_config(finder: Finder, content: object) -> None:
    finder.fleets()
    finder.copy(content)
    assert finder.find() == build_monitor_file(SETTINGS, NO_FLEET_ID, START)


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchBucket", "AccessDenied"])
def test_without_a_copy_the_config_and_the_tags_do(finder: Finder, code: str) -> None:
    finder.fleets(described_fleet())
    finder.no_copy(code)
    found = finder.find()
    assert (found.MONITOR_FLEET_ID, found.MONITOR_QUEUE_NAME, found.run) == (FLEET_ID, "AppQueue", RUN)


def test_without_the_right_to_see_fleets_nothing_is_guessed(finder: Finder) -> None:
    finder.aws.refuse("ec2.describe_spot_fleet_requests", "UnauthorizedOperation")
    with pytest.raises(CloudError, match="UnauthorizedOperation"):
        finder.find()
