"""What the commands ask of AWS, call for call: botocore's Stubber answers only what a test lists."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from distributed_something.aws.ec2_fleet import FleetState, find_active_fleet
from distributed_something.aws.ecs import DRAINING_WAIT_SECONDS, ensure_service, ensure_task_definition
from distributed_something.aws.spot_prices import SpotPriceCache
from distributed_something.aws.sqs import QueueUrls
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.cli.console import Console
from distributed_something.core.clock import Clock
from distributed_something.core.errors import CloudError, InputError
from distributed_something.core.monitor_file import MonitorFile, load_monitor_file
from distributed_something.observe.machines import ContainerInstance
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.snapshot import RunSnapshot, observe_run
from distributed_something.run.run_context import RunContext
from distributed_something.run.setup import set_up_run
from distributed_something.run.start import start_run
from tests.support.fakes import (
    ANY,
    DEAD_URL,
    MISSING_QUEUE,
    MONITOR_FILE,
    QUEUE_URL,
    RUN,
    SETTINGS,
    START,
    Exact,
    FakeTime,
    exact,
)

DEAD_ARN = "arn:aws:sqs:us-east-1:123456789012:AppDead"
COMMON = {"MessageRetentionPeriod": "1209600", "SqsManagedSseEnabled": "true"}
QUEUE_SETTINGS = COMMON | {
    "VisibilityTimeout": "120",
    "ReceiveMessageWaitTimeSeconds": "20",
    "RedrivePolicy": json.dumps({"deadLetterTargetArn": DEAD_ARN, "maxReceiveCount": "3"}),
}
TAGS = [{"key": "app", "value": "App"}, {"key": "owner", "value": "lab"}]
PLACED = {
    "placementConstraints": [{"type": "memberOf", "expression": "attribute:app == App"}],
    "propagateTags": "TASK_DEFINITION",
    "availabilityZoneRebalancing": "DISABLED",
    "enableECSManagedTags": True,
}
FAMILY_ARN = "arn:aws:ecs:us-east-1:123456789012:task-definition/AppTask"
CLUSTER_QUERY = {"clusters": ["app-cluster"], "include": ["TAGS"]}
SERVICE_QUERY = {"cluster": "app-cluster", "services": ["AppService"]}
WRITES = ("Create", "Put", "Update", "Set", "Register", "Request", "Modify", "Delete", "Cancel", "Tag")


def no_roles(aws: Exact) -> None:
    """An account in which setupAWS was never run."""
    aws.refuse("iam.get_role", "NoSuchEntity", wanted={"RoleName": "distributed-something-task"})


def test_a_task_has_the_roles_of_the_account_and_a_changed_role_makes_a_new_revision(aws: Exact) -> None:
    roles = {"taskRoleArn": "arn:task", "executionRoleArn": "arn:execution"}
    request = build_task_definition(SETTINGS, QueueUrls(QUEUE_URL, DEAD_URL), RUN, "lab", roles)
    assert request["taskRoleArn"] == "arn:task"
    assert request["executionRoleArn"] == "arn:execution"
    registered = {"containerDefinitions": request["containerDefinitions"], "taskDefinitionArn": "arn:1", **roles}
    aws.answer("ecs.describe_task_definition", {"taskDefinition": "AppTask"}, taskDefinition=registered)
    assert ensure_task_definition(aws.clients.ecs, request) == "arn:1"
    aws.answer("ecs.describe_task_definition", {"taskDefinition": "AppTask"}, taskDefinition=registered)
    changed = request | {"taskRoleArn": "arn:other"}
    aws.answer("ecs.register_task_definition", changed, taskDefinition={"taskDefinitionArn": "arn:2"})
    assert ensure_task_definition(aws.clients.ecs, changed) == "arn:2"


@pytest.fixture
def aws() -> Iterator[Exact]:
    with exact() as made:
        yield made


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def writes(aws: Exact) -> list[str]:
    return [call for call in aws.calls if call.partition(".")[2].startswith(WRITES)]


def definition(run: str | None = None) -> dict[str, Any]:
    return build_task_definition(SETTINGS, QueueUrls(QUEUE_URL, DEAD_URL), run, "lab")


def service(status: str = "ACTIVE", desired: int = 0, **more: Any) -> dict[str, Any]:
    counts = {"desiredCount": desired, "runningCount": 0, "pendingCount": 0}
    return {"serviceName": "AppService", "status": status, **counts, **more}


def described_cluster(**more: Any) -> dict[str, Any]:
    return {"clusterName": "app-cluster", "status": "ACTIVE", "tags": TAGS, "activeServicesCount": 0,
            "registeredContainerInstancesCount": 0, "runningTasksCount": 0, **more}  # fmt: skip


# setup


def new_queues(aws: Exact) -> None:
    for name in ("AppDead", "AppQueue"):
        aws.refuse("sqs.get_queue_url", MISSING_QUEUE, wanted={"QueueName": name})
    for name, url, attributes in (("AppDead", DEAD_URL, COMMON), ("AppQueue", QUEUE_URL, QUEUE_SETTINGS)):
        wanted = {"QueueName": name, "Attributes": attributes, "tags": {"app": "App", "owner": "lab"}}
        aws.answer("sqs.create_queue", wanted, QueueUrl=url)
        if name == "AppDead":
            dead_arn(aws)


def dead_arn(aws: Exact) -> None:
    wanted = {"QueueUrl": DEAD_URL, "AttributeNames": ["QueueArn"]}
    aws.answer("sqs.get_queue_attributes", wanted, Attributes={"QueueArn": DEAD_ARN})


def found_queues(aws: Exact, **tags: str) -> None:
    """Both are there, with these tags."""
    for name, url in (("AppDead", DEAD_URL), ("AppQueue", QUEUE_URL)):
        aws.answer("sqs.get_queue_url", {"QueueName": name}, QueueUrl=url)
        aws.answer("sqs.list_queue_tags", {"QueueUrl": url}, **({"Tags": tags} if tags else {}))


def old_queues(aws: Exact, *, tagged: bool = True, **changed: str) -> None:
    """Both are there; the job queue with other settings where `changed` says so."""
    found_queues(aws, **({"app": "App"} if tagged else {}))
    for url, attributes in ((DEAD_URL, COMMON), (QUEUE_URL, QUEUE_SETTINGS | changed)):
        if not tagged:
            aws.answer("sqs.tag_queue", {"QueueUrl": url, "Tags": {"app": "App", "owner": "lab"}})
        wanted = {"QueueUrl": url, "AttributeNames": ["All"]}
        aws.answer("sqs.get_queue_attributes", wanted, Attributes=attributes)
        if url == DEAD_URL:
            dead_arn(aws)


def log_groups(aws: Exact, *, there: bool, tags: dict[str, str] | None = None) -> None:
    """`tags`: of groups that are there; those of a run of ours without."""
    for name in ("AppLogs", "AppLogs_perInstance"):
        wanted = {"logGroupName": name, "tags": {"app": "App", "owner": "lab"}}
        if there:
            aws.refuse("logs.create_log_group", "ResourceAlreadyExistsException", wanted=wanted)
            old_log_group(aws, name, {"app": "App"} if tags is None else tags)
        else:
            aws.answer("logs.create_log_group", wanted)
        aws.answer("logs.put_retention_policy", {"logGroupName": name, "retentionInDays": 60})


def old_log_group(aws: Exact, name: str, tags: dict[str, str]) -> None:
    arn = f"arn:aws:logs:us-east-1:123456789012:log-group:{name}"
    others = [{"logGroupName": f"{name}{end}", "arn": f"{arn}{end}:*"} for end in ("-older", "")]
    aws.answer("logs.describe_log_groups", {"logGroupNamePrefix": name}, logGroups=others)
    aws.answer("logs.list_tags_for_resource", {"resourceArn": arn}, tags=tags)
    if "app" not in tags:
        aws.answer("logs.tag_resource", {"resourceArn": arn, "tags": {"app": "App", "owner": "lab"}})


def new_cluster_and_task(aws: Exact) -> None:
    no_roles(aws)
    aws.answer("ecs.describe_clusters", CLUSTER_QUERY, clusters=[])
    aws.answer("ecs.create_cluster", {"clusterName": "app-cluster", "tags": TAGS})
    aws.answer("ecs.describe_services", SERVICE_QUERY, services=[])  # is a run under way?
    aws.refuse("ecs.describe_task_definition", "ClientException", wanted={"taskDefinition": "AppTask"})
    aws.answer("ecs.register_task_definition", definition(), taskDefinition={"taskDefinitionArn": f"{FAMILY_ARN}:1"})


def new_service(aws: Exact) -> None:
    wanted = {"cluster": "app-cluster", "serviceName": "AppService", "taskDefinition": f"{FAMILY_ARN}:1",
              "desiredCount": 0, "launchType": "EC2", "tags": TAGS, **PLACED}  # fmt: skip
    aws.answer("ecs.create_service", wanted)


def live(aws: Exact, registered: dict[str, Any], revision: int, desired: int) -> None:
    """Cluster, service and task definition are there; the service runs so many tasks of `registered`."""
    no_roles(aws)
    found = {"taskDefinitionArn": f"{FAMILY_ARN}:{revision}", "status": "ACTIVE", **registered}
    found.pop("tags")
    aws.answer("ecs.describe_clusters", CLUSTER_QUERY, clusters=[described_cluster()])
    running = service(desired=desired, taskDefinition=found["taskDefinitionArn"])
    aws.answer("ecs.describe_services", SERVICE_QUERY, services=[running])
    if desired:
        aws.answer("ecs.describe_task_definition", {"taskDefinition": f"{FAMILY_ARN}:{revision}"}, taskDefinition=found)
    aws.answer("ecs.describe_task_definition", {"taskDefinition": "AppTask"}, taskDefinition=found)


def repeated_service(aws: Exact, revision: int, desired: int = 0) -> None:
    """No desiredCount in the update: the size of a live service is not setup's business."""
    aws.answer("ecs.describe_services", SERVICE_QUERY, services=[service(desired=desired)])
    wanted = {"cluster": "app-cluster", "service": "AppService", "taskDefinition": f"{FAMILY_ARN}:{revision}"}
    aws.answer("ecs.update_service", wanted)


