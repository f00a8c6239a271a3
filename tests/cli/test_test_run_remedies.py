"""What a test run that stopped advises: nothing is left of it, so that advice for a run in progress would be wrong."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.cli.test_run.explanation import find_causes
from distributed_something.cli.test_run.steps import Step
from distributed_something.cli.test_run.watcher import StopReason
from distributed_something.core.aws_errors import (
    FLEET_FAILURE_PATTERNS,
    SERVICE_FAILURE_PATTERNS,
    TASK_FAILURE_PATTERNS,
    AWSEvent,
    FailurePattern,
)
from distributed_something.diagnose.why.cause import Cause
from distributed_something.diagnose.why.rank import select_remedy
from distributed_something.observe.containers import PausedMachine
from distributed_something.observe.evidence import ClusterMachine, Evidence, build_subject_from_run
from distributed_something.observe.machines import ObservedMachine
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.service import ServiceState, StoppedTask
from distributed_something.results.causes import group_failures
from distributed_something.results.command_line import CommandLine
from distributed_something.results.job_counter import FailedJob, JobCounts
from distributed_something.results.outcome import RunOutcome
from tests.support.fakes import MONITOR_FILE, START

LINES = (CommandLine(), CommandLine(is_pushed=False, slots=1), CommandLine(has_image=False))
NO_JOBS = RunOutcome(None, JobCounts(0, 0, 0), 0, [], 0)
# The commands that continue a run, and what a run does by itself.
RUN_WORDS = re.compile(r"\b(the fleet|setup|startCluster|submitJob|monitor|retry|new containers)\b|cleanup --yes")
REPETITION = "run testRun again"

MACHINE = ObservedMachine("i-1", "running", START)
EVIDENCE = Evidence(
    START + 60,
    build_subject_from_run(MONITOR_FILE),
    counts=QueueCounts(0, 2),
    fleet=FleetState("active", 1, ("i-1",), ("m5.large",)),
    machines=(MACHINE,),
    registered_count=1,
    cluster_machines=(ClusterMachine("i-1", True, 1),),
    service=ServiceState(1, 1, 0),
)
RECLAIMED = replace(MACHINE, state="terminated", end_code="Server.SpotInstanceTermination", end_reason="taken back")
NO_MACHINE = replace(EVIDENCE, fleet=FleetState("active", 1, (), ()), machines=(), registered_count=0,
                     cluster_machines=(), service=ServiceState(1, 0, 0))  # fmt: skip


def pause(protection: str | None = None, since: float | None = None) -> Evidence:
    return replace(EVIDENCE, paused_machines=(PausedMachine("i-1", "a reason", since, protection),))


def list_remedies(step: Step, evidence: Evidence, outcome: RunOutcome = NO_JOBS) -> list[str]:
    """Return the remedies of all causes, for each kind of worker."""
    reason = StopReason(step, 600.0)
    return [cause.remedy for line in LINES for cause in find_causes(reason, evidence, outcome, (), line)]


def assert_fits_test_run(remedies: list[str]) -> None:
    assert remedies
    assert all(remedies)
    assert [text for text in remedies if RUN_WORDS.search(text) or text.startswith("wait: ")] == []
    assert [text for text in remedies if text.count(REPETITION) > 1] == []
    assert [text for text in remedies if "{" in text] == []


@pytest.mark.parametrize(
    ("step", "evidence", "remedy"),
    [
        (Step.LAUNCHED, NO_MACHINE, "run check with the Fleet file (quota, price, machine types); then " + REPETITION),
        (Step.LAUNCHED, replace(NO_MACHINE, machines=(RECLAIMED,)), REPETITION),
        (Step.JOINED, replace(EVIDENCE, machines=(RECLAIMED, MACHINE), service=ServiceState(1, 0, 0)), REPETITION),
        (Step.PULLED, replace(EVIDENCE, service=ServiceState(1, 0, 1)),
         "make the image smaller, or copy it to ECR in the machines' region; then " + REPETITION),
        (Step.STARTED, replace(EVIDENCE, cluster_machines=(ClusterMachine("i-1", False, 1),)),
         "make sure that the machines can reach AWS (HTTPS); then " + REPETITION),
        (Step.PROTECTED, pause("AccessDeniedException"),
         "run setupAWS, which lets the containers' role use ecs:UpdateTaskProtection; then " + REPETITION),
        (Step.PROTECTED, pause("DEPLOYMENT_BLOCKED"),
         REPETITION + ": what blocks protection, such as a deployment of the service, usually ends by itself"),
        (Step.PROTECTED, replace(pause("DEPLOYMENT_BLOCKED"), service=ServiceState(1, 2, 0)),
         REPETITION + ": what blocks protection, such as a deployment of the service, usually ends by itself"),
        (Step.PROTECTED, pause("TASK_NOT_VALID"),
         REPETITION + ": what blocks protection, such as a deployment of the service, usually ends by itself"),
        (Step.VERIFIED, pause(since=START), "correct what makes these jobs fail; then " + REPETITION),
        (Step.VERIFIED, pause(), "raise EBS_VOL_SIZE in the config; then " + REPETITION),
    ],
)  # fmt: skip
def test_a_cause_that_why_explains_for_a_run_has_a_remedy_for_a_test_run(
    step: Step, evidence: Evidence, remedy: str
) -> None:
    remedies = list_remedies(step, evidence)

    assert_fits_test_run(remedies)
    assert remedy in remedies


@pytest.mark.parametrize(
    "message",
    ["InsufficientInstanceCapacity", "RequestLimitExceeded", "TemporarilyBlacklisted", "InternalError",
     "the instance profile is invalid", "SpotMaxPriceTooLow"],
)  # fmt: skip
def test_a_refusal_of_ec2_has_a_remedy_for_a_test_run(message: str) -> None:
    event = AWSEvent(START, "error", message)
    assert_fits_test_run(list_remedies(Step.LAUNCHED, replace(NO_MACHINE, fleet_events=(event,))))


@pytest.mark.parametrize("message", ["insufficient memory", "error 'AGENT'", "missing an attribute",
                                     "unable to assume role"])  # fmt: skip
def test_a_service_event_has_a_remedy_for_a_test_run(message: str) -> None:
    event = AWSEvent(START, "", message)
    lacking = replace(EVIDENCE, at=START + 900, service=ServiceState(1, 0, 0), service_events=(event,))
    assert_fits_test_run(list_remedies(Step.PULLED, lacking))


@pytest.mark.parametrize("exit_code", [0, 1, 2, 126, 137, 139])
def test_a_container_that_stops_has_a_remedy_for_a_test_run(exit_code: int) -> None:
    task = StoppedTask(START + 30, "EssentialContainerExited", "Essential container exited", (exit_code,))
    lacking = replace(EVIDENCE, service=ServiceState(1, 0, 0), stopped_tasks=(task, task))
    assert_fits_test_run(list_remedies(Step.STARTED, lacking))


@pytest.mark.parametrize("pattern", [*FLEET_FAILURE_PATTERNS, *SERVICE_FAILURE_PATTERNS, *TASK_FAILURE_PATTERNS])
@pytest.mark.parametrize("line", LINES)
def test_every_failure_that_aws_reports_has_a_remedy_for_a_test_run(pattern: FailurePattern, line: CommandLine) -> None:
    templates = {"template": pattern.remedy, "template_without_image": pattern.remedy_without_image}

    remedy = select_remedy(Cause(1, "title", "evidence", needs_new_run=True, **templates), line, is_test=True).remedy

    assert_fits_test_run([remedy])


@pytest.mark.parametrize(("reason", "reason_class"), [("no space left on device", "disk"), ("timed out", "time-out")])
def test_a_failed_job_has_a_remedy_for_a_test_run(reason: str, reason_class: str) -> None:
    failed = FailedJob("job-1", START, reason, reason_class, 2)
    outcome = RunOutcome(2, JobCounts(0, 0, 1), 0, [failed], 1, groups=tuple(group_failures([failed])))
    assert_fits_test_run(list_remedies(Step.VERIFIED, EVIDENCE, outcome))


def test_what_the_log_says_about_a_permission_does_not_hide_a_full_disk() -> None:
    line = "could not read the tags, is not authorized to perform: ec2:DescribeTags on x; continuing without them"

    causes = find_causes(StopReason(Step.VERIFIED, 300.0), pause(), NO_JOBS, (line,), CommandLine())

    assert [cause.title for cause in causes] == [
        "machines have paused because their disk is full",
        "the workers' role may not call ec2:DescribeTags",
    ]
