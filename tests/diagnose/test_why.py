"""`run.py why`: which cause comes first in which plight, and what is looked at to find it."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
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
from distributed_something.diagnose.why.cause import Cause
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
from tests.support.account import Account, account
from tests.support.fakes import MISSING_QUEUE, MONITOR_FILE, QUEUE_URL, RUN, SETTINGS, START

NOW = START + 3600
SUBJECT = build_subject_from_run(MONITOR_FILE)
UP = ObservedMachine("i-1", "running", NOW - 3000)
HEALTHY = Evidence(
    at=NOW,
    subject=SUBJECT,
    counts=QueueCounts(100, 4),
    fleet=FleetState("active", 1, ("i-1",)),
    machines=(UP,),
    registered=1,
    joined=(ClusterMachine("i-1", True, 2),),
    service=ServiceState(2, 2, 0),
    logged=LogTail(NOW - 30, ("a line",)),
)
IDLE = replace(HEALTHY, counts=QueueCounts(100, 0), service=ServiceState(2, 0, 0))
NO_MACHINE = replace(IDLE, fleet=FleetState("active", 3, ()), machines=(), registered=0, joined=())


def first(e: Evidence) -> Cause:
    causes = rank_causes(e)
    assert causes, "no cause was found"
    return causes[0]


def error(said: str, kind: str = "error", ago: float = 60) -> AWSEvent:
    return AWSEvent(NOW - ago, kind, said)


def stopped(said: str, *exit_codes: int, kind: str = "EssentialContainerExited", ago: float = 60) -> StoppedTask:
    return StoppedTask(NOW - ago, kind, said, exit_codes)


def ended(code: str, message: str) -> ObservedMachine:
    """A machine that EC2 ended with this code, as `observe` reads it."""
    reason = {"Code": code, "Message": message} if code else {}
    return parse_machine({"InstanceId": "i-1", "State": {"Name": "terminated"}, "StateReason": reason})


# What comes first


def test_a_run_that_goes_has_nothing_wrong() -> None:
    assert rank_causes(HEALTHY) == []
    assert "nothing is wrong that I can see" in format_diagnosis(HEALTHY, [])


def test_the_tail_of_a_run_has_nothing_wrong() -> None:
    assert rank_causes(replace(HEALTHY, counts=QueueCounts(0, 1))) == []


def test_old_troubles_of_a_fleet_that_has_its_machines_are_past() -> None:
    assert rank_causes(replace(HEALTHY, events=(error("InsufficientInstanceCapacity"),))) == []


def test_old_ends_of_containers_are_past_once_all_run() -> None:
    assert rank_causes(replace(HEALTHY, stopped=(stopped("OutOfMemoryError: killed"),))) == []


@pytest.mark.parametrize(
    ("plight", "cause", "remedy"),
    [
        (replace(IDLE, counts=None), "there is no queue", "setup"),
        (replace(IDLE, counts=QueueCounts(0, 0)), "no job waits", "submitJob"),
        (replace(IDLE, counts=QueueCounts(0, 0), dead=21), "every job left has failed", "records"),
        (
            replace(NO_MACHINE, subject=build_subject_from_config(SETTINGS), fleet=None),
            "no machines were asked",
            "startCluster",
        ),
        (replace(NO_MACHINE, fleet=None), "the fleet is gone", "startCluster"),
        (replace(NO_MACHINE, fleet=FleetState("cancelled", 3, ())), "the fleet has ended", "startCluster"),
        (replace(NO_MACHINE, fleet=FleetState("active", 0, ())), "the fleet is to have no machine", "monitor"),
        (replace(IDLE, service=None), "there is no service", "setup"),
        (replace(IDLE, service=ServiceState(0, 0, 0)), "the service is to run no container", "startCluster"),
        (replace(IDLE, registered=None, joined=()), "there is no cluster", "setup"),
        (NO_MACHINE, "EC2 has not started a machine yet", "wait"),
        (replace(IDLE, service=ServiceState(2, 0, 2)), "containers are starting", "wait"),
        (replace(IDLE, counts=QueueCounts(0, 7)), "all jobs are still held", "SQS_MESSAGE_VISIBILITY"),
    ],
)
def test_each_plight_has_its_cause_first(plight: Evidence, cause: str, remedy: str) -> None:
    found = first(plight)
    assert found.what.startswith(cause)
    assert remedy in found.remedy


def test_a_quota_of_zero_comes_before_what_follows_from_it() -> None:
    quota = SpotQuota("All Standard … Spot Instance Requests", "L-34B43A08", 0.0, 2)
    plight = replace(NO_MACHINE, quota=quota, events=(error("MaxSpotInstanceCountExceeded: Max spot count exceeded"),))
    found = first(plight)
    assert found.what == "the account may not have one such spot machine"
    assert "L-34B43A08" in found.remedy
    assert len(rank_causes(plight)) > 1


def test_a_quota_for_just_one_machine_is_no_cause() -> None:
    enough = replace(NO_MACHINE, quota=SpotQuota("All Standard", "L-34B43A08", 2.0, 2))
    assert rank_causes(enough) == rank_causes(NO_MACHINE)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (error("", "spotInstanceCountLimitExceeded"), "quota"),
        (error("m5.large, ami-1: Max spot instance count exceeded (MaxSpotInstanceCountExceeded)"), "quota"),
        (error("VcpuLimitExceeded: You have requested more vCPU capacity"), "quota"),
        (error("InsufficientInstanceCapacity: no capacity", "launchSpecTemporarilyBlacklisted"), "no free machines"),
        (error("Spot price in either … is less than Spot market price $0.0619", "launchSpecUnusable"), "MACHINE_PRICE"),
        (error("SpotMaxPriceTooLow: Your Spot request price of 0.01 is lower"), "MACHINE_PRICE"),
        (error("InvalidSubnetID.NotFound: The subnet ID 'subnet-1' does not exist"), "a subnet"),
        (error("InvalidGroup.NotFound: The security group 'sg-1' does not exist"), "a security group"),
        (error("InvalidAMIID.NotFound: The image id '[ami-1]' does not exist"), "AMI"),
        (error("InvalidKeyPair.NotFound: The key pair 'x' does not exist"), "key pair"),
        (error("Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"),
         "instance profile"),
        (error("(Service: AmazonEC2; Status Code: 403; Error Code: UnauthorizedOperation)"), "fleet's role"),
        (error("", "iamFleetRoleInvalid"), "fleet's role"),
        (error("InvalidParameterCombination: Network interfaces and security groups"), "do not fit together"),
        (error("Unsupported: Your requested instance type (m5.large) is not supported in us-east-1e"), "not offered"),
        (error("", "allLaunchSpecsTemporarilyBlacklisted"), "refused every specification"),
        (error("InvalidBlockDeviceMapping: Volume of size 8GB is smaller than snapshot"), "disks"),
        (error("The provided credentials do not have permission to create the service-linked role"), "AWS's own role"),
        (error("something that nobody has seen"), "EC2 refuses to start machines"),
    ],
)  # fmt: skip
def test_an_event_of_the_fleet_is_told_in_plain_words(event: AWSEvent, words: str) -> None:
    found = first(replace(NO_MACHINE, events=(event,)))
    assert words in found.what
    assert found.remedy
    assert (event.said or event.kind)[:40] in found.seen


def test_the_same_event_many_times_is_one_cause() -> None:
    events = tuple(error("InsufficientInstanceCapacity", ago=60 + n) for n in range(50))
    (found, *_) = rank_causes(replace(NO_MACHINE, events=events))
    assert found.seen.endswith("(50 times)")
    assert sum("no free machines" in cause.what for cause in rank_causes(replace(NO_MACHINE, events=events))) == 1


def test_machines_that_do_not_join_are_named_with_what_they_lack() -> None:
    strangers = tuple(ObservedMachine(f"i-{n}", "running", NOW - 3000, public=False) for n in range(5))
    fleet = FleetState("active", 5, tuple(one.id for one in strangers))
    found = first(replace(IDLE, fleet=fleet, machines=strangers, registered=0, joined=()))
    assert found.what == "machines run, but do not join the cluster"
    assert "5 machines, i-0, i-1, i-2 and 2 more" in found.seen
    assert "5 without a public address" in found.seen
    assert "ASSIGN_IP" in found.remedy


def test_machines_of_a_minute_ago_are_waited_for() -> None:
    young = (ObservedMachine("i-1", "running", NOW - 60),)
    found = first(replace(IDLE, machines=young, registered=0, joined=()))
    assert found.what == "the machines are just starting"


def test_a_large_cluster_of_which_a_hundred_were_seen_is_not_called_unjoined() -> None:
    many = tuple(ObservedMachine(f"i-{n}", "running", NOW - 3000) for n in range(300))
    joined = tuple(ClusterMachine(f"i-{n}", True, 1) for n in range(100))
    fleet = FleetState("active", 300, tuple(one.id for one in many))
    assert rank_causes(replace(HEALTHY, fleet=fleet, machines=many, registered=300, joined=joined)) == []


def test_lost_agents_are_told() -> None:
    gone, there = ClusterMachine("i-1", False, 0), ClusterMachine("i-2", True, 0)
    assert "agent" in first(replace(IDLE, joined=(gone,))).what
    assert "agent" in first(replace(IDLE, joined=(gone, there))).what
    assert not rank_causes(replace(HEALTHY, registered=3, joined=(gone, there, replace(there, id="i-3"))))


def test_machines_that_end_at_once_are_told_with_ec2s_words() -> None:
    dead = (ended("Client.InternalError", "Client error on launch"),)
    assert "Client.InternalError" in first(replace(NO_MACHINE, machines=dead)).seen


@pytest.mark.parametrize("code", ["Client.UserInitiatedShutdown", "Client.InstanceInitiatedShutdown", ""])
def test_machines_that_somebody_ended_are_no_trouble(code: str) -> None:
    assert rank_causes(replace(NO_MACHINE, machines=(ended(code, "as told"),))) == rank_causes(NO_MACHINE)


def test_a_machines_end_is_judged_by_its_code_and_not_by_its_words() -> None:
    faulty = ended("Client.InvalidSnapshot.NotFound", "its disk, after a shutdown that was UserInitiated")
    assert first(replace(NO_MACHINE, machines=(faulty,))).what == "machines end as soon as they start"


def test_spot_machines_that_were_taken_are_told() -> None:
    dead = (ended("Server.SpotInstanceTermination", "Spot instance termination"),)
    assert first(replace(NO_MACHINE, machines=dead)).what == "AWS has taken the spot machines back"


PLACE = "(service AppService) was unable to place a task because no container instance met all of its requirements. "


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (f"{PLACE}The closest matching (container-instance 1) has insufficient memory available.", "room"),
        (f"{PLACE}The closest matching (container-instance 1) has insufficient CPU units available.", "room"),
        (
            f"{PLACE}The closest matching container-instance 1 is missing an attribute required by your task.",
            "not this app",
        ),
        (f"{PLACE}The closest matching container-instance 1 encountered error 'AGENT'.", "agent"),
        (PLACE, "finds no machine"),
        ("(service AppService) failed to launch a task with (error ECS was unable to assume the role 'x')", "role"),
    ],
)
def test_what_the_service_says_is_told_in_plain_words(said: str, words: str) -> None:
    assert words in first(replace(IDLE, told=(error(said, "service"),))).what


def test_no_room_without_machines_is_a_consequence_and_comes_after_the_cause() -> None:
    told = (error(f"{PLACE}No Container Instances were found in your cluster.", "service"),)
    plight = replace(NO_MACHINE, told=told, events=(error("SpotMaxPriceTooLow"),))
    assert "MACHINE_PRICE" in rank_causes(plight)[0].what
    assert rank_causes(plight)[-1].what == "no machine has joined the cluster"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("CannotPullContainerError: retried 5 time(s): docker.io/a/b:1: not found", "not there"),
        ("CannotPullContainerError: pull access denied for a/b, repository does not exist", "not there"),
        ("CannotPullContainerError: toomanyrequests: You have reached your pull rate limit", "Docker Hub allows"),
        ("CannotPullContainerError: Error response from daemon: no basic auth credentials", "role may not"),
        ("CannotPullContainerError: dial tcp 1.2.3.4:443: i/o timeout", "do not reach the registry"),
        ("CannotPullContainerError: no matching manifest for linux/arm64 in the manifest list", "processors"),
        ("CannotPullContainerError: write /var/lib/docker: no space left on device", "disk"),
        ("CannotPullContainerError: something new", "cannot be pulled"),
        ("Essential container in task exited; OutOfMemoryError: Container killed due to memory usage", "memory"),
        ("CannotStartContainerError: failed to initialize logging driver: ResourceNotFoundException", "log"),
        ("CannotStartContainerError: exec /run-worker.sh: exec format error", "processors"),
        ("CannotStartContainerError: something new", "cannot be started"),
    ],
)  # fmt: skip
def test_why_containers_ended_is_told_in_plain_words(said: str, words: str) -> None:
    found = first(replace(IDLE, stopped=(stopped(said),)))
    assert words in found.what
    assert found.remedy


EXITED = "Essential container in task exited"


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [(137, "memory"), (2, "settings do not fit"), (126, "cannot start its program"), (127, "cannot start its program"),
     (139, "segmentation fault"), (1, "ends with an error"), (12, "ends with an error"), (22, "ends with an error")],
)  # fmt: skip
def test_an_exit_code_says_why_a_container_ended(exit_code: int, words: str) -> None:
    found = first(replace(IDLE, stopped=(stopped(EXITED, exit_code),)))
    assert words in found.what
    assert found.seen == f"EssentialContainerExited: {EXITED}; exit code {exit_code}; its log ends: a line"


def test_a_number_in_awss_words_is_no_exit_code() -> None:
    plight = replace(IDLE, stopped=(stopped("the health check ended with exit code 137", 2),))
    assert "settings do not fit" in first(plight).what


@pytest.mark.parametrize(
    "task",
    [
        stopped("Scaling activity initiated by (deployment ecs-svc/1)", 143),
        stopped("Host EC2 (instance i-1) terminated."), stopped("Task was stopped by user", 137),
        stopped("Your Spot Task was interrupted: spot interruption", 137),
        stopped("as told", 137, kind="UserInitiated"), stopped("", 137, kind="SpotInterruption"),
    ],
)  # fmt: skip
def test_containers_that_were_told_to_end_are_no_trouble(task: StoppedTask) -> None:
    assert rank_causes(replace(IDLE, stopped=(task,))) == rank_causes(IDLE)


def test_what_stopped_hours_ago_says_nothing_about_now() -> None:
    assert rank_causes(replace(IDLE, stopped=(stopped(EXITED, 1, ago=3 * 3600),))) == rank_causes(IDLE)


def test_the_last_line_of_a_workers_log_goes_with_its_exit() -> None:
    plight = replace(IDLE, stopped=(stopped(EXITED, 2),), logged=LogTail(NOW - 60, ("worker: AWS_BUCKET is missing",)))
    assert "its log ends: worker: AWS_BUCKET is missing" in first(plight).seen


def test_paused_machines_are_told_with_their_reason() -> None:
    plight = replace(
        HEALTHY, counts=QueueCounts(100, 0), paused=(PausedMachine("i-1", "5 jobs failed one after the other"),)
    )
    found = first(plight)
    assert found.what.startswith("machines have paused")
    assert found.seen == "i-1: 5 jobs failed one after the other"


def test_the_pause_of_a_machine_that_has_ended_is_past() -> None:
    assert rank_causes(replace(HEALTHY, paused=(PausedMachine("i-gone", "the disk is full"),))) == []


def test_workers_that_take_nothing_and_say_nothing_are_told() -> None:
    for logged in (None, LogTail(NOW - 7200, ())):
        assert (
            first(replace(HEALTHY, counts=QueueCounts(100, 0), logged=logged)).what == "workers run, but take no jobs"
        )


# For every plight

words = st.text(max_size=40)
events = st.builds(
    AWSEvent,
    at=st.floats(0, NOW),
    kind=words,
    said=words
    | st.sampled_from(
        [
            one.pattern
            for table in (FLEET_FAILURE_PATTERNS, SERVICE_FAILURE_PATTERNS, TASK_FAILURE_PATTERNS)
            for one in table
        ]
    ),
)
several = st.lists(events, max_size=5).map(tuple)
tasks = st.builds(StoppedTask, st.floats(0, NOW), words, words, st.lists(st.integers(1, 255), max_size=2).map(tuple))
several_tasks = st.lists(tasks, max_size=5).map(tuple)
small = st.integers(0, 5)
ids = st.sampled_from(["i-1", "i-2", "i-3", "i-4"])
plights = st.builds(
    Evidence,
    at=st.just(NOW),
    subject=st.sampled_from([SUBJECT, build_subject_from_config(SETTINGS)]),
    counts=st.none() | st.builds(QueueCounts, small, small),
    dead=small,
    fleet=st.none()
    | st.builds(
        FleetState, st.sampled_from(["active", "cancelled", "failed"]), small, st.lists(ids, unique=True).map(tuple)
    ),
    events=several,
    machines=st.lists(
        st.builds(
            ObservedMachine,
            ids,
            st.sampled_from(["pending", "running", "terminated"]),
            st.floats(0, NOW),
            words,
            st.booleans(),
            words,
            words,
        ),
        max_size=4,
    ).map(tuple),
    registered=st.none() | small,
    joined=st.lists(st.builds(ClusterMachine, ids, st.booleans(), small), max_size=4).map(tuple),
    service=st.none() | st.builds(ServiceState, small, small, small),
    told=several,
    stopped=several_tasks,
    quota=st.none() | st.builds(SpotQuota, words, words, st.floats(0, 100), small),
    logged=st.none() | st.builds(LogTail, st.floats(0, NOW), st.lists(words, max_size=2).map(tuple)),
    paused=st.lists(st.builds(PausedMachine, words, words), max_size=2).map(tuple),
    unseen=st.dictionaries(st.sampled_from(["counts", "fleet", "joined", "logged", "service"]), words),
)


@given(plights)
def test_the_most_likely_comes_first_and_each_cause_has_evidence_and_a_remedy(plight: Evidence) -> None:
    causes = rank_causes(plight)
    weights = [cause.weight for cause in causes]
    assert weights == sorted(weights, reverse=True)
    assert all(0 < cause.weight <= 100 and cause.what and cause.seen and cause.remedy for cause in causes)
    assert causes == rank_causes(plight)


@given(plights)
def test_every_answer_can_be_shown(plight: Evidence) -> None:
    causes = rank_causes(plight)
    assert format_diagnosis(plight, causes)
    assert len(json.loads(build_diagnosis_json(plight, causes))["causes"]) == len(causes)


@given(plights)
def test_what_could_not_be_seen_is_never_called_missing(plight: Evidence) -> None:
    unseen = dict.fromkeys(["counts", "fleet", "service", "registered", "joined", "machines"], "no")
    nothing: dict[str, Any] = {"counts": None, "fleet": None, "service": None, "registered": None, "joined": ()}
    blind = replace(plight, **nothing, subject=SUBJECT, unseen=unseen)
    said = {cause.what for cause in rank_causes(blind)}
    assert not said & {"there is no queue", "the fleet is gone", "there is no service", "there is no cluster"}


@given(several, several_tasks)
def test_jobs_and_a_queue_come_before_all_else(given_events: Any, given_stops: Any) -> None:
    plight = replace(NO_MACHINE, counts=None, events=given_events, stopped=given_stops)
    assert first(plight).what == "there is no queue"


def test_a_run_that_has_cost_what_it_may_is_told_as_that() -> None:
    ending = replace(HEALTHY, closed=True, counts=QueueCounts(9, 1), fleet=FleetState("active", 0, ("i-1",)),
                     service=ServiceState(0, 1, 0))  # fmt: skip
    assert first(ending).what == "the run has cost what it may (MAX_COST)"
    ended = replace(ending, fleet=FleetState("cancelled_terminating", 0, ()))
    assert first(ended).what == "the run has cost what it may (MAX_COST)"
    assert "startCluster" in first(ended).remedy


def test_a_fleet_without_a_target_is_raised_by_monitor() -> None:
    causes = rank_causes(replace(IDLE, fleet=FleetState("active", 0, ()), service=ServiceState(0, 0, 0)))
    assert causes[0].what == "the fleet is to have no machine"
    assert causes[0].remedy.startswith("run monitor")
    assert "the service is to run no container" not in {cause.what for cause in causes}


def test_how_things_stand_does_not_call_missing_what_was_not_seen() -> None:
    nothing = Evidence(
        NOW, SUBJECT, unseen=dict.fromkeys(["counts", "fleet", "registered", "service"], "needs a right")
    )
    assert format_run_status(nothing) == "jobs not seen  machines not seen  joined not seen  containers not seen"
    assert format_run_status(Evidence(NOW, SUBJECT)) == "no queue  no fleet  no cluster  no service"


# The look

AT = datetime.fromtimestamp(NOW - 60, UTC)
ARN = "arn:aws:ecs:us-east-1:123456789012:"
FLEET_ID = MONITOR_FILE.MONITOR_FLEET_ID
HISTORY: list[dict[str, Any]] = [
    {"EventType": "error", "Timestamp": AT, "EventInformation": {
        "EventSubType": "spotInstanceCountLimitExceeded", "EventDescription": "too many"}},
    {"EventType": "information", "Timestamp": AT, "EventInformation": {"EventSubType": "launchSpecUnusable"}},
]  # fmt: skip
LOOK: dict[str, Any] = {
    "sqs.GetQueueUrl": {"QueueUrl": QUEUE_URL},
    "sqs.GetQueueAttributes": {"Attributes": {
        "ApproximateNumberOfMessages": "9", "ApproximateNumberOfMessagesNotVisible": "1",
        "RedrivePolicy": json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:AppDead"})}},
    "ecs.DescribeServices": {"services": [
        {"serviceName": "AppService", "status": "ACTIVE", "desiredCount": 6, "runningCount": 0, "pendingCount": 1,
         "events": [{"createdAt": AT, "message": PLACE}]}]},
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
    "ec2.DescribeSpotFleetRequestHistory": lambda asked: {"HistoryRecords": [one for one in HISTORY
        if one["EventType"] == asked["EventType"]]},
    "ec2.DescribeInstances": {"Reservations": [{"Instances": [
        {"InstanceId": "i-1", "State": {"Name": "running"}, "LaunchTime": AT, "InstanceType": "m5.large"},
        {"InstanceId": "i-0", "State": {"Name": "terminated"}, "LaunchTime": datetime.fromtimestamp(START - 9, UTC)},
    ]}]},
    "ec2.DescribeInstanceTypes": {"InstanceTypes": [
        {"InstanceType": "g5.xlarge", "VCpuInfo": {"DefaultVCpus": 4}, "MemoryInfo": {"SizeInMiB": 16384}}]},
    "service-quotas.GetServiceQuota": {"Quota": {"Value": 0.0}},
    "s3.ListObjectsV2": {"Contents": [{"Key": f"runs/App/{RUN}/machines/i-1-c.json", "LastModified": AT}]},
    "s3.HeadObject": ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadObject"),
    "s3.GetObject": lambda asked: {"Body": body(
        {"state": "paused", "machine": "i-1", "container": "c", "reason": "the disk is full"})},
}  # fmt: skip


def body(document: object) -> StreamingBody:
    data = json.dumps(document).encode()
    return StreamingBody(io.BytesIO(data), len(data))


@pytest.fixture
def aws() -> Iterator[Account]:
    with account(copy.deepcopy(LOOK)) as made:
        yield made


def looked(aws: Account, subject: DiagnosisSubject = SUBJECT) -> Evidence:
    return gather_evidence(aws.clients, subject, NOW)


def test_a_look_sees_all_this(aws: Account) -> None:
    seen = looked(aws)
    assert seen.unseen == {}
    assert (seen.counts, seen.dead) == (QueueCounts(9, 1), 10)
    assert seen.service == ServiceState(6, 0, 1)
    assert seen.told == (AWSEvent(NOW - 60, "service", PLACE),)
    assert seen.stopped == (StoppedTask(NOW - 60, "TaskFailedToStart", f"{EXITED}; because", (2,)),)
    assert (seen.registered, seen.joined) == (1, (ClusterMachine("i-1", True, 2),))
    assert seen.logged == LogTail(NOW - 5, ("worker: no",))
    assert seen.fleet is not None
    assert (seen.fleet.state, seen.fleet.target, seen.fleet.machines) == ("active", 3, ("i-1",))
    assert [event.kind for event in seen.events] == ["spotInstanceCountLimitExceeded", "launchSpecUnusable"]
    assert [one.id for one in seen.machines] == ["i-1"]  # the other is of an earlier run
    assert seen.quota == SpotQuota("All G and VT Spot Instance Requests", "L-3819A6DF", 0.0, 4)
    assert seen.paused == (PausedMachine("i-1", "the disk is full"),)
    assert not seen.closed


def test_a_look_sees_that_the_run_was_closed(aws: Account) -> None:
    aws.answers["s3.HeadObject"] = {}
    assert looked(aws).closed
    assert aws.parameters("s3.HeadObject") == {"Bucket": "app-bucket", "Key": f"runs/App/{RUN}/closed.json"}


def test_a_look_asks_for_just_this(aws: Account) -> None:
    looked(aws)
    assert len(aws.calls) <= 25
    assert aws.parameters("ecs.ListTasks") == {
        "cluster": "app-cluster", "serviceName": "AppService", "desiredStatus": "STOPPED", "maxResults": 100,
    }  # fmt: skip
    assert aws.parameters("ecs.ListContainerInstances") == {"cluster": "app-cluster", "maxResults": 100}
    assert aws.parameters("ec2.DescribeInstances") == {
        "Filters": [{"Name": "tag:app", "Values": ["App"]}], "MaxResults": 1000,
    }  # fmt: skip
    assert aws.parameters("logs.DescribeLogStreams") == {
        "logGroupName": "AppLogs_perInstance", "orderBy": "LastEventTime", "descending": True, "limit": 50,
    }  # fmt: skip
    assert aws.parameters("logs.GetLogEvents")["logStreamName"] == "App/App/1"
    assert aws.parameters("s3.ListObjectsV2") == {"Bucket": "app-bucket", "Prefix": f"runs/App/{RUN}/machines/"}


def test_machines_beyond_an_empty_page_are_seen(aws: Account) -> None:
    """EC2 may answer with a page that has nothing in it, and tell of another."""
    described = aws.answers["ec2.DescribeInstances"]
    empty: dict[str, Any] = {"Reservations": [], "NextToken": "more"}
    aws.answers["ec2.DescribeInstances"] = lambda asked: described if "NextToken" in asked else empty
    assert looked(aws).machines


def test_a_look_changes_nothing(aws: Account) -> None:
    looked(aws)
    assert {call.partition(".")[2][:4] for call in aws.calls} <= {
        "GetQ",
        "Desc",
        "List",
        "GetL",
        "GetS",
        "GetO",
        "Head",
    }


def test_a_look_at_an_app_without_a_run_asks_nothing_of_its_fleet(aws: Account) -> None:
    seen = looked(aws, build_subject_from_config(SETTINGS))
    assert not any(call.startswith("ec2.") for call in aws.calls)
    assert rank_causes(seen)[0].what == "no machines were asked for"


@pytest.mark.parametrize("call", sorted(LOOK))
def test_what_may_not_be_looked_at_is_said_and_the_rest_is_seen(aws: Account, call: str) -> None:
    aws.refuse(call, "AccessDenied", "You are not authorized to perform this operation.")
    seen = looked(aws)
    assert 1 <= len(seen.unseen) <= 2
    assert all(reason.startswith("needs ") for reason in seen.unseen.values())
    shown = format_diagnosis(seen, rank_causes(seen))
    assert "not seen" in shown


def test_an_account_in_which_nothing_was_made_is_no_error(aws: Account) -> None:
    aws.refuse("sqs.GetQueueUrl", MISSING_QUEUE)
    aws.refuse("ecs.DescribeServices", "ClusterNotFoundException")
    aws.refuse("ecs.ListTasks", "ClusterNotFoundException")
    aws.answers["ecs.DescribeClusters"] = {"clusters": []}
    aws.refuse("logs.DescribeLogStreams", "ResourceNotFoundException")
    aws.refuse("ec2.DescribeSpotFleetRequests", "InvalidSpotFleetRequestId.NotFound")
    aws.refuse("ec2.DescribeSpotFleetRequestHistory", "InvalidSpotFleetRequestId.NotFound")
    aws.answers["ec2.DescribeInstances"] = {"Reservations": []}
    aws.answers["s3.ListObjectsV2"] = {}
    seen = looked(aws)
    assert [cause.what for cause in rank_causes(seen)][:4] == [
        "there is no queue", "the fleet is gone", "there is no cluster", "there is no service",
    ]  # fmt: skip
    assert "ecs.ListContainerInstances" not in aws.calls


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"state": "working"}', b"\xff"])
def test_a_pause_document_that_says_nothing_is_none(aws: Account, content: bytes) -> None:
    aws.answers["s3.GetObject"] = lambda asked: {"Body": StreamingBody(io.BytesIO(content), len(content))}
    assert looked(aws).paused == ()


def test_a_run_without_its_file_is_found_by_the_fleets_tag(aws: Account) -> None:
    config = aws.answers["ec2.DescribeSpotFleetRequests"]["SpotFleetRequestConfigs"][0]
    tags = [{"Key": "app", "Value": "App"}, {"Key": "run", "Value": RUN}]
    config |= {"Tags": tags, "CreateTime": datetime.fromtimestamp(START + 4, UTC)}  # EC2 makes it a while later
    found = observe_active_subject(SETTINGS, aws.clients)
    assert (found.fleet, found.start, found.run) == (FLEET_ID, START, RUN)
    assert replace(found, start=SUBJECT.start) == SUBJECT


def test_without_the_right_to_list_fleets_the_config_is_looked_at(aws: Account) -> None:
    aws.refuse("ec2.DescribeSpotFleetRequests", "UnauthorizedOperation")
    found = observe_active_subject(SETTINGS, aws.clients)
    assert found == replace(build_subject_from_config(SETTINGS), unfound="needs ec2:DescribeSpotFleetRequests")
    causes = rank_causes(looked(aws, found))
    assert "no machines were asked for" not in [cause.what for cause in causes]


def test_the_answer_fits_into_eighty_columns_and_names_the_most_likely_first(aws: Account) -> None:
    seen = looked(aws)
    shown = format_diagnosis(seen, rank_causes(seen))
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert shown.splitlines()[2].startswith("most likely  ")
