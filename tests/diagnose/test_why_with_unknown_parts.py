"""Tests that `run.py why` states nothing as a fact that it could not look up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import fields, replace

import pytest

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.core.aws_errors import AWSEvent
from distributed_something.diagnose.why.cause import Cause
from distributed_something.diagnose.why.fleet_causes import diagnose_fleet_errors
from distributed_something.diagnose.why.job_causes import JobEvidence
from distributed_something.diagnose.why.queue_causes import diagnose_cost_limit, diagnose_empty_queue
from distributed_something.diagnose.why.rank import DIAGNOSES, rank_causes
from distributed_something.diagnose.why.view import format_diagnosis
from distributed_something.observe.containers import LogTail, PausedMachine
from distributed_something.observe.evidence import (
    ClusterMachine,
    Evidence,
    SpotQuota,
    build_subject_from_config,
)
from distributed_something.observe.machines import ObservedMachine
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.service import ServiceState, StoppedTask
from distributed_something.results.causes import group_failures
from distributed_something.results.command_line import CommandLine
from distributed_something.results.job_counter import FailedJob, JobCounts
from distributed_something.results.outcome import RunOutcome
from tests.support import healthy_run
from tests.support.fakes import SETTINGS
from tests.support.healthy_run import IDLE, NO_MACHINE, NOW, RUNNING_MACHINE

DENIED = "needs a permission"
NEW_MACHINE = ObservedMachine("i-3", "running", NOW - 480)
RECLAIMED = ObservedMachine(
    "i-2", "terminated", NOW - 3000, end_reason="Spot instance termination", end_code="Server.SpotInstanceTermination"
)
HEALTHY = replace(healthy_run.HEALTHY, counts=QueueCounts(0, 5))
REPLACING = replace(
    IDLE,
    fleet=FleetState("active", 2, ("i-1", "i-3")),
    machines=(RECLAIMED, RUNNING_MACHINE, NEW_MACHINE),
    service=ServiceState(2, 1, 0),
)
PLACEMENT = AWSEvent(
    NOW - 60, "service", "(service s) was unable to place a task. The closest … has insufficient memory available."
)
CAPACITY = AWSEvent(NOW - 60, "error", "InsufficientInstanceCapacity")
CRASH = StoppedTask(NOW - 60, "EssentialContainerExited", "OutOfMemoryError: killed", (137,))
FAULTY = ObservedMachine("i-1", "terminated", NOW - 60, end_reason="Client error", end_code="Client.InternalError")
INTERRUPTED = StoppedTask(NOW - 60, "SpotInterruption", "Host EC2 (instance i-2) is being interrupted.", ())
QUOTA = SpotQuota("All Standard", "L-34B43A08", 0.0, 2)

# Runs in trouble. Together, they have every kind of cause.
TROUBLES = (
    replace(IDLE, counts=None, service=None, registered_count=None, cluster_machines=(), fleet=None),
    replace(IDLE, counts=QueueCounts(0, 0)),
    replace(IDLE, counts=QueueCounts(0, 0), fleet=FleetState("cancelled", 1, ())),
    replace(IDLE, is_closed=True),
    replace(IDLE, counts=QueueCounts(0, 5)),
    replace(NO_MACHINE, subject=build_subject_from_config(SETTINGS), fleet=None),
    replace(NO_MACHINE, fleet_events=(CAPACITY,), quota=QUOTA),
    NO_MACHINE,
    replace(NO_MACHINE, machines=(FAULTY,)),
    replace(NO_MACHINE, machines=(RECLAIMED,)),
    REPLACING,
    replace(REPLACING, machines=(RUNNING_MACHINE, NEW_MACHINE), stopped_tasks=(INTERRUPTED,)),
    replace(IDLE, registered_count=0, cluster_machines=()),
    replace(IDLE, machines=(NEW_MACHINE,), fleet=FleetState("active", 1, ("i-3",))),
    replace(IDLE, cluster_machines=(ClusterMachine("i-1", False, 0),)),
    replace(IDLE, paused_machines=(PausedMachine("i-1", "the disk is full"),)),
    replace(IDLE, paused_machines=(PausedMachine("i-1", "ECS refuses", None, "AccessDenied", NOW),)),
    replace(IDLE, service=ServiceState(0, 0, 0)),
    replace(IDLE, service=ServiceState(2, 1, 0), service_events=(PLACEMENT,)),
    replace(IDLE, stopped_tasks=(CRASH, CRASH), crash_lines=("Killed",)),
    replace(HEALTHY, stopped_tasks=(CRASH, CRASH)),
    replace(IDLE, service=ServiceState(2, 0, 2)),
    replace(HEALTHY, counts=QueueCounts(100, 0), log_tail=None),
    replace(HEALTHY, counts=QueueCounts(100, 0), log_tail=LogTail(NOW - 7200, ())),
)  # fmt: skip
# What only somebody can say who has looked up the part. AWS's own messages are quoted and say none of it.
CLAIMS = {
    "counts": r"queue|leased|there are no jobs|take no jobs: \d",
    "dead_letters": r"dead.letter",
    "fleet": r"the fleet|target|no fleet|no active fleet|requested|is starting|are starting$",
    "fleet_events": r"no error|InsufficientInstanceCapacity|EC2 does not",
    "machines": r"\d machines?\b|up for|launched|machines (are running|are still|terminate)|taken back|public address",
    "registered_count": r"joined|not in the cluster|no cluster|active cluster",
    "cluster_machines": r"joined|not in the cluster|connection",
    "service": r"\d (containers?|pending)|no container|no service|service is set|desired|no longer run|still starting"
    r"|containers are starting|replacements? |workers are running",
    "stopped_tasks": r"exit code|OutOfMemory|workers die|ECS reports",
    "quota": r"quota|CPUs",
    "log_tail": r"log line",
    "paused_machines": r"paused|refuse",
    "is_closed": r"cost limit",
    "crash_lines": r"Killed",
}
_DEFAULTS = {field.name: field.default for field in fields(Evidence)}


def hide(evidence: Evidence, *parts: str) -> Evidence:
    """Return the evidence as it is if these parts cannot be looked up."""
    unknown = {part: _DEFAULTS[part] for part in parts}
    if "service" in parts:
        unknown["service_events"] = ()  # they are in the same answer
    if "registered_count" in parts:
        unknown["cluster_machines"] = ()
    return replace(evidence, **unknown, lookup_errors=dict.fromkeys(parts, DENIED))


def list_titles(evidence: Evidence) -> list[str]:
    return [cause.title for cause in rank_causes(evidence)]


@pytest.mark.parametrize("diagnose", DIAGNOSES)
def test_every_diagnosis_finds_something_in_the_runs_in_trouble(
    diagnose: Callable[[Evidence], Iterable[Cause]],
) -> None:
    assert [cause for evidence in TROUBLES for cause in diagnose(evidence)]


@pytest.mark.parametrize("part", CLAIMS)
def test_what_is_known_about_each_part_is_said_in_these_words(part: str) -> None:
    """Otherwise, the next test would prove nothing."""
    said = [f"{cause.title}: {cause.evidence}" for evidence in TROUBLES for cause in rank_causes(evidence)]
    assert part == "dead_letters" or any(re.search(CLAIMS[part], text) for text in said)


@pytest.mark.parametrize("part", CLAIMS)
@pytest.mark.parametrize("diagnose", DIAGNOSES)
def test_no_diagnosis_says_anything_about_a_part_that_could_not_be_looked_up(
    diagnose: Callable[[Evidence], Iterable[Cause]], part: str
) -> None:
    said = [f"{cause.title}: {cause.evidence}" for evidence in TROUBLES for cause in diagnose(hide(evidence, part))]
    assert [text for text in said if re.search(CLAIMS[part], text)] == []


def test_the_parts_are_all_that_can_be_looked_up() -> None:
    derived = {"at", "subject", "lookup_errors", "service_events"}
    assert set(CLAIMS) == {field.name for field in fields(Evidence)} - derived


@pytest.mark.parametrize("part", ["service", "registered_count", "fleet", "machines", "counts"])
def test_a_healthy_run_has_no_problem_if_a_part_of_it_is_unknown(part: str) -> None:
    evidence = hide(HEALTHY, part)
    assert list_titles(evidence) == []
    text = format_diagnosis(evidence, [], JobEvidence(), CommandLine())
    assert "no problems found in what could be looked up\n" in text


def test_if_everything_was_looked_up_the_absence_of_problems_is_not_qualified() -> None:
    assert format_diagnosis(HEALTHY, [], JobEvidence(), CommandLine()).endswith("\nno problems found")


@pytest.mark.parametrize("part", ["registered_count", "cluster_machines", "machines", "fleet"])
def test_a_container_without_room_is_explained_although_another_part_is_unknown(part: str) -> None:
    evidence = replace(HEALTHY, counts=QueueCounts(5, 1), service=ServiceState(2, 1, 0), service_events=(PLACEMENT,))
    (known,) = rank_causes(evidence)
    assert rank_causes(hide(evidence, part)) == [known]
    assert known.title == "no machine has enough free memory for a container"


def test_without_the_cluster_a_missing_machine_does_not_make_its_consequence_less_likely() -> None:
    evidence = replace(IDLE, service_events=(PLACEMENT,))
    assert rank_causes(hide(evidence, "registered_count"))[0].weight == rank_causes(evidence)[0].weight


@pytest.mark.parametrize("part", ["fleet", "registered_count"])
def test_a_new_machine_still_explains_why_a_container_has_no_room(part: str) -> None:
    evidence = replace(REPLACING, registered_count=1, service_events=(PLACEMENT,))
    assert "no machine has enough free memory for a container" not in list_titles(hide(evidence, part))


def test_without_the_service_a_replaced_machine_is_not_called_missing() -> None:
    evidence = replace(REPLACING, counts=QueueCounts(5, 2))
    assert "a machine was reclaimed; its replacement is starting" in list_titles(evidence)
    assert list_titles(hide(evidence, "service")) == []


def test_without_the_fleet_its_errors_explain_only_containers_that_are_missing() -> None:
    events = (CAPACITY, replace(CAPACITY, at=NOW - 3000))
    lacking = hide(replace(NO_MACHINE, fleet_events=events), "fleet")
    (cause,) = diagnose_fleet_errors(lacking)
    assert "no free machines" in cause.title
    assert "times" not in cause.evidence, "an old error may long be over"
    assert list(diagnose_fleet_errors(replace(lacking, service=ServiceState(2, 2, 0)))) == []
    assert list(diagnose_fleet_errors(hide(lacking, "fleet", "service"))) == []


def test_without_the_fleets_events_nobody_says_that_there_were_no_errors() -> None:
    (cause,) = rank_causes(hide(NO_MACHINE, "fleet_events"))
    assert (cause.title, cause.evidence) == ("EC2 has not started a machine yet", "requested 60 min ago")


def test_a_quota_that_is_too_small_is_named_without_the_machines_unless_the_fleet_has_some() -> None:
    title = "the account's quota is too small for one spot machine"
    evidence = hide(replace(NO_MACHINE, quota=QUOTA), "machines")
    assert title in list_titles(evidence)
    assert title not in list_titles(replace(evidence, fleet=FleetState("active", 3, ("i-1",))))


def test_a_failed_container_is_less_likely_to_matter_if_nobody_knows_how_many_run() -> None:
    evidence = replace(IDLE, stopped_tasks=(CRASH,))
    (known,), (unknown,) = rank_causes(evidence), rank_causes(hide(evidence, "service"))
    assert unknown.title == known.title
    assert unknown.weight == known.weight / 2


def test_without_the_fleet_the_advice_about_an_empty_queue_covers_both_cases() -> None:
    (cause,) = diagnose_empty_queue(hide(replace(IDLE, counts=QueueCounts(0, 0)), "fleet"))
    assert cause.remedy.startswith("if the fleet is still active, monitor ends the run")
    assert cause.steps == ("submitJob", "startCluster", "monitor")


def test_without_the_fleet_a_run_at_its_cost_limit_is_ended_before_the_next_one_starts() -> None:
    (cause,) = diagnose_cost_limit(hide(replace(IDLE, is_closed=True), "fleet"))
    assert cause.steps == ("monitor", "startCluster", "monitor")


def test_without_the_queue_failed_jobs_do_not_hide_what_keeps_the_others_from_running() -> None:
    failures = [FailedJob("job-1", NOW, "exit code 1", "program", 3, 1)]
    outcome = RunOutcome(
        None, JobCounts(done=3, failed=1), 0, failures, 1, groups=tuple(group_failures(failures))
    )  # fmt: skip
    evidence = replace(NO_MACHINE, fleet_events=(CAPACITY,))
    weights = [rank_causes(each, JobEvidence(outcome))[0].weight for each in (evidence, hide(evidence, "counts"))]
    assert weights == [100, 75]


def test_machines_that_were_reclaimed_together_are_counted_and_their_advice_is_in_the_plural() -> None:
    second = replace(RECLAIMED, id="i-4")
    reclaimed = replace(REPLACING, counts=QueueCounts(5, 2))
    (cause,) = rank_causes(replace(reclaimed, machines=(*REPLACING.machines, second)))
    assert cause.title == "2 machines were reclaimed; their replacements are starting"
    assert cause.remedy.startswith("wait: the fleet replaces them within minutes, and their jobs are run again; this")
    (cause,) = rank_causes(reclaimed)
    assert cause.title == "a machine was reclaimed; its replacement is starting"
    assert cause.remedy.startswith("wait: the fleet replaces it within minutes, and its jobs are run again; this")


def test_several_containers_of_one_reclaimed_machine_are_one_machine() -> None:
    evidence = replace(REPLACING, machines=(NEW_MACHINE,), stopped_tasks=(INTERRUPTED, replace(INTERRUPTED, at=NOW)))
    assert "a machine was reclaimed; its replacement is starting" in list_titles(evidence)
