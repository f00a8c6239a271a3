"""Tests for `run.py why`: the ranking of the causes, the calls that gather the evidence, and the output."""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, ProxyConnectionError, SSLError
from botocore.response import StreamingBody
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.core.aws_errors import (
    FLEET_FAILURE_PATTERNS,
    SERVICE_FAILURE_PATTERNS,
    TASK_FAILURE_PATTERNS,
    AWSEvent,
)
from distributed_something.core.errors import CloudError
from distributed_something.diagnose.why.cause import Cause
from distributed_something.diagnose.why.job_causes import JobEvidence, diagnose_failing_jobs
from distributed_something.diagnose.why.rank import rank_causes
from distributed_something.diagnose.why.view import build_diagnosis_json, format_diagnosis, format_run_status
from distributed_something.observe.containers import LogTail, PausedMachine
from distributed_something.observe.evidence import (
    ClusterMachine,
    DiagnosisSubject,
    Evidence,
    SpotQuota,
    build_subject_from_config,
    build_subject_from_run,
    gather_evidence,
    observe_active_subject,
)
from distributed_something.observe.machines import ObservedMachine, parse_machine
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.service import ServiceState, StoppedTask
from distributed_something.results.causes import group_failures
from distributed_something.results.command_line import RUN_COMMANDS, CommandLine
from distributed_something.results.job_counter import FailedJob, JobCounts
from distributed_something.results.job_source import JobSource
from distributed_something.results.next_batch import NextBatch
from distributed_something.results.outcome import RunOutcome
from distributed_something.results.status.advice_causes import AdviceCause
from distributed_something.results.status.advice_text import format_advice
from distributed_something.worker import ForeignResponseError
from tests.support.account import Account, emulate_account
from tests.support.fakes import MISSING_QUEUE, MONITOR_FILE, QUEUE_URL, RUN, SETTINGS, START, build_queue_counts
from tests.support.healthy_run import HEALTHY, IDLE, NO_MACHINE, NOW, RUNNING_MACHINE

SUBJECT = build_subject_from_run(MONITOR_FILE)


def find_first_cause(evidence: Evidence) -> Cause:
    causes = rank_causes(evidence)
    assert causes, "no cause was found"
    return causes[0]


def build_event(message: str, kind: str = "error", ago: float = 60) -> AWSEvent:
    return AWSEvent(NOW - ago, kind, message)


def build_stopped_task(
    message: str, *exit_codes: int, kind: str = "EssentialContainerExited", ago: float = 60
) -> StoppedTask:
    return StoppedTask(NOW - ago, kind, message, exit_codes)


def build_ended_machine(code: str, message: str) -> ObservedMachine:
    """Return a terminated machine with this end code and message."""
    reason = {"Code": code, "Message": message} if code else {}
    return parse_machine({"InstanceId": "i-1", "State": {"Name": "terminated"}, "StateReason": reason})


# Ranking


def test_a_healthy_run_has_no_problems() -> None:
    assert rank_causes(HEALTHY) == []
    assert "no problems found" in format_diagnosis(HEALTHY, [], JobEvidence(), CommandLine())


def test_the_last_jobs_of_a_run_do_not_count_as_a_problem() -> None:
    assert rank_causes(replace(HEALTHY, counts=QueueCounts(0, 1))) == []


def test_errors_of_a_fleet_that_has_all_its_machines_are_ignored() -> None:
    assert rank_causes(replace(HEALTHY, fleet_events=(build_event("InsufficientInstanceCapacity"),))) == []


def test_stopped_containers_are_ignored_once_all_containers_run_again() -> None:
    assert rank_causes(replace(HEALTHY, stopped_tasks=(build_stopped_task("OutOfMemoryError: killed"),))) == []


@pytest.mark.parametrize(
    ("evidence", "title", "remedy"),
    [
        (replace(IDLE, counts=None), "there is no queue", "setup"),
        (replace(IDLE, counts=QueueCounts(0, 0)), "there are no jobs", "submitJob"),
        (replace(IDLE, counts=QueueCounts(0, 0), dead_letters=21), "there are no jobs", "submitJob"),
        (
            replace(NO_MACHINE, subject=build_subject_from_config(SETTINGS), fleet=None),
            "no machines were requested",
            "startCluster",
        ),
        (replace(NO_MACHINE, fleet=None), "the fleet does not exist", "startCluster"),
        (replace(NO_MACHINE, fleet=FleetState("cancelled", 3, ())), "the fleet has ended", "startCluster"),
        (replace(NO_MACHINE, fleet=FleetState("active", 0, ())), "the fleet is set to run no machines", "monitor"),
        (replace(IDLE, service=None), "there is no service", "setup"),
        (replace(IDLE, service=ServiceState(0, 0, 0)), "the service is set to run no containers", "startCluster"),
        (replace(IDLE, registered_count=None, cluster_machines=()), "there is no cluster", "setup"),
        (NO_MACHINE, "EC2 has not started a machine yet", "wait"),
        (replace(IDLE, service=ServiceState(2, 0, 2)), "containers are starting", "wait"),
        (replace(IDLE, counts=QueueCounts(0, 7)), "all jobs are leased", "SQS_MESSAGE_VISIBILITY"),
    ],
)
def test_each_problem_is_ranked_first_if_it_is_the_only_one(evidence: Evidence, title: str, remedy: str) -> None:
    cause = find_first_cause(evidence)
    assert cause.title.startswith(title)
    assert remedy in " ".join([cause.remedy, *cause.steps])


def test_a_quota_of_zero_is_ranked_above_its_consequences() -> None:
    quota = SpotQuota("All Standard … Spot Instance Requests", "L-34B43A08", 0.0, 2)
    evidence = replace(
        NO_MACHINE, quota=quota, fleet_events=(build_event("MaxSpotInstanceCountExceeded: Max spot count exceeded"),)
    )
    cause = find_first_cause(evidence)
    assert cause.title == "the account's quota is too small for one spot machine"
    assert "L-34B43A08" in cause.remedy
    assert len(rank_causes(evidence)) > 1


def test_a_quota_for_exactly_one_machine_does_not_count_as_a_cause() -> None:
    enough = replace(NO_MACHINE, quota=SpotQuota("All Standard", "L-34B43A08", 2.0, 2))
    assert rank_causes(enough) == rank_causes(NO_MACHINE)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (build_event("", "spotInstanceCountLimitExceeded"), "quota"),
        (build_event("m5.large, ami-1: Max spot instance count exceeded (MaxSpotInstanceCountExceeded)"), "quota"),
        (build_event("VcpuLimitExceeded: You have requested more vCPU capacity"), "quota"),
        (
            build_event("InsufficientInstanceCapacity: no capacity", "launchSpecTemporarilyBlacklisted"),
            "no free machines",
        ),
        (
            build_event("Spot price in either … is less than Spot market price $0.0619", "launchSpecUnusable"),
            "MACHINE_PRICE",
        ),
        (build_event("SpotMaxPriceTooLow: Your Spot request price of 0.01 is lower"), "MACHINE_PRICE"),
        (build_event("InvalidSubnetID.NotFound: The subnet ID 'subnet-1' does not exist"), "a subnet"),
        (build_event("InvalidGroup.NotFound: The security group 'sg-1' does not exist"), "a security group"),
        (build_event("InvalidAMIID.NotFound: The image id '[ami-1]' does not exist"), "AMI"),
        (build_event("InvalidKeyPair.NotFound: The key pair 'x' does not exist"), "key pair"),
        (
            build_event(
                "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
            ),
            "instance profile",
        ),
        (build_event("(Service: AmazonEC2; Status Code: 403; Error Code: UnauthorizedOperation)"), "fleet's role"),
        (build_event("", "iamFleetRoleInvalid"), "fleet's role"),
        (build_event("InvalidParameterCombination: Network interfaces and security groups"), "contradict each other"),
        (
            build_event("Unsupported: Your requested instance type (m5.large) is not supported in us-east-1e"),
            "not offered",
        ),
        (build_event("", "allLaunchSpecsTemporarilyBlacklisted"), "rejected all of the fleet's launch specifications"),
        (build_event("InvalidBlockDeviceMapping: Volume of size 8GB is smaller than snapshot"), "disks"),
        (
            build_event("The provided credentials do not have permission to create the service-linked role"),
            "service-linked role",
        ),
        (build_event("something that nobody has seen"), "EC2 does not start machines"),
    ],
)
def test_each_fleet_event_is_explained_and_quoted(event: AWSEvent, text: str) -> None:
    cause = find_first_cause(replace(NO_MACHINE, fleet_events=(event,)))
    assert text in cause.title
    assert cause.remedy
    assert (event.message or event.kind)[:40] in cause.evidence


