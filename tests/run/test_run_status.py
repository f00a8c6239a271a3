"""The status of a run at each stage of its life, as data and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from typing import Any

import fastjsonschema
import pytest

from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.submission import (
    RetryList,
    SubmissionDocument,
    build_submission,
    build_submission_time,
)
from distributed_something.core.text import measure_columns
from distributed_something.jobs.submission.retry import write_retry_list
from distributed_something.observe.containers import StartFailure
from distributed_something.observe.documents.run_start import RunStart
from distributed_something.observe.snapshot import observe_run
from distributed_something.results import status as status_package
from distributed_something.results.advice import Recipe
from distributed_something.results.command_line import CommandLine
from distributed_something.results.status.document import (
    CostNumbers,
    JobNumbers,
    RunState,
    RunStatus,
    build_status_document,
)
from distributed_something.results.status.forecast import Estimate
from distributed_something.results.summary import RunSummary, save_run_summary
from distributed_something.run.monitor.history import RunHistory, load_history, open_history, record_stop, save_history
from distributed_something.run.run_outcome import load_current_outcome
from distributed_something.run.run_status import (
    RunView,
    build_current_status,
    compute_group_costs,
    observe_status,
)
from distributed_something.run.screen.print_status import print_status
from distributed_something.worker import AppKeys, RunKeys
from distributed_something.worker.machine.times import build_utc_timestamp
from tests.support.fakes import MONITOR_FILE, START, FakeOutput, build_queue_counts
from tests.support.run_account import RunAccount, emulate_run_account
from tests.support.run_documents import RunDocuments

SCHEMA = json.loads((files(status_package) / "schema.json").read_text())
validate = fastjsonschema.compile(SCHEMA)
LINE = CommandLine(monitor_file="files/App.json", fleet_file="files/fleet.json", job_file="files/job.json")
RETRY = "python run.py retry files/App.json"


class Run:
    """A run with one container's journal."""

    def __init__(self, account: RunAccount, file: MonitorFile) -> None:
        self.account, self.file = account, file
        self.documents = RunDocuments(account.bucket, file)

    def begin(self, submitted: int, **changes: Any) -> None:
        history = RunHistory(at=START + 60, submissions_since=START, other_jobs=submitted, dead_letters=0, cost=2.0)
        save_history(self.account.clients.s3, self.file, replace(history, **changes))

    def submit(self, began: float, count: int, **more: Any) -> None:
        """Write the document of a submission."""
        time, file = build_submission_time(began), MONITOR_FILE
        document = SubmissionDocument(
            file.MONITOR_APP_NAME, file.MONITOR_QUEUE_NAME, time, "job.json", "digest", count, count, time, **more
        )
        self.documents.put_object(AppKeys(file.MONITOR_APP_NAME).submission(time), build_submission(document))

    def write_journal(self, done: int, failed: int, **totals: Any) -> None:
        records = [self.documents.end_job(f"done-{n}") for n in range(done)]
        records += [
            self.documents.end_job(
                f"failed-{n}", "failed", reason="exit code 3", reason_class="program", exit_code=3,
                telling_line=f"ValueError: {n}", last_lines=["x", f"ValueError: {n}"], log="s3://b/log",
            )
            for n in range(failed)
        ]  # fmt: skip
        self.documents.write_journal("c1", *records, **totals)

    def observe(self, now: float = START + 120) -> RunStatus:
        self.view = RunView.open(self.account.clients, self.file)
        return observe_status(self.view, now)

    def end(self, reason: str, *, is_complete: bool, left: int = 0, ended: float | None = None) -> None:
        summary = RunSummary(reason, is_clean=True, is_complete=is_complete, text="text", ended=ended)
        save_run_summary(self.account.clients.s3, self.file, summary, None)
        key = self.file.keys.summary_data
        document = json.loads(self.account.bucket.objects[key]) | {"jobs": {"submitted": 5, "left": left}}
        self.account.bucket.objects[key] = json.dumps(document).encode()


@pytest.fixture
def run() -> Iterator[Run]:
    with emulate_run_account(MONITOR_FILE) as account:
        yield Run(account, MONITOR_FILE)