def run_setup(aws: Exact, time: FakeTime) -> None:
    set_up_run(SETTINGS, aws.clients, lambda text: None, time.sleep)


def test_a_fresh_setup_makes_everything_and_waits_for_nothing(aws: Exact, time: FakeTime) -> None:
    new_queues(aws)
    log_groups(aws, there=False)
    new_cluster_and_task(aws)
    aws.answer("ecs.describe_services", SERVICE_QUERY, services=[])
    new_service(aws)
    run_setup(aws, time)
    assert time.slept == []


def test_the_task_definition_is_one_container_without_any_credential() -> None:
    (container,) = definition(RUN)["containerDefinitions"]
    environment = {pair["name"]: pair["value"] for pair in container["environment"]}
    assert (container["name"], container["image"], container["memory"]) == ("App", "tests/app:1", 2000)
    assert (container["stopTimeout"], container["essential"]) == (110, True)
    assert container["logConfiguration"]["options"]["awslogs-group"] == "AppLogs_perInstance"
    assert container["logConfiguration"]["options"]["mode"] == "non-blocking"  # a worker never waits for its log
    assert environment["RUN"] == RUN
    assert environment["SQS_QUEUE_URL"] == QUEUE_URL
    assert not any("KEY" in name or "SECRET" in name or "TOKEN" in name for name in environment)