def test_repeated_events_become_one_cause_with_their_count() -> None:
    events = tuple(build_event("InsufficientInstanceCapacity", ago=60 + n) for n in range(50))
    (cause, *_) = rank_causes(replace(NO_MACHINE, fleet_events=events))
    assert cause.evidence.endswith("(50 times)")
    assert (
        sum("no free machines" in cause.title for cause in rank_causes(replace(NO_MACHINE, fleet_events=events))) == 1
    )


@pytest.mark.parametrize(
    ("assigns_addresses", "remedy"),
    [
        (False, "set ASSIGN_IP to 'True'"),
        (True, 'remove "AssociatePublicIpAddress": false from the Fleet file'),
    ],
)
def test_machines_that_have_not_joined_are_listed_with_the_likely_reason(assigns_addresses: bool, remedy: str) -> None:
    unjoined_machines = tuple(
        ObservedMachine(f"i-{n}", "running", NOW - 3000, has_public_address=False) for n in range(5)
    )
    fleet = FleetState("active", 5, tuple(machine.id for machine in unjoined_machines))
    cause = find_first_cause(
        replace(
            IDLE,
            fleet=fleet,
            machines=unjoined_machines,
            registered_count=0,
            cluster_machines=(),
            subject=replace(IDLE.subject, assigns_addresses=assigns_addresses),
        )
    )
    assert cause.title == "machines are running but have not joined the cluster"
    assert "5 machines (i-0, i-1, i-2 and 2 more)" in cause.evidence
    assert "5 without a public address" in cause.evidence
    assert cause.remedy.startswith(f"use a subnet with a NAT gateway, or {remedy}; run check with the Fleet file: ")
    assert assigns_addresses == ("ASSIGN_IP" not in cause.remedy)


def test_new_machines_are_reported_as_still_starting() -> None:
    new_machines = (ObservedMachine("i-1", "running", NOW - 60),)
    cause = find_first_cause(replace(IDLE, machines=new_machines, registered_count=0, cluster_machines=()))
    assert cause.title == "the machines are still starting"


def test_machines_beyond_the_first_100_of_a_cluster_do_not_count_as_missing() -> None:
    machines = tuple(ObservedMachine(f"i-{n}", "running", NOW - 3000) for n in range(300))
    cluster_machines = tuple(ClusterMachine(f"i-{n}", True, 1) for n in range(100))
    fleet = FleetState("active", 300, tuple(machine.id for machine in machines))
    assert (
        rank_causes(
            replace(HEALTHY, fleet=fleet, machines=machines, registered_count=300, cluster_machines=cluster_machines)
        )
        == []
    )


def test_disconnected_agents_are_reported_if_at_least_half_are_disconnected() -> None:
    disconnected, connected = ClusterMachine("i-1", False, 0), ClusterMachine("i-2", True, 0)
    assert "agent" in find_first_cause(replace(IDLE, cluster_machines=(disconnected,))).title
    assert "agent" in find_first_cause(replace(IDLE, cluster_machines=(disconnected, connected))).title
    assert not rank_causes(
        replace(HEALTHY, registered_count=3, cluster_machines=(disconnected, connected, replace(connected, id="i-3")))
    )


def test_machines_that_terminate_immediately_are_reported_with_ec2s_code() -> None:
    terminated = (build_ended_machine("Client.InternalError", "Client error on launch"),)
    assert "Client.InternalError" in find_first_cause(replace(NO_MACHINE, machines=terminated)).evidence


@pytest.mark.parametrize("code", ["Client.UserInitiatedShutdown", "Client.InstanceInitiatedShutdown", ""])
def test_machines_terminated_on_purpose_do_not_count_as_a_cause(code: str) -> None:
    assert rank_causes(replace(NO_MACHINE, machines=(build_ended_machine(code, "on request"),))) == rank_causes(
        NO_MACHINE
    )


def test_a_termination_is_classified_by_its_code_and_not_by_its_message() -> None:
    failed_machine = build_ended_machine(
        "Client.InvalidSnapshot.NotFound", "its disk, after a shutdown that was UserInitiated"
    )
    assert (
        find_first_cause(replace(NO_MACHINE, machines=(failed_machine,))).title
        == "machines terminate as soon as they start"
    )


def test_spot_interruptions_are_reported() -> None:
    terminated = (build_ended_machine("Server.SpotInstanceTermination", "Spot instance termination"),)
    assert find_first_cause(replace(NO_MACHINE, machines=terminated)).title == "AWS has taken back the spot machines"


RECLAIMED = replace(build_ended_machine("Server.SpotInstanceTermination", "Spot instance termination"), id="i-2")


@pytest.mark.parametrize(
    ("running", "joined", "machines"),
    [
        (1, 1, (RUNNING_MACHINE, RECLAIMED, ObservedMachine("i-3", "pending", NOW - 30))),
        (1, 2, (RUNNING_MACHINE, RECLAIMED, ObservedMachine("i-3", "running", NOW - 200))),
        (0, 1, (RECLAIMED, ObservedMachine("i-3", "running", NOW - 90))),
    ],
)
def test_a_reclaimed_machine_does_not_lead_to_advice_about_memory(
    running: int, joined: int, machines: tuple[ObservedMachine, ...]
) -> None:
    """Until its replacement has containers, ECS reports that the other machines have no memory left."""
    live = tuple(machine.id for machine in machines if machine.state != "terminated")
    events = (build_event(f"{PLACEMENT}The closest matching … has insufficient memory available.", "service"),)
    evidence = replace(
        HEALTHY, fleet=FleetState("active", len(live), live), machines=machines, registered_count=joined,
        service=ServiceState(len(live), running, 0), service_events=events,
    )  # fmt: skip
    assert find_first_cause(evidence).title == "a machine was reclaimed; its replacement is starting"
    assert not [cause for cause in rank_causes(evidence) if "MEMORY" in cause.remedy]
    # EC2 no longer lists the machine, but ECS still lists its container.
    forgotten = replace(
        evidence,
        machines=tuple(machine for machine in machines if machine is not RECLAIMED),
        stopped_tasks=(build_stopped_task("Host EC2 (instance i-2) is being interrupted.", kind="SpotInterruption"),),
    )
    assert find_first_cause(forgotten).title == "a machine was reclaimed; its replacement is starting"


def test_a_replaced_machine_is_not_mentioned_once_all_containers_run() -> None:
    machines = (RUNNING_MACHINE, RECLAIMED, ObservedMachine("i-3", "running", NOW - 200))
    fleet = FleetState("active", 2, ("i-1", "i-3"))
    assert rank_causes(replace(HEALTHY, fleet=fleet, machines=machines, registered_count=2)) == []


def test_containers_that_fit_on_no_machine_still_point_to_the_memory_after_an_interruption() -> None:
    """The machines have joined long ago, so they are not what is missing."""
    events = (build_event(f"{PLACEMENT}The closest matching … has insufficient memory available.", "service"),)
    evidence = replace(IDLE, machines=(RUNNING_MACHINE, RECLAIMED), service_events=events)
    assert "MEMORY" in find_first_cause(evidence).remedy