def build_document(run: Run, status: RunStatus) -> dict[str, Any]:
    output = FakeOutput()
    print_status(run.view, status, output, LINE, as_json=True)
    document: dict[str, Any] = json.loads(output.printed)
    validate(document)
    return document


def test_a_run_without_a_journal_is_starting(run: Run) -> None:
    run.account.jobs = 5
    run.begin(5)
    status = run.observe()
    assert status.state is RunState.STARTING
    assert (status.jobs.submitted, status.jobs.waiting) == (5, 5)
    assert build_document(run, status)["failures"] == []


def test_a_run_in_progress_shows_its_failures_with_an_example(run: Run) -> None:
    run.account.jobs = 2
    run.begin(5)
    run.write_journal(1, 2, running=1, ended=False)
    status = run.observe()
    assert status.state is RunState.RUNNING
    assert (status.jobs.done, status.jobs.failed, status.has_failures) == (1, 2, True)
    document = build_document(run, status)
    (failure,) = document["failures"]
    assert (failure["jobs"], failure["cause"], failure["job_ids"]) == (
        2,
        "exit code 3: ValueError: #",
        ["failed-0", "failed-1"],
    )
    assert failure["example"]["log"] == "s3://b/log"
    assert failure["example"]["last_lines"] == ["x", "ValueError: 0"]
    # Both are for the end of the run, as in the advice: no option makes them add jobs to those that wait now.
    assert failure["retry"] == f"{RETRY} --only {failure['id']}"
    assert document["retry"] == RETRY


def test_a_run_whose_queue_is_empty_is_ending(run: Run) -> None:
    run.begin(1, empty_since=START + 60, empty_looks=1)
    run.write_journal(1, 0)
    status = run.observe()
    assert (status.state, status.has_failures) == (RunState.ENDING, False)


@pytest.mark.parametrize(
    ("reason", "is_complete", "state"),
    [("run", True, RunState.DONE), ("run", False, RunState.FAILED), ("cost", False, RunState.STOPPED)],
)
def test_a_run_that_has_ended_is_read_from_the_bucket(
    run: Run, reason: str, is_complete: bool, state: RunState
) -> None:
    run.begin(5, ended=START + 3600)
    run.write_journal(3, 0 if is_complete else 2)
    run.end(reason, is_complete=is_complete)
    run.account.has_queue = False
    run.account.account.requests.clear()
    status = run.observe()
    assert (status.state, status.jobs.done, status.elapsed) == (state, 3, 3600)
    assert status.has_failures == (not is_complete)
    assert all(call.startswith("s3.") for call in run.account.account.calls), "AWS's other services are not needed"
    assert build_document(run, status)["state"] == state.value


def test_a_run_in_which_nothing_worked_shows_the_attempts_of_the_jobs_in_the_queue(run: Run) -> None:
    replaced_at = START + 600
    run.begin(5, replaced_at=replaced_at)
    run.submit(replaced_at, 5, replace=True, replaced=True)
    lines = [
        run.documents.end_job(job, "failed", final=False, reason="exit code 3", exit_code=3, reason_class="program",
                          ended=build_utc_timestamp(replaced_at + seconds))
        for job, seconds in (("old", -5), ("a", 5), ("b", 6), ("b", 7))
    ]  # fmt: skip
    run.documents.write_journal("c1", *lines)
    run.end("nothing works", is_complete=False, left=5, ended=replaced_at + 60)
    status = run.observe()
    document = build_document(run, status)
    (group,) = document["failing"]
    assert (group["job_ids"], group["retry"], document["failures"]) == (["a", "b"], None, [])
    assert (document["jobs"]["failed"], document["jobs"]["waiting"], document["retry"]) == (0, 5, None)
    assert status.advice is not None
    assert (status.advice.recipe, status.advice.jobs) == (Recipe.RESUBMIT, 2)


CANCELED_FLEET = {
    "SpotFleetRequestId": MONITOR_FILE.MONITOR_FLEET_ID, "SpotFleetRequestState": "cancelled",
    "SpotFleetRequestConfig": {"TargetCapacity": 2, "IamFleetRole": "arn:role"},
}  # fmt: skip


