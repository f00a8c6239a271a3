"""Why containers do not start: ECS's report about the newest failed container, and the last lines of its log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from distributed_something.observe.containers import StartFailure, find_start_failure, find_worker_crash
from distributed_something.results.advice import choose_advice
from distributed_something.results.command_line import CommandLine
from distributed_something.results.job_counter import JobCounts
from distributed_something.results.outcome import RunOutcome
from distributed_something.results.status.advice_text import format_advice
from distributed_something.run.monitor.start_failure import (
    describe_start_failure,
    format_start_failure,
    format_worker_crash,
    mention_remedy,
)
from tests.support.fakes import MONITOR_FILE, ExactClients, expect_exact_calls

EXITED = "Essential container in task exited"
GROUP = f"{MONITOR_FILE.MONITOR_LOG_GROUP_NAME}_perInstance"
CLUSTER = MONITOR_FILE.MONITOR_ECS_CLUSTER
RUN_START = MONITOR_FILE.MONITOR_START_TIME / 1000


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as stubbed_aws:
        yield stubbed_aws


def build_task(number: int, seconds: float, code: str = "EssentialContainerExited", **task: Any) -> dict[str, Any]:
    """Return ECS's description of a task that stopped this long after the start of the run."""
    at = datetime.fromtimestamp(RUN_START + seconds, UTC)
    reason = {"stoppedReason": EXITED, "containers": [{"exitCode": 1}]}
    return {"taskArn": f"arn:aws:ecs:us-east-1:1:task/x/{number}", "stoppedAt": at, "stopCode": code} | reason | task


def expect_tasks(aws: ExactClients, *tasks: dict[str, Any]) -> None:
    query = {"cluster": CLUSTER, "serviceName": "AppService", "desiredStatus": "STOPPED", "maxResults": 100}
    arns = [task["taskArn"] for task in tasks]
    aws.expect_call("ecs.list_tasks", query, taskArns=arns)
    if tasks:
        aws.expect_call("ecs.describe_tasks", {"cluster": CLUSTER, "tasks": arns}, tasks=list(tasks))


def expect_log(aws: ExactClients, number: int, *lines: str) -> None:
    request = {"logGroupName": GROUP, "logStreamName": f"App/App/{number}", "limit": 5, "startFromHead": False}
    events = [{"timestamp": 1, "message": line} for line in lines]
    aws.expect_call("logs.get_log_events", request, events=events)


def find_failure(aws: ExactClients) -> StartFailure:
    clients: Any = aws.clients
    return find_start_failure(clients, MONITOR_FILE)


def test_the_newest_failed_container_is_reported_with_its_last_lines(aws: ExactClients) -> None:
    expect_tasks(aws, build_task(1, 60), build_task(2, 120), build_task(3, 90))
    expect_log(aws, 2, "Traceback (most recent call last):", "DB_PASSWORD=geheim", "ImportError: no\n")
    assert find_failure(aws) == StartFailure(
        "EssentialContainerExited",
        EXITED,
        (1,),
        ("Traceback (most recent call last):", "***", "ImportError: no"),
        started=3,
    )


def test_a_worker_that_died_is_reported_with_its_exit_code_and_its_last_lines(aws: ExactClients) -> None:
    tasks = (
        build_task(1, 60, containers=[{"exitCode": 3}]), build_task(2, 120, containers=[{"exitCode": 0}]),
        build_task(3, 130, "UserInitiated", containers=[{"exitCode": 137}]),
    )  # fmt: skip
    expect_tasks(aws, *tasks)
    expect_log(aws, 1, "start job a", "native code: abort")
    clients: Any = aws.clients
    failure = find_worker_crash(clients, MONITOR_FILE)
    assert failure == StartFailure("EssentialContainerExited", EXITED, (3,), ("start job a", "native code: abort"))
    text = format_worker_crash(failure, CommandLine())
    assert "exit code 3" in " ".join(" ".join(text).split())
    assert text[-1] == "  | native code: abort"
    assert max(map(len, text)) <= 80


@pytest.mark.parametrize(("codes", "text"), [
    ([], "no container has started in 20 s, although machines are running."),
    ([1, 1, 1], "3 containers started and stopped without taking a job in 20 s."),
])  # fmt: skip
def test_containers_that_start_and_stop_are_not_containers_that_never_start(
    aws: ExactClients, codes: list[int], text: str
) -> None:
    tasks = [build_task(1, 60, containers=[{"exitCode": code}]) for code in codes] or [
        build_task(1, 60, containers=[{}])
    ]
    expect_tasks(aws, *tasks)
    for _ in tasks:
        expect_log(aws, 1)
    clients: Any = aws.clients
    assert describe_start_failure(clients, MONITOR_FILE, 20).startswith(text)


@pytest.mark.parametrize(
    ("line", "correction"),
    [
        (CommandLine(), "build and push the image (buildImage --push), and run setup"),
        (CommandLine(is_pushed=False), "build the image (buildImage), and run setup"),
        (CommandLine(has_image=False, is_pushed=False), "the library that it calls, and run setup"),
    ],
)
def test_a_correction_needs_the_image_only_where_workers_run_in_containers(line: CommandLine, correction: str) -> None:
    """The local engine uses the image that was built here, so nothing is pushed."""
    crash = format_worker_crash(StartFailure(exit_codes=(3,)), line)
    start = format_start_failure(StartFailure("EssentialContainerExited", "exited", (5,)), line)
    texts = [" ".join(" ".join(lines).split()) for lines in (crash, start)]
    assert correction in texts[0]
    assert ["--push" in text for text in texts] == [line.is_pushed] * 2
    assert ["image" in text for text in texts] == [line.has_image] * 2