def test_no_advice_counts_on_jobs_in_a_queue_that_does_not_exist() -> None:
    """After cleanup has removed the queue, startCluster alone would be refused."""
    ended = replace(NO_MACHINE, counts=None, fleet=FleetState("cancelled", 3, ()), service=None, registered_count=None)
    assert {cause.steps for cause in rank_causes(ended)} == {RUN_COMMANDS}


@pytest.mark.parametrize(
    ("evidence", "steps"),
    [
        (replace(IDLE, counts=None, service=None, registered_count=None, fleet=None), RUN_COMMANDS),
        (replace(IDLE, counts=QueueCounts(0, 0), service=ServiceState(0, 0, 0), fleet=None), RUN_COMMANDS[1:]),
        (replace(IDLE, service=ServiceState(0, 0, 0), fleet=None), RUN_COMMANDS[2:]),
        (replace(IDLE, service=ServiceState(0, 0, 0)), RUN_COMMANDS[2:]),
        (replace(IDLE, service=None), ("setup", "startCluster", "monitor")),
    ],
)
def test_the_commands_that_are_still_missing_are_named_in_their_order_and_once(
    evidence: Evidence, steps: tuple[str, ...]
) -> None:
    causes = rank_causes(replace(evidence, machines=(), cluster_machines=()))
    text = format_diagnosis(evidence, causes, JobEvidence(), LINE)
    commands = [command.strip() for command in text.splitlines() if "python run.py" in command]
    assert commands == LINE.list_run_commands(steps)


# Failing jobs


LINE = CommandLine(
    ("--local",), monitor_file="monitor.json", fleet_file="fleet.json", job_file="job.json", has_image=False
)
RETRY = "python run.py --local retry monitor.json"


def build_outcome(*failures: FailedJob, done: int = 0, left: int = 0, failing: Sequence[FailedJob] = ()) -> RunOutcome:
    return RunOutcome(
        None, JobCounts(done=done, failed=len(failures)), left, list(failures), 1,
        groups=tuple(group_failures(failures)), failing=list(failing), failing_groups=tuple(group_failures(failing)),
    )  # fmt: skip


FAILURES = [
    FailedJob(f"job-{number}", NOW, "exit code 1", "program", 3, 1, telling_line="ValueError: no cells",
              log=f"s3://b/{number}.log")
    for number in range(5)
] + [
    FailedJob("job-8", NOW, "exit code 3", "program", 3, 3),
    FailedJob("job-9", NOW, "the program took too long", "time-out", 1, -15, time_limit_seconds=120),
]  # fmt: skip
ENDED = JobEvidence(build_outcome(*FAILURES, done=3), has_ended=True, is_regular=True)
REMOVED = replace(NO_MACHINE, counts=None, fleet=FleetState("cancelled", 0, ()), service=None, registered_count=None)


def test_failing_jobs_are_in_the_groups_of_status_with_an_example_and_the_command_that_runs_them_again() -> None:
    groups = group_failures(FAILURES)
    causes = list(diagnose_failing_jobs(JobEvidence(build_outcome(*FAILURES, done=3)), LINE))
    assert [cause.title for cause in causes] == [
        f"5 jobs failed ({groups[0].id}): exit code 1: ValueError: no cells",
        f"1 job failed ({groups[1].id}): {groups[1].cause}",
        f"1 job failed ({groups[2].id}): {groups[2].cause}",
    ]
    assert "timed out after 2 minutes" in {group.cause for group in groups}
    assert causes[0].evidence == "for example job-0: ValueError: no cells; log: s3://b/0.log"
    assert [cause.commands for cause in causes] == [(f"{RETRY} --only {group.id}",) for group in groups]
    assert causes[0].remedy == (
        "read the log; correct the command in job.json, the input files, or the program; once the run has ended, type:"
    )
    # The remedy of the second program is the same one.
    assert [cause.remedy for cause in causes if "exit code 3" in cause.title] == [""]


def test_the_command_sends_what_the_remedy_corrects() -> None:
    time, source = "20261123T104500.000Z", JobSource("job.json", job_files={"20261123T104500.000Z": "files/other.json"})
    sent = [replace(failed, submission=time) for failed in FAILURES[:5]]
    (cause,) = diagnose_failing_jobs(JobEvidence(build_outcome(*sent, done=3), source), LINE)
    (group,) = group_failures(sent)
    assert cause.remedy.startswith(
        "read the log; correct the command in files/other.json, the input files, or the program"
    )
    assert cause.commands == (f"{RETRY} --only {group.id} --with files/other.json",)
    scripted = [replace(failed, submission="") for failed in FAILURES[:5]]
    (cause,) = diagnose_failing_jobs(JobEvidence(build_outcome(*scripted, done=3), source), LINE)
    assert "correct the command in the messages that your script sends, the input files, or" in cause.remedy
    assert cause.commands == (f"{RETRY} --only {group.id}",)


def test_a_program_that_this_computer_lacks_may_be_in_a_path_that_the_local_cloud_does_not_know() -> None:
    jobs = JobEvidence(build_outcome(FailedJob("job-1", NOW, "exit code 127", "program", 3, 127)))
    hint = "if PATH has changed since the local cloud started, first type python run.py --local stop"
    (cause,) = diagnose_failing_jobs(jobs, LINE)
    assert f"install the program on this computer; {hint}" in cause.remedy
    (cause,) = diagnose_failing_jobs(jobs, replace(LINE, has_image=True))
    assert "install the program in the image" in cause.remedy
    assert "PATH" not in cause.remedy


def test_missing_inputs_are_uploaded_before_the_command_that_sends_their_jobs_again() -> None:
    reason, address = "the input s3://lab/in/a.tif does not exist (NoSuchKey)", "s3://lab/in/a.tif"
    failed = FailedJob("job-1", NOW, reason, "missing input", 1, missing_input=address)
    (cause,) = diagnose_failing_jobs(JobEvidence(build_outcome(failed, done=3), is_hopeless=True), LINE)
    assert cause.remedy == "upload the missing inputs; replace FILE with a path on your computer; type:"
    assert cause.commands[0] == "python run.py --local runScript aws s3 cp FILE s3://lab/in/a.tif"
    assert "retry" in cause.commands[1]


def test_after_a_run_its_failures_are_the_only_causes_and_the_advice_of_status_follows() -> None:
    causes = rank_causes(REMOVED, ENDED, LINE)
    assert [cause.title.split(" (")[0] for cause in causes] == ["5 jobs failed", "1 job failed", "1 job failed"]
    text = format_diagnosis(REMOVED, causes, ENDED, LINE)
    assert text.startswith(f"the run {RUN} has ended: 7 jobs failed\n")
    assert "no queue" not in text
    assert ENDED.advice is not None
    assert text.endswith(format_advice(ENDED.advice, LINE))
    lines = [line.strip() for line in text.splitlines() if "--only" in line or "→" in line]
    assert len(lines) == len(set(lines))


def test_failed_jobs_that_were_sent_again_only_need_machines() -> None:
    repeated = frozenset(failed.job for failed in FAILURES)
    jobs = replace(ENDED, batch=NextBatch(len(repeated), repeated))
    text = format_diagnosis(HEALTHY, rank_causes(HEALTHY, jobs, LINE), jobs, LINE)
    assert "sent again after this run" in text
    assert "run.py retry" not in text
    assert [line.split()[-2] for line in text.splitlines()[-2:]] == ["startCluster", "monitor"]


def test_after_a_run_in_which_every_job_is_done_there_is_no_problem() -> None:
    done = JobEvidence(build_outcome(done=3), has_ended=True, is_regular=True)
    assert rank_causes(REMOVED, done, LINE) == []
    assert format_diagnosis(REMOVED, [], done, LINE) == f"the run {RUN} has ended: every job is done"