def test_a_run_whose_containers_did_not_work_shows_their_last_lines(run: Run) -> None:
    run.begin(5, ended=None)
    failure = StartFailure("EssentialContainerExited", "exited", (1,), ("ImportError: no cells",), started=12)
    summary = RunSummary("nothing works", True, False, "text", START + 90, start_failure=failure)
    save_run_summary(run.account.clients.s3, run.file, summary, None)
    status, output = run.observe(), FakeOutput()
    assert build_document(run, status)["messages"] == ["12 containers started and stopped without taking a job"]
    print_status(run.view, status, output, LINE, as_json=False)
    lines = output.printed.splitlines()
    assert "12 containers started and stopped without taking a job" in output.printed
    assert lines.index("  | ImportError: no cells") < lines.index("the container's last lines:") + 2
    assert "cause           the worker stops with an error" in lines


def test_a_job_that_ends_while_the_last_containers_stop_is_not_counted_twice(run: Run) -> None:
    run.begin(12, ended=START + 50)
    run.write_journal(0, 0)
    run.end("nothing works", is_complete=False, left=12)
    key = run.file.keys.summary_data
    document = json.loads(run.account.bucket.objects[key])
    document["jobs"] = {"submitted": 12, "left": 12, "done": 0, "already_there": 0, "failed": 0}
    run.account.bucket.objects[key] = json.dumps(document).encode()
    run.write_journal(0, 2)
    jobs = run.observe().jobs
    assert (jobs.submitted, jobs.failed, jobs.waiting) == (12, 2, 10)


def test_programs_of_lost_machines_are_not_running(run: Run) -> None:
    service = {
        "serviceName": run.file.names.service,
        "status": "ACTIVE",
        "desiredCount": 2,
        "runningCount": 1,
        "pendingCount": 1,
    }
    queue = build_queue_counts(10, 6)
    run.account.account.responses["ecs.DescribeServices"] = {"services": [service]}
    run.account.account.responses["sqs.GetQueueAttributes"] = {"Attributes": queue}
    run.begin(16)
    run.write_journal(0, 0, running=6)
    slots = run.file.MONITOR_JOBS_PER_TASK
    assert slots < 6
    jobs = run.observe().jobs
    assert (jobs.submitted, jobs.running, jobs.waiting) == (16, slots, 16 - slots)


@pytest.mark.parametrize("fleets", [[], [CANCELED_FLEET]])
def test_a_run_that_was_cleaned_up_without_a_summary_has_stopped(run: Run, fleets: list[dict[str, Any]]) -> None:
    run.account.account.responses |= {
        "ec2.DescribeSpotFleetRequests": {"SpotFleetRequestConfigs": fleets},
        "ec2.DescribeSpotFleetInstances": {"ActiveInstances": []},
    }
    run.begin(5)
    run.write_journal(3, 0)
    run.account.has_queue = False
    status = run.observe()
    assert (status.state, status.has_failures) == (RunState.STOPPED, True)


@pytest.mark.parametrize("has_queue", [False, True])
def test_jobs_that_are_submitted_after_a_cleanup_are_another_runs(run: Run, has_queue: bool) -> None:
    """Another queue with the same name has been created after the cleanup, and perhaps deleted again."""
    run.account.account.responses |= {
        "ec2.DescribeSpotFleetRequests": {"SpotFleetRequestConfigs": []},
        "ec2.DescribeSpotFleetInstances": {"ActiveInstances": []},
    }
    run.begin(5)
    run.write_journal(2, 0)
    record_stop(run.account.clients.s3, run.file, START + 90)
    counts = build_queue_counts(7) | {"CreatedTimestamp": str(START + 400)}
    run.account.account.responses["sqs.GetQueueAttributes"] = {"Attributes": counts}
    run.account.has_queue = has_queue
    run.submit(START + 410, 7)
    status = run.observe(START + 420)
    assert (status.state, status.jobs) == (RunState.STOPPED, JobNumbers(5, 2, 0, 0, unaccounted=3))
    assert status.elapsed == 90
    assert load_current_outcome(run.account.clients, run.file, START + 420).submitted == 5