def test_a_second_setup_reads_and_repeats_only_what_changes_nothing(aws: Exact, time: FakeTime) -> None:
    old_queues(aws)
    log_groups(aws, there=True)
    live(aws, definition(), 1, desired=0)
    repeated_service(aws, 1)
    run_setup(aws, time)
    assert writes(aws) == ["logs.CreateLogGroup", "logs.PutRetentionPolicy"] * 2 + ["ecs.UpdateService"]


def test_a_queue_with_other_settings_gets_just_those_that_differ(aws: Exact, time: FakeTime) -> None:
    spaced = QUEUE_SETTINGS["RedrivePolicy"].replace('"3"', "3").replace(" ", "")  # as AWS answers: no difference
    old_queues(aws, VisibilityTimeout="30", RedrivePolicy=spaced)
    aws.answer("sqs.set_queue_attributes", {"QueueUrl": QUEUE_URL, "Attributes": {"VisibilityTimeout": "120"}})
    log_groups(aws, there=True)
    live(aws, definition(), 1, desired=0)
    repeated_service(aws, 1)
    run_setup(aws, time)


def test_what_was_there_without_the_tag_app_gets_it_first_as_every_right_asks_for_it(
    aws: Exact, time: FakeTime
) -> None:
    """A published version's log groups outlive its runs, and its dead-letter queue was made by hand."""
    old_queues(aws, tagged=False, VisibilityTimeout="30")
    aws.refuse("sqs.set_queue_attributes", "AccessDenied", "the tag is not known everywhere yet")
    aws.answer("sqs.set_queue_attributes", {"QueueUrl": QUEUE_URL, "Attributes": {"VisibilityTimeout": "120"}})
    log_groups(aws, there=True, tags={"lab": "north"})
    live(aws, definition(), 1, desired=0)
    repeated_service(aws, 1)
    run_setup(aws, time)
    assert time.slept == [1.0]
    assert aws.calls.index("logs.TagResource") < aws.calls.index("logs.PutRetentionPolicy")


def test_a_right_that_is_lacking_is_not_waited_for_where_the_tag_was_there(aws: Exact, time: FakeTime) -> None:
    old_queues(aws, VisibilityTimeout="30")
    aws.refuse("sqs.set_queue_attributes", "AccessDenied")
    with pytest.raises(CloudError, match="making the queue AppQueue: AccessDenied"):
        run_setup(aws, time)
    assert time.slept == []