def test_after_the_waiting_jobs_were_removed_nothing_is_left_to_do_for_them() -> None:
    gone = JobEvidence(build_outcome(), has_ended=True, is_regular=True, gone=90)
    assert rank_causes(REMOVED, gone, LINE) == []
    end = "90 jobs left in the queue; later commands removed or ran them"
    assert format_diagnosis(REMOVED, [], gone, LINE) == f"the run {RUN} has ended: {end}"
    failed = replace(gone, outcome=build_outcome(*FAILURES))
    assert f"has ended: {len(FAILURES)} jobs failed; {end}" in format_diagnosis(REMOVED, [], failed, LINE)


def test_jobs_of_the_next_run_in_the_queue_need_machines() -> None:
    causes = rank_causes(replace(REMOVED, counts=QueueCounts(9, 0), service=ServiceState(0, 0, 0)), ENDED, LINE)
    assert [cause.title for cause in causes[3:]] == [
        "the fleet has ended", "there is no cluster", "the service is set to run no containers",
    ]  # fmt: skip


HOPELESS = JobEvidence(build_outcome(failing=FAILURES[:5], left=90), has_ended=True, is_hopeless=True)


def test_if_nothing_worked_the_failed_attempts_come_first_and_not_the_fleet_that_ended() -> None:
    evidence = replace(IDLE, fleet=ENDED_FLEET, machines=(), service=ServiceState(0, 0, 0))
    (cause,) = rank_causes(evidence, HOPELESS, LINE)
    assert cause.title.startswith("5 jobs in the queue failed so far (F")
    text = format_diagnosis(evidence, [cause], HOPELESS, LINE)
    assert "next: python run.py --local submitJob job.json --replace\n" in text
    assert "retry" not in text.partition("next: ")[2]


def test_jobs_that_failed_and_jobs_that_still_fail_for_the_same_reason_are_one_cause() -> None:
    both = replace(HOPELESS, outcome=build_outcome(*FAILURES[:2], failing=FAILURES[2:5], left=90))
    (cause,) = rank_causes(IDLE, both, LINE)[:1]
    assert cause.title.startswith("2 jobs failed and 3 jobs in the queue failed so far (F")


def test_a_run_that_ended_at_its_cost_limit_has_its_failures_first_and_then_the_limit() -> None:
    evidence = replace(IDLE, fleet=ENDED_FLEET, machines=(), is_closed=True)
    jobs = JobEvidence(build_outcome(*FAILURES[:1], done=3, left=90), has_ended=True)
    titles = [cause.title for cause in rank_causes(evidence, jobs, LINE)]
    assert titles[0].startswith("1 job failed")
    assert titles[1] == "the run has reached its cost limit (MAX_COST)"


def test_if_machines_never_joined_the_advice_is_about_them_and_not_about_a_failed_job() -> None:
    """A job may have failed on the only machine that did join, before it was lost."""
    jobs = replace(HOPELESS, has_no_machine=True)
    assert jobs.advice is not None
    assert jobs.advice.cause is AdviceCause.NO_MACHINE
    evidence = replace(NO_MACHINE, fleet=FleetState("cancelled_terminating", 0, ()))
    assert "Correct the Fleet file" in format_diagnosis(evidence, rank_causes(evidence, jobs, LINE), jobs, LINE)


def test_if_no_container_worked_the_reason_is_the_only_cause() -> None:
    tasks = (build_stopped_task(EXITED, 1), build_stopped_task(EXITED, 1))
    evidence = replace(IDLE, fleet=ENDED_FLEET, machines=(), stopped_tasks=tasks)
    (cause,) = rank_causes(evidence, JobEvidence(build_outcome(left=9), has_ended=True, is_hopeless=True), LINE)
    assert "stops with an error" in cause.title


def test_while_no_job_has_succeeded_failures_come_first_and_then_only_after_other_problems() -> None:
    every, some = (JobEvidence(build_outcome(*FAILURES, done=n, left=9), is_hopeless=not n) for n in (0, 3))
    lowered = replace(IDLE, fleet=FleetState("active", 0, ()))
    assert "jobs failed" in rank_causes(lowered, every, LINE)[0].title
    assert rank_causes(lowered, some, LINE)[0].title == "the fleet is set to run no machines"
    assert len(rank_causes(HEALTHY, some, LINE)) == 3
    no_jobs_left = JobEvidence(build_outcome(*FAILURES, done=3))
    causes = rank_causes(replace(HEALTHY, counts=QueueCounts(0, 0)), no_jobs_left, LINE)
    assert ["failed" in cause.title for cause in causes] == [True, True, True, False]
    assert causes[-1].title == "there are no jobs"


def test_many_causes_are_cut_and_status_shows_the_others() -> None:
    failures = [FailedJob(f"job-{n}", NOW, "", "program", 1, n) for n in range(1, 15)]
    causes = rank_causes(HEALTHY, JobEvidence(build_outcome(*failures, done=1)), LINE)
    assert len(causes) == 4
    assert causes[-1].title == "11 jobs failed for 11 other causes"
    assert causes[-1].commands == ("python run.py --local status monitor.json",)


def test_with_many_causes_the_first_remedy_is_still_on_a_screen_of_24_lines() -> None:
    log, line = f"s3://b/{'k' * 60}.log", "ValueError: something is wrong with the image " + "x" * 20
    failures = [FailedJob(f"job-{n}", NOW, "r", "program", 1, n, telling_line=line, log=log) for n in range(1, 41)]
    jobs = JobEvidence(build_outcome(*failures, done=1, left=5))
    lines = format_diagnosis(HEALTHY, rank_causes(HEALTHY, jobs, LINE), jobs, LINE).splitlines()
    assert any("once the run has ended, type:" in text for text in lines[-23:])


PLACEMENT = (
    "(service AppService) was unable to place a task because no container instance met all of its requirements. "
)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            f"{PLACEMENT}The closest matching (container-instance 1) has insufficient memory available.",
            "enough free memory",
        ),
        (
            f"{PLACEMENT}The closest matching (container-instance 1) has insufficient CPU units available.",
            "enough free CPU",
        ),
        (
            f"{PLACEMENT}The closest matching container-instance 1 is missing an attribute required by your task.",
            "belong to another app",
        ),
        (f"{PLACEMENT}The closest matching container-instance 1 encountered error 'AGENT'.", "agent"),
        (PLACEMENT, "cannot find a machine"),
        ("(service AppService) failed to launch a task with (error ECS was unable to assume the role 'x')", "role"),
    ],
)
def test_each_service_event_is_explained(message: str, text: str) -> None:
    assert text in find_first_cause(replace(IDLE, service_events=(build_event(message, "service"),))).title


def test_missing_capacity_without_machines_is_ranked_below_its_cause() -> None:
    service_events = (build_event(f"{PLACEMENT}No Container Instances were found in your cluster.", "service"),)
    evidence = replace(NO_MACHINE, service_events=service_events, fleet_events=(build_event("SpotMaxPriceTooLow"),))
    assert "MACHINE_PRICE" in rank_causes(evidence)[0].title
    assert rank_causes(evidence)[-1].title == "no machine has joined the cluster"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("CannotPullContainerError: retried 5 time(s): docker.io/a/b:1: not found", "does not exist or is private"),
        ("CannotPullContainerError: pull access denied for a/b, repository does not exist", "or is private"),
        ("CannotPullContainerError: toomanyrequests: You have reached your pull rate limit", "Docker Hub's pull limit"),
        ("CannotPullContainerError: Error response from daemon: no basic auth credentials", "role is not allowed to"),
        ("CannotPullContainerError: dial tcp 1.2.3.4:443: i/o timeout", "cannot reach the registry"),
        ("CannotPullContainerError: no matching manifest for linux/arm64 in the manifest list", "processor type"),
        ("CannotPullContainerError: write /var/lib/docker: no space left on device", "disk"),
        ("CannotPullContainerError: something new", "cannot be pulled"),
        ("Essential container in task exited; OutOfMemoryError: Container killed due to memory usage", "memory"),
        ("CannotStartContainerError: failed to initialize logging driver: ResourceNotFoundException", "log"),
        ("CannotStartContainerError: exec /run-worker.sh: exec format error", "different processor type"),
        (
            'CannotStartContainerError: Error response from daemon: exec: "x": executable file not found in $PATH',
            "cannot start its program",
        ),
        ("CannotStartContainerError: something new", "cannot be started"),
    ],
)  # fmt: skip
def test_each_stop_reason_of_a_container_is_explained(message: str, text: str) -> None:
    cause = find_first_cause(replace(IDLE, stopped_tasks=(build_stopped_task(message),)))
    assert text in cause.title
    assert cause.remedy