def test_only_the_first_cleanup_of_a_run_that_has_begun_ends_it(run: Run) -> None:
    s3 = run.account.clients.s3
    record_stop(s3, run.file, START + 10)
    assert run.file.keys.history not in run.account.bucket.objects
    run.begin(5)
    for seconds in (90, 500):
        record_stop(s3, run.file, START + seconds)
    assert load_history(s3, run.file, START)[0].ended == START + 90
    open_history(s3, run.file, lambda now: RunStart(now, 0, 0))
    history = load_history(s3, run.file, START)[0]
    assert (history.ended, history.stopped) == (None, False)


def test_jobs_that_were_lost_with_their_queue_do_not_wait_and_are_submitted_again(run: Run) -> None:
    run.account.account.responses |= {
        "ec2.DescribeSpotFleetRequests": {"SpotFleetRequestConfigs": []},
        "ec2.DescribeSpotFleetInstances": {"ActiveInstances": []},
    }
    run.begin(5)
    run.write_journal(2, 1)
    run.account.has_queue = False
    status = run.observe()
    assert (status.state, status.jobs) == (RunState.STOPPED, JobNumbers(5, 2, 0, 1, unaccounted=2))
    assert build_document(run, status)["jobs"]["unaccounted"] == 2
    output = FakeOutput()
    print_status(run.view, status, output, LINE, as_json=False)
    assert "2 unaccounted for" in output.printed
    assert "next: python run.py setup\n      python run.py submitJob files/job.json\n" in output.printed
    assert "--yes" not in output.printed


def test_during_the_run_the_status_says_to_wait_and_how_to_correct_later(run: Run) -> None:
    run.account.jobs = 2
    run.begin(5)
    run.write_journal(1, 2, running=1, ended=False)
    output = FakeOutput()
    status = run.observe()
    print_status(run.view, status, output, LINE, as_json=False)
    end = output.printed.partition("\nnext: ")[2]
    assert end.startswith("python run.py monitor files/App.json\nonce the run has ended:\n")
    assert f"{RETRY} --with files/job.json" in end
    assert "--yes" not in output.printed


def test_nothing_is_changed(run: Run) -> None:
    run.account.jobs = 2
    run.begin(5)
    run.write_journal(1, 2)
    before = dict(run.account.bucket.objects)
    run.account.account.requests.clear()
    build_document(run, run.observe())
    assert run.account.bucket.objects == before
    reads = ("Get", "List", "Describe", "Head")
    assert all(call.split(".")[1].startswith(reads) for call in run.account.account.calls)


def test_a_group_costs_its_share_of_the_time_of_all_attempts(run: Run) -> None:
    run.account.jobs = 1
    run.begin(3)
    times = {"started": "2026-11-23T10:45:00.000Z", "ended": "2026-11-23T10:46:00.000Z"}
    failed = run.documents.end_job("a", "failed", reason="r", reason_class="program", exit_code=3, **times)
    done = run.documents.end_job("b", started=times["started"], ended="2026-11-23T10:48:00.000Z")
    run.documents.write_journal("c1", failed, done)
    assert compute_group_costs(run.observe()) == [pytest.approx(0.5)]


def test_a_cost_so_small_that_it_looks_like_0_is_not_0_in_the_document(run: Run) -> None:
    run.begin(5, ended=START + 60, cost=2.4e-8)
    run.write_journal(5, 0)
    run.end("run", is_complete=True)
    assert build_document(run, run.observe())["cost"]["usd"] == 2.4e-8


def test_a_failure_without_output_shows_its_reason(run: Run) -> None:
    run.account.jobs = 1
    run.begin(3)
    reason = "the input s3://app-bucket/images/A01.tif does not exist (NoSuchKey)"
    run.documents.write_journal("c1", run.documents.end_job("a", "failed", reason=reason, reason_class="missing input"))
    status = run.observe()
    example = build_document(run, status)["failures"][0]["example"]
    assert (example["telling_line"], example["last_lines"], example["log"]) == (reason, [reason], None)
    output = FakeOutput()
    print_status(run.view, status, output, LINE, as_json=False)
    assert f"    | {reason}" in output.printed.splitlines()


