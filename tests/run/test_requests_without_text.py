"""Tests that no decision depends on text for people: the same requests are sent if that text is replaced."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.ecs.models import ecs_backends

import distributed_something
from distributed_something.account.setup_aws import set_up_account
from distributed_something.aws.clients import Clients
from distributed_something.core.clock import Clock
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.diagnose.check.check import run_preflight_checks
from distributed_something.diagnose.check.findings import format_findings
from distributed_something.diagnose.why.job_causes import JobEvidence
from distributed_something.diagnose.why.rank import rank_causes
from distributed_something.diagnose.why.view import format_diagnosis
from distributed_something.fleet.fleet_file import load_fleet_file
from distributed_something.fleet.write_fleet_file import FleetFileOptions, write_fleet_file
from distributed_something.localcloud.play.fleets import update_fleets
from distributed_something.localcloud.play.machines import MachineSimulator
from distributed_something.observe.evidence import build_subject_from_run, gather_evidence
from distributed_something.observe.resources import FLEET_ID_TAG
from distributed_something.results.command_line import CommandLine
from distributed_something.run.cleanup.clean_up import (
    clean_up_and_verify,
    clean_up_stale_runs,
    report_remaining_resources,
)
from distributed_something.run.dashboard import ensure_dashboard
from distributed_something.run.finish import monitor_run
from distributed_something.run.monitor.policy import Pace
from distributed_something.run.run_context import RunContext
from distributed_something.run.setup import set_up_run
from distributed_something.run.start import start_run, watch_machine_arrivals
from distributed_something.worker.machine.idle_alarm import build_alarm_request
from tests.support.fakes import FakeOutput, FakeTime
from tests.support.paths import ROOT
from tests.support.scenario import ACCOUNT, BUCKETS, RUN_SETTINGS, Call, emulate_account

BEGIN = time.time() + 3600  # seconds since 1970; after any time that moto assigns
WEEK = 7 * 24 * 3600.0
USER = "a user"
# Files in the bucket that contain text for people: run summaries, and the commands that repeat log exports. No decision
# depends on these files.
STORED_TEXTS = ("/summary.txt", "/exports.json", "/report.html")
# Functions that format part of a request; for example, EC2 expects the price as text.
REQUEST_TEXTS = {"format_spot_price"}
# Requests that depend on cleanup's decisions.
DECISIONS = {
    "ec2.TerminateInstances", "ec2.CancelSpotFleetRequests", "ec2.DeleteVolume", "ec2.DeleteLaunchTemplate",
    "sqs.DeleteQueue", "sqs.ListDeadLetterSourceQueues", "ecs.DeleteCluster", "cloudwatch.DeleteAlarms",
    "cloudwatch.DeleteDashboards",
}  # fmt: skip


@dataclass
class Rehearsal:
    """All commands for several runs, in an account that also has resources cleanup must not delete."""

    clients: Clients
    root: Clients  # prepares the account; these calls are not recorded
    folder: Path

    def __post_init__(self) -> None:
        self.time, self.output = FakeTime(BEGIN), FakeOutput()
        self.slow_machines: list[
            tuple[str, str]
        ] = []  # (machine, fleet): machines that are terminated after their fleet
        backends = [by_account[DEFAULT_ACCOUNT_ID][ACCOUNT.region] for by_account in (ec2_backends, ecs_backends)]
        self.machines = MachineSimulator(*backends)
        self.clock = Clock(self.time.now, self.sleep)
        self.context = RunContext(self.clients, RUN_SETTINGS, self.output, self.clock, pause=10.0)

    def run_commands(self) -> None:
        run = self.start()
        self.diagnose(run)
        self.leave_machines(run)
        self.fail_jobs(2)
        assert monitor_run(self.context, run, cheapest=False, pace=Pace())
        run = self.start()
        self.leave_machines(run)
        self.send_jobs(3)
        assert clean_up_and_verify(self.context, run, self.folder, yes=True, failed_too=False)
        run = self.start()
        self.leave_machines(run)
        report_remaining_resources(self.context, run)
        assert clean_up_and_verify(self.context, None, self.folder, yes=True, failed_too=True)
        self.leave_resources_of_older_run()
        self.time.time += WEEK
        assert clean_up_stale_runs(self.context, yes=True)
        report_remaining_resources(self.context, None)

    def start(self) -> MonitorFile:
        """Run setup, submitJob, and startCluster."""
        self.time.time += 60  # runs are named after the second in which they start
        set_up_run(self.clients, RUN_SETTINGS, self.output.print_progress, self.sleep)
        self.send_jobs(1)
        path = self.folder / "fleet.json"
        content = load_fleet_file(path)

        def check_account() -> None:
            now = datetime.fromtimestamp(self.time.now(), UTC)
            self.output.print_result(
                format_findings(run_preflight_checks(self.clients, RUN_SETTINGS, path, content, now))
            )

        run = start_run(self.context, path, content, self.folder, check_account=check_account)
        self.output.print_progress(ensure_dashboard(self.clients.cloudwatch, RUN_SETTINGS, run.MONITOR_FLEET_ID))
        watch_machine_arrivals(
            self.clients,
            RUN_SETTINGS,
            run,
            self.clock,
            wait_minutes=1,
            pause=10.0,
            print_progress=self.output.print_progress,
        )
        self.simulate_step()
        return run

    def diagnose(self, run: MonitorFile) -> None:
        evidence = gather_evidence(self.clients, build_subject_from_run(run), self.time.now())
        self.output.print_result(format_diagnosis(evidence, rank_causes(evidence), JobEvidence(), CommandLine()))

    def sleep(self, seconds: float) -> None:
        """Let machines start and end during the pause, and finish all waiting jobs in every fifth pause."""
        self.time.sleep(seconds)
        self.simulate_step()
        self.end_slow_machines()
        if len(self.time.slept) % 5 == 0:
            self.finish_jobs()

    def simulate_step(self) -> None:
        update_fleets(self.machines.ec2)
        self.machines.simulate_step()
        for cluster in self.machines.ecs.clusters.values():
            instances = self.machines.ecs.container_instances[cluster.name]
            cluster.registered_container_instances_count, cluster.running_tasks_count = len(instances), 0

    def get_queue_url(self, name: str) -> str:
        return self.root.sqs.get_queue_url(QueueName=name)["QueueUrl"]

    def send_jobs(self, count: int, queue: str = RUN_SETTINGS.SQS_QUEUE_NAME) -> None:
        for number in range(count):
            self.root.sqs.send_message(
                QueueUrl=self.get_queue_url(queue), MessageBody=json.dumps({"job": f"job-{number}"})
            )

    def fail_jobs(self, count: int) -> None:
        self.send_jobs(count, RUN_SETTINGS.SQS_DEAD_LETTER_QUEUE)

    def finish_jobs(self) -> None:
        if RUN_SETTINGS.SQS_QUEUE_NAME in str(self.root.sqs.list_queues().get("QueueUrls")):
            url = self.get_queue_url(RUN_SETTINGS.SQS_QUEUE_NAME)
            received = self.root.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0)
            for message in received.get("Messages", []):
                self.root.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def leave_machines(self, run: MonitorFile) -> None:
        """Add a machine without a fleet, one that is terminated after its canceled fleet, and a foreign one."""
        tags = {"app": "App", "run": run.run, "Name": "AppWorker"}
        self.add_machine(tags)
        self.slow_machines.append((self.add_machine(tags | {FLEET_ID_TAG: run.MONITOR_FLEET_ID}), run.MONITOR_FLEET_ID))
        self.add_machine({"app": "App", "Name": "webserver"})

    def add_machine(self, tags: dict[str, str]) -> str:
        image = load_fleet_file(self.folder / "fleet.json")["LaunchSpecifications"][0]["ImageId"]
        pairs: Any = [{"Key": key, "Value": value} for key, value in tags.items()]
        response = self.root.ec2.run_instances(
            ImageId=image, MinCount=1, MaxCount=1, InstanceType="m5.large",
            TagSpecifications=[{"ResourceType": "instance", "Tags": pairs}],
        )  # fmt: skip
        return response["Instances"][0]["InstanceId"]

    def end_slow_machines(self) -> None:
        fleets = self.root.ec2.describe_spot_fleet_requests()["SpotFleetRequestConfigs"]
        active = {fleet["SpotFleetRequestId"] for fleet in fleets if fleet["SpotFleetRequestState"] == "active"}
        for instance, fleet in self.slow_machines:
            if fleet not in active:
                self.root.ec2.terminate_instances(InstanceIds=[instance])

    def leave_resources_of_older_run(self) -> None:
        tags: Any = [{"Key": "app", "Value": "Old"}, {"Key": "run", "Value": "20250101T000000Z"}]
        self.root.cloudwatch.put_metric_alarm(
            **build_alarm_request("Old", "i-0123456789abcdef0", ACCOUNT.region, "aws", 2)
        )
        self.root.ec2.create_volume(
            AvailabilityZone=f"{ACCOUNT.region}a", Size=8,
            TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
        )  # fmt: skip
        self.root.ec2.create_launch_template(
            LaunchTemplateName="Old-20250101T000000Z", LaunchTemplateData={"InstanceType": "m5.large"},
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": tags}],
        )  # fmt: skip


def rehearse(folder: Path) -> tuple[list[str], FakeOutput]:
    """Run the rehearsal in a new account; return all of the user's requests, and the printed output."""
    folder.mkdir()
    with emulate_account(folder, enforced=False) as account:
        ec2 = ec2_backends[DEFAULT_ACCOUNT_ID][ACCOUNT.region]
        seed_ids()
        ec2.reset()  # recreates the default network with seeded ids
        clients = Clients(account.create_session(USER, "test", "test"))
        clients.s3.meta.events.register("after-call.s3", _remove_date)
        list(set_up_account(account.root, ACCOUNT, BUCKETS, ROOT, lambda _: None))
        seed_ids()
        options = FleetFileOptions(folder / "fleet.json", folder / "config.py", force=True)
        write_fleet_file(account.root, RUN_SETTINGS, ACCOUNT, options, lambda _: None)
        rehearsal = Rehearsal(clients, account.root, folder)
        rehearsal.run_commands()
        return [describe_call(call, folder) for call in account.calls if call.login == USER], rehearsal.output