def test_a_queue_of_another_app_is_refused_before_anything_is_changed(aws: Exact, time: FakeTime) -> None:
    aws.refuse("sqs.get_queue_url", MISSING_QUEUE, wanted={"QueueName": "AppDead"})
    aws.answer("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    aws.answer("sqs.list_queue_tags", {"QueueUrl": QUEUE_URL}, Tags={"app": "Theirs"})
    with pytest.raises(InputError, match="config: SQS_QUEUE_NAME: the queue AppQueue belongs to the app Theirs"):
        run_setup(aws, time)
    assert writes(aws) == []


def test_a_log_group_of_another_app_keeps_its_tag_and_is_told(aws: Exact, time: FakeTime) -> None:
    old_queues(aws)
    log_groups(aws, there=True, tags={"app": "Theirs"})
    live(aws, definition(), 1, desired=0)
    repeated_service(aws, 1)
    said: list[str] = []
    set_up_run(SETTINGS, aws.clients, said.append, time.sleep)
    assert "log group       AppLogs (shared with the app Theirs)" in said


def test_a_live_service_keeps_its_size_and_its_run(aws: Exact, time: FakeTime) -> None:
    old_queues(aws)
    log_groups(aws, there=True)
    older = definition(RUN)
    older["containerDefinitions"][0]["memory"] = 1000
    live(aws, older, 4, desired=6)
    registered = {"taskDefinition": {"taskDefinitionArn": f"{FAMILY_ARN}:5"}}
    aws.answer("ecs.register_task_definition", definition(RUN), **registered)
    repeated_service(aws, 5, desired=6)
    run_setup(aws, time)


def test_the_name_of_a_service_that_drains_is_waited_for(aws: Exact, time: FakeTime) -> None:
    new_queues(aws)
    log_groups(aws, there=False)
    new_cluster_and_task(aws)
    aws.answer("ecs.describe_services", SERVICE_QUERY, services=[service("DRAINING")])
    for _ in range(3):
        aws.refuse(
            "ecs.create_service", "InvalidParameterException", "Unable to Start a service that is still Draining."
        )
    new_service(aws)
    run_setup(aws, time)
    assert time.slept == [5.0] * 3


def test_a_service_that_drains_for_ever_ends_in_an_error(aws: Exact, time: FakeTime) -> None:
    aws.answer("ecs.describe_services", SERVICE_QUERY, services=[service("DRAINING")])
    for _ in range(25):
        aws.refuse(
            "ecs.create_service", "InvalidParameterException", "Unable to Start a service that is still Draining."
        )
    with pytest.raises(CloudError, match="while making the service AppService"):
        ensure_service(aws.clients.ecs, SETTINGS, f"{FAMILY_ARN}:1", {"app": "App"}, time.sleep)
    assert sum(time.slept) == DRAINING_WAIT_SECONDS


def test_the_name_of_a_queue_that_was_just_deleted_is_waited_for(aws: Exact, time: FakeTime) -> None:
    """One is known no more, of the other SQS still gives the URL."""
    aws.refuse("sqs.get_queue_url", MISSING_QUEUE)
    aws.answer("sqs.get_queue_url", QueueUrl=QUEUE_URL)
    aws.refuse("sqs.list_queue_tags", MISSING_QUEUE)
    for _ in range(12):
        aws.refuse("sqs.create_queue", "AWS.SimpleQueueService.QueueDeletedRecently")
    aws.answer("sqs.create_queue", QueueUrl=DEAD_URL)
    dead_arn(aws)
    aws.answer("sqs.create_queue", QueueUrl=QUEUE_URL)
    log_groups(aws, there=True)
    live(aws, definition(), 1, desired=0)
    repeated_service(aws, 1)
    run_setup(aws, time)
    assert sum(time.slept) == 60


# startCluster

FLEET: dict[str, Any] = {
    "IamFleetRole": "arn:aws:iam::111122223333:role/aws-ec2-spot-fleet-tagging-role",
    "TargetCapacity": 99,
    "LaunchSpecifications": [
        {
            "ImageId": "ami-0abc",
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeType": "gp3"}}],
            "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-0abc", "Groups": ["sg-0abc"]}],
        }
    ],
}
TEMPLATED = {
    "LaunchSpecifications": None,
    "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {"LaunchTemplateId": "lt-0abc"}}],
}
FLEET_ID = MONITOR_FILE.MONITOR_FLEET_ID
MONITOR_NAME = "AppSpotFleetRequestId.json"
BEFORE = ["ec2.DescribeSpotFleetRequests", "s3.HeadBucket", "sqs.GetQueueUrl", "sqs.GetQueueUrl",
          "ecs.DescribeServices"]  # fmt: skip


