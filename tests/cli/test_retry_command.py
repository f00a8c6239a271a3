"""`retry` on the command line, in an emulated account: which jobs it sends, what it refuses, and what it advises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from distributed_something.cli.context import ExitCode
from distributed_something.cli.retry import retry_command
from distributed_something.core.monitor_file import build_monitor_file_key
from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from distributed_something.jobs.submission import submit
from distributed_something.results.retry.retry_jobs import load_retry_lists
from distributed_something.run.monitor.history import RunHistory, save_history
from distributed_something.worker import AppKeys, job_id
from distributed_something.worker.machine.times import build_utc_timestamp
from tests.support.failed_run import BUCKET, Project, build_message, list_error_lines, open_project
from tests.support.fakes import MONITOR_FILE, SETTINGS, START
from tests.support.run_documents import list_submissions

MIB = 1024 * 1024


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    with open_project(tmp_path, monkeypatch, capsys) as project:
        yield project


def interrupt_after(monkeypatch: pytest.MonkeyPatch, sent: int) -> None:
    """Simulate Ctrl-C after at least `sent` jobs. At most 320 others are then being sent."""

    def report_progress(done: int, total: int) -> None:
        if done >= sent:
            raise KeyboardInterrupt

    monkeypatch.setattr(retry_command.SubmitView, "__enter__", lambda self: report_progress)


def read_attributes(message: dict[str, Any]) -> dict[str, str]:
    return {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}


def test_failed_jobs_are_sent_with_their_original_messages_and_everything_that_setup_creates_is_created(
    project: Project,
) -> None:
    failed = project.fail_jobs(2)
    project.run.end_job("done")
    error = project.send_jobs()
    messages = project.sent
    assert sorted(job_id(json.loads(message["MessageBody"])) for message in messages) == sorted(failed)
    for message in messages:
        job = job_id(json.loads(message["MessageBody"]))
        assert read_attributes(message) == {"retry_of": MONITOR_FILE.run, "retry_job": job}
    assert project.clients.ecs.describe_services(cluster="app-cluster", services=["AppService"])["services"]
    (document,) = list_submissions(project.clients.s3, BUCKET, "App")
    assert (document.job_file, document.planned, document.count) == (f"retry of {MONITOR_FILE.run}", 2, 2)
    assert error.splitlines()[-2:] == [
        "next: python run.py startCluster FLEETFILE",
        "then: python run.py monitor files/AppSpotFleetRequestId.json",
    ]
    assert not list((project.folder / "files").iterdir())


def test_a_longer_limit_changes_neither_the_id_nor_the_location(project: Project) -> None:
    (failed,) = project.fail_jobs(1)
    project.send_jobs("--timeout", "90", "--only", "program")
    (message,) = project.sent
    assert json.loads(message["MessageBody"]) == build_message(0) | {"timeout_minutes": 90}
    assert job_id(json.loads(message["MessageBody"])) == failed


def test_older_results_that_did_not_count_do_not_count_for_the_repeated_job_either(project: Project) -> None:
    project.fail_jobs(1, again_since="2026-11-23T10:45:00.000Z")
    project.send_jobs()
    assert read_attributes(project.sent[0])["again_since"] == "2026-11-23T10:45:00.000Z"


def test_repeated_messages_are_still_those_of_their_first_submission_and_corrected_ones_of_the_retry(
    project: Project,
) -> None:
    project.fail_jobs(1, submission="20261123T104500.123Z")
    project.send_jobs()
    assert read_attributes(project.sent[0])["submission"] == "20261123T104500.123Z"
    fix = project.folder / "fix.json"
    fix.write_text(json.dumps({"command": "work better {n}", "output_location": "results/{job}"}))
    project.send_jobs("--with", str(fix), "--replace")
    document = list_submissions(project.clients.s3, BUCKET, "App")[-1]
    assert document.path == str(fix)
    assert read_attributes(project.sent[-1])["submission"] == document.time


def test_jobs_that_succeeded_in_a_later_run_are_counted_and_not_sent(project: Project) -> None:
    failed = project.fail_jobs(5)
    project.later.end_job(failed[0])
    project.later.end_job(failed[1], "skipped")
    project.later.end_job(failed[2], "failed", ended="2026-11-23T12:00:00.000Z")
    error = project.send_jobs()
    assert re.search(r"^succeeded +2 of them since", error, re.M), error
    assert re.search(r"^to send +3 jobs$", error, re.M), error


def test_a_dry_run_prints_the_groups_and_the_first_message_and_creates_nothing(project: Project) -> None:
    project.fail_jobs(3)
    code, output, _ = project.retry("--dry-run")
    assert code == ExitCode.DONE
    first, group, title, message = output.splitlines()
    assert first == "to send         3 jobs"
    assert re.fullmatch(r" {16}F[0-9a-f]{6} 3 jobs: exit code .*", group)
    assert title == "the first message:"
    assert json.loads(message)["command"] == "work {n}"
    assert project.clients.sqs.list_queues().get("QueueUrls", []) == []
    assert list_submissions(project.clients.s3, BUCKET, "App") == []
    assert not list((project.folder / "files").iterdir())


def test_a_queue_with_jobs_is_refused_in_one_line_unless_yes_is_given(project: Project) -> None:
    project.fail_jobs(3)
    project.send_jobs()
    code, _, error = project.retry()
    assert (code, len(list_error_lines(error))) == (ExitCode.INPUT, 1)
    assert error.startswith("run.py: queue AppQueue: it still holds 3 jobs; ")
    error = project.send_jobs("--yes")
    assert re.search(r"^sent before +3 of them, which have not ended yet$", error, re.M), error
    assert len(project.sent) == 3


def test_jobs_whose_messages_were_lost_with_the_queue_are_sent_again(project: Project) -> None:
    project.fail_jobs(3)
    project.send_jobs()
    project.empty_queue()
    project.send_jobs()
    assert len(project.sent) == 6


@pytest.mark.long
def test_an_interrupted_retry_is_continued_by_the_same_command(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.fail_jobs(400)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 50)
        code, _, error = project.retry()
    assert code == ExitCode.INTERRUPTED
    found = re.search(r"interrupted: ([\d,]+) of 400 jobs were sent; run the same command again$", error, re.M)
    assert found, error
    sent = int(found[1])
    assert 50 <= sent < 400
    error = project.send_jobs()
    assert re.search(rf"^sent before +{sent} of them", error, re.M), error
    bodies = [message["MessageBody"] for message in project.sent]
    assert (len(bodies), len(set(bodies))) == (400, 400)
    assert sorted(document.count for document in list_submissions(project.clients.s3, BUCKET, "App")) == sorted(
        [sent, 400 - sent]
    )
    assert not list((project.folder / "files").iterdir())


def test_after_a_killed_retry_the_same_command_sends_the_other_jobs_and_corrects_the_documents(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.fail_jobs(400)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 50)
        for name in ("_end_retry_list", "_end_document"):  # a killed process does not write these
            patch.setattr(submit._JobSender, name, lambda self, document: None)
        project.retry()
    keys = MONITOR_FILE.keys
    assert len(load_retry_lists(project.clients.s3, BUCKET, keys)[0].jobs) == 400
    project.send_jobs()
    assert len({message["MessageBody"] for message in project.sent}) == 400
    assert sum(len(retries.jobs) for retries in load_retry_lists(project.clients.s3, BUCKET, keys)) == 400
    documents = list_submissions(project.clients.s3, BUCKET, "App")
    assert sum(document.count for document in documents) == 400
    assert all(document.ended for document in documents)


def test_a_corrected_job_file_gives_the_shared_keys_and_the_failed_jobs_give_the_groups(project: Project) -> None:
    failed = project.fail_jobs(2)
    job_file = project.folder / "job.json"
    job_file.write_text(json.dumps({"command": "other {n}", "output_location": "new", "groups": "missing.csv"}))
    project.send_jobs("--with", "job.json")
    messages = project.sent
    bodies = [json.loads(message["MessageBody"]) for message in messages]
    assert sorted(body["group"]["n"] for body in bodies) == [0, 1]
    assert {body["command"] for body in bodies} == {"other {n}"}
    assert {read_attributes(message)["retry_job"] for message in messages} == set(failed)

    for body in bodies:
        project.later.end_job(job_id(body))
    project.empty_queue()
    assert re.search(r"^succeeded +2 ", project.send_jobs(), re.M)


def test_everything_that_is_wrong_is_reported_at_once(project: Project) -> None:
    project.fail_jobs(2)
    project.send_jobs()
    (project.folder / "job.json").write_text(json.dumps({"command": "other {plate}", "shell": 1}))
    assert project.find_problems("--only", "nothing", "--with", "job.json") == ["queue AppQueue", "--only 'nothing'"]
    assert project.find_problems("--only", "nothing", "--only", "F123456", "--with", "missing.json") == [
        "queue AppQueue", "--only 'nothing'", "--only 'F123456'", "missing.json",
    ]  # fmt: skip
    assert project.find_problems("--with", "job.json") == ["queue AppQueue", "job.json", "job.json"]
    assert project.find_problems("--yes", "--with", "missing.json") == ["missing.json"]
    assert project.find_problems("wrong.json", "--with", "missing.json") == ["wrong.json", "missing.json"]
    assert project.find_problems("20260101T000000Z", "--with", "config.py") == ["20260101T000000Z", "config.py"]
    assert len(project.sent) == 2


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"command": "other {plate}"}, "nothing fills the placeholder {plate}"),
        ({"command": "other {n}", "timeout_minute": 3}, "timeout_minutes"),
    ],
)
def test_a_corrected_job_file_is_checked_like_in_submitjob(
    project: Project, content: dict[str, Any], text: str
) -> None:
    project.fail_jobs(2)
    (project.folder / "job.json").write_text(json.dumps(content))
    (project.folder / "worker").mkdir()
    (project.folder / "worker" / "generic-worker.py").write_text("from distributed_something.worker import main\n")
    code, _, error = project.retry("--with", "job.json")
    assert code == ExitCode.INPUT
    assert text in error
    assert project.clients.sqs.list_queues().get("QueueUrls", []) == []


def test_a_message_that_the_worker_could_not_read_is_sent_again_as_it_was(project: Project) -> None:
    project.run.end_job("message-1", "failed", message="not JSON", reason_class="bad message", reason="no JSON")
    project.send_jobs()
    assert [message["MessageBody"] for message in project.sent] == ["not JSON"]


def test_a_job_whose_message_is_unknown_or_has_no_group_is_left_out(project: Project) -> None:
    project.fail_jobs(1)
    project.run.end_job("old", "failed")
    project.run.end_job("message-1", "failed", message="not JSON")
    (project.folder / "job.json").write_text(json.dumps({"command": "other {n}"}))
    error = project.send_jobs("--with", "job.json")
    assert re.search(r"^left out +2, because their messages are unknown$", error, re.M), error
    assert re.search(r"^to send +1 job$", error, re.M), error


@pytest.mark.parametrize(("peak", "advice"), [
    (1500, "MEMORY = 3712 would probably have been enough (an estimate)."),
    (1990, "They need more than that; try twice the limit, MEMORY = 4000."),
    (None, "They need more than that; try twice the limit, MEMORY = 4000."),
])  # fmt: skip
def test_for_jobs_that_ran_out_of_memory_it_says_which_memory_is_enough(
    project: Project, peak: int | None, advice: str
) -> None:
    with (project.folder / "config.py").open("a") as config:
        config.write("DOCKER_CORES = 2\n")
    values = {"reason_class": "out of memory", "memory_limit_bytes": 2000 * MIB}
    project.fail_jobs(2, **values, peak_memory_bytes=peak and peak * MIB)
    _, _, error = project.retry("--dry-run")
    text = " ".join(error.split())
    assert advice in text
    assert "Change MEMORY in the config" in text
    assert max(map(len, error.splitlines())) <= 80


def start_history(project: Project, jobs: int, ended: float | None = None) -> None:
    """Save the history of a run that started with this many jobs in its queue."""
    start = MONITOR_FILE.MONITOR_START_TIME / 1000
    history = RunHistory(at=start, submissions_since=start, other_jobs=jobs, dead_letters=0, ended=ended)
    save_history(project.clients.s3, MONITOR_FILE, history)


def test_a_run_without_failed_jobs_is_a_success(project: Project) -> None:
    project.run.end_job("done")
    start_history(project, 1, ended=MONITOR_FILE.MONITOR_START_TIME / 1000 + 60)
    error = project.send_jobs()
    assert re.search(r"^to send +no jobs$", error, re.M)
    assert error.endswith(f"no job of the run {MONITOR_FILE.run} has failed\n")


def test_while_jobs_wait_no_job_has_failed_so_far(project: Project) -> None:
    start_history(project, 2)
    project.run.end_job("done")
    url = project.clients.sqs.create_queue(QueueName=SETTINGS.SQS_QUEUE_NAME)["QueueUrl"]
    project.clients.sqs.send_message(QueueUrl=url, MessageBody="{}")
    assert project.send_jobs("--yes").endswith(f"no job of the run {MONITOR_FILE.run} has failed so far\n")


def test_jobs_without_a_record_are_not_a_run_without_failed_jobs(project: Project) -> None:
    start_history(project, 3, ended=MONITOR_FILE.MONITOR_START_TIME / 1000 + 60)
    project.run.end_job("done")
    code, out, error = project.retry()
    assert (code, out) == (ExitCode.INPUT, "")
    assert error == (
        f"run.py: run {MONITOR_FILE.run}: 2 jobs neither ended nor are in the queue, and no other job failed; "
        "send the Job file again, which skips the jobs that are done:\n  python run.py submitJob JOBFILE\n"
    )


def test_failed_jobs_whose_messages_are_unknown_are_refused_if_no_others_can_be_sent(project: Project) -> None:
    project.run.end_job("old", "failed")
    project.run.end_job("older", "failed")
    code, out, error = project.retry()
    assert (code, out, len(list_error_lines(error))) == (ExitCode.INPUT, "", 1)
    assert f"run {MONITOR_FILE.run}: 2 failed jobs cannot be sent again, because the records do not contain" in error
    project.later.end_job("older")
    assert "1 failed job cannot be sent again" in project.retry()[2]
    project.later.end_job("old")
    assert project.send_jobs().splitlines()[-1] == (
        "each of these jobs has succeeded since, or a corrected job has taken its place"
    )


def test_messages_without_a_group_are_refused_with_a_corrected_job_file(project: Project) -> None:
    project.run.end_job("message-1", "failed", message="not JSON")
    (project.folder / "job.json").write_text(json.dumps({"command": "other {n}"}))
    code, _, error = project.retry("--with", "job.json")
    assert (code, len(list_error_lines(error))) == (ExitCode.INPUT, 1)
    assert "1 failed job cannot be sent with the Job file" in error
    assert "leave out --with" in error


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_selection_that_matches_nothing_is_refused_in_one_line_that_names_the_groups(
    project: Project, more: tuple[str, ...]
) -> None:
    project.fail_jobs(3)
    code, out, error = project.retry("--only", "time-out", *more)
    assert (code, out) == (ExitCode.INPUT, "")
    found = re.fullmatch(
        r"run\.py: --only 'time-out': no failed job, cause, or group of this run matches; "
        r"the groups are: F[0-9a-f]{6} \(program, 3\)\n",
        error,
    )
    assert found, error


def test_jobs_that_already_wait_in_the_queue_need_only_machines(project: Project) -> None:
    project.fail_jobs(2)
    project.send_jobs()
    lines = project.send_jobs("--yes").splitlines()
    assert lines[-2:] == [
        "next: python run.py startCluster FLEETFILE",
        "then: python run.py monitor files/AppSpotFleetRequestId.json",
    ]
    assert len(project.sent) == 2


def test_a_missing_run_is_said(project: Project) -> None:
    project.run.end_job("done")
    code, _, error = project.retry("--only", "anything")
    assert (code, len(list_error_lines(error))) == (ExitCode.INPUT, 1)
    assert f"--only: no job of the run {MONITOR_FILE.run} failed" in error
    project.clients.s3.delete_object(Bucket=BUCKET, Key=build_monitor_file_key("App"))
    code, _, error = project.retry()
    assert (code, len(list_error_lines(error))) == (ExitCode.INPUT, 1)
    assert "files/AppSpotFleetRequestId.json: this monitor file does not exist, and there is no copy in s3://" in error


def test_jobs_that_were_sent_after_the_end_of_the_run_are_not_missing_in_it(project: Project) -> None:
    """The messages that retry itself sent belong to the next run."""
    project.fail_jobs(2)
    end = MONITOR_FILE.MONITOR_START_TIME / 1000 + 60
    history = RunHistory(at=end, submissions_since=end - 60, other_jobs=2, dead_letters=0, ended=end)
    save_history(project.clients.s3, MONITOR_FILE, history)
    assert "no record" not in project.send_jobs()
    project.empty_queue()
    assert "no record" not in project.send_jobs()


def test_a_run_of_another_app_is_refused(project: Project) -> None:
    path = project.folder / "other.json"
    path.write_text(json.dumps(asdict(replace(MONITOR_FILE, MONITOR_APP_NAME="Other"))))
    code, _, error = project.retry("other.json")
    assert (code, len(list_error_lines(error))) == (ExitCode.INPUT, 1)
    assert "--config FILE" in error


@pytest.mark.parametrize(("state", "row"), [("failed", r"replaced +1 of them"), ("done", r"succeeded +1 of them")])
def test_a_corrected_job_that_ended_in_the_same_run_takes_the_place_of_the_failed_job(
    project: Project, state: str, row: str
) -> None:
    project.fail_jobs(1)
    (project.folder / "job.json").write_text(json.dumps({"command": "other {n}"}))
    project.send_jobs("--with", "job.json")
    corrected = json.loads(project.sent[0]["MessageBody"])
    project.run.end_job(job_id(corrected), state, message=corrected, ended="2026-11-23T12:00:00.000Z")
    project.empty_queue()
    error = project.send_jobs()
    assert re.search(f"^{row}", error, re.M), error
    bodies = [json.loads(entry["MessageBody"]) for entry in project.sent[1:]]
    assert bodies == ([corrected] if state == "failed" else [])


def test_a_corrected_job_file_that_changes_no_message_is_noted(project: Project) -> None:
    project.fail_jobs(2)
    unchanged = {key: value for key, value in build_message(0).items() if key != "group"}
    (project.folder / "job.json").write_text(json.dumps(unchanged))
    _, _, error = project.retry("--with", "job.json", "--dry-run")
    note = "2 of 2 messages made from job.json are the same as before. Jobs keep their groups; these fail again, unless"
    assert note in " ".join(error.split())
    (project.folder / "job.json").write_text(json.dumps({**unchanged, "command": "other {n}"}))
    _, _, error = project.retry("--with", "job.json", "--dry-run")
    assert "same as before" not in error


def test_the_same_messages_are_noted_only_if_the_upload_changes_no_file_either(project: Project) -> None:
    project.fail_jobs(1)
    shared = {key: value for key, value in build_message(0).items() if key != "group"}
    (project.folder / "data").mkdir()
    (project.folder / "data" / "a.csv").write_text("corrected")
    (project.folder / "job.json").write_text(json.dumps({**shared, "upload": {"data": "in/"}}))
    assert "same as before" not in project.retry("--with", "job.json", "--dry-run")[2]
    assert "same as before" not in project.send_jobs("--with", "job.json")
    assert "same as before" in " ".join(project.send_jobs("--with", "job.json", "--replace").split())


def test_jobs_that_submitjob_replaced_are_not_sent_again(project: Project) -> None:
    """The next run has done the new ones, which have other IDs."""
    for number in range(2):
        message, sent = build_message(number), build_utc_timestamp(START - 100)
        project.run.end_job(job_id(message), "failed", message=message, sent=sent)
    submissions: list[tuple[float, dict[str, Any]]] = [(-110, {}), (600, {"replace": True, "replaced": True})]
    for after, more in submissions:
        time = build_submission_time(START + after)
        document = SubmissionDocument("App", "AppQueue", time, "job.json", "digest", 2, 2, time, **more)
        key = AppKeys("App").submission(time)
        project.clients.s3.put_object(Bucket=BUCKET, Key=key, Body=build_submission(document))
    assert re.search(r"^replaced +2 other failed jobs, by submitJob --replace$", project.retry()[2], re.M)
    history = RunHistory(at=START, submissions_since=START - 200, other_jobs=0, dead_letters=0, ended=START + 500)
    save_history(project.clients.s3, MONITOR_FILE, history)
    code, _, error = project.retry()
    assert code == ExitCode.DONE
    assert re.search(r"^replaced +2 of them, by a job with a corrected message$", error, re.M), error
    assert project.clients.sqs.list_queues().get("QueueUrls", []) == []
