"""Test runs on the local cloud: a whole one, and each kind of step broken once."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.s3 import delete_objects
from distributed_something.cli.test_run.explanation import format_explanation
from distributed_something.cli.test_run.lock import TestRunLock
from distributed_something.cli.test_run.plan import build_test_plan
from distributed_something.cli.test_run.run_tester import RunTester, TestOutcome
from distributed_something.cli.test_run.steps import LOCAL_PACE, WATCHED_STEPS, Step, StepPace
from distributed_something.cli.test_run.view import StepView
from distributed_something.core.clock import Clock
from distributed_something.core.errors import CloudError, InputError
from distributed_something.fleet.fleet_file import load_fleet_file
from distributed_something.project.config_file import load_settings
from distributed_something.results.command_line import CommandLine
from distributed_something.run.run_context import RunContext
from tests.support.engine import require_engine
from tests.support.fakes import SETTINGS, FakeOutput
from tests.support.project import Project, create_project, join_commands

IMPATIENT_PACE = StepPace(0.1, dict.fromkeys(WATCHED_STEPS, 3.0), 3.0)
LINE = CommandLine(has_image=False)
BROKEN_WORKER = 'import sys\nprint("no license was found", flush=True)\nsys.exit(3)\n'


class InterruptedView(StepView):
    """A view during whose step `at` the user presses Ctrl-C."""

    at = Step.SET_UP

    def begin_step(self, step: Step, limit: float | None = None) -> None:
        super().begin_step(step, limit)
        if step is self.at:
            raise KeyboardInterrupt


@dataclass
class Lab:
    """A project with its local cloud, in which this process tests runs."""

    project: Project
    clients: Clients
    output: FakeOutput = field(default_factory=FakeOutput)

    def test(
        self, pace: StepPace = LOCAL_PACE, view: type[StepView] = StepView, output: type[FakeOutput] = FakeOutput
    ) -> TestOutcome:
        folder = self.project.folder
        settings, path = load_settings(folder / "config.py"), folder / "files" / "fleet.json"
        fleet = self.project.get_local_cloud().adapt_fleet_file(load_fleet_file(path, is_local=True))
        plan = build_test_plan(settings, path, fleet, "m5.large")
        self.output = output()
        context = RunContext(self.clients, plan.settings, self.output, Clock(), 0.2, 0.0, LINE)
        return RunTester(context, plan, folder, pace, view(self.output, context.clock.now)).run()

    def list_rest(self) -> list[str]:
        """Return what a test run left in the local cloud or on this computer."""
        clients, app = self.clients, "Tryout-testRun"
        machines = [
            machine for group in clients.ec2.describe_instances()["Reservations"] for machine in group["Instances"]
        ]
        rest: list[Any] = [machine for machine in machines if machine["State"]["Name"] == "running"]
        rest += clients.ec2.describe_launch_templates()["LaunchTemplates"]
        rest += [url for url in clients.sqs.list_queues().get("QueueUrls", []) if app in url]
        rest += [arn for arn in clients.ecs.list_task_definitions()["taskDefinitionArns"] if app in arn]
        clusters = clients.ecs.describe_clusters(clusters=[app])["clusters"]
        rest += [cluster for cluster in clusters if cluster["status"] != "INACTIVE"]
        for bucket in clients.s3.list_buckets()["Buckets"]:
            found = clients.s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", [])
            rest += [item["Key"] for item in found if app in item["Key"]]
        for group in clients.logs.describe_log_groups()["logGroups"]:
            streams = clients.logs.describe_log_streams(logGroupName=group["logGroupName"])["logStreams"]
            rest += [stream["logStreamName"] for stream in streams]
        rest += clients.cloudwatch.describe_alarms()["MetricAlarms"]
        return [*map(str, rest), *map(str, (self.project.folder / "files").glob("*testRun*"))]


def open_lab(project: Project, patch: pytest.MonkeyPatch) -> Lab:
    cloud = project.get_local_cloud()
    for name, value in cloud.build_environment().items():
        patch.setenv(name, value)
    cloud.ensure_buckets(["tryout-bucket"])
    return Lab(project, Clients(boto3.Session(region_name="us-east-1")))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with create_project(tmp_path_factory.mktemp("lab") / "p") as project, pytest.MonkeyPatch.context() as patch:
        yield open_lab(project, patch)


def explain(outcome: TestOutcome) -> str:
    assert outcome.explanation is not None
    text = format_explanation(outcome.explanation, LINE)
    assert max(map(len, text.splitlines())) <= 80
    return " ".join(text.split())


def test_a_test_run_passes_removes_everything_and_leaves_a_real_run_alone(tmp_path: Path) -> None:
    with create_project(tmp_path / "p", GREETING="hello") as project, pytest.MonkeyPatch.context() as patch:
        job_file = project.write_job_file(command="echo {well}", groups=[{"well": "A1"}, {"well": "A2"}])
        project.run("setup")
        project.run("submitJob", str(job_file))

        result = project.run("testRun")

        steps = re.findall(r"^(\D+?) +\d+ s  ", result.stderr, flags=re.M)
        assert steps == [step.value for step in Step]
        assert max(map(len, result.stderr.splitlines())) <= 120  # of the command at the end; the table has 80
        assert "passed" in result.stdout
        lab = open_lab(project, patch)
        assert lab.list_rest() == []
        url = lab.clients.sqs.get_queue_url(QueueName="TryoutQueue")["QueueUrl"]
        names: Any = ["ApproximateNumberOfMessages"]
        attributes = lab.clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        assert attributes == {"ApproximateNumberOfMessages": "2"}
        groups = [group["logGroupName"] for group in lab.clients.logs.describe_log_groups()["logGroups"]]
        assert groups == ["Tryout", "Tryout_perInstance"]


@pytest.mark.long
def test_a_machine_that_never_joins_is_named_with_the_remedy(tmp_path: Path) -> None:
    with create_project(tmp_path / "p") as project, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALCLOUD_NOT_JOINING", "9")
        lab = open_lab(project, patch)

        outcome = lab.test(IMPATIENT_PACE)

        text = explain(outcome)
        assert outcome.stopped_step is Step.JOINED
        assert text.startswith(
            "stopped at machine joined: nothing happened in 3 s most likely machines are running but"
        )
        assert "1 without a public address → use a subnet with a NAT gateway" in text  # ASSIGN_IP is 'True'
        assert (outcome.remaining, lab.list_rest()) == ([], [])


@pytest.mark.long
def test_a_refused_protection_is_named_with_the_remedy(tmp_path: Path) -> None:
    with create_project(tmp_path / "p") as project, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALCLOUD_REFUSED_PROTECTION", "1")
        lab = open_lab(project, patch)

        outcome = lab.test(StepPace(0.1, dict.fromkeys(WATCHED_STEPS, 8.0), 8.0))

        assert outcome.stopped_step is Step.PROTECTED
        text = explain(outcome)
        assert "ECS refuses to protect them from scale-in" in text
        assert "→ run testRun again: what blocks protection" in text
        assert (outcome.remaining, lab.list_rest()) == ([], [])


@pytest.mark.containers
def test_a_missing_image_is_named_with_the_remedy(tmp_path: Path) -> None:
    require_engine()
    with create_project(tmp_path / "p", DOCKERHUB_TAG="tests/no-such-image:1") as project:
        result = project.run("--containers", "testRun", check=False)

    text = " ".join(result.stdout.split())
    assert result.returncode == 3
    assert text.startswith("stopped at image pulled")
    assert "the image cannot be pulled" in text
    assert "then run testRun again" in text
    assert "nothing is left" in result.stderr
    assert join_commands(result.stderr).endswith(f"{project.folder} testRun\n")


def test_a_container_that_fails_is_named_with_its_last_line(lab: Lab) -> None:
    script = lab.project.folder / "worker" / "generic-worker.py"
    content = script.read_text()
    script.write_text(BROKEN_WORKER)
    try:
        outcome = lab.test()
    finally:
        script.write_text(content)

    text = explain(outcome)
    assert "its containers fail" in text
    assert "| no license was found" in text
    assert "testRun again" in text
    assert (outcome.remaining, lab.list_rest()) == ([], [])


def test_an_image_whose_worker_does_not_know_test_runs_must_be_built_again(lab: Lab) -> None:
    script = lab.project.folder / "worker" / "generic-worker.py"
    content = script.read_text()
    script.write_text(f'import os\nos.environ.pop("DISTRIBUTED_SOMETHING_TEST_RUN")\n{content}'.replace(
        "from __future__ import annotations\n", ""))  # fmt: skip
    try:
        outcome = lab.test()
    finally:
        script.write_text(content)

    assert "a worker of an older version, which does not know testRun" in explain(outcome)
    assert (outcome.remaining, lab.list_rest()) == ([], [])


def test_a_bucket_that_is_gone_is_named_and_nothing_is_created(lab: Lab) -> None:
    lab.clients.s3.delete_bucket(Bucket="tryout-bucket")
    try:
        outcome = lab.test()
    finally:
        lab.project.get_local_cloud().ensure_buckets(["tryout-bucket"])

    assert outcome.stopped_step is Step.SET_UP
    assert isinstance(outcome.error, CloudError)
    assert "NoSuchBucket" in str(outcome.error)
    assert "create the bucket first, or correct AWS_BUCKET" in str(outcome.error)
    assert (outcome.remaining, lab.list_rest()) == ([], [])


@pytest.mark.long
def test_a_bucket_that_is_deleted_while_the_machine_starts_is_named_with_the_remedy(lab: Lab) -> None:
    try:
        outcome = lab.test(IMPATIENT_PACE, view=type("View", (_BucketRemovingView,), {"lab": lab}))
    finally:
        lab.project.get_local_cloud().ensure_buckets(["tryout-bucket"])

    text = explain(outcome)
    assert "NoSuchBucket" in text
    assert "create the bucket first, or correct AWS_BUCKET" in text
    assert (outcome.remaining, lab.list_rest()) == ([], [])


class _BucketRemovingView(StepView):
    """A view during whose step "machine launched" somebody deletes the bucket."""

    lab: Lab

    def begin_step(self, step: Step, limit: float | None = None) -> None:
        super().begin_step(step, limit)
        if step is Step.LAUNCHED:
            delete_objects(self.lab.clients.s3, "tryout-bucket", "")
            self.lab.clients.s3.delete_bucket(Bucket="tryout-bucket")


@pytest.mark.parametrize(
    ("operation", "step"),
    [
        ("ecs.CreateService", Step.SET_UP),
        ("ecs.ListContainerInstances", Step.JOINED),
        pytest.param("sqs.SendMessageBatch", Step.SENT, marks=pytest.mark.long),
        pytest.param("ec2.RequestSpotFleet", Step.REQUESTED, marks=pytest.mark.long),
        pytest.param("logs.GetLogEvents", Step.LOGGED, marks=pytest.mark.long),
    ],
)
def test_a_missing_permission_of_the_user_is_named_with_the_step(lab: Lab, operation: str, step: Step) -> None:
    service, _, name = operation.partition(".")
    message = f"User: me is not authorized to perform: {service}:{name}"

    def deny(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": message}}, name)

    events, event = getattr(lab.clients, service).meta.events, f"before-call.{service}.{name}"
    events.register(event, deny)
    try:
        outcome = lab.test()
    finally:
        events.unregister(event, deny)

    assert outcome.stopped_step is step
    assert f"{service}:{name}" in str(outcome.error)
    assert "ask your administrator for this permission" in str(outcome.error)
    assert (outcome.remaining, lab.list_rest()) == ([], [])


LONG_STEPS = (Step.PULLED, Step.STARTED, Step.PROTECTED, Step.LOGGED)


@pytest.mark.parametrize(
    "step",
    [
        *(step for step in (Step.SET_UP, Step.SENT, Step.REQUESTED, *WATCHED_STEPS) if step not in LONG_STEPS),
        *(pytest.param(step, marks=pytest.mark.long) for step in LONG_STEPS),
    ],
)
def test_ctrl_c_at_any_step_removes_everything(lab: Lab, step: Step) -> None:
    outcome = lab.test(view=type("View", (InterruptedView,), {"at": step}))

    assert isinstance(outcome.error, KeyboardInterrupt)
    assert outcome.stopped_step is step
    assert (outcome.remaining, lab.list_rest()) == ([], [])


def test_ctrl_c_during_the_removal_does_not_end_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    begin: Callable[..., None] = StepView.begin_step

    def begin_and_interrupt(view: StepView, step: Step, limit: float | None = None) -> None:
        begin(view, step, limit)
        if step is Step.CLEANED:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(StepView, "begin_step", begin_and_interrupt)

    outcome = lab.test(view=type("View", (InterruptedView,), {"at": Step.REQUESTED}))

    assert sum("everything is being removed" in text for text in lab.output.progress) == 1
    assert (outcome.remaining, lab.list_rest()) == ([], [])


class _ClosedOutput(FakeOutput):
    """An output that is closed once the machine has been requested, such as a terminal whose window is closed."""

    error: BaseException = OSError(errno.EIO, "Input/output error")

    def print_progress(self, text: str) -> None:
        super().print_progress(text)
        if any("machine requested" in line for line in self.progress):
            raise self.error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), SystemExit(1)])
def test_a_closed_terminal_or_pipe_does_not_keep_anything_from_being_removed(lab: Lab, error: BaseException) -> None:
    outcome = lab.test(output=type("Output", (_ClosedOutput,), {"error": error}))

    assert outcome.error is error
    assert (outcome.remaining, lab.list_rest()) == ([], [])


@pytest.mark.long
def test_a_second_test_run_of_the_same_app_is_refused_and_removes_nothing(lab: Lab) -> None:
    view = type("View", (_SecondRunView,), {"lab": lab, "outcomes": []})

    outcome = lab.test(view=view)

    assert outcome.has_passed
    (second,) = view.outcomes
    assert isinstance(second.error, InputError)
    assert "a testRun of this app is in progress, which moto started at 20" in str(second.error)
    assert second.error.commands[0].endswith("files/Tryout-testRunSpotFleetRequestId.json --yes")
    assert (second.remaining, lab.list_rest()) == ([], [])


class _SecondRunView(StepView):
    """A view during whose setup, when no fleet exists yet, the same command is typed again."""

    lab: Lab
    outcomes: list[TestOutcome]

    def end_step(self, detail: str) -> None:
        super().end_step(detail)
        if detail.startswith("queues, logs"):
            self.outcomes.append(self.lab.test())


def kill_test_run(lab: Lab, monkeypatch: pytest.MonkeyPatch, step: Step) -> None:
    """Test a run that is killed at the step, so that it removes nothing."""
    with monkeypatch.context() as patch:
        patch.setattr(RunTester, "_end", lambda *_: None)
        lab.test(view=type("View", (InterruptedView,), {"at": step}))


@pytest.mark.parametrize("step", [Step.SENT, pytest.param(Step.VERIFIED, marks=pytest.mark.long)])
def test_cleanup_removes_everything_that_a_killed_test_run_left(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    kill_test_run(lab, monkeypatch, step)
    file = "files/Tryout-testRunSpotFleetRequestId.json"

    refused = lab.project.run("testRun", check=False)
    careful = lab.project.run("cleanup", file, check=False)
    result = lab.project.run("cleanup", file, "--yes")

    assert (refused.returncode, careful.returncode) == (2, 2)
    assert f"cleanup {file} --yes" in " ".join(refused.stderr.replace("\\\n", "").split())
    assert "a testRun of this app is in progress" in careful.stderr
    assert "nothing is left" in result.stdout
    assert "note" not in result.stderr
    assert lab.list_rest() == []
    assert lab.clients.logs.describe_log_groups()["logGroups"] == []


def test_the_lock_of_a_killed_test_run_expires(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SETTINGS.model_copy(update={"AWS_BUCKET": "tryout-bucket"})
    first, second, third = (TestRunLock(lab.clients.s3, settings, "cleanup") for _ in range(3))
    first.take("me", [], 0.0)
    with pytest.raises(InputError):
        second.take("you", [], 0.0)

    monkeypatch.setattr("distributed_something.cli.test_run.lock.LOCK_SECONDS", -1.0)
    second.take("you", [], 0.0)

    first.release(0.0)  # it is no longer the first one's
    monkeypatch.undo()
    with pytest.raises(InputError, match="which you started"):
        third.take("them", [], 0.0)
    second.release(0.0)
    third.take("them", [], 0.0)
    third.release(0.0)