class Starter:
    """startCluster in a project folder of the test's own."""

    def __init__(self, aws: Exact, folder: Path) -> None:
        self.aws, self.folder, self.time = aws, folder, FakeTime()
        self.path = folder / "files" / MONITOR_NAME

    def start(self, check_account: Callable[[], None] = lambda: None, **changed: Any) -> MonitorFile:
        content = {key: value for key, value in (copy.deepcopy(FLEET) | changed).items() if value is not None}
        context = RunContext(self.aws.clients, SETTINGS, Console(), Clock(self.time.now, self.time.sleep))
        return start_run(context, Path("fleet.json"), content, self.folder, check_account=check_account)

    def fleets(self, *found: dict[str, Any]) -> None:
        self.aws.answer("ec2.describe_spot_fleet_requests", {}, SpotFleetRequestConfigs=list(found))

    def service_wants(self, desired: int) -> None:
        self.aws.answer("ecs.describe_services", SERVICE_QUERY, services=[service() | {"desiredCount": desired}])

    def setup_was_made(self) -> None:
        self.aws.answer("s3.head_bucket", {"Bucket": "app-bucket"})
        self.aws.answer("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
        self.aws.answer("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
        self.aws.answer("ecs.describe_services", SERVICE_QUERY, services=[service()])

    def task_is_registered(self) -> None:
        no_roles(self.aws)
        self.aws.refuse("ecs.describe_task_definition", "ClientException")
        registered = {"taskDefinition": {"taskDefinitionArn": f"{FAMILY_ARN}:2"}}
        self.aws.answer("ecs.register_task_definition", definition(RUN), **registered)

    def fleet_is_requested(self, *before: tuple[str, str], **theirs: Any) -> None:
        """Up to the fleet's id. `before`: what EC2 answers first; `theirs`: of a template that the file names."""
        self.fleets()
        self.setup_was_made()
        if theirs:
            self.template_is_read(**theirs)
        self.task_is_registered()
        self.template_is_made(theirs.get("ImageId", "ami-0abc"))
        wanted = {"SpotFleetRequestConfig": requested()}
        if theirs:
            del wanted["SpotFleetRequestConfig"]["LaunchTemplateConfigs"][0]["Overrides"][0]["SubnetId"]
        for code, message in before:
            self.aws.refuse("ec2.request_spot_fleet", code, message, wanted)
        self.aws.answer("ec2.request_spot_fleet", wanted, SpotFleetRequestId=FLEET_ID)

    def template_is_read(self, **content: Any) -> None:
        wanted = {"LaunchTemplateId": "lt-0abc", "Versions": ["$Default"]}
        found = [{"LaunchTemplateData": content}]
        self.aws.answer("ec2.describe_launch_template_versions", wanted, LaunchTemplateVersions=found)

    def template_is_made(self, image: str = "ami-0abc") -> None:
        name = f"App-{RUN}"
        marks = [{"ResourceType": "launch-template", "Tags": MARKS}]
        wanted = {"LaunchTemplateName": name, "ClientToken": name, "LaunchTemplateData": template(image),
                  "TagSpecifications": marks}  # fmt: skip
        self.aws.answer("ec2.create_launch_template", wanted, LaunchTemplate={"LaunchTemplateId": "lt-run"})

    def copy_is_put(self) -> None:
        wanted = {"Bucket": "app-bucket", "Key": f"monitors/{MONITOR_NAME}", "Body": ANY}
        self.aws.answer("s3.put_object", wanted)

    def fleet_is_cancelled(self) -> None:
        wanted = {"SpotFleetRequestIds": [FLEET_ID], "TerminateInstances": True}
        self.aws.answer("ec2.cancel_spot_fleet_requests", wanted)


MARKS = [{"Key": "app", "Value": "App"}, {"Key": "run", "Value": RUN}, {"Key": "owner", "Value": "lab"}]
SCRIPT = (
    "#!/bin/bash\n"
    "cat >> /etc/ecs/ecs.config <<'EOF'\n"
    "ECS_CLUSTER=app-cluster\n"
    'ECS_INSTANCE_ATTRIBUTES={"app":"App"}\n'
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true\n"
    "ECS_CONTAINER_STOP_TIMEOUT=110s\n"
    "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=10m\n"
    "EOF\n"
)


def template(image: str) -> dict[str, Any]:
    """The whole content of the run's launch template, written out."""
    named = [{"Key": "Name", "Value": "AppWorker"}, *MARKS]
    disk = {"VolumeType": "gp3", "DeleteOnTermination": True, "VolumeSize": 30}
    return {
        "ImageId": image,
        "UserData": base64.b64encode(SCRIPT.encode()).decode(),
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": disk}],
        "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-0abc"], "AssociatePublicIpAddress": True}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": named} for kind in ("instance", "volume")],
    }


def requested() -> dict[str, Any]:
    """The whole request, written out: the file's own keys, and what the config decides."""
    return {
        "Type": "maintain",
        "AllocationStrategy": "priceCapacityOptimized",
        "TerminateInstancesWithExpiration": True,
        "IamFleetRole": FLEET["IamFleetRole"],
        "TargetCapacity": 3,
        "SpotPrice": "0.1",
        "ValidUntil": datetime.fromtimestamp(START, UTC) + timedelta(days=7),
        "ClientToken": f"App-{RUN}",
        "TagSpecifications": [{"ResourceType": "spot-fleet-request", "Tags": MARKS}],
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": f"App-{RUN}", "Version": "1"},
                "Overrides": [{"InstanceType": "m5.large", "SubnetId": "subnet-0abc"}],
            }
        ],
    }


