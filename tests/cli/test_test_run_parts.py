"""The parts of `testRun` that need no cloud: its plan, its jobs, its explanations, and its rows."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.cli.context import Context
from distributed_something.cli.test_run.command import _report_end
from distributed_something.cli.test_run.explanation import Explanation, find_causes
from distributed_something.cli.test_run.plan import build_test_plan, choose_cheapest_type
from distributed_something.cli.test_run.run_tester import TestOutcome
from distributed_something.cli.test_run.steps import Step
from distributed_something.cli.test_run.view import StepView
from distributed_something.cli.test_run.watcher import StopReason
from distributed_something.core.aws_errors import AWSEvent
from distributed_something.core.names import AppNames, build_test_app_name
from distributed_something.observe.evidence import Evidence, build_subject_from_run
from distributed_something.observe.queue import QueueCounts
from distributed_something.results.causes import group_failures
from distributed_something.results.command_line import CommandLine
from distributed_something.results.job_counter import FailedJob, JobCounts
from distributed_something.results.outcome import RunOutcome
from distributed_something.worker.container.test_job import make_test_job
from distributed_something.worker.job.job import Folders
from distributed_something.worker.job.worker_settings import read_worker_settings
from tests.support.fakes import MONITOR_FILE, SETTINGS, START, FakeOutput, FakeTime, expect_exact_calls

EVIDENCE = Evidence(START, build_subject_from_run(MONITOR_FILE), counts=QueueCounts(0, 2))
EMPTY_FLEET = FleetState("active", 1, (), ())
NO_JOBS = RunOutcome(None, JobCounts(0, 0, 0), 0, [], 0)
ENVIRONMENT = {"APP_NAME": "App-testRun", "SQS_QUEUE_URL": "https://queue", "AWS_BUCKET": "app-bucket"}


@pytest.mark.parametrize("app", ["A", "x" * 60, "x" * 61, "x" * 80])
def test_the_names_of_a_test_run_are_valid_and_differ_from_those_of_the_app(app: str) -> None:
    name = build_test_app_name(app)

    assert name.endswith("-testRun")
    assert len(AppNames(name).default_dead_letter_queue) <= 80
    assert name != app


def test_long_app_names_that_differ_at_the_end_have_different_test_runs() -> None:
    assert build_test_app_name("x" * 79 + "a") != build_test_app_name("x" * 79 + "b")


def test_a_test_run_has_the_names_and_numbers_of_its_own_and_the_rest_of_the_config() -> None:
    plan = build_test_plan(SETTINGS, Path("fleet.json"), {}, "m5.large")

    changed = {name for name in type(SETTINGS).model_fields if getattr(SETTINGS, name) != getattr(plan.settings, name)}
    assert {"AWS_BUCKET", "DOCKERHUB_TAG", "LOG_GROUP_NAME", "MEMORY", "ASSIGN_IP", "PROGRAM_USER"}.isdisjoint(changed)
    names = {"APP_NAME", "ECS_CLUSTER", "SQS_QUEUE_NAME", "SQS_DEAD_LETTER_QUEUE"}
    assert names <= changed
    assert {getattr(plan.settings, name).partition("-")[0] for name in names} == {"App"}
    assert (plan.settings.CLUSTER_MACHINES, plan.settings.TASKS_PER_MACHINE, plan.settings.MAX_RUN_HOURS) == (1, 1, 1)


@pytest.mark.parametrize(("on_demand", "expected"), [(0, 0), (2, 0), (3, 1)])
def test_the_machine_is_on_demand_only_if_all_of_the_apps_machines_are(on_demand: int, expected: int) -> None:
    settings = SETTINGS.model_copy(update={"ON_DEMAND_MACHINES": on_demand})
    assert expected == build_test_plan(settings, Path("f"), {}, "m5.large").settings.ON_DEMAND_MACHINES


def test_a_fleet_file_with_a_specification_for_each_type_keeps_the_one_of_the_cheapest_type() -> None:
    settings = SETTINGS.model_copy(update={"MACHINE_TYPE": ["m5.large", "c5.large"]})
    fleet = {"LaunchSpecifications": [{"ImageId": "ami-1"}, {"ImageId": "ami-2"}]}

    plan = build_test_plan(settings, Path("f"), fleet, "c5.large")

    assert plan.fleet == {"LaunchSpecifications": [{"ImageId": "ami-2"}]}


def test_the_cheapest_type_has_the_lowest_spot_price() -> None:
    settings = SETTINGS.model_copy(update={"MACHINE_TYPE": ["m5.large", "c5.large", "r5.large"]})
    reports = [
        {"InstanceType": name, "AvailabilityZone": "us-east-1a", "SpotPrice": price, "Timestamp": "2026-11-23"}
        for name, price in (("m5.large", "0.04"), ("c5.large", "0.03"))
    ]
    with expect_exact_calls() as aws:
        aws.expect_call("ec2.describe_spot_price_history", SpotPriceHistory=reports)
        assert choose_cheapest_type(aws.clients.ec2, settings, START) == "c5.large"


def test_the_jobs_copy_their_input_whatever_the_message_says(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    for folder in (folders.input_dir, folders.output_dir):
        folder.mkdir()
    (folders.input_dir / "a.txt").write_text("hello")
    message = {"command": ["no-such-program"], "output_location": "out", "group": {"testRun": "1"}}

    job = make_test_job(message, folders, read_worker_settings(ENVIRONMENT))

    assert isinstance(job.command, list)
    subprocess.run([str(word) for word in job.command], check=True, env={})
    assert (folders.output_dir / "a.txt").read_text() == "hello"


def test_a_permission_that_the_worker_lacks_is_named_first() -> None:
    line = "the results could not be uploaded: AccessDenied: User: x is not authorized to perform: s3:PutObject on y"

    causes = find_causes(StopReason(Step.VERIFIED, 300.0), EVIDENCE, NO_JOBS, ("started", line), CommandLine())

    assert [(cause.title, cause.evidence) for cause in causes] == [
        ("the workers' role may not call s3:PutObject", line)
    ]
    assert causes[0].remedy.startswith("run setupAWS")


@pytest.mark.parametrize(
    ("reason", "reason_class", "remedy"),
    [
        ("access denied: s3:GetObject", "aws", "correct the bucket or the permission that the reason names"),
        ("its worker was stopped", "interrupted",
         "raise MEMORY or lower DOCKER_CORES in the config, or find out what else kills the worker or its machine"),
        ("its worker was killed", "crash",
         "raise MEMORY or lower DOCKER_CORES in the config, or find out what else kills the worker"),
    ],
)  # fmt: skip
def test_a_job_that_the_worker_may_not_finish_has_a_remedy_for_a_test_run_and_no_command_to_retry(
    reason: str, reason_class: str, remedy: str
) -> None:
    failed = FailedJob("job-1", START, reason, reason_class, 2)
    outcome = RunOutcome(2, JobCounts(0, 0, 1), 0, [failed], 1, groups=tuple(group_failures([failed])))

    (cause,) = find_causes(StopReason(Step.VERIFIED, note="a job failed"), EVIDENCE, outcome, (), CommandLine())

    assert cause.title.startswith("1 job failed")
    assert cause.remedy == remedy
    assert cause.list_commands(CommandLine()) == []


def test_a_refusal_of_ec2_has_the_words_of_why_without_the_commands_that_continue_a_run() -> None:
    event = AWSEvent(START, "launchSpecUnusable", "InvalidSubnetID.NotFound: the subnet does not exist")
    evidence = Evidence(START, build_subject_from_run(MONITOR_FILE), fleet_events=(event,), fleet=EMPTY_FLEET)

    causes = find_causes(StopReason(Step.LAUNCHED, 600.0), evidence, NO_JOBS, (), CommandLine())

    remedies = " ".join(cause.remedy for cause in causes)
    assert causes[0].title == "a subnet in the Fleet file does not exist in this account and region"
    assert "then run testRun again" in remedies
    assert "submitJob" not in remedies


def test_a_row_has_the_step_its_time_and_what_was_seen_in_80_columns() -> None:
    time, output = FakeTime(), FakeOutput()
    view = StepView(output, time.now)
    view.begin_step(Step.JOINED, 600.0)
    time.sleep(95)

    view.end_step("i-0123456789abcdef0 in the cluster " + "very-long-name " * 5)

    first, *others = output.progress[0].splitlines()
    assert first.startswith("machine joined       2 min  i-0123456789abcdef0 in the cluster")
    assert others
    assert all(line.startswith(" " * 28) for line in others)
    assert max(map(len, [first, *others])) <= 80


@pytest.mark.parametrize("step", [Step.PROTECTED, Step.LOGGED, Step.VERIFIED])
def test_a_queue_that_is_gone_explains_that_the_worker_gets_no_job(step: Step) -> None:
    evidence = replace(EVIDENCE, counts=None)

    causes = find_causes(StopReason(step, 150.0), evidence, NO_JOBS, (), CommandLine())

    assert causes[0].title == "the queue has been deleted, so the worker gets no jobs"
    assert "AppQueue" in causes[0].evidence


def test_jobs_that_no_worker_takes_are_not_called_a_problem_of_protection() -> None:
    evidence = replace(EVIDENCE, counts=QueueCounts(2, 0))

    (cause,) = find_causes(StopReason(Step.PROTECTED, 150.0), evidence, NO_JOBS, (), CommandLine())

    assert cause.title == "the worker has taken no job from the queue"
    assert "reach SQS" in cause.remedy
    assert "below" not in cause.remedy


@pytest.mark.parametrize("step", [Step.PROTECTED, Step.LOGGED, Step.VERIFIED])
def test_a_remedy_mentions_the_lines_below_only_if_there_are_some(step: Step) -> None:
    evidence = replace(EVIDENCE, counts=QueueCounts(1, 1))

    (silent,) = find_causes(StopReason(step, 150.0), evidence, NO_JOBS, (), CommandLine())
    (cause,) = find_causes(StopReason(step, 150.0), evidence, NO_JOBS, ("a line",), CommandLine())

    assert "below" not in silent.remedy
    assert "the lines below" in cause.remedy


def test_the_end_after_ctrl_c_says_that_nothing_is_left_and_not_how_to_continue(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcome = TestOutcome(error=KeyboardInterrupt(), stopped_step=Step.JOINED)

    with pytest.raises(SystemExit) as end:
        _report_end(Context(local=True), outcome)

    assert end.value.code == 130
    assert capsys.readouterr().err == "run.py: interrupted; nothing is left of this test run\n"


def test_a_test_run_that_stopped_names_the_command_to_test_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["run.py"])
    context = Context(local=True, project=tmp_path, default_project=tmp_path)
    explanation = Explanation(StopReason(Step.JOINED, 9.0), [], EVIDENCE, ())
    outcome = TestOutcome(explanation, stopped_step=Step.JOINED)

    with pytest.raises(SystemExit) as end:
        _report_end(context, outcome, ("testRun", "files/fleet.json"))

    assert end.value.code == 3
    assert capsys.readouterr().err == "next: python run.py --local testRun files/fleet.json\n"