EXITED = "Essential container in task exited"


@pytest.mark.parametrize(
    ("exit_code", "text"),
    [(0, "not this package's worker"), (137, "memory"), (2, "settings do not match"), (126, "cannot start its program"),
     (127, "cannot start its program"),
     (139, "segmentation fault"), (1, "stops with an error"), (12, "stops with an error"), (22, "stops with an error")],
)  # fmt: skip
def test_each_exit_code_of_a_container_is_explained(exit_code: int, text: str) -> None:
    cause = find_first_cause(replace(IDLE, stopped_tasks=(build_stopped_task(EXITED, exit_code),)))
    assert text in cause.title
    assert cause.evidence == f"EssentialContainerExited: {EXITED}; exit code {exit_code}; its log ends: a line"


def test_a_number_in_an_aws_message_is_not_treated_as_an_exit_code() -> None:
    evidence = replace(IDLE, stopped_tasks=(build_stopped_task("the health check ended with exit code 137", 2),))
    assert "settings do not match" in find_first_cause(evidence).title


@pytest.mark.parametrize(
    "task",
    [
        build_stopped_task("Scaling activity initiated by (deployment ecs-svc/1)", 143),
        build_stopped_task("Host EC2 (instance i-1) terminated."),
        build_stopped_task("Task was stopped by user", 137),
        build_stopped_task("Your Spot Task was interrupted: spot interruption", 137),
        build_stopped_task("on request", 137, kind="UserInitiated"),
        build_stopped_task("", 137, kind="SpotInterruption"),
    ],
)
def test_containers_stopped_on_purpose_do_not_count_as_a_cause(task: StoppedTask) -> None:
    assert rank_causes(replace(IDLE, stopped_tasks=(task,))) == rank_causes(IDLE)


def test_containers_that_stopped_hours_ago_are_ignored() -> None:
    assert rank_causes(replace(IDLE, stopped_tasks=(build_stopped_task(EXITED, 1, ago=3 * 3600),))) == rank_causes(IDLE)


def test_the_last_log_line_is_part_of_the_evidence_for_an_exit_code() -> None:
    evidence = replace(
        IDLE,
        stopped_tasks=(build_stopped_task(EXITED, 2),),
        log_tail=LogTail(NOW - 60, ("worker: AWS_BUCKET is missing",)),
    )
    assert "its log ends: worker: AWS_BUCKET is missing" in find_first_cause(evidence).evidence


def test_a_wrong_processor_type_is_recognized_in_the_log() -> None:
    evidence = replace(
        IDLE,
        stopped_tasks=(build_stopped_task(EXITED, 1),),
        log_tail=LogTail(NOW - 60, ("exec /usr/bin/python3: exec format error",)),
    )
    assert "different processor type" in find_first_cause(evidence).title


ENDED_FLEET = FleetState("cancelled", 0, ())


def test_if_the_containers_failed_before_the_fleet_ended_the_failure_comes_first() -> None:
    """A new fleet alone would fail in the same way."""
    tasks = (build_stopped_task(EXITED, 1), build_stopped_task(EXITED, 1), build_stopped_task("Scaling activity"))
    cause = find_first_cause(replace(IDLE, fleet=ENDED_FLEET, machines=(), stopped_tasks=tasks))
    assert "stops with an error" in cause.title
    assert cause.remedy.endswith("run setup; then type:")
    assert cause.list_commands(LINE) == [
        LINE.format_command("startCluster", LINE.fleet_file),
        *LINE.list_run_commands(["monitor"]),
    ]
    ended = JobEvidence(build_outcome(left=9), has_ended=True, is_hopeless=True)
    evidence = replace(IDLE, fleet=ENDED_FLEET, machines=(), stopped_tasks=tasks)
    text = format_diagnosis(evidence, rank_causes(evidence, ended, LINE), ended, LINE)
    assert text.count("startCluster") == 1, "the commands are those of status, once"
    commands = re.findall(r"--local (\w+)", text.partition("next: ")[2])
    assert commands == ["setup", "startCluster", "monitor"]


@pytest.mark.parametrize("fleet", [ENDED_FLEET, None])
def test_an_image_without_a_worker_comes_before_the_fleet_that_ended(fleet: FleetState | None) -> None:
    tasks = (build_stopped_task(EXITED, 0), build_stopped_task(EXITED, 0))
    evidence = replace(IDLE, fleet=fleet, machines=(), stopped_tasks=tasks, log_tail=None)
    cause = find_first_cause(evidence)
    assert "not this package's worker" in cause.title
    assert "exit code 0" in cause.evidence
    assert "worker/Dockerfile" in cause.remedy


def test_workers_that_die_again_and_again_are_named_although_ecs_replaces_them() -> None:
    tasks = (build_stopped_task(EXITED, 3), build_stopped_task(EXITED, 3))
    evidence = replace(HEALTHY, stopped_tasks=tasks, crash_lines=("start a", "native code: abort"))
    (cause,) = rank_causes(evidence)
    assert cause.title == "workers die while they run jobs"
    assert cause.evidence.endswith("exit code 3 (2 times); its log ends: native code: abort")
    assert "generic-worker.py" in cause.remedy
    assert rank_causes(replace(evidence, stopped_tasks=(build_stopped_task("Scaling activity", 143),) * 2)) == []


def test_a_corrected_worker_is_built_for_containers_and_pushed_only_if_machines_pull_it() -> None:
    tasks = (build_stopped_task(EXITED, 3), build_stopped_task(EXITED, 3))
    evidence = replace(HEALTHY, stopped_tasks=tasks)
    here = replace(LINE, is_pushed=False)
    lines = (CommandLine(), replace(here, has_image=True), here)
    remedies = [rank_causes(evidence, None, line)[0].remedy for line in lines]
    assert ["buildImage --push" in remedy for remedy in remedies] == [True, False, False]
    assert ["(buildImage)" in remedy for remedy in remedies] == [False, True, False]


def test_a_single_failed_container_does_not_explain_why_a_fleet_has_ended() -> None:
    tasks = (build_stopped_task(EXITED, 1), build_stopped_task("Scaling activity"))
    evidence = replace(IDLE, fleet=ENDED_FLEET, machines=(), stopped_tasks=tasks)
    assert find_first_cause(evidence).title == "the fleet has ended"


PAUSED = replace(
    HEALTHY,
    counts=QueueCounts(100, 0),
    paused_machines=(PausedMachine("i-1", "5 jobs failed one after the other", NOW - 60),),
)


def test_paused_machines_are_reported_with_their_reason() -> None:
    cause = find_first_cause(PAUSED)
    assert cause.title == "machines have paused because several jobs failed in a row"
    assert cause.evidence == "i-1: 5 jobs failed one after the other"
    assert "EBS_VOL_SIZE" not in cause.remedy
    full = replace(PAUSED, paused_machines=(PausedMachine("i-1", "the disk is full"),))
    assert find_first_cause(full).title == "machines have paused because their disk is full"
    assert "EBS_VOL_SIZE" in find_first_cause(full).remedy