@pytest.fixture
def starter(aws: Exact, tmp_path: Path) -> Starter:
    return Starter(aws, tmp_path)


def running_fleet(app: str = "App", state: str = "active", run: str = RUN) -> dict[str, Any]:
    config = {"IamFleetRole": "role", "TargetCapacity": 3}
    tags = [{"Key": "app", "Value": app}, {"Key": "run", "Value": run}]
    return {"SpotFleetRequestId": FLEET_ID, "SpotFleetRequestState": state, "SpotFleetRequestConfig": config,
            "CreateTime": datetime.fromtimestamp(START + 4, UTC), "Tags": tags}  # fmt: skip


def test_a_start_checks_then_requests_then_writes_the_monitor_file_then_raises_the_service(starter: Starter) -> None:
    starter.fleet_is_requested()
    starter.copy_is_put()
    wanted = {"cluster": "app-cluster", "service": "AppService", "taskDefinition": f"{FAMILY_ARN}:2",
              "desiredCount": 6, **PLACED}  # fmt: skip
    starter.aws.answer("ecs.update_service", wanted)
    assert starter.start() == MONITOR_FILE
    assert load_monitor_file(starter.path) == MONITOR_FILE
    assert starter.aws.calls == [
        *BEFORE, "iam.GetRole", "ecs.DescribeTaskDefinition", "ecs.RegisterTaskDefinition", "ec2.CreateLaunchTemplate",
        "ec2.RequestSpotFleet", "s3.PutObject", "ecs.UpdateService",
    ]  # fmt: skip


THEIRS: dict[str, Any] = {
    "ImageId": "ami-theirs",
    "BlockDeviceMappings": template("")["BlockDeviceMappings"],
    "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-0abc"]}],
}


def test_a_start_with_a_launch_template_makes_the_runs_own_of_it(starter: Starter) -> None:
    starter.fleet_is_requested(**THEIRS)
    starter.copy_is_put()
    starter.aws.answer("ecs.update_service")
    assert starter.start(**TEMPLATED).MONITOR_FLEET_ID == FLEET_ID


@pytest.mark.parametrize(
    "answer",
    [
        ("InvalidLaunchTemplateName.NotFoundException", "no such template"),
        ("InvalidLaunchTemplateId.VersionNotFound", "no such version"),
        (
            "InvalidSpotFleetRequestConfig",
            f"The specified launch template, with template name App-{RUN}, does not exist",
        ),
    ],
)
def test_a_template_that_ec2_does_not_know_yet_is_waited_for(starter: Starter, answer: tuple[str, str]) -> None:
    starter.fleet_is_requested(answer, answer)
    starter.copy_is_put()
    starter.aws.answer("ecs.update_service")
    assert starter.start() == MONITOR_FILE
    assert starter.time.slept == [1.0, 2.0]


def test_a_fleet_that_is_refused_leaves_no_launch_template(starter: Starter) -> None:
    starter.fleets()
    starter.setup_was_made()
    starter.task_is_registered()
    starter.template_is_made()
    starter.aws.refuse("ec2.request_spot_fleet", "InvalidSpotFleetRequestConfig")
    starter.aws.answer("ec2.delete_launch_template", {"LaunchTemplateId": "lt-run"})
    with pytest.raises(CloudError, match="InvalidSpotFleetRequestConfig"):
        starter.start()
    assert starter.time.slept == []


def test_a_launch_template_that_cannot_be_used_is_wrong_input_and_nothing_is_made(starter: Starter) -> None:
    starter.fleets()
    starter.setup_was_made()
    starter.template_is_read(UserData=base64.b64encode(b"#cloud-config\n").decode())
    with pytest.raises(
        InputError, match=r"lt-0abc version \$Default: its user data is no shell script; begin it with #!/bin/bash"
    ):
        starter.start(**TEMPLATED)
    assert writes(starter.aws) == []


def test_a_wrong_fleet_file_reaches_aws_with_no_call(starter: Starter) -> None:
    for wrong in (
        {"IamFleetRole": "arn:aws:iam::FILL_IN_ACCOUNT_ID:role/x"},
        {"LaunchSpecifications": [*FLEET["LaunchSpecifications"]] * 2},
        {"AllocationStrategy": "cheapest"},
        {"NoSuchKey": 1},
    ):
        with pytest.raises(InputError, match=r"fleet\.json"):
            starter.start(**wrong)
    assert starter.aws.calls == []


def test_an_account_in_which_something_is_wrong_ends_the_start_before_anything_is_asked(starter: Starter) -> None:
    def refuse() -> None:
        raise SystemExit(2)

    with pytest.raises(SystemExit):
        starter.start(check_account=refuse)
    assert starter.aws.calls == []


