"""A run in an emulated account that has only the run's queue and bucket. Tests add other resources if needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from distributed_something.worker import AppKeys
from tests.support.account import Account, emulate_account
from tests.support.fakes import (
    MISSING_QUEUE,
    QUEUE_URL,
    RUN,
    START,
    FakeBucket,
    build_client_error,
    build_etag,
    build_queue_counts,
)
from tests.support.run_documents import RunDocuments

QUEUE_NAME = QUEUE_URL.rsplit("/", 1)[-1]
EMPTY_ACCOUNT: dict[str, Any] = {
    "ec2.DescribeSpotFleetRequests": {"SpotFleetRequestConfigs": []},
    "ec2.DescribeInstances": {"Reservations": []},
    "ec2.DescribeVolumes": {"Volumes": []},
    "ec2.DescribeLaunchTemplates": {"LaunchTemplates": []},
    "sqs.GetQueueUrl": build_client_error(MISSING_QUEUE, "GetQueueUrl"),
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
    """A run and its account. `jobs` is the number of jobs in the queue."""

    def __init__(self, account: Account, file: MonitorFile) -> None:
        self.account, self.file = account, file
        self.clients: Any = _RunClients(account)
        self.bucket, self.has_queue, self.jobs = FakeBucket(), True, 0
        account.responses |= {
            "s3.GetObject": lambda parameters: self.bucket.get_object(**parameters),
            "s3.PutObject": lambda parameters: self.bucket.put_object(**parameters),
            "s3.ListObjectsV2": self.list_objects,
            "sqs.GetQueueUrl": self._get_queue_url,
            "sqs.GetQueueAttributes": lambda _: {"Attributes": build_queue_counts(self.jobs)},
            "sqs.ListQueueTags": {},
            "sqs.DeleteQueue": self._delete_queue,
            "events.RemoveTargets": {},
            "events.DeleteRule": {},
        }

    def add_done_jobs(self, count: int) -> None:
        """Add the records of `count` jobs that are done, and their container's journal."""
        documents = RunDocuments(self.bucket, self.file)
        documents.write_journal("i-1-0", *[documents.end_job(f"job-{number}") for number in range(count)])

    def add_submission(self, count: int, began: float) -> None:
        """Add the document of a submission that sent `count` jobs to the run's queue."""
        time = build_submission_time(began)
        document = SubmissionDocument("App", QUEUE_NAME, time, "job.json", "digest", count, count, ended=time)
        self.bucket.put_object(Key=AppKeys("App").submission(time), Body=build_submission(document))

    def refuse_records(self, code: str) -> None:
        """Make requests that list the records fail with this error code."""

        def refuse_jobs(parameters: dict[str, Any]) -> Any:
            if parameters["Prefix"] == self.file.keys.jobs:
                raise build_client_error(code)
            return self.list_objects(parameters)

        self.account.responses["s3.ListObjectsV2"] = refuse_jobs

    def refuse_summary(self, code: str) -> None:
        """Make requests that write the summary fail with this error code."""
        self.refuse_document(self.file.keys.summary, code)

    def refuse_document(self, key: str, code: str) -> None:
        """Make requests that write this object fail with this error code."""

        def put_object(parameters: dict[str, Any]) -> Any:
            if parameters["Key"] == key:
                raise build_client_error(code)
            return self.bucket.put_object(**parameters)

        self.account.responses["s3.PutObject"] = put_object

    def add_unstoppable_machine(self, name: str = "i-1") -> None:
        """Add one of the run's machines. It keeps running even after it is terminated."""
        tags = [{"Key": key, "Value": value} for key, value in {"app": "App", "run": RUN, "Name": "AppWorker"}.items()]
        machine = {"InstanceId": name, "State": {"Name": "running"}, "Tags": tags}
        self.account.responses["ec2.DescribeInstances"] = {"Reservations": [{"Instances": [machine]}]}
        self.account.responses["ec2.TerminateInstances"] = {}

    @property
    def summary(self) -> str:
        """The run's summary in the bucket."""
        return self.bucket.objects[self.file.keys.summary].decode()

    @property
    def actions(self) -> list[str]:
        """The main actions in order. Each is recognized by a call that no other action makes."""
        names = {
            "logs.CreateExportTask": "export", "sqs.DeleteQueue": "cleanup", "events.ListRules": "find other runs",
            "events.DeleteRule": "delete the rule",
        }  # fmt: skip
        actions = []
        for call, parameters in self.account.requests:
            if call in names:
                actions.append(names[call])
            elif call == "s3.ListObjectsV2" and parameters["Prefix"] == self.file.keys.jobs:
                actions.append("records")
            elif call == "s3.PutObject" and parameters["Key"] == self.file.keys.summary:
                actions.append("summary")
        return actions

    def list_objects(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the response to a request that lists objects."""
        keys = sorted(key for key in self.bucket.objects if key.startswith(parameters["Prefix"]))
        modified, prefix = datetime.fromtimestamp(START, UTC), parameters["Prefix"]
        folders = {key.removeprefix(prefix).partition("/")[0] for key in keys if "/" in key.removeprefix(prefix)}
        return {
            "CommonPrefixes": [{"Prefix": f"{prefix}{folder}/"} for folder in sorted(folders)],
            "Contents": [
                {"Key": key, "LastModified": modified, "ETag": build_etag(self.bucket.objects[key])} for key in keys
            ],
        }

    def _get_queue_url(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if not self.has_queue or parameters["QueueName"] != QUEUE_NAME:
            raise build_client_error(MISSING_QUEUE, "GetQueueUrl")
        return {"QueueUrl": QUEUE_URL}

    def _delete_queue(self, _: dict[str, Any]) -> dict[str, Any]:
        self.has_queue = False
        return {}


class _RunClients:
    """The account's clients, except the one for CloudWatch Logs, which this class emulates.

    CreateExportTask has a parameter with two names, and botocore's model contains only one of them. The first log
    group's export starts immediately. For every other log group, the first request fails, as if an export were still
    running, and the second one succeeds.
    """

    def __init__(self, account: Account) -> None:
        self._account, self.logs, self.meta = account, self, SimpleNamespace(region_name="us-east-1")
        self._exported_groups: set[str] = set()

    def __getattr__(self, service: str) -> Any:
        return getattr(self._account.clients, service)

    def create_export_task(self, *, logGroupName: str, **parameters: Any) -> dict[str, str]:
        self._account.requests.append(("logs.CreateExportTask", {"logGroupName": logGroupName, **parameters}))
        is_busy = bool(self._exported_groups) and logGroupName not in self._exported_groups
        self._exported_groups.add(logGroupName)
        if is_busy:
            raise build_client_error("LimitExceededException", "CreateExportTask")
        return {"taskId": f"task of {logGroupName}"}


@contextmanager
def emulate_run_account(file: MonitorFile) -> Iterator[RunAccount]:
    """Send all of this process's calls to an account with one run while the block runs."""
    with emulate_account(EMPTY_ACCOUNT) as account:
        yield RunAccount(account, file)