def test_a_reason_that_ecs_gives_for_the_task_and_its_container_is_reported_once(aws: ExactClients) -> None:
    reason = "CannotPullContainerError: x/y:1: not found"
    task = build_task(1, 60, "TaskFailedToStart", stoppedReason=reason, containers=[{"reason": reason}])
    expect_tasks(aws, task)
    expect_log(aws, 1)
    assert find_failure(aws).message == reason


def test_containers_that_were_stopped_on_purpose_or_in_an_earlier_run_are_ignored(aws: ExactClients) -> None:
    scaled = build_task(
        1, 60, "ServiceSchedulerInitiated", stoppedReason="Scaling activity initiated by (deployment x)"
    )
    expect_tasks(aws, scaled, build_task(2, -60))
    aws.expect_call("ecs.describe_services", None, services=[])
    assert find_failure(aws) == StartFailure()


def test_a_container_without_a_log_is_reported_with_the_log_of_an_older_one(aws: ExactClients) -> None:
    """The log driver of the newest one may not have sent its lines yet."""
    expect_tasks(aws, build_task(1, 60), build_task(2, 120))
    aws.expect_error("logs.get_log_events", "ResourceNotFoundException")
    expect_log(aws, 1, "exec /usr/bin/python3: exec format error")
    assert find_failure(aws).lines == ("exec /usr/bin/python3: exec format error",)


def test_if_no_container_was_even_started_the_newest_event_of_the_service_is_reported(aws: ExactClients) -> None:
    expect_tasks(aws)
    events = [{"createdAt": datetime.fromtimestamp(RUN_START + seconds, UTC), "message": f"event {seconds}"}
              for seconds in (120, 60, -60)]  # fmt: skip
    counts = {"serviceName": "AppService", "desiredCount": 2, "runningCount": 0, "pendingCount": 0}
    aws.expect_call("ecs.describe_services", None, services=[{"status": "ACTIVE", "events": events} | counts])
    assert find_failure(aws) == StartFailure("service", "event 120")


def test_the_message_is_printed_although_ecs_does_not_answer(aws: ExactClients) -> None:
    aws.expect_error("ecs.list_tasks", "AccessDeniedException")
    clients: Any = aws.clients
    lines = describe_start_failure(clients, MONITOR_FILE, 15 * 60).splitlines()
    assert lines[0] == (
        "no container has started in 15 min, although machines are running. The machines were stopped, and the queue"
        " was kept"
    )
    assert lines[1].startswith("cause           unknown: needs ecs:ListTasks")


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (StartFailure("TaskFailedToStart", "CannotPullContainerError: x/y:1: not found"), "it does not exist"),
        (StartFailure("EssentialContainerExited", EXITED, (1,), ("exec x: exec format error",)), "processor type"),
        (StartFailure("TaskFailedToStart", "failed to initialize logging driver: x"), "cannot write to their log"),
        (StartFailure("service", "(service AppService) was unable to place a task"), "cannot find a machine"),
        (StartFailure("EssentialContainerExited", EXITED, (1,)), "the worker stops with an error"),
    ],
)
def test_the_text_names_the_cause_and_fits_a_terminal(failure: StartFailure, cause: str) -> None:
    lines = format_start_failure(failure, CommandLine())
    assert cause in " ".join(" ".join(lines).split())
    assert any(line.startswith("remedy ") for line in lines)
    assert max(map(len, lines)) <= 80


def test_the_advice_does_not_repeat_a_remedy_in_other_words() -> None:
    advice = choose_advice(RunOutcome(4, JobCounts(), 4, [], 1), is_hopeless=True)
    pull = StartFailure("TaskFailedToStart", "CannotPullContainerError: x/y:1: not found")
    logged = StartFailure("EssentialContainerExited", EXITED, (1,), ("no module",))  # its remedy is in the log
    for failure, has_remedy in ((pull, True), (logged, False), (StartFailure(), False), (None, False)):
        mentioned = mention_remedy(advice, failure)
        assert mentioned is not None
        text = format_advice(mentioned, CommandLine())
        assert ("Do what `remedy` says" in text) is has_remedy
        assert ("DOCKERHUB_TAG" not in text) is has_remedy
    assert mention_remedy(None, pull) is None


def test_the_containers_last_lines_are_printed_with_their_indentation_and_without_control_characters() -> None:
    failure = StartFailure("EssentialContainerExited", EXITED, (1,), ("  File x", "\x1b[31mImportError\x1b[0m: no"))
    lines = format_start_failure(failure, CommandLine())
    assert f"ECS             {EXITED} (exit code 1)" in lines
    assert lines[-3:] == [
        "the container's last lines:", "  |   File x", "  | \\x1b[31mImportError\\x1b[0m: no"
    ]  # fmt: skip
    assert "remedy          correct what the lines below show, and type what `next` says" in lines


def test_without_any_report_the_text_says_so() -> None:
    assert format_start_failure(StartFailure(), CommandLine()) == ["ECS             reports nothing"]