def seed_ids() -> None:
    """Seed moto so that it creates the same ids in each rehearsal."""
    requests.post("http://motoapi.amazonaws.com/moto-api/seed?a=42", timeout=10)


def describe_call(call: Call, folder: Path) -> str:
    """Return a request without text for people and without the name of the project's folder."""
    key = str(call.parameters.get("Key", ""))
    stored = key.endswith(STORED_TEXTS)
    # moto does not seed upload ids, StartAfter contains the real time when moto created the queue, and botocore adds a
    # random token to requests without one.
    ignored = {"UploadId", "StartAfter", *(("Body",) if stored else ())}
    ignored |= {"ClientToken"} if call.operation == "RunInstances" else set()
    ignored |= {"Subject", "Message"} if call.operation == "Publish" else set()  # notifications are for people
    parameters = {key: _read(value) for key, value in call.parameters.items() if key not in ignored}
    if key.endswith("/summary.json") and "Body" in parameters:
        parameters["Body"] = json.loads(parameters["Body"]) | {"report": ""}
    if "/machines/" in key and "Body" in parameters:  # moto's machines have the real times
        parameters["Body"] = json.loads(parameters["Body"]) | {"launched": "", "ended": ""}
    return f"{call.service}.{call.operation} {parameters}".replace(str(folder), "FOLDER")


