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
from distributed_something.results import status as status_package
from distributed_something.results.advice import Recipe
from distributed_something.results.command_line import CommandLine
from distributed_something.results.status.document import JobNumbers, RunState, RunStatus, build_status_document
from distributed_something.results.summary import RunSummary, save_run_summary
from distributed_something.run.monitor.history import RunHistory, save_history
from distributed_something.run.run_status import RunView, compute_group_costs, observe_status
from distributed_something.run.screen.print_status import print_status
from distributed_something.worker.machine.times import build_utc_timestamp
from tests.support.fakes import MONITOR_FILE, START, FakeOutput
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

    def observe(self) -> RunStatus:
        self.view = RunView.open(self.account.clients, self.file)
        return observe_status(self.view, START + 120)

    def end(self, reason: str, *, is_complete: bool, left: int = 0) -> None:
        summary = RunSummary(reason, is_clean=True, is_complete=is_complete, text="text")
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
    lines = [
        run.documents.end_job(job, "failed", final=False, reason="exit code 3", exit_code=3, reason_class="program",
                          ended=build_utc_timestamp(replaced_at + seconds))
        for job, seconds in (("old", -5), ("a", 5), ("b", 6), ("b", 7))
    ]  # fmt: skip
    run.documents.write_journal("c1", *lines)
    run.end("nothing works", is_complete=False, left=5)
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