def test_without_its_bucket_nothing_is_started(starter: Starter) -> None:
    starter.fleets()
    starter.aws.refuse("s3.head_bucket", "404")
    with pytest.raises(CloudError, match="looking for the bucket app-bucket: 404"):
        starter.start()
    assert writes(starter.aws) == []


def test_before_setup_nothing_is_started(starter: Starter) -> None:
    starter.fleets()
    starter.aws.answer("s3.head_bucket")
    starter.aws.refuse("sqs.get_queue_url", MISSING_QUEUE)
    with pytest.raises(CloudError, match="the queue AppQueue does not exist: run setup first"):
        starter.start()
    assert writes(starter.aws) == []


def test_a_monitor_file_that_cannot_be_written_cancels_the_fleet(starter: Starter) -> None:
    starter.fleet_is_requested()
    starter.fleet_is_cancelled()
    (starter.folder / "files").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="files"):
        starter.start()
    assert starter.aws.calls[-1] == "ec2.CancelSpotFleetRequests"


def test_a_copy_that_s3_refuses_cancels_the_fleet(starter: Starter) -> None:
    starter.fleet_is_requested()
    starter.aws.refuse("s3.put_object", "AccessDenied")
    starter.fleet_is_cancelled()
    with pytest.raises(CloudError, match="copying the monitor file"):
        starter.start()


def test_a_service_that_cannot_be_started_cancels_the_fleet(starter: Starter) -> None:
    """Else its machines would idle, paid for, under a monitor that waits for jobs which nobody takes."""
    starter.fleet_is_requested()
    starter.copy_is_put()
    starter.aws.refuse("ecs.update_service", "AccessDeniedException")
    starter.fleet_is_cancelled()
    with pytest.raises(CloudError, match="starting the service AppService"):
        starter.start()


def test_a_fleet_that_cannot_even_be_cancelled_is_named(starter: Starter) -> None:
    starter.fleet_is_requested()
    starter.aws.refuse("s3.put_object", "AccessDenied")
    starter.aws.refuse("ec2.cancel_spot_fleet_requests", "UnauthorizedOperation")
    with pytest.raises(CloudError, match=f"{FLEET_ID}, WHICH COSTS MONEY UNTIL YOU CANCEL IT"):
        starter.start()


def test_a_second_start_is_refused_and_a_lost_monitor_file_is_written_anew(starter: Starter) -> None:
    starter.fleets(running_fleet("Another"), running_fleet(state="cancelled"), running_fleet())
    starter.service_wants(6)
    starter.copy_is_put()
    with pytest.raises(InputError, match="is already running; watch it with monitor and this file"):
        starter.start()
    assert load_monitor_file(starter.path) == MONITOR_FILE
    starter.fleets(running_fleet())
    starter.service_wants(6)
    with pytest.raises(InputError, match="is already running"):
        starter.start()
    assert writes(starter.aws) == ["s3.PutObject"]


@pytest.mark.parametrize("run", ["nightly", "", RUN])
def test_a_fleet_of_somebody_elses_with_the_apps_name_in_its_tag_is_no_run_of_it(aws: Exact, run: str) -> None:
    """Its id in a monitor file would let the monitor cancel it."""
    aws.answer("ec2.describe_spot_fleet_requests", {}, SpotFleetRequestConfigs=[running_fleet(run=run)])
    assert (find_active_fleet(aws.clients.ec2, "App") is not None) == (run == RUN)


def test_a_start_that_was_killed_before_its_service_was_raised_is_gone_on_with(starter: Starter) -> None:
    starter.fleets(running_fleet())
    starter.service_wants(0)
    starter.setup_was_made()
    starter.task_is_registered()
    starter.copy_is_put()
    wanted = {"cluster": "app-cluster", "service": "AppService", "taskDefinition": f"{FAMILY_ARN}:2",
              "desiredCount": 6, **PLACED}  # fmt: skip
    starter.aws.answer("ecs.update_service", wanted)
    starter.aws.refuse(
        "s3.get_object", "NoSuchKey", wanted={"Bucket": "app-bucket", "Key": f"runs/App/{RUN}/monitor.json"}
    )
    assert starter.start() == MONITOR_FILE
    assert {"ec2.RequestSpotFleet", "ec2.CreateLaunchTemplate"}.isdisjoint(starter.aws.calls)


def test_a_run_that_is_being_ended_is_not_gone_on_with_as_if_it_had_just_begun(starter: Starter) -> None:
    """MAX_COST is reached, or no job was left: the monitor has lowered service and fleet to nothing. Its workers may
    have been told to begin no job any more, and containers that join them would idle, paid for."""
    fading = running_fleet()
    fading["SpotFleetRequestConfig"]["TargetCapacity"] = 0
    starter.fleets(fading)
    starter.service_wants(0)
    starter.copy_is_put()
    with pytest.raises(InputError, match="is already running; watch it with monitor and this file"):
        starter.start()