@pytest.mark.parametrize(
    ("failed", "correction", "command"),
    [
        (FailedJob("a", NOW, "no program", "program", 1, 127), "correct the command", "submitJob job.json --replace"),
        (FailedJob("a", NOW, "", "out of memory", 1), "raise MEMORY", "setup"),
        (FailedJob("a", NOW, "", "disk", 1), "raise EBS_VOL_SIZE", ""),
    ],
)  # fmt: skip
def test_the_advice_for_paused_machines_follows_the_failures_that_paused_them(
    failed: FailedJob, correction: str, command: str
) -> None:
    jobs = JobEvidence(build_outcome(failing=[failed], left=90), is_hopeless=True, has_pauses=True)
    first, second = rank_causes(PAUSED, jobs, LINE)[:2]
    assert first.remedy.startswith(correction)
    assert first.commands == ((f"python run.py --local {command}",) if command else ())
    assert second.title.startswith("machines have paused")


def test_failed_attempts_are_named_while_machines_pause_although_other_jobs_are_done() -> None:
    jobs = JobEvidence(build_outcome(failing=FAILURES[:5], done=3, left=90))
    assert len(rank_causes(PAUSED, jobs, LINE)) == len(rank_causes(PAUSED))
    titles = [cause.title for cause in rank_causes(PAUSED, replace(jobs, has_pauses=True), LINE)]
    assert titles[0].startswith("machines have paused")
    assert any(title.startswith("5 jobs in the queue failed so far") for title in titles)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ProxyConnectionError(proxy_url="http://proxy", error="refused"), "correct HTTPS_PROXY"),
        (SSLError(endpoint_url="https://sqs", error="self-signed"), "set AWS_CA_BUNDLE"),
        (ForeignResponseError(operation="GetQueueUrl", problem="is a redirect"), "something other than AWS answered"),
    ],
)
def test_what_makes_every_lookup_fail_is_said_once_with_its_advice(error: Exception, advice: str) -> None:
    with emulate_account(dict(RESPONSES)) as aws:
        aws.responses["sqs.GetQueueUrl"] = error
        with pytest.raises(CloudError, match=advice):
            gather_evidence(aws.clients, SUBJECT, NOW)


def test_a_part_that_could_not_be_looked_up_comes_with_advice() -> None:
    with emulate_account(dict(RESPONSES)) as aws:
        aws.refuse_call("ecs.DescribeServices", "ThrottlingException", "slow down")
        evidence = gather_evidence(aws.clients, SUBJECT, NOW)
    assert evidence.lookup_errors["service"].startswith("ThrottlingException: slow down — AWS limits how often")


def test_refused_protection_is_named_with_its_remedy_and_not_blamed_on_the_queues_rights() -> None:
    refused = tuple(PausedMachine("i-1", f"ECS refuses: {code}", None, code, NOW) for code in ("AccessDenied", "X"))
    for paused, remedy in zip(refused, ("run setupAWS", "wait: "), strict=True):
        evidence = replace(HEALTHY, counts=QueueCounts(96, 0), log_tail=None, paused_machines=(paused,))
        (cause,) = rank_causes(evidence)
        assert cause.title == "containers take no jobs, because ECS refuses to protect them from scale-in"
        assert cause.evidence == f"i-1: ECS refuses: {paused.protection}"
        assert cause.remedy.startswith(remedy)


def test_the_pause_of_a_terminated_machine_is_ignored() -> None:
    assert rank_causes(replace(HEALTHY, paused_machines=(PausedMachine("i-gone", "the disk is full"),))) == []


def test_silent_workers_that_take_no_jobs_are_reported() -> None:
    for log_tail in (None, LogTail(NOW - 7200, ())):
        assert (
            find_first_cause(replace(HEALTHY, counts=QueueCounts(100, 0), log_tail=log_tail)).title
            == "workers are running but take no jobs"
        )


# Properties that hold for all evidence

text = st.text(max_size=40)
events = st.builds(
    AWSEvent,
    at=st.floats(0, NOW),
    kind=text,
    message=text
    | st.sampled_from(
        [
            pattern.pattern
            for table in (FLEET_FAILURE_PATTERNS, SERVICE_FAILURE_PATTERNS, TASK_FAILURE_PATTERNS)
            for pattern in table
        ]
    ),
)
event_lists = st.lists(events, max_size=5).map(tuple)
tasks = st.builds(StoppedTask, st.floats(0, NOW), text, text, st.lists(st.integers(1, 255), max_size=2).map(tuple))
task_lists = st.lists(tasks, max_size=5).map(tuple)
small = st.integers(0, 5)
ids = st.sampled_from(["i-1", "i-2", "i-3", "i-4"])
evidence_strategy = st.builds(
    Evidence,
    at=st.just(NOW),
    subject=st.sampled_from([SUBJECT, build_subject_from_config(SETTINGS)]),
    counts=st.none() | st.builds(QueueCounts, small, small),
    dead_letters=small,
    fleet=st.none()
    | st.builds(
        FleetState, st.sampled_from(["active", "cancelled", "failed"]), small, st.lists(ids, unique=True).map(tuple)
    ),
    fleet_events=event_lists,
    machines=st.lists(
        st.builds(
            ObservedMachine,
            ids,
            st.sampled_from(["pending", "running", "terminated"]),
            st.floats(0, NOW),
            text,
            st.booleans(),
            text,
            text,
        ),
        max_size=4,
    ).map(tuple),
    registered_count=st.none() | small,
    cluster_machines=st.lists(st.builds(ClusterMachine, ids, st.booleans(), small), max_size=4).map(tuple),
    service=st.none() | st.builds(ServiceState, small, small, small),
    service_events=event_lists,
    stopped_tasks=task_lists,
    quota=st.none() | st.builds(SpotQuota, text, text, st.floats(0, 100), small),
    log_tail=st.none() | st.builds(LogTail, st.floats(0, NOW), st.lists(text, max_size=2).map(tuple)),
    paused_machines=st.lists(st.builds(PausedMachine, text, text), max_size=2).map(tuple),
    lookup_errors=st.dictionaries(
        st.sampled_from(["counts", "fleet", "cluster_machines", "log_tail", "service"]), text
    ),
)


@given(evidence_strategy)
def test_causes_are_ordered_by_weight_and_have_evidence_and_a_remedy(evidence: Evidence) -> None:
    causes = rank_causes(evidence)
    weights = [cause.weight for cause in causes]
    assert weights == sorted(weights, reverse=True)
    assert all(0 < cause.weight <= 100 and cause.title and cause.evidence and cause.remedy for cause in causes)
    assert causes == rank_causes(evidence)


@given(evidence_strategy)
def test_every_diagnosis_can_be_formatted_as_text_and_json(evidence: Evidence) -> None:
    causes = rank_causes(evidence)
    assert format_diagnosis(evidence, causes, JobEvidence(), LINE)
    assert len(json.loads(build_diagnosis_json(evidence, causes, JobEvidence(), LINE))["causes"]) == len(causes)


def test_json_keys_do_not_depend_on_attribute_names() -> None:
    """Scripts read the output of `why --json`, so its keys must never change."""
    fleet_event = build_event("no capacity")
    full_evidence = replace(
        HEALTHY, fleet_events=(fleet_event,), quota=SpotQuota("All Standard", "L-34B43A08", 0.0, 2),
        lookup_errors={"log_tail": "needs logs:GetLogEvents", "fleet": "no"},
    )  # fmt: skip
    cause = Cause(1, "title", "evidence", "remedy", ("a command",), ("monitor",))
    document = json.loads(build_diagnosis_json(full_evidence, [cause], JobEvidence(), LINE))
    commands = ["a command", "python run.py --local monitor monitor.json"]
    texts = {"what": "title", "seen": "evidence", "remedy": "remedy"}
    assert document["causes"] == [{"weight": 1, **texts, "commands": commands}]
    assert document["next"] == []
    evidence = document["evidence"]
    assert set(evidence) == {
        "at", "subject", "counts", "dead", "fleet", "events", "machines", "registered", "joined", "service", "told",
        "stopped", "quota", "logged", "paused", "closed", "crash_lines", "unseen",
    }  # fmt: skip
    assert set(evidence["subject"]) == {
        "app", "cluster", "service", "queue", "bucket", "log_group", "fleet", "start", "run", "unfound",
        "assigns_addresses",
    }  # fmt: skip
    assert set(evidence["machines"][0]) == {
        "id", "state", "launched", "kind", "public", "why_ended", "end_code", "zone", "spot", "ended",
    }  # fmt: skip
    assert set(evidence["joined"][0]) == {"id", "connected", "tasks"}
    assert set(evidence["quota"]) == {"name", "code", "value", "least"}
    assert set(evidence["events"][0]) == {"at", "kind", "said"}
    assert evidence["unseen"] == {"logged": "needs logs:GetLogEvents", "fleet": "no"}