def test_a_failure_of_the_upload_shows_its_reason_and_the_log(run: Run) -> None:
    run.account.jobs = 1
    run.begin(3)
    failed = run.documents.end_job(
        "a", "failed", reason="no permission to write s3://b/x", reason_class="upload", exit_code=0,
        telling_line="all 5 images done", last_lines=["all 5 images done"], log="s3://b/log",
    )  # fmt: skip
    run.documents.write_journal("c1", failed)
    status, output = run.observe(), FakeOutput()
    print_status(run.view, status, output, LINE, as_json=False)
    assert "    | no permission to write s3://b/x\n    | all 5 images done\n" in output.printed


# The end, and what is known about it


@pytest.mark.parametrize(("cost", "text"), [(0.0, "unknown"), (2.0, "2.00 USD"), (0.001, "under 0.01 USD")])
def test_a_run_that_was_cleaned_up_has_the_cost_and_the_time_that_it_had(run: Run, cost: float, text: str) -> None:
    run.begin(5, at=START + 60, cost=cost, empty_looks=1)
    run.write_journal(3, 0)  # the jobs ended five minutes after the start
    run.account.has_queue = False
    for later in (600, 6_000):
        status = run.observe(START + later)
        assert (status.state, status.elapsed, status.speed is not None) == (RunState.STOPPED, 300, True)
        assert status.cost.so_far == (cost or None)
    output = FakeOutput()
    print_status(run.view, status, output, LINE, as_json=False)
    assert f" cost   {text}" in output.printed.splitlines()
    assert build_document(run, status)["cost"]["usd"] == (cost or None)


@pytest.mark.parametrize(("failed", "state"), [(0, RunState.DONE), (2, RunState.FAILED)])
def test_a_run_that_was_cleaned_up_after_its_last_job_is_not_unfinished(run: Run, failed: int, state: RunState) -> None:
    run.begin(3)
    run.write_journal(3 - failed, failed)
    run.account.has_queue = False
    assert run.observe().state is state


@pytest.mark.parametrize(("seconds", "state"), [(60, RunState.ENDING), (3600, RunState.DONE)])
def test_a_run_whose_monitor_was_killed_before_it_saved_the_summary_has_ended(
    run: Run, seconds: float, state: RunState
) -> None:
    run.begin(3, ended=START + 120 - seconds)
    run.write_journal(3, 0)
    run.account.has_queue = False
    assert run.observe().state is state


def test_a_monitor_that_is_started_again_does_not_make_a_stopped_run_longer(run: Run) -> None:
    run.begin(5, at=START + 90_000)
    run.write_journal(3, 0)
    run.end("cost", is_complete=False, left=2)
    run.account.bucket.modified = START + 1_000
    assert run.observe().elapsed == 1_000


def test_the_cost_includes_the_time_since_a_monitor_last_looked(run: Run) -> None:
    run.account.jobs = 2
    run.begin(5, at=START, cost=0.0)
    run.write_journal(3, 0, ended=False)
    status = run.observe()
    assert status.cost.so_far is None, "no price is known"
    history, now = load_history(run.account.clients.s3, run.file, START + 3600)
    snapshot = observe_run(run.account.clients, run.file, history.start, run.view.caches, now)
    watched = build_current_status(run.view, replace(snapshot, hourly=1.5, at=START + 3600), history)
    assert watched.cost.so_far == 1.5


def test_right_after_the_end_the_average_speed_is_shown(run: Run) -> None:
    run.begin(1, empty_since=START + 60, empty_looks=1)
    times = {"started": "2026-11-23T10:49:00.000Z", "ended": "2026-11-23T10:49:59.000Z"}
    run.documents.write_journal("c1", *(run.documents.end_job(f"j{n}", **times) for n in range(30)))
    status = run.observe()
    assert status.speed is not None
    assert (status.speed.per_minute, status.speed.is_average, status.remaining) == (30, True, None)
    run.end("run", is_complete=True)
    assert run.observe().speed == status.speed


def test_the_numbers_are_not_older_than_the_groups_of_failures(run: Run) -> None:
    """Jobs that fail while the status is read are in the journal's lines, and not yet in the totals."""
    run.account.jobs = 2
    run.begin(5)
    failures = [
        run.documents.end_job(name, "failed", reason="r", reason_class="program", exit_code=3) for name in ("a", "b")
    ]
    run.documents.write_journal("c1", *failures, failed=1)
    status = run.observe()
    assert status.jobs.failed == len(status.failures[0].jobs) == 2


