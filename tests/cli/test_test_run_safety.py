"""What a test run does with facts that others may have changed, or that AWS does not give: locks, records, prices."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from distributed_something.aws.clients import Clients
from distributed_something.cli.context import Context
from distributed_something.cli.interrupts import postpone_interrupts, raise_interrupts
from distributed_something.cli.test_run.command import NO_MACHINE_TEXT, _format_cost
from distributed_something.cli.test_run.lock import TestRunLock
from distributed_something.cli.test_run.plan import TEST_INPUT, PlannedTest, build_test_plan
from distributed_something.cli.test_run.removal import remove_killed_test_run
from distributed_something.cli.test_run.run_tester import TestOutcome
from distributed_something.cli.test_run.steps import AWS_PACE, WATCHED_STEPS, Step
from distributed_something.cli.test_run.watcher import StepWatcher, StopReason
from tests.support.fakes import MONITOR_FILE, SETTINGS, START, ExactClients, build_context, expect_exact_calls

JOB = "job-1"
PLAN = build_test_plan(SETTINGS, Path("fleet.json"), {}, "m5.large")


@pytest.fixture
def aws() -> Iterator[Clients]:
    with mock_aws():
        clients = Clients(boto3.Session("test", "test", region_name="us-east-1"))
        clients.s3.create_bucket(Bucket=SETTINGS.AWS_BUCKET)
        yield clients


def write_lock(aws: Clients, body: bytes) -> None:
    bucket, _, key = TestRunLock(aws.s3, PLAN.settings, "cleanup").address.removeprefix("s3://").partition("/")
    aws.s3.put_object(Bucket=bucket, Key=key, Body=body)


def list_groups(aws: Clients) -> list[str]:
    return [group["logGroupName"] for group in aws.logs.describe_log_groups()["logGroups"]]


def test_cleanup_deletes_no_log_group_of_another_program_that_somebody_wrote_into_the_lock(
    aws: Clients, tmp_path: Path
) -> None:
    own = SETTINGS.LOG_GROUP_NAME
    for name in (own, f"{own}_perInstance", "/aws/lambda/prod"):
        aws.logs.create_log_group(logGroupName=name)
    write_lock(aws, json.dumps({"token": "t", "new_log_groups": ["/aws/lambda/prod", own]}).encode())

    left = remove_killed_test_run(build_context(aws), tmp_path / "monitor.json", yes=True)

    assert left == []
    assert list_groups(aws) == ["/aws/lambda/prod", f"{own}_perInstance"]


@pytest.mark.parametrize("body", ['{"new_log_groups": 5}', '{"new_log_groups": "abc"}', '{"new_log_groups": [1]}',
                                  "[" * 100_000])  # fmt: skip
def test_a_lock_that_somebody_has_changed_names_no_log_groups(aws: Clients, body: str) -> None:
    write_lock(aws, body.encode())

    holder = TestRunLock(aws.s3, PLAN.settings, "cleanup").find_holder(START)

    assert holder is not None
    assert holder.new_log_groups == ()


def format_test_cost(outcome: TestOutcome, plan: PlannedTest = PLAN) -> str:
    return _format_cost(Context(), plan, outcome)


def test_the_cost_of_a_machine_whose_price_is_unknown_is_not_called_nothing() -> None:
    assert format_test_cost(TestOutcome()) == NO_MACHINE_TEXT
    assert format_test_cost(TestOutcome(machine_seconds=300.0)) == (
        "not known: m5.large for 5 min, whose spot price could not be looked up"
    )


def test_the_cost_of_an_on_demand_machine_is_not_computed_from_the_spot_price() -> None:
    settings = SETTINGS.model_copy(update={"ON_DEMAND_MACHINES": SETTINGS.CLUSTER_MACHINES})
    plan = build_test_plan(settings, Path("fleet.json"), {}, "m5.large")

    text = format_test_cost(TestOutcome(machine_seconds=300.0, hourly=0.035), plan)

    assert text == "not known: m5.large for 5 min, an on-demand machine, whose price is not looked up"


def expect_fleet_with_machine(aws: ExactClients) -> None:
    """Expect that a fleet with one machine is observed."""
    fleet = {"SpotFleetRequestState": "active", "SpotFleetRequestConfig": {"TargetCapacity": 1, "IamFleetRole": "role"}}
    aws.expect_call("ec2.describe_spot_fleet_requests", SpotFleetRequestConfigs=[fleet])
    machine = {"InstanceId": "i-1", "InstanceType": "m5.large"}
    aws.expect_call("ec2.describe_spot_fleet_instances", ActiveInstances=[machine])


def test_a_price_that_ec2_does_not_tell_at_once_is_looked_up_again() -> None:
    report = {"InstanceType": "m5.large", "AvailabilityZone": "us-east-1a", "SpotPrice": "0.04", "Timestamp": START}
    with expect_exact_calls() as aws:
        watcher = StepWatcher(aws.clients, MONITOR_FILE, [JOB], AWS_PACE)
        expect_fleet_with_machine(aws)
        aws.expect_error("ec2.describe_spot_price_history", "RequestLimitExceeded")
        watcher.look(Step.LAUNCHED, 0.0, START)
        assert (watcher.details, watcher.hourly) == ({Step.LAUNCHED: "i-1 (m5.large)"}, None)

        expect_fleet_with_machine(aws)
        aws.expect_call("ec2.describe_spot_price_history", SpotPriceHistory=[report])
        watcher.look(Step.LAUNCHED, 5.0, START + 5)

        assert (watcher.launched_at, watcher.hourly) == (START, 0.04)


def look_at_record(aws: Clients, record: Any) -> StopReason | None:
    """Return what a test run says that waits only for this record of its only job."""
    body = record if isinstance(record, bytes) else json.dumps(record).encode()
    aws.s3.put_object(Bucket=MONITOR_FILE.MONITOR_BUCKET_NAME, Key=MONITOR_FILE.keys.record(JOB), Body=body)
    watcher = StepWatcher(aws, MONITOR_FILE, [JOB], AWS_PACE)
    watcher.details = dict.fromkeys([step for step in WATCHED_STEPS if step is not Step.VERIFIED], "")
    reason = watcher._look_at_jobs(Step.VERIFIED)
    assert (reason is None) == (Step.VERIFIED in watcher.details)
    return reason


@pytest.mark.parametrize(
    "outputs",
    [None, [], {}, "x", ["x"], [{"size": 1}], [{"key": 5}], [{"key": ""}], [{"key": "k", "bucket": 5}],
     [{"key": "k"}, {"key": "l"}]],
)  # fmt: skip
def test_a_record_that_does_not_name_one_result_is_said_to_be_wrong(aws: Clients, outputs: Any) -> None:
    reason = look_at_record(aws, {"state": "done", "final": True, "outputs": outputs})

    assert reason is not None
    assert reason.note == f"the record of the job {JOB} does not name one result"


def test_a_result_that_differs_from_the_input_is_named_and_is_not_read_whole(aws: Clients) -> None:
    bucket = MONITOR_FILE.MONITOR_BUCKET_NAME
    record = {"state": "done", "final": True, "outputs": [{"key": "result"}]}
    aws.s3.put_object(Bucket=bucket, Key="result", Body=TEST_INPUT)
    assert look_at_record(aws, record) is None

    aws.s3.put_object(Bucket=bucket, Key="result", Body=TEST_INPUT * 1000)
    reason = look_at_record(aws, record)

    assert reason is not None
    assert reason.note == f"s3://{bucket}/result differs from the job's input"


def test_a_record_that_is_nested_too_deeply_is_none(aws: Clients) -> None:
    bucket, key = MONITOR_FILE.MONITOR_BUCKET_NAME, MONITOR_FILE.keys.record(JOB)
    aws.s3.put_object(Bucket=bucket, Key=key, Body=b"[" * 100_000)
    watcher = StepWatcher(aws, MONITOR_FILE, [JOB], AWS_PACE)
    watcher.details = dict.fromkeys([step for step in WATCHED_STEPS if step is not Step.VERIFIED], "")

    assert watcher._look_at_jobs(Step.VERIFIED) is None
    assert Step.VERIFIED not in watcher.details


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_is_ignored_on_purpose_as_by_nohup_interrupts_nothing(number: signal.Signals) -> None:
    reports: list[str] = []
    former = signal.signal(number, signal.SIG_IGN)
    try:
        with postpone_interrupts(lambda: reports.append("postponed")):
            try:
                with raise_interrupts():
                    os.kill(os.getpid(), number)
            except KeyboardInterrupt:  # which would end pytest
                reports.append("raised")
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, former)
    assert reports == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_is_not_ignored_interrupts_and_keeps_its_former_handler(number: signal.Signals) -> None:
    former = signal.getsignal(number)

    with pytest.raises(KeyboardInterrupt), raise_interrupts():
        os.kill(os.getpid(), number)

    assert signal.getsignal(number) is former