@given(evidence_strategy)
def test_a_resource_that_could_not_be_looked_up_is_never_reported_as_missing(evidence: Evidence) -> None:
    lookup_errors = dict.fromkeys(
        ["counts", "fleet", "service", "registered_count", "cluster_machines", "machines"], "no"
    )
    missing_parts: dict[str, Any] = {
        "counts": None,
        "fleet": None,
        "service": None,
        "registered_count": None,
        "cluster_machines": (),
    }
    unobserved = replace(evidence, **missing_parts, subject=SUBJECT, lookup_errors=lookup_errors)
    titles = {cause.title for cause in rank_causes(unobserved)}
    assert not titles & {"there is no queue", "the fleet does not exist", "there is no service", "there is no cluster"}


@given(event_lists, task_lists)
def test_a_missing_queue_is_ranked_above_all_other_causes(fleet_events: Any, stopped_tasks: Any) -> None:
    evidence = replace(NO_MACHINE, counts=None, fleet_events=fleet_events, stopped_tasks=stopped_tasks)
    assert find_first_cause(evidence).title == "there is no queue"


def test_a_run_at_its_cost_limit_is_reported() -> None:
    closing = replace(HEALTHY, is_closed=True, counts=QueueCounts(9, 1), fleet=FleetState("active", 0, ("i-1",)),
                     service=ServiceState(0, 1, 0))  # fmt: skip
    assert find_first_cause(closing).title == "the run has reached its cost limit (MAX_COST)"
    ended = replace(closing, fleet=FleetState("cancelled_terminating", 0, ()))
    assert find_first_cause(ended).title == "the run has reached its cost limit (MAX_COST)"
    assert find_first_cause(ended).steps == ("startCluster", "monitor")


def test_the_remedy_for_a_fleet_with_a_target_of_zero_is_monitor() -> None:
    causes = rank_causes(replace(IDLE, fleet=FleetState("active", 0, ()), service=ServiceState(0, 0, 0)))
    assert causes[0].title == "the fleet is set to run no machines"
    assert causes[0].steps == ("monitor",)
    assert "the service is set to run no containers" not in {cause.title for cause in causes}


def test_the_status_line_distinguishes_unknown_parts_from_missing_parts() -> None:
    missing_parts = Evidence(
        NOW,
        SUBJECT,
        lookup_errors=dict.fromkeys(["counts", "fleet", "registered_count", "service"], "needs a permission"),
    )
    assert format_run_status(missing_parts) == "jobs unknown  machines unknown  joined unknown  containers unknown"
    assert format_run_status(Evidence(NOW, SUBJECT)) == "no queue  no fleet  no cluster  no service"


# Gathering the evidence