# monitor: one look


def fleet_has(aws: Exact, state: str = "active", machines: int = 2) -> None:
    wanted = {"SpotFleetRequestIds": [FLEET_ID]}
    aws.answer("ec2.describe_spot_fleet_requests", wanted, SpotFleetRequestConfigs=[running_fleet(state=state)])
    instances = [{"InstanceId": f"i-{number}", "InstanceType": "m5.large"} for number in range(machines)]
    wanted_instances = {"SpotFleetRequestId": FLEET_ID, "MaxResults": 1000}
    aws.answer("ec2.describe_spot_fleet_instances", wanted_instances, ActiveInstances=instances)


def counts_of(aws: Exact, url: str, waiting: int, running: int, delayed: int = 0, **more: str) -> None:
    prefix = "ApproximateNumberOfMessages"
    values = {prefix: str(waiting), f"{prefix}NotVisible": str(running), f"{prefix}Delayed": str(delayed)}
    wanted = {"QueueUrl": url, "AttributeNames": [*values, "CreatedTimestamp", "RedrivePolicy"]}
    aws.answer("sqs.get_queue_attributes", wanted, Attributes=values | more)


def no_pauses(aws: Exact) -> None:
    aws.answer("s3.list_objects_v2", {"Bucket": "app-bucket", "Prefix": f"runs/App/{RUN}/machines/"}, Contents=[])


def test_a_look_takes_fourteen_calls_however_many_jobs_there_are_and_machines_that_run_them(aws: Exact) -> None:
    aws.answer("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    counts_of(aws, QUEUE_URL, 1_000_000, 7, 3, RedrivePolicy=QUEUE_SETTINGS["RedrivePolicy"])
    aws.answer("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
    counts_of(aws, DEAD_URL, 40, 0)
    aws.answer("sqs.list_queue_tags", {"QueueUrl": QUEUE_URL}, Tags={"app": "App", "jobs_submitted": "2000000"})
    fleet_has(aws)
    aws.answer("ecs.describe_services", SERVICE_QUERY, services=[service(desired=6)])
    no_pauses(aws)
    wanted = {"cluster": "app-cluster", "filter": "runningTasksCount == 0", "maxResults": 100}
    aws.answer("ecs.list_container_instances", wanted, containerInstanceArns=["a", "b"])
    described = {"registeredAt": datetime.fromtimestamp(START, UTC), "status": "ACTIVE", "pendingTasksCount": 2}
    hosts = [
        described | {"ec2InstanceId": instance, "containerInstanceArn": arn, "runningTasksCount": 0}
        for instance, arn in (("i-0", "a"), ("i-of-another-app", "b"))
    ]
    wanted = {"cluster": "app-cluster", "containerInstances": ["a", "b"]}
    aws.answer("ecs.describe_container_instances", wanted, containerInstances=hosts)
    since = datetime.fromtimestamp(START, UTC)
    prices = [
        {"InstanceType": "m5.large", "SpotPrice": price, "AvailabilityZone": f"us-east-1{zone}", "Timestamp": since}
        for zone, price in (("a", "0.03"), ("b", "0.05"))
    ]
    wanted = {"InstanceTypes": ["m5.large"], "ProductDescriptions": ["Linux/UNIX"], "StartTime": since,
              "MaxResults": 1000}  # fmt: skip
    aws.answer("ec2.describe_spot_price_history", wanted, SpotPriceHistory=prices)
    for kind in ("error", "information"):  # as it lacks a machine
        wanted = {"SpotFleetRequestId": FLEET_ID, "StartTime": since, "EventType": kind, "MaxResults": 1000}
        aws.answer("ec2.describe_spot_fleet_request_history", wanted, HistoryRecords=[])
    seen = observe_run(aws.clients, MONITOR_FILE, START, SpotPriceCache())
    assert seen.problems == ()
    assert seen.queue == QueueCounts(1_000_003, 7)
    assert (seen.dead, seen.done) == (40, 2_000_000 - 1_000_010 - 40)
    assert seen.fleet == FleetState("active", 3, ("i-0", "i-1"), ("m5.large", "m5.large"))
    assert seen.hosts == (ContainerInstance("i-0", "a", 2, START, connected=False),)
    assert seen.hourly == pytest.approx(0.08)
    assert len(aws.calls) == 14


def test_a_look_at_what_is_gone_sees_nothing(aws: Exact) -> None:
    aws.refuse("sqs.get_queue_url", MISSING_QUEUE)
    aws.refuse("ec2.describe_spot_fleet_requests", "InvalidSpotFleetRequestId.NotFound")
    aws.refuse("ecs.describe_services", "ClusterNotFoundException")
    no_pauses(aws)
    seen = observe_run(aws.clients, MONITOR_FILE, START, SpotPriceCache())
    assert seen == RunSnapshot(START, None, 0, None, None, None)