@pytest.mark.parametrize("has_ended", [False, True])
def test_5000_failures_of_40_causes_are_shown_in_80_columns(run: Run, has_ended: bool) -> None:
    run.account.jobs = 0 if has_ended else 10
    run.begin(5_000, ended=START + 3600 if has_ended else None)
    lines = [
        run.documents.end_job(
            f"plate-{n:04}-{'x' * 60}", "failed", reason_class="program", exit_code=n % 40 + 1, reason="it failed " * 9,
            telling_line=f"Error {'in a very long line ' * 9} {n}" if n % 2 else "", log="s3://bucket/log.txt",
            message={"group": {"plate": f"P{n % 40} {'y' * 90}", "n": n}},
        )
        for n in range(5_000)
    ]  # fmt: skip
    for number in range(5):
        run.documents.write_journal(f"c{number}", *lines[number::5])
    if has_ended:
        run.end("run", is_complete=False)
    status, output = run.observe(), FakeOutput()
    print_status(run.view, status, output, LINE, as_json=False)
    assert len(status.failures) == 40
    assert max(map(measure_columns, output.printed.splitlines())) <= 80
    assert "… and 30 more causes: status --json lists all of them with their jobs" in output.printed
    assert len(output.printed.splitlines()) < 200


def test_a_status_with_unknown_values_fits_the_schema() -> None:
    status = RunStatus("App", "RUN", "us-east-1", RunState.RUNNING, START, START, None, JobNumbers(None))
    validate(build_status_document(status, RETRY, []))


def test_the_printed_status_ends_with_the_same_advice_as_the_summary(run: Run) -> None:
    run.begin(5, ended=START + 3600)
    run.write_journal(3, 2)
    run.end("run", is_complete=False)
    output = FakeOutput()
    status = run.observe()
    print_status(run.view, status, output, LINE, as_json=False)
    assert output.printed.splitlines()[-3:] == [
        f"next: {RETRY} --with files/job.json",
        "      python run.py startCluster files/fleet.json",
        "      python run.py monitor files/App.json",
    ]
    assert "    | ValueError: 0" in output.printed


# Numbers that add up


def test_jobs_that_were_sent_again_during_the_run_have_not_failed_until_they_fail_again(run: Run) -> None:
    run.begin(9)
    run.write_journal(3, 3)
    run.account.jobs = 3
    retries = RetryList(build_submission_time(START + 400), {f"failed-{n}": f"failed-{n}" for n in range(3)})
    write_retry_list(run.account.clients.s3, run.file.MONITOR_BUCKET_NAME, run.file.keys, retries)
    status = run.observe()
    assert (status.jobs, status.failures) == (JobNumbers(6, 3, 0, 0, running=0, waiting=3), [])
    assert not status.has_failures
    run.account.jobs = 0
    again = {"reason": "r", "reason_class": "program", "exit_code": 3, "ended": "2026-11-23T10:55:00.000Z"}
    lines = [run.documents.end_job(f"failed-{n}", "failed", message_id=f"again-{n}", **again) for n in range(3)]
    run.documents.write_journal("c2", *lines)
    status = run.observe()
    assert status.jobs == JobNumbers(6, 3, 0, 3)
    assert sum(len(group.jobs) for group in status.failures) == status.jobs.failed


def test_a_run_whose_queue_is_empty_is_over_even_if_a_journal_is_behind(run: Run) -> None:
    run.begin(6, empty_since=START + 60, empty_looks=1)
    run.write_journal(3, 2)
    status = run.observe()
    assert (status.jobs.running, status.jobs.waiting, status.share) == (1, 0, 1.0)


def test_the_time_of_a_run_is_the_one_in_its_summary(run: Run) -> None:
    run.begin(5, at=START + 901)
    run.write_journal(3, 0)
    summary = RunSummary("cost", is_clean=True, is_complete=False, text="text", ended=START + 900.6)
    save_run_summary(run.account.clients.s3, run.file, summary, None)
    assert run.observe().elapsed == pytest.approx(900.6)


