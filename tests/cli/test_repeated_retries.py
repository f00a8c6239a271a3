"""Retries of retries: no job runs twice, the waiting jobs can be replaced, and every command can be typed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from distributed_something.cli.context import ExitCode
from distributed_something.core.submission import RetryList, SubmissionDocument, build_submission, build_submission_time
from distributed_something.jobs.submission.retry import write_retry_list
from distributed_something.results.job_counter import JobCounts
from distributed_something.results.job_source import JobSource, find_job_source
from distributed_something.results.outcome import RunOutcome
from distributed_something.results.summary import RunSummary, save_run_summary
from distributed_something.run.monitor.history import RunHistory, save_history
from distributed_something.worker import AppKeys, job_id
from tests.support.failed_run import BUCKET, LATER, Project, open_project
from tests.support.fakes import MONITOR_FILE
from tests.support.project import join_commands
from tests.support.run_documents import RunDocuments, list_submissions

NEWEST = replace(MONITOR_FILE, MONITOR_START_TIME=MONITOR_FILE.MONITOR_START_TIME + 7_200_000)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    with open_project(tmp_path, monkeypatch, capsys) as project:
        yield project


@pytest.fixture
def fleet_without_problems(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    no_history: dict[str, Any] = {"HistoryRecords": []}
    monkeypatch.setattr(project.clients.ec2, "describe_spot_fleet_request_history", lambda **_: no_history)


def write_fix(project: Project, name: str = "fix.json", **more: Any) -> Path:
    path = project.folder / name
    content = {"command": "work better {n}", "output_location": "results/{job}", "groups": [{"n": 0}]}
    path.write_text(json.dumps(content | more))
    return path


def save_list(project: Project, file: Any, seconds: float, jobs: dict[str, str]) -> None:
    began = build_submission_time(file.MONITOR_START_TIME / 1000 + seconds)
    write_retry_list(project.clients.s3, BUCKET, file.keys, RetryList(began, jobs))


def test_a_job_that_was_corrected_in_the_second_retry_is_recognized_from_the_first_run(project: Project) -> None:
    """Four jobs failed in the first run and, with the same IDs, in the second; two of them then got other IDs."""
    failed = project.fail_jobs(4)
    project.fail_jobs(4, project.later, ended="2026-11-23T12:00:00.000Z")
    save_list(project, MONITOR_FILE, 600, {job: job for job in failed})
    save_list(project, LATER, 600, {failed[0]: "new-0", failed[1]: "new-1"})
    newest = RunDocuments(project.clients.s3, NEWEST)
    newest.end_job("new-0")
    newest.end_job("new-1")
    for run in (LATER.run, MONITOR_FILE.run):
        project.later.put_object(LATER.keys.monitor_file, json.dumps(asdict(LATER)).encode())
        project.run.put_object(MONITOR_FILE.keys.monitor_file, json.dumps(asdict(MONITOR_FILE)).encode())
        _, output, error = project.retry(run, "--dry-run")
        assert re.search(r"^succeeded +2 of them since", error, re.M), error
        assert re.search(r"^to send +2 jobs$", output, re.M), output


def test_the_command_for_the_jobs_that_were_left_out_repeats_the_correction(project: Project) -> None:
    project.fail_jobs(2)
    fix = write_fix(project)
    other = {"command": "other {n}", "output_location": "results/{job}", "group": {"n": 9}}
    project.run.end_job(job_id(other), "failed", reason="disk", reason_class="disk", message=other)
    error = project.send_jobs("--only", "program", "--with", str(fix), "--timeout", "7.5")
    (command,) = re.findall(r"^not selected +1 other failed job; .*\n +(.*)$", join_commands(error), re.M)
    assert command == f"python run.py retry {MONITOR_FILE.run} --with {fix} --timeout 7.5"


def test_retry_notes_files_that_differ_from_the_bucket_and_the_command_that_it_gives_uploads_them(
    project: Project,
) -> None:
    project.fail_jobs(2)
    (project.folder / "files" / "data").mkdir()
    (project.folder / "files" / "data" / "a.txt").write_text("wrong")
    path = write_fix(project, "files/AppJob.json", upload={"data": "data"})
    project.run.put_object("data/a.txt", b"wrong")
    assert "note" not in project.retry("--dry-run")[2]
    (project.folder / "files" / "data" / "a.txt").write_text("right")
    _, _, error = project.retry("--dry-run", "--timeout", "7.5")
    assert "note            1 file in the `upload` folders of files/AppJob.json differs from" in error
    commands = join_commands(error)
    assert f"python run.py retry {MONITOR_FILE.run} --with files/AppJob.json --timeout 7.5\n" in commands
    error = project.send_jobs("--yes")
    assert f"python run.py retry {MONITOR_FILE.run} --with files/AppJob.json --replace\n" in join_commands(error)
    assert "this, which first removes the 2 jobs just sent from the queue:" in " ".join(error.split())
    assert "note" not in project.retry("--replace", "--dry-run", "--with", str(path))[2].partition("to send")[0]
    (command,) = re.findall(r"python run.py retry (.* --replace)\n", join_commands(project.send_jobs("--replace")))
    project.run.put_object(MONITOR_FILE.keys.monitor_file, json.dumps(asdict(MONITOR_FILE)).encode())
    error = project.send_jobs(*command.split())
    assert re.search(r"^upload +files/data: 1 file uploaded, 0 unchanged$", error, re.M), error
    assert "differ" not in error


def test_waiting_jobs_with_a_wrong_command_are_replaced_by_corrected_ones(project: Project) -> None:
    failed = project.fail_jobs(3)
    project.send_jobs("--only", failed[0], "--only", failed[1])
    fix = write_fix(project)
    row = r"^to remove +2 waiting jobs, first: --replace removes all that are in the\n +queue AppQueue$"
    assert re.search(row, project.retry("--replace", "--dry-run")[1], re.M)
    assert "to remove" not in "".join(project.retry("--yes", "--dry-run")[1:])
    error = project.send_jobs("--with", str(fix), "--replace")
    assert re.search(row, error, re.M), error
    assert re.search(r"^replace +2 waiting jobs removed", error, re.M), error
    assert re.search(r"^to send +2 jobs$", error, re.M), error
    assert re.search(r"^not selected +1 other failed job", error, re.M), error
    url = project.clients.sqs.get_queue_url(QueueName="AppQueue")["QueueUrl"]
    messages = project.clients.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert {json.loads(message["Body"])["command"] for message in messages} == {"work better {n}"}
    assert len(messages) == 2
    document = list_submissions(project.clients.s3, BUCKET, "App")[-1]
    assert (document.replaced, document.removed, document.path) == (True, 2, str(fix))
    assert document.retry_of == MONITOR_FILE.run


def test_the_submissions_say_that_all_jobs_of_a_run_came_from_a_retry(project: Project) -> None:
    project.fail_jobs(2)
    until = 4e9
    write_fix(project, "job.json")
    assert find_job_source(project.clients, LATER, until, until) == JobSource()
    project.send_jobs()
    assert find_job_source(project.clients, LATER, until, until) == JobSource("", (MONITOR_FILE.run,))
    code, _, error = project.run_command("submitJob", "job.json")
    assert code == ExitCode.DONE, error
    assert find_job_source(project.clients, LATER, until, until) == JobSource("job.json")
    project.send_jobs("--replace")
    assert find_job_source(project.clients, LATER, until, until) == JobSource("job.json", (MONITOR_FILE.run,))
    assert find_job_source(project.clients, LATER, 0.0, until).is_replaced


@pytest.mark.parametrize("has_retry", [False, True])
def test_the_submissions_say_how_many_jobs_a_canary_has_left_out(project: Project, has_retry: bool) -> None:
    def submit(seconds: float, **values: Any) -> float:
        began = LATER.MONITOR_START_TIME / 1000 + seconds
        document = SubmissionDocument("App", "AppQueue", build_submission_time(began), "job.json", "d", 2, 2)
        body = build_submission(replace(document, ended=document.time, **values))
        project.run.put_object(AppKeys("App").submission(document.time), body)
        return began

    if has_retry:  # of an earlier run
        submit(-7000, retry_of=MONITOR_FILE.run)
        summary = RunSummary("run", True, True, "", 0.0, saved=LATER.MONITOR_START_TIME / 1000 - 3600)
        save_run_summary(project.clients.s3, MONITOR_FILE, summary, None)
    until = submit(-60, canary_of=9)
    assert find_job_source(project.clients, LATER, until, until) == JobSource("job.json", canary=2, others=7)
    now = submit(60, planned=9)
    assert find_job_source(project.clients, LATER, until, now) == JobSource("job.json", canary=2)
    assert find_job_source(project.clients, LATER, now, now) == JobSource("job.json")


def test_the_submissions_say_whose_older_results_do_not_count(project: Project) -> None:
    until = LATER.MONITOR_START_TIME / 1000
    for seconds, path, again in ((-90, "a.json", True), (-80, "b.json", True), (-70, "a.json", False)):
        time = build_submission_time(until + seconds)
        document = SubmissionDocument("App", "AppQueue", time, path, "d", 2, 2, ended=time, again=again)
        project.run.put_object(AppKeys("App").submission(time), build_submission(document))
    assert find_job_source(project.clients, LATER, until, until).again_files == {"b.json"}


def test_the_submissions_say_which_job_files_a_run_had(project: Project) -> None:
    until = LATER.MONITOR_START_TIME / 1000
    for seconds, path, count in (
        (-9000, "old.json", 2),
        (-90, "a.json", 2),
        (-80, "empty.json", 0),
        (-60, "b.json", 2),
    ):
        time = build_submission_time(until + seconds)
        document = SubmissionDocument("App", "AppQueue", time, path, "d", 2, count, time, path=path)
        project.run.put_object(AppKeys("App").submission(time), build_submission(document))
    project.run.put_object(MONITOR_FILE.keys.monitor_file, b"{}")  # that run began an hour earlier
    source = find_job_source(project.clients, LATER, until, until)
    assert source == JobSource("b.json", other_files=("a.json",))
    assert source.sent == 4


@pytest.mark.usefixtures("fleet_without_problems")
def test_status_and_its_document_add_yes_while_the_queue_holds_jobs(project: Project) -> None:
    project.fail_jobs(2)
    outcome = RunOutcome(5, JobCounts(failed=2), 3, [], 1)
    save_run_summary(project.clients.s3, MONITOR_FILE, RunSummary("cost", True, False, "text"), outcome)
    _, output, _ = project.run_command("status")
    words, command = " ".join(output.split()), "run.py retry files/AppSpotFleetRequestId.json"
    assert words.count(command) == words.count(f"{command} --yes") > 0, output
    _, output, _ = project.run_command("status", "--json")
    document = json.loads(output)
    assert document["retry"].endswith(" --yes")
    assert " --yes --only " in document["failures"][0]["retry"]
    _, output, error = project.run_command("why", "files/AppSpotFleetRequestId.json")
    assert "--yes" in output, error


@pytest.mark.usefixtures("fleet_without_problems")
def test_why_names_no_job_file_that_was_submitted_after_a_cleanup(project: Project) -> None:
    project.fail_jobs(2)
    start = MONITOR_FILE.MONITOR_START_TIME / 1000
    history = RunHistory(at=start, submissions_since=start, other_jobs=0, ended=start + 60, stopped=True)
    save_history(project.clients.s3, MONITOR_FILE, history)
    for seconds, path in ((10, "a.json"), (70, "b.json")):
        time = build_submission_time(start + seconds)
        document = SubmissionDocument("App", "AppQueue", time, path, "d", 2, 2, time, path=path)
        project.run.put_object(AppKeys("App").submission(time), build_submission(document))
    _, output, error = project.run_command("why", "files/AppSpotFleetRequestId.json")
    assert "a.json" in output, error
    assert "b.json" not in output, error


@pytest.mark.parametrize("started", ["/somewhere/project/run.py", "../project/run.py", "run.py"])
def test_commands_are_shown_as_the_user_started_run_py(
    project: Project, monkeypatch: pytest.MonkeyPatch, started: str
) -> None:
    monkeypatch.setattr(sys, "argv", [started, "retry"])
    project.fail_jobs(1)
    error = project.send_jobs()
    assert error.splitlines()[-2] == f"next: python {started} startCluster FLEETFILE"
    assert error.splitlines()[-1].startswith(f"then: python {started} monitor ")


def test_an_earlier_end_is_shown_with_the_commands_of_this_reader(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The saved summary was written in Lambda, where nobody types commands."""
    project.fail_jobs(2, exit_code=1)
    outcome = RunOutcome(2, JobCounts(failed=2), 0, [], 1)
    saved = RunSummary("run", True, False, "the report\nnext: elsewhere", report="the report")
    save_run_summary(project.clients.s3, MONITOR_FILE, saved, outcome)
    monkeypatch.setattr(sys, "argv", ["../run.py", "monitor"])
    _, output, error = project.run_command("monitor")
    assert "this run has ended before; its summary:\nthe report\n" in output, error
    assert "next: python ../run.py retry files/AppSpotFleetRequestId.json --with JOBFILE" in output
    assert "elsewhere" not in output
