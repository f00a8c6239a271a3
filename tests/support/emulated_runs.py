"""An empty moto account, and runs in it with all resources that setup, startCluster, fleets, and workers create."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
import pytest
from moto import mock_aws

from distributed_something.aws.clients import Clients
from distributed_something.core.config_settings import Settings
from distributed_something.core.names import build_monitor_rule_name
from distributed_something.observe.resources import iter_tagged_machines
from distributed_something.run.cleanup.inventory import RunNames
from distributed_something.run.cleanup.remove import CleanupRequest, delete_run_resources
from distributed_something.run.cleanup.report import CleanupReport
from distributed_something.run.dashboard import ensure_dashboard
from distributed_something.run.schedule import MONITOR_RULE_RATE, build_targets_request
from distributed_something.run.setup import set_up_run
from distributed_something.worker.machine.idle_alarm import build_alarm_request
from tests.support.fakes import MONITOR_FILE, RUN, SETTINGS, FakeTime


@cache
def _session() -> boto3.Session:
    return boto3.Session("test", "test", region_name="us-east-1")


@contextmanager
def emulated_account() -> Iterator[Clients]:
    """Yield clients for an empty account that exists while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        with mock_aws():
            clients = Clients(_session())
            clients.ec2.meta.events.register("after-call.ec2.DescribeSpotFleetRequests", _add_dates)
            clients.ecs.meta.events.register("after-call.ecs.DescribeTaskDefinition", _add_dates)
            yield clients


def _add_dates(parsed: dict[str, Any], **_: Any) -> None:
    """Add creation times to responses. AWS returns them, but moto does not."""
    for fleet in parsed.get("SpotFleetRequestConfigs", []):
        fleet.setdefault("CreateTime", datetime.now(UTC))
    if "taskDefinition" in parsed:
        parsed["taskDefinition"].setdefault("registeredAt", datetime.now(UTC))


class RunFactory:
    """Creates all of a run's resources, as setup, startCluster, the fleet, and workers would."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients

    def create_run(self, app: str = "App", jobs: int = 0, *, dead_letter_queue: str = "") -> str:
        """Create all resources of a run with `jobs` jobs in its queue. Return the fleet's ID."""
        settings = self.set_up(app, dead_letter_queue=dead_letter_queue)
        for _ in range(jobs):
            self.clients.sqs.send_message(QueueUrl=self.get_queue_url(app), MessageBody="{}")
        fleet_id = self.create_fleet(app)
        ensure_dashboard(self.clients.cloudwatch, settings, fleet_id)
        for machine in self.list_machines(app):
            self.clients.cloudwatch.put_metric_alarm(**build_alarm_request(app, machine, "us-east-1", "aws", 2))
        self.clients.events.put_rule(Name=build_monitor_rule_name(app), ScheduleExpression=MONITOR_RULE_RATE)
        file = replace(MONITOR_FILE, MONITOR_APP_NAME=app)
        function = "arn:aws:lambda:us-east-1:123456789012:function:monitor"
        self.clients.events.put_targets(**build_targets_request(file, function))
        self.create_volume(app)
        self.create_launch_template(app)
        return fleet_id

    def set_up(self, app: str, *, dead_letter_queue: str = "") -> Settings:
        """Run setup for an app, and return its settings."""
        dead_letter_queue = dead_letter_queue or f"{app}DeadMessages"
        names = {"APP_NAME": app, "SQS_QUEUE_NAME": f"{app}Queue", "SQS_DEAD_LETTER_QUEUE": dead_letter_queue,
                 "ECS_CLUSTER": f"{app}-cluster", "LOG_GROUP_NAME": f"{app}Logs"}  # fmt: skip
        settings = SETTINGS.model_copy(update=names)
        set_up_run(self.clients, settings, lambda text: None, lambda seconds: None)
        return settings

    def get_queue_url(self, app: str) -> str:
        return self.clients.sqs.get_queue_url(QueueName=f"{app}Queue")["QueueUrl"]

    def create_fleet(self, app: str, **tags: str) -> str:
        fleet_tags = build_tags(**{"app": app, "run": RUN} | tags)
        name_tag = {"Key": "Name", "Value": f"{app}Worker"}
        machine_tags: Any = [{"ResourceType": "instance", "Tags": [name_tag, *fleet_tags]}]
        images = self.clients.ec2.describe_images()["Images"]
        config: Any = {
            "IamFleetRole": "arn:aws:iam::123456789012:role/fleet",
            "TargetCapacity": 2,
            "SpotPrice": "0.1",
            "AllocationStrategy": "lowestPrice",
            "TagSpecifications": [{"ResourceType": "spot-fleet-request", "Tags": fleet_tags}],
            "LaunchSpecifications": [
                {
                    "ImageId": images[0]["ImageId"] if images else "ami-12c6146b",
                    "InstanceType": "m5.large",
                    "SubnetId": self.clients.ec2.describe_subnets()["Subnets"][0]["SubnetId"],
                    "TagSpecifications": machine_tags,
                }
            ],
        }
        return self.clients.ec2.request_spot_fleet(SpotFleetRequestConfig=config)["SpotFleetRequestId"]

    def list_machines(self, app: str) -> list[str]:
        return [machine.id for machine in iter_tagged_machines(self.clients.ec2, app)]

    def create_volume(self, app: str) -> None:
        tags: Any = [{"ResourceType": "volume", "Tags": build_tags(app=app, run=RUN)}]
        self.clients.ec2.create_volume(AvailabilityZone="us-east-1a", Size=30, TagSpecifications=tags)

    def create_launch_template(self, app: str, run: str = RUN) -> None:
        tags: Any = [{"ResourceType": "launch-template", "Tags": build_tags(app=app, run=run)}]
        data: Any = {"InstanceType": "m5.large"}
        self.clients.ec2.create_launch_template(
            LaunchTemplateName=f"{app}-{run}", LaunchTemplateData=data, TagSpecifications=tags
        )

    def build_names(self, app: str, fleet_id: str, *, dead_letter_queue: str = "") -> RunNames:
        file = replace(
            MONITOR_FILE, MONITOR_FLEET_ID=fleet_id, MONITOR_APP_NAME=app, MONITOR_QUEUE_NAME=f"{app}Queue",
            MONITOR_ECS_CLUSTER=f"{app}-cluster", MONITOR_LOG_GROUP_NAME=f"{app}Logs",
        )  # fmt: skip
        return RunNames(file, dead_letter_queue or f"{app}DeadMessages")

    def clean_up(self, names: RunNames, **more: Any) -> CleanupReport:
        run = CleanupRequest(names.run, names.dead_letter_queue, **more)
        return delete_run_resources(self.clients, run, FakeTime().sleep)


def build_tags(**tags: str) -> list[Any]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