def test_the_cost_at_the_end_is_as_exact_as_the_cost_so_far() -> None:
    jobs, cost = JobNumbers(2, 1, waiting=1), CostNumbers(0.00012345, Estimate(0.00012346, 0.00012345, 0.0002))
    status = RunStatus("App", "r", "us-east-1", RunState.RUNNING, START, START, None, jobs, cost=cost)
    document = build_status_document(status, RETRY, [])
    assert document["cost"]["usd"] <= document["cost"]["at_end"]["value"] == 0.00012346


def end_with_failures(run: Run, count: int, *, reason: str = "run", left: int = 0) -> None:
    """End the run, in which `count` jobs failed, which were sent at its start."""
    run.begin(count + left, ended=START + 600)
    run.submit(START - 100, count + left, path="files/job.json")
    lines = [
        run.documents.end_job(
            f"failed-{n}", "failed", reason="exit code 3", reason_class="program", exit_code=3,
            sent=build_utc_timestamp(START - 100), ended=build_utc_timestamp(START + 60),
        )
        for n in range(count)
    ]  # fmt: skip
    run.documents.write_journal("c1", *lines)
    run.end(reason, is_complete=False, left=left)


def test_failed_jobs_that_were_replaced_after_the_run_are_not_offered_to_retry(run: Run) -> None:
    """The next run has done the new ones, and its cleanup has deleted the queue."""
    end_with_failures(run, 3, reason="nothing works", left=2)
    run.submit(START + 700, 5, replace=True, replaced=True, path="files/job.json")
    run.account.has_queue = False
    status = run.observe()
    document = build_document(run, status)
    assert (document["settled"], document["retry"]) == (
        {"succeeded": 0, "replaced": 3, "removed": 0},
        None,
    )
    assert [group["retry"] for group in document["failures"]] == [None]
    assert (status.advice, status.jobs.failed) == (None, 3)
    output = FakeOutput()
    print_status(run.view, status, output, LINE, as_json=False)
    assert "submitJob --replace has replaced 3 failed jobs" in output.printed
    assert "next:" not in output.printed
    assert "retry" not in output.printed


def test_waiting_jobs_that_were_removed_after_the_run_are_named(run: Run) -> None:
    end_with_failures(run, 0, reason="nothing works", left=5)
    run.submit(START + 650, 2, path="files/other.json")
    run.submit(START + 700, 5, replace=True, replaced=True, removed=7, path="files/job.json")
    run.account.has_queue = False
    status = run.observe()
    document = build_document(run, status)
    assert (document["settled"]["removed"], document["jobs"]["waiting"], status.advice) == (5, 5, None)
    assert list(status.messages) == ["submitJob --replace has removed 5 waiting jobs since the run's end"]
    # `retry` and `why` do not say any more that they are in the queue.
    assert load_current_outcome(run.account.clients, run.file, START + 900).left == 0


@pytest.mark.parametrize("removed", [0, 2])
def test_jobs_that_others_sent_after_the_run_and_removed_are_not_counted(run: Run, removed: int) -> None:
    end_with_failures(run, 0, reason="nothing works", left=5)
    run.submit(START + 650, 2, path="files/other.json")
    run.submit(START + 700, 5, replace=True, replaced=True, removed=removed, path="files/job.json")
    status = run.observe()
    assert build_document(run, status)["settled"]["removed"] == 0
    assert status.messages == []


def test_waiting_jobs_that_a_later_run_had_were_not_removed(run: Run) -> None:
    end_with_failures(run, 0, reason="nothing works", left=5)
    later = replace(MONITOR_FILE, MONITOR_START_TIME=int((START + 650) * 1000))
    run.documents.put_object(later.keys.monitor_file, b"{}")
    run.submit(START + 700, 5, replace=True, replaced=True, removed=5, path="files/job.json")
    run.account.has_queue = False
    assert run.observe().settled.removed == 0
    assert load_current_outcome(run.account.clients, run.file, START + 900).left == 0


