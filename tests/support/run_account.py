"""A run in an account that is a dictionary: its queue and its bucket are there, all else only where a test says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from distributed_something.core.monitor_file import MonitorFile
from tests.support.account import Account, account
from tests.support.fakes import MISSING_QUEUE, QUEUE_URL, RUN, START, FakeBucket, refused

QUEUE_NAME = QUEUE_URL.rsplit("/", 1)[-1]
EMPTY_ACCOUNT: dict[str, Any] = {
    "ec2.DescribeSpotFleetRequests": {"SpotFleetRequestConfigs": []},
    "ec2.DescribeInstances": {"Reservations": []},
    "ec2.DescribeVolumes": {"Volumes": []},
    "ec2.DescribeLaunchTemplates": {"LaunchTemplates": []},
    "sqs.GetQueueUrl": refused(MISSING_QUEUE, "GetQueueUrl"),
    "sqs.ListQueues": {},
    "ecs.DescribeServices": {"services": []},
    "ecs.DescribeClusters": {"clusters": []},
    "ecs.ListClusters": {"clusterArns": []},
    "ecs.ListTaskDefinitions": {"taskDefinitionArns": []},
    "cloudwatch.DescribeAlarms": {"MetricAlarms": []},
    "cloudwatch.ListDashboards": {"DashboardEntries": []},
    "events.ListRules": {"Rules": []},
    "logs.DescribeLogGroups": {"logGroups": []},
}


class RunAccount:
    """`jobs`: what the queue holds."""

    def __init__(self, made: Account, file: MonitorFile) -> None:
        self.account, self.file = made, file
        self.clients: Any = _RunClients(made)
        self.bucket, self.queue_is_there, self.jobs = FakeBucket(), True, 0
        made.answers |= {
            "s3.GetObject": lambda asked: self.bucket.get_object(**asked),
            "s3.PutObject": lambda asked: self.bucket.put_object(**asked),
            "s3.ListObjectsV2": self._list_objects,
            "sqs.GetQueueUrl": self._get_queue_url,
            "sqs.GetQueueAttributes": lambda _: {"Attributes": {"ApproximateNumberOfMessages": str(self.jobs)}},
            "sqs.ListQueueTags": {},
            "sqs.DeleteQueue": self._delete_queue,
            "events.RemoveTargets": {},
            "events.DeleteRule": {},
        }

    def add_records(self, count: int) -> None:
        """So many jobs are done."""
        for number in range(count):
            self.bucket.put_object(Key=self.file.keys.record(f"job-{number}"), Body=b"{}")

    def refuse_records(self, code: str) -> None:
        def answer(asked: dict[str, Any]) -> Any:
            if asked["Prefix"] == self.file.keys.jobs:
                raise refused(code)
            return self._list_objects(asked)

        self.account.answers["s3.ListObjectsV2"] = answer

    def refuse_summary(self, code: str) -> None:
        def answer(asked: dict[str, Any]) -> Any:
            if asked["Key"] == self.file.keys.summary:
                raise refused(code)
            return self.bucket.put_object(**asked)

        self.account.answers["s3.PutObject"] = answer

    def keep_machine(self, name: str = "i-1") -> None:
        """A machine of the run that goes on whatever it is told."""
        tags = [{"Key": key, "Value": value} for key, value in {"app": "App", "run": RUN, "Name": "AppWorker"}.items()]
        machine = {"InstanceId": name, "State": {"Name": "running"}, "Tags": tags}
        self.account.answers["ec2.DescribeInstances"] = {"Reservations": [{"Instances": [machine]}]}
        self.account.answers["ec2.TerminateInstances"] = {}

    @property
    def summary(self) -> str:
        """How the run ended, as it lies in the bucket."""
        return self.bucket.objects[self.file.keys.summary].decode()

    @property
    def acts(self) -> list[str]:
        """What was done, in order, each by the call that only it makes."""
        marks = {
            "logs.CreateExportTask": "export", "sqs.DeleteQueue": "clean-up", "events.ListRules": "look",
            "events.DeleteRule": "delete the rule",
        }  # fmt: skip
        found = []
        for call, asked in self.account.asked:
            if call in marks:
                found.append(marks[call])
            elif call == "s3.ListObjectsV2" and asked["Prefix"] == self.file.keys.jobs:
                found.append("records")
            elif call == "s3.PutObject" and asked["Key"] == self.file.keys.summary:
                found.append("summary")
        return found

    def _list_objects(self, asked: dict[str, Any]) -> dict[str, Any]:
        keys = sorted(key for key in self.bucket.objects if key.startswith(asked["Prefix"]))
        return {"Contents": [{"Key": key, "LastModified": datetime.fromtimestamp(START, UTC)} for key in keys]}

    def _get_queue_url(self, asked: dict[str, Any]) -> dict[str, Any]:
        if not self.queue_is_there or asked["QueueName"] != QUEUE_NAME:
            raise refused(MISSING_QUEUE, "GetQueueUrl")
        return {"QueueUrl": QUEUE_URL}

    def _delete_queue(self, _: dict[str, Any]) -> dict[str, Any]:
        self.queue_is_there = False
        return {}


class _RunClients:
    """The account's clients, but for CloudWatch Logs: one of its parameters has two names, and botocore's model knows
    only the other. An export ends when the next one of the same log group is asked for."""

    def __init__(self, made: Account) -> None:
        self._account, self.logs, self.meta = made, self, SimpleNamespace(region_name="us-east-1")
        self._asked: set[str] = set()

    def __getattr__(self, service: str) -> Any:
        return getattr(self._account.clients, service)

    def create_export_task(self, *, logGroupName: str, **more: Any) -> dict[str, str]:
        self._account.asked.append(("logs.CreateExportTask", {"logGroupName": logGroupName, **more}))
        is_busy = bool(self._asked) and logGroupName not in self._asked
        self._asked.add(logGroupName)
        if is_busy:
            raise refused("LimitExceededException", "CreateExportTask")
        return {"taskId": f"task of {logGroupName}"}


@contextmanager
def run_account(file: MonitorFile) -> Iterator[RunAccount]:
    """Every call of this process goes to the account, as long as the block lasts."""
    with account(EMPTY_ACCOUNT) as made:
        yield RunAccount(made, file)
