"""Tests of the notifications: what they say, and that each is sent at most once, whatever SNS and S3 answer."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from distributed_something.core.monitor_file import MonitorFile, parse_monitor_file
from distributed_something.observe.documents.journals import JournalReader, RunTotals
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.results.causes import FailureGroup, group_failures
from distributed_something.results.job_counter import FailedJob, JobCounts
from distributed_something.results.outcome import RunOutcome
from distributed_something.run.monitor.history import RunHistory, load_history, save_history
from distributed_something.run.monitor.policy import EndReason
from distributed_something.run.notifications.messages import (
    Message,
    NothingWorksCause,
    NotificationKind,
    RunEndFacts,
    build_cost_message,
    build_end_message,
    build_failure_message,
    build_nothing_works_message,
)
from distributed_something.run.notifications.notifier import (
    notify_end,
    notify_nothing_works,
    send_due_notifications,
    send_notification,
)
from tests.support.fakes import MONITOR_FILE, RUN, START, FakeBucket, build_client_error
from tests.support.run_documents import emulated_run

TOPIC = "arn:aws:sns:us-east-1:123456789012:lab"
FILE = replace(MONITOR_FILE, MONITOR_NOTIFY=TOPIC, MONITOR_MAX_COST=10.0, MONITOR_FILE_PATH="files/AppSpotFleet.json")
NAMED = replace(FILE, MONITOR_APP_NAME="A" * 80)
TOTALS = RunTotals(done=97, failed=3, attempts=100, containers=2)


class FakeTopic:
    """A client for SNS that keeps the messages, or raises `error`."""

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []
        self.error: Exception | None = None

    def publish(self, **message: str) -> dict[str, str]:
        if self.error is not None:
            raise self.error
        self.messages.append(message)
        return {"MessageId": "1"}

    @property
    def subjects(self) -> list[str]:
        return [message["Subject"] for message in self.messages]


@pytest.fixture
def clients() -> Any:
    return SimpleNamespace(impatient_s3=FakeBucket(), impatient_sns=FakeTopic())


def build_snapshot(totals: RunTotals = TOTALS, jobs: int = 5) -> RunSnapshot:
    return RunSnapshot(START + 60, QueueCounts(jobs, 0), totals, 105, None, None)


class FakeJournals:
    """A reader of journals in which jobs failed."""

    def __init__(self, *lines: dict[str, Any]) -> None:
        self._lines = lines

    def iter_failures(self) -> Any:
        return iter(self._lines)


def build_line(job: str, exit_code: int, telling_line: str = "") -> dict[str, Any]:
    return {
        "job": job, "state": "failed", "final": True, "reason": f"exit code {exit_code}", "reason_class": "program",
        "exit_code": exit_code, "telling_line": telling_line, "ended": "2026-11-23T10:50:00.000Z",
    }  # fmt: skip


def send_due(
    clients: Any, history: RunHistory | None = None, totals: RunTotals = TOTALS, file: MonitorFile = FILE
) -> tuple[RunHistory, tuple[str, ...]]:
    journals: Any = FakeJournals(build_line("a-1", 3, "password=hunter2"), build_line("b-2", 3), build_line("c-3", 4))
    return send_due_notifications(clients, file, build_snapshot(totals), history or RunHistory(), journals)


def build_group(**values: Any) -> FailureGroup:
    (group,) = group_failures([FailedJob("a-1", START, **values)])
    return group


# What is sent, and when


def test_the_first_failures_are_sent_with_the_most_frequent_cause(clients: Any) -> None:
    history, lines = send_due(clients)

    (message,) = clients.impatient_sns.messages
    assert message["TopicArn"] == TOPIC
    assert message["Subject"] == "App: 3 jobs failed"
    assert message["Message"].startswith("3 jobs of App failed for good. So far, 97 are done.\n")
    assert "cause           exit code 3 (F" in message["Message"]
    assert "for example     a-1\n" in message["Message"]
    assert "python run.py status files/AppSpotFleet.json" in message["Message"]
    assert lines == ("notified        App: 3 jobs failed",)
    assert history.notified == ("failure",)


def test_a_message_contains_nothing_that_a_program_has_printed(clients: Any) -> None:
    send_due(clients)

    assert "hunter2" not in json.dumps(clients.impatient_sns.messages)
    reason = "the input s3://b/k?token=abcdef is missing"
    group = build_group(reason=reason, reason_class="input")
    assert "abcdef" not in build_failure_message(FILE, TOTALS, group).text
    secret = build_group(reason="password: hunter2", reason_class="input")
    assert "hunter2" not in build_failure_message(FILE, TOTALS, secret).text


def test_nothing_is_sent_without_failures_and_far_from_max_cost(clients: Any) -> None:
    history, lines = send_due(clients, RunHistory(cost=7.9), RunTotals(done=97))

    assert (clients.impatient_sns.messages, lines, history.notified) == ([], (), ())
    assert clients.impatient_s3.objects == {}


@pytest.mark.parametrize("cost", [8.0, 12.5])
def test_80_percent_of_max_cost_are_sent_once(clients: Any, cost: float) -> None:
    history, _ = send_due(clients, RunHistory(cost=cost), RunTotals(done=97))
    send_due(clients, replace(history, cost=13.0), RunTotals(done=98))

    (message,) = clients.impatient_sns.messages
    assert message["Subject"] == f"App: the run has cost about {cost:.2f} of 10.00 USD"
    assert f"App has cost about {cost:.2f} of 10.00 USD (MAX_COST)" in message["Message"]


def test_a_run_without_a_topic_sends_nothing(clients: Any) -> None:
    silent = replace(FILE, MONITOR_NOTIFY="")

    assert send_due(clients, RunHistory(cost=9.0), file=silent) == (RunHistory(cost=9.0), ())
    assert notify_nothing_works(clients, silent, build_snapshot(), RunHistory()) == ""
    assert clients.impatient_s3.objects == {}


@pytest.mark.parametrize(
    ("totals", "jobs", "history", "cause"),
    [
        (RunTotals(failed=105, attempts=105, containers=1), 0, RunHistory(), "every job failed"),
        (RunTotals(), 5, RunHistory(unstarted_since=START), "no container took a job"),
        (RunTotals(failed=50, attempts=50, containers=1), 5, RunHistory(), "no job succeeded"),
    ],
)
def test_a_run_that_was_stopped_says_in_a_few_words_why(
    clients: Any, totals: RunTotals, jobs: int, history: RunHistory, cause: str
) -> None:
    notify_nothing_works(clients, FILE, build_snapshot(totals, jobs), history)

    (message,) = clients.impatient_sns.messages
    assert message["Subject"] == "App: stopped because nothing works"
    assert f"because nothing works: {cause}.\n" in message["Message"]


def test_the_end_says_what_became_of_the_jobs_and_where_the_report_is(clients: Any) -> None:
    outcome = RunOutcome(105, JobCounts(done=100, already_there=2, failed=3), 0, [], 2)
    line = notify_end(clients, FILE, RunEndFacts(EndReason.RUN, outcome, 7200.0, 8.25, is_clean=True))

    (message,) = clients.impatient_sns.messages
    assert message["Subject"] == "App: the run has ended: 3 of 105 jobs failed"
    assert message["Message"] == "\n".join([
        "The run of App has ended because no jobs were left: 3 of 105 jobs failed.",
        "",
        "jobs done       100",
        "already there   2",
        "jobs failed     3",
        "in the queue    0",
        "time            2 h 0 min",
        "cost            8.25 USD (estimate: machines without disks and addresses)",
        f"run             {RUN}",
        f"summary         s3://app-bucket/runs/App/{RUN}/summary.txt",
        f"report          s3://app-bucket/runs/App/{RUN}/report.html (in a few minutes)",
        "",
    ])  # fmt: skip
    assert line == "notified        App: the run has ended: 3 of 105 jobs failed"


def test_the_message_about_the_end_of_a_canary_says_that_other_jobs_were_not_sent() -> None:
    facts = RunEndFacts(EndReason.RUN, None, 60.0, 0.1, is_clean=True, others=83)
    assert "This was a canary: 83 other jobs of its Job file were not sent." in build_end_message(FILE, facts).text


def test_a_cost_that_is_unknown_or_tiny_is_said_as_such() -> None:
    facts = RunEndFacts(EndReason.RUN, None, 60.0, None, is_clean=True)
    assert "cost            unknown\n" in build_end_message(FILE, facts).text
    text = build_end_message(FILE, replace(facts, cost=0.004)).text
    assert "cost            under 0.01 USD (estimate" in text
    tiny = build_cost_message(replace(FILE, MONITOR_MAX_COST=0.005), TOTALS, 0.0041)
    assert tiny.subject == "App: the run has cost about 0.0041 of 0.005 USD"


def test_an_end_that_left_something_or_whose_records_are_unreadable_says_so() -> None:
    message = build_end_message(FILE, RunEndFacts(EndReason.COST, None, 60.0, 10.2, is_clean=False))

    assert message.subject == "App: the run has ended: its records could not be read"
    assert "has ended because it has reached MAX_COST: its records could not be read." in message.text
    assert "Not everything could be removed. To try again, type:" in message.text
    assert "python run.py monitor files/AppSpotFleet.json" in message.text


@pytest.mark.parametrize(
    "message",
    [
        build_failure_message(NAMED, replace(TOTALS, failed=1_234_567), None),
        build_cost_message(NAMED, TOTALS, 8.0),
        build_nothing_works_message(NAMED, NothingWorksCause.NO_SUCCESS),
        build_end_message(NAMED, RunEndFacts(EndReason.RUN, None, 1.0, 1.0, is_clean=True)),
    ],
)
def test_a_subject_is_always_one_that_sns_accepts(message: Message) -> None:
    assert len(message.subject) <= 100
    assert message.subject.isascii()
    assert message.subject.isprintable()


# At most once


def test_two_monitors_send_each_message_once(clients: Any) -> None:
    other = SimpleNamespace(impatient_s3=clients.impatient_s3, impatient_sns=FakeTopic())

    first, second = send_due(clients), send_due(other)

    assert (len(clients.impatient_sns.messages), len(other.impatient_sns.messages)) == (1, 0)
    assert first[0].notified == second[0].notified == ("failure",)
    assert second[1] == ()
    (key,) = clients.impatient_s3.objects
    assert key == f"runs/App/{RUN}/notifications/failure.json"


def test_a_monitor_that_knows_what_was_sent_asks_nothing(clients: Any) -> None:
    history, _ = send_due(clients)
    clients.impatient_s3.put_object = None  # any request would fail

    assert send_due(clients, history) == (history, ())


def test_the_history_keeps_what_was_sent() -> None:
    s3: Any = FakeBucket()
    save_history(s3, FILE, RunHistory(at=START, notified=("failure",)))

    assert load_history(s3, FILE, START)[0].notified == ("failure",)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (build_client_error("AuthorizationError", "Publish"), "Publish"),
        (build_client_error("NotFound", "Publish"), "NotFound"),
        (ConnectTimeoutError(endpoint_url="https://sns"), "sns"),
        (RuntimeError("anything\nelse"), "RuntimeError: anything else"),
    ],
)
def test_a_topic_that_refuses_is_one_line_and_is_not_asked_again(clients: Any, error: Exception, reason: str) -> None:
    clients.impatient_sns.error = error
    history, lines = send_due(clients)

    (line,) = lines
    assert line.startswith("not notified    of failure: ")
    assert reason in line
    assert "\n" not in line
    assert send_due(clients, history) == (history, ())


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
def test_a_monitor_that_loses_the_race_says_nothing(clients: Any, code: str) -> None:
    def refuse(**_: Any) -> None:
        raise build_client_error(code, "PutObject")

    clients.impatient_s3.put_object = refuse

    assert send_notification(clients, FILE, NotificationKind.END, lambda: Message("s", "t")) == ""


def test_a_bucket_that_refuses_the_document_is_one_line(clients: Any) -> None:
    def refuse(**_: Any) -> None:
        raise build_client_error("AccessDenied", "PutObject")

    clients.impatient_s3.put_object = refuse

    line = send_notification(clients, FILE, NotificationKind.END, lambda: Message("s", "t"))
    assert line.startswith("not notified    of end: ")
    assert clients.impatient_sns.messages == []


# Where the facts come from


def test_only_journals_of_containers_with_failures_are_read() -> None:
    with emulated_run(FILE) as run:
        failed = run.end_job("a", "failed", reason="exit code 1", reason_class="program", exit_code=1)
        run.write_journal("c1", run.end_job("b"), run.end_job("c"))
        run.write_journal("c2", failed, run.end_job("d", "failed", final=False))
        reader = JournalReader(run.s3, FILE.MONITOR_BUCKET_NAME, FILE.keys)
        reader.read_totals()
        run.s3.reads.clear()

        lines = list(reader.iter_failures())

        assert [line["job"] for line in lines] == ["a"]
        assert [read["Key"] for read in run.s3.reads] == [FILE.keys.journal("c2", 1)]


def test_a_monitor_file_has_the_topic_and_an_older_one_has_none() -> None:
    content = {name: value for name, value in vars(FILE).items() if name != "MONITOR_NOTIFY"}

    assert parse_monitor_file(content, "f").MONITOR_NOTIFY == ""
    assert parse_monitor_file(content | {"MONITOR_NOTIFY": TOPIC}, "f").MONITOR_NOTIFY == TOPIC