def test_failed_jobs_that_succeeded_in_a_later_run_are_not_offered_to_retry(run: Run) -> None:
    end_with_failures(run, 5)
    later = RunKeys(MONITOR_FILE.MONITOR_APP_NAME, "20991231T000000Z")
    for job in ("failed-0", "failed-1", "failed-2", "failed-3"):
        run.documents.put_object(later.record(job), json.dumps({"job": job, "state": "done", "final": True}).encode())
    status = run.observe()
    document = build_document(run, status)
    assert document["settled"] == {"succeeded": 4, "replaced": 0, "removed": 0}
    assert document["retry"] is not None, "one has not succeeded"
    assert status.advice is not None
    assert status.advice.jobs == 1
    run.documents.put_object(later.record("failed-4"), json.dumps({"state": "skipped", "final": True}).encode())
    status = run.observe()
    assert (build_document(run, status)["retry"], status.advice) == (None, None)


def test_jobs_that_are_replaced_during_the_run_count_once(run: Run) -> None:
    """Of the 5 old ones, 3 have failed; the other 2 waited."""
    run.begin(5)
    run.submit(START - 100, 5, path="files/job.json")
    run.submit(START + 100, 5, replace=True, replaced=True, removed=2, path="files/job.json")
    lines = [
        run.documents.end_job(
            job, state, sent=build_utc_timestamp(START + sent), ended=build_utc_timestamp(START + sent + 60)
        )
        for job, state, sent in [
            *((f"old-{n}", "failed", -100) for n in range(3)), ("new-0", "failed", 130), ("new-1", "done", 130),
        ]
    ]  # fmt: skip
    run.documents.write_journal("c1", *lines, ended=False)
    status = run.observe()
    jobs = status.jobs
    assert (jobs.done, jobs.failed, jobs.replaced, jobs.submitted) == (1, 1, 3, 5)
    assert sum(len(group.jobs) for group in status.failures) == 1
    assert build_document(run, status)["jobs"]["replaced"] == 3


def test_after_a_retry_the_failed_jobs_of_the_first_run_that_it_left_out_are_named(run: Run) -> None:
    original = replace(MONITOR_FILE, MONITOR_START_TIME=MONITOR_FILE.MONITOR_START_TIME - 86_400_000)
    documents = RunDocuments(run.account.bucket, original)
    lines = [documents.end_job(job, "failed", reason_class="program", exit_code=3) for job in ("a", "b", "c")]
    documents.write_journal("c1", *lines)
    run.begin(1, ended=START + 600)
    run.submit(START - 100, 1, retry_of=original.run)
    run.documents.write_journal("c2", run.documents.end_job("a"))
    run.end("run", is_complete=True)
    key = run.file.keys.summary_data
    run.account.bucket.objects[key] = run.account.bucket.objects[key].replace(b'"submitted": 5', b'"submitted": 1')
    status = run.observe()
    assert (status.state, status.jobs.done) == (RunState.DONE, 1)
    assert list(status.messages) == [f"2 failed jobs of the run {original.run} are left"]


def test_jobs_of_lost_machines_are_not_running_and_wait_for_their_leases(run: Run) -> None:
    fleet = {"SpotFleetRequestState": "active", "SpotFleetRequestConfig": {"TargetCapacity": 1, "IamFleetRole": "r"}}
    run.account.account.responses |= {
        "sqs.GetQueueAttributes": {"Attributes": build_queue_counts(0, 2) | {"VisibilityTimeout": "120"}},
        "ec2.DescribeSpotFleetRequests": {"SpotFleetRequestConfigs": [fleet]},
        "ec2.DescribeSpotFleetInstances": {"ActiveInstances": [{"InstanceId": "i-new"}]},
        "ecs.ListContainerInstances": {"containerInstanceArns": []},
        "ec2.DescribeSpotPriceHistory": {"SpotPriceHistory": []},
    }
    run.begin(5)
    run.write_journal(3, 0, running=2, slots=2, machine="i-gone", ended=False)
    status = run.observe()
    assert (status.jobs.done, status.jobs.running, status.jobs.waiting) == (3, 0, 2)
    assert build_document(run, status)["lost_leases"] == {"jobs": 2, "seconds": 120}
    output = FakeOutput()
    print_status(run.view, status, output, LINE, as_json=False)
    assert "2 jobs wait for the leases of lost workers, at most 2 min" in output.printed
    assert "0 of" in output.printed.partition("fleet")[2].splitlines()[0]