AT = datetime.fromtimestamp(NOW - 60, UTC)
ARN = "arn:aws:ecs:us-east-1:123456789012:"
FLEET_ID = MONITOR_FILE.MONITOR_FLEET_ID
HISTORY: list[dict[str, Any]] = [
    {"EventType": "error", "Timestamp": AT, "EventInformation": {
        "EventSubType": "spotInstanceCountLimitExceeded", "EventDescription": "too many"}},
    {"EventType": "information", "Timestamp": AT, "EventInformation": {"EventSubType": "launchSpecUnusable"}},
]  # fmt: skip
RESPONSES: dict[str, Any] = {
    "sqs.GetQueueUrl": {"QueueUrl": QUEUE_URL},
    "sqs.GetQueueAttributes": {"Attributes": build_queue_counts(9, 1) | {
        "RedrivePolicy": json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:AppDead"})}},
    "ecs.DescribeServices": {"services": [
        {"serviceName": "AppService", "status": "ACTIVE", "desiredCount": 6, "runningCount": 0, "pendingCount": 1,
         "events": [{"createdAt": AT, "message": PLACEMENT}]}]},
    "ecs.ListTasks": {"taskArns": [f"{ARN}task/1"]},
    "ecs.DescribeTasks": {"tasks": [
        {"stoppedAt": AT, "stopCode": "TaskFailedToStart", "stoppedReason": "Essential container in task exited",
         "containers": [{"exitCode": 2, "reason": "because"}, {"exitCode": 0}]}]},
    "ecs.DescribeClusters": {"clusters": [
        {"clusterName": "app-cluster", "status": "ACTIVE", "registeredContainerInstancesCount": 1}]},
    "ecs.ListContainerInstances": {"containerInstanceArns": [f"{ARN}container-instance/1"]},
    "ecs.DescribeContainerInstances": {"containerInstances": [
        {"ec2InstanceId": "i-1", "containerInstanceArn": f"{ARN}container-instance/1", "status": "ACTIVE",
         "agentConnected": True, "runningTasksCount": 2}]},
    "logs.DescribeLogStreams": {"logStreams": [
        {"logStreamName": "i-1-usage", "lastEventTimestamp": int(NOW * 1000) - 5000},
        {"logStreamName": "App/App/1", "lastEventTimestamp": int(NOW * 1000) - 9000}]},
    "logs.GetLogEvents": {"events": [{"timestamp": 1, "message": "worker: no\n"}]},
    "ec2.DescribeSpotFleetRequests": {"SpotFleetRequestConfigs": [
        {"SpotFleetRequestId": FLEET_ID, "SpotFleetRequestState": "active", "SpotFleetRequestConfig": {
            "IamFleetRole": "arn:role", "TargetCapacity": 3,
            "LaunchTemplateConfigs": [
                {"Overrides": [{"InstanceType": "m5.large"}, {"InstanceType": "g5.xlarge"}]}]}}]},
    "ec2.DescribeSpotFleetInstances": {"ActiveInstances": [{"InstanceId": "i-1"}]},
    "ec2.DescribeSpotFleetRequestHistory": lambda parameters: {"HistoryRecords": [record for record in HISTORY
        if record["EventType"] == parameters["EventType"]]},
    "ec2.DescribeInstances": {"Reservations": [{"Instances": [
        {"InstanceId": "i-1", "State": {"Name": "running"}, "LaunchTime": AT, "InstanceType": "m5.large"},
        {"InstanceId": "i-0", "State": {"Name": "terminated"}, "LaunchTime": datetime.fromtimestamp(START - 9, UTC)},
    ]}]},
    "ec2.DescribeInstanceTypes": {"InstanceTypes": [
        {"InstanceType": "g5.xlarge", "VCpuInfo": {"DefaultVCpus": 4}, "MemoryInfo": {"SizeInMiB": 16384}}]},
    "service-quotas.GetServiceQuota": {"Quota": {"Value": 0.0}},
    "s3.ListObjectsV2": {"Contents": [{"Key": f"runs/App/{RUN}/machines/i-1-c.json", "LastModified": AT}]},
    "s3.HeadObject": ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadObject"),
    "s3.GetObject": lambda parameters: {"Body": build_body(
        {"state": "paused", "machine": "i-1", "container": "c", "reason": "the disk is full"})},
}  # fmt: skip


def build_body(document: object) -> StreamingBody:
    data = json.dumps(document).encode()
    return StreamingBody(io.BytesIO(data), len(data))


@pytest.fixture
def aws() -> Iterator[Account]:
    with emulate_account(copy.deepcopy(RESPONSES)) as prepared_account:
        yield prepared_account


def gather(aws: Account, subject: DiagnosisSubject = SUBJECT) -> Evidence:
    return gather_evidence(aws.clients, subject, NOW)


def test_the_evidence_contains_every_part_of_a_run(aws: Account) -> None:
    evidence = gather(aws)
    assert evidence.lookup_errors == {}
    assert (evidence.counts, evidence.dead_letters) == (QueueCounts(9, 1), 10)
    assert evidence.service == ServiceState(6, 0, 1)
    assert evidence.service_events == (AWSEvent(NOW - 60, "service", PLACEMENT),)
    assert evidence.stopped_tasks == (StoppedTask(NOW - 60, "TaskFailedToStart", f"{EXITED}; because", (2,)),)
    assert (evidence.registered_count, evidence.cluster_machines) == (1, (ClusterMachine("i-1", True, 2),))
    assert evidence.log_tail == LogTail(NOW - 5, ("worker: no",))
    assert evidence.fleet is not None
    assert (evidence.fleet.state, evidence.fleet.target, evidence.fleet.machines) == ("active", 3, ("i-1",))
    assert [event.kind for event in evidence.fleet_events] == ["spotInstanceCountLimitExceeded", "launchSpecUnusable"]
    assert [machine.id for machine in evidence.machines] == ["i-1"]  # the other machine is from an earlier run
    assert evidence.quota == SpotQuota("All G and VT Spot Instance Requests", "L-3819A6DF", 0.0, 4)
    assert evidence.paused_machines == (PausedMachine("i-1", "the disk is full"),)
    assert not evidence.is_closed


def test_the_evidence_shows_that_the_run_is_closed(aws: Account) -> None:
    aws.responses["s3.HeadObject"] = {}
    assert gather(aws).is_closed
    assert aws.get_parameters("s3.HeadObject") == {"Bucket": "app-bucket", "Key": f"runs/App/{RUN}/closed.json"}


def test_the_evidence_needs_at_most_25_calls_with_exactly_these_parameters(aws: Account) -> None:
    gather(aws)
    assert len(aws.calls) <= 25
    assert aws.get_parameters("ecs.ListTasks") == {
        "cluster": "app-cluster", "serviceName": "AppService", "desiredStatus": "STOPPED", "maxResults": 100,
    }  # fmt: skip
    assert aws.get_parameters("ecs.ListContainerInstances") == {"cluster": "app-cluster", "maxResults": 100}
    assert aws.get_parameters("ec2.DescribeInstances") == {
        "Filters": [{"Name": "tag:app", "Values": ["App"]}], "MaxResults": 1000,
    }  # fmt: skip
    assert aws.get_parameters("logs.DescribeLogStreams") == {
        "logGroupName": "AppLogs_perInstance", "orderBy": "LastEventTime", "descending": True, "limit": 50,
    }  # fmt: skip
    streams = {parameters["logStreamName"] for name, parameters in aws.requests if name == "logs.GetLogEvents"}
    assert "App/App/1" in streams
    assert aws.get_parameters("s3.ListObjectsV2") == {"Bucket": "app-bucket", "Prefix": f"runs/App/{RUN}/machines/"}


def test_machines_after_an_empty_page_are_listed(aws: Account) -> None:
    """EC2 may return an empty page although more pages follow."""
    described = aws.responses["ec2.DescribeInstances"]
    empty: dict[str, Any] = {"Reservations": [], "NextToken": "more"}
    aws.responses["ec2.DescribeInstances"] = lambda parameters: described if "NextToken" in parameters else empty
    assert gather(aws).machines


def test_gathering_evidence_makes_only_read_calls(aws: Account) -> None:
    gather(aws)
    assert {call.partition(".")[2][:4] for call in aws.calls} <= {
        "GetQ",
        "Desc",
        "List",
        "GetL",
        "GetS",
        "GetO",
        "Head",
    }


def test_without_a_run_no_fleet_is_looked_up(aws: Account) -> None:
    evidence = gather(aws, build_subject_from_config(SETTINGS))
    assert not any(call.startswith("ec2.") for call in aws.calls)
    assert rank_causes(evidence)[0].title == "no machines were requested"


@pytest.mark.parametrize("call", sorted(RESPONSES))
def test_a_denied_lookup_is_reported_and_does_not_stop_the_others(aws: Account, call: str) -> None:
    aws.refuse_call(call, "AccessDenied", "You are not authorized to perform this operation.")
    evidence = gather(aws)
    assert 1 <= len(evidence.lookup_errors) <= 2
    assert all(reason.startswith("needs ") for reason in evidence.lookup_errors.values())
    output = format_diagnosis(evidence, rank_causes(evidence), JobEvidence(), LINE)
    assert "not checked" in output


def test_an_empty_account_yields_causes_instead_of_errors(aws: Account) -> None:
    aws.refuse_call("sqs.GetQueueUrl", MISSING_QUEUE)
    aws.refuse_call("ecs.DescribeServices", "ClusterNotFoundException")
    aws.refuse_call("ecs.ListTasks", "ClusterNotFoundException")
    aws.responses["ecs.DescribeClusters"] = {"clusters": []}
    aws.refuse_call("logs.DescribeLogStreams", "ResourceNotFoundException")
    aws.refuse_call("ec2.DescribeSpotFleetRequests", "InvalidSpotFleetRequestId.NotFound")
    aws.refuse_call("ec2.DescribeSpotFleetRequestHistory", "InvalidSpotFleetRequestId.NotFound")
    aws.responses["ec2.DescribeInstances"] = {"Reservations": []}
    aws.responses["s3.ListObjectsV2"] = {}
    evidence = gather(aws)
    assert [cause.title for cause in rank_causes(evidence)][:4] == [
        "there is no queue", "the fleet does not exist", "there is no cluster", "there is no service",
    ]  # fmt: skip
    assert "ecs.ListContainerInstances" not in aws.calls


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"state": "working"}', b"\xff"])
def test_an_invalid_pause_document_is_ignored(aws: Account, content: bytes) -> None:
    aws.responses["s3.GetObject"] = lambda parameters: {"Body": StreamingBody(io.BytesIO(content), len(content))}
    assert gather(aws).paused_machines == ()


def test_a_run_without_a_monitor_file_is_found_by_its_fleets_tags(aws: Account) -> None:
    config = aws.responses["ec2.DescribeSpotFleetRequests"]["SpotFleetRequestConfigs"][0]
    tags = [{"Key": "app", "Value": "App"}, {"Key": "run", "Value": RUN}]
    config |= {
        "Tags": tags,
        "CreateTime": datetime.fromtimestamp(START + 4, UTC),
    }  # EC2 creates the fleet a few seconds after the run starts
    subject = observe_active_subject(aws.clients, SETTINGS)
    assert (subject.fleet, subject.start, subject.run) == (FLEET_ID, START, RUN)
    assert replace(subject, start=SUBJECT.start) == replace(SUBJECT, assigns_addresses=SETTINGS.ASSIGN_IP)


def test_without_permission_to_list_fleets_the_config_is_used(aws: Account) -> None:
    aws.refuse_call("ec2.DescribeSpotFleetRequests", "UnauthorizedOperation")
    subject = observe_active_subject(aws.clients, SETTINGS)
    assert subject == replace(build_subject_from_config(SETTINGS), fleet_error="needs ec2:DescribeSpotFleetRequests")
    causes = rank_causes(gather(aws, subject))
    assert "no machines were requested" not in [cause.title for cause in causes]


def test_the_text_fits_in_80_columns_and_starts_with_the_most_likely_cause(aws: Account) -> None:
    evidence = gather(aws)
    output = format_diagnosis(evidence, rank_causes(evidence), JobEvidence(), LINE)
    assert max(len(line) for line in output.splitlines()) <= 80
    assert output.splitlines()[2].startswith("most likely  ")