def _read(value: Any) -> Any:
    return value.getvalue() if isinstance(value, BytesIO) else value


def _remove_date(parsed: dict[str, Any], **_: Any) -> None:
    """Remove the date from the response; otherwise, the monitor would use this date instead of the fake clock."""
    parsed["ResponseMetadata"]["HTTPHeaders"].pop("date", None)


def iter_modules() -> Iterator[Any]:
    """Yield the package's modules, except the local cloud's modules."""
    for module in pkgutil.walk_packages(distributed_something.__path__, "distributed_something."):
        if ".localcloud" not in module.name and not module.name.endswith("__main__"):
            yield importlib.import_module(module.name)


@contextmanager
def replace_texts() -> Iterator[int]:
    """Replace all functions that format text for people in every module; yield the number of functions."""
    modules = list(iter_modules())
    formatters = {
        function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name.startswith("format_")
        and name not in REQUEST_TEXTS
        and function.__module__.startswith("distributed_something")
    }
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            for name, value in list(vars(module).items()):
                if inspect.isfunction(value) and value in formatters:
                    patch.setattr(module, name, lambda *_, **__: "?")
        yield len(formatters)


@pytest.mark.long
def test_the_same_requests_are_sent_without_text_for_people(tmp_path: Path) -> None:
    """The commands include cleanups with machines outside the fleet, failed jobs, and orphans from older runs."""
    expected, output = rehearse(tmp_path / "with")
    with replace_texts() as count:
        requests_sent, output_without_text = rehearse(tmp_path / "without")

    assert count > 25, "too few formatting functions were found"
    assert {call.partition(" ")[0] for call in expected} >= DECISIONS
    assert "removed         1 machine outside the fleet" in output.printed
    assert "dead letters    2 in AppDead" in output.printed
    assert "outside the fleet" not in output_without_text.printed
    assert requests_sent == expected
