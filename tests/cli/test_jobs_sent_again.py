"""Failed jobs after `retry` has sent them: every command says what these jobs need now, and where others failed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from distributed_something.cli.context import Context, ExitCode
from distributed_something.core.monitor_file import MonitorFile, build_monitor_file_key
from distributed_something.results.summary import RunSummary, find_run_summary, save_run_summary
from distributed_something.run.monitor.history import RunHistory, save_history
from tests.support.failed_run import BUCKET, LATER, Project, list_error_lines, open_project
from tests.support.fakes import MONITOR_FILE, SETTINGS
from tests.support.project import join_commands
from tests.support.run_documents import RunDocuments

START = ["python run.py startCluster FLEETFILE", "python run.py monitor files/AppSpotFleetRequestId.json"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    with open_project(tmp_path, monkeypatch, capsys) as project:
        yield project


def end_run(
    project: Project,
    failed: int,
    *,
    reason: str = "run",
    left: int = 0,
    done: int = 1,
    file: MonitorFile = MONITOR_FILE,
) -> None:
    """Save the summary of a run that ended a minute after its start, and its monitor file's copy."""
    s3, ended = project.clients.s3, file.MONITOR_START_TIME / 1000 + 60
    save_history(s3, file, RunHistory(at=ended, submissions_since=ended - 60, other_jobs=failed + done + left))
    is_complete = not (failed or left)
    save_run_summary(s3, file, RunSummary(reason, True, is_complete, "text", ended, report="report"), None)
    document = json.loads(s3.get_object(Bucket=BUCKET, Key=file.keys.summary_data)["Body"].read())
    document["jobs"] = {"submitted": failed + done + left, "done": done, "failed": failed, "left": left}
    s3.put_object(Bucket=BUCKET, Key=file.keys.summary_data, Body=json.dumps(document).encode())
    s3.put_object(Bucket=BUCKET, Key=file.keys.monitor_file, Body=json.dumps(asdict(file)).encode())


def list_next(text: str) -> list[str]:
    """Return the commands after `next:`."""
    _, _, commands = join_commands(text).partition("\nnext: ")
    return [line.strip() for line in commands.splitlines()]


def list_commands(error: str) -> list[str]:
    """Return the commands below the lines of an error."""
    return [line.strip() for line in join_commands(error).splitlines() if line.startswith("  ")]


def send_waiting(project: Project, jobs: int) -> None:
    url = project.clients.sqs.create_queue(QueueName=SETTINGS.SQS_QUEUE_NAME)["QueueUrl"]
    for _ in range(jobs):
        project.clients.sqs.send_message(QueueUrl=url, MessageBody="{}")


# After retry


def test_status_says_that_the_jobs_wait_and_what_to_type(project: Project) -> None:
    project.fail_jobs(2, exit_code=1)
    project.run.end_job("done")
    end_run(project, 2)
    assert "retry" in list_next(project.run_command("status")[1])[0]
    project.send_jobs()
    code, output, _ = project.run_command("status")
    assert code == ExitCode.UNFINISHED
    assert "2 failed jobs were sent again after this run." in " ".join(output.split())
    assert list_next(output) == START
    assert "run.py retry" not in output
    document = json.loads(project.run_command("status", "--json")[1])
    assert (document["retry"], document["failures"][0]["retry"]) == (None, None)


def test_status_says_how_to_add_the_failed_jobs_that_were_not_sent(project: Project) -> None:
    failed = project.fail_jobs(3, exit_code=1)
    end_run(project, 3)
    project.send_jobs("--only", failed[0])
    _, output, _ = project.run_command("status")
    assert list_next(output) == START
    assert "python run.py retry files/AppSpotFleetRequestId.json --yes\n" in join_commands(output)


def test_jobs_that_a_later_run_has_finished_do_not_wait(project: Project) -> None:
    project.fail_jobs(2, exit_code=1)
    end_run(project, 2, done=0)
    project.send_jobs()
    project.empty_queue()
    send_waiting(project, 1)  # of another batch
    later = replace(LATER, MONITOR_START_TIME=4_000_000_000_000)
    end_run(project, 0, file=later)
    assert "retry" in list_next(project.run_command("status", MONITOR_FILE.run)[1])[0]


@pytest.mark.parametrize("failed", [2, 0])
def test_monitor_before_start_cluster_says_so_and_leaves_the_new_batch_alone(project: Project, failed: int) -> None:
    project.fail_jobs(failed)
    project.run.end_job("done")
    end_run(project, failed)
    if failed:
        project.send_jobs()
    else:
        job_file = {"command": "work", "output_location": "results/{job}", "groups": [{"n": 1}, {"n": 2}]}
        (project.folder / "job.json").write_text(json.dumps(job_file))
        assert project.run_command("setup")[0] == ExitCode.DONE
        assert project.run_command("submitJob", "job.json")[0] == ExitCode.DONE
    before = find_run_summary(project.clients.s3, MONITOR_FILE)
    code, output, error = project.run_command("monitor")
    assert code == (ExitCode.UNFINISHED if failed else ExitCode.DONE)
    assert "The queue holds 2 jobs; no machines are running." in " ".join(output.split())
    assert list_next(output) == START
    assert error == "note: files/AppSpotFleetRequestId.json does not exist; using its copy in the bucket\n"
    assert project.clients.sqs.get_queue_url(QueueName=SETTINGS.SQS_QUEUE_NAME)
    assert find_run_summary(project.clients.s3, MONITOR_FILE) == before


def test_monitor_does_not_delete_what_setup_created_after_the_run(project: Project) -> None:
    project.run.end_job("done")
    end_run(project, 0)
    project.run_command("setup")
    assert project.run_command("monitor")[0] == ExitCode.DONE
    assert project.clients.sqs.get_queue_url(QueueName=SETTINGS.SQS_QUEUE_NAME)


# The refusal while the queue holds jobs


@pytest.mark.parametrize(("remaining", "commands"), [(("startCluster", "monitor"), START), (("monitor",), START[1:])])
def test_retry_says_what_the_jobs_in_the_queue_need(
    project: Project, monkeypatch: pytest.MonkeyPatch, remaining: tuple[str, ...], commands: list[str]
) -> None:
    project.fail_jobs(2, exit_code=1)
    send_waiting(project, 1)
    monkeypatch.setattr(Context, "find_remaining_commands", lambda _: remaining)
    code, _, error = project.retry()
    (line,) = list_error_lines(error)
    assert code == ExitCode.INPUT
    assert line.startswith("run.py: queue AppQueue: it still holds 1 job; add --yes")
    assert list_commands(error) == commands


def test_after_a_run_in_which_nothing_worked_retry_gives_the_advice_of_status(project: Project) -> None:
    values = {"reason": "the program 'x' cannot be started", "start_error": "ENOENT", "exit_code": 127}
    project.fail_jobs(2, **values)
    end_run(project, 2, reason="nothing works", left=5, done=0)
    send_waiting(project, 5)
    code, _, error = project.retry()
    (line,) = list_error_lines(error)
    assert code == ExitCode.INPUT
    assert "nothing worked (the program does not exist, or is not executable)" in line
    assert list_commands(error) == ["python run.py submitJob JOBFILE --replace", *START]
    assert list_next(project.run_command("status")[1]) == list_commands(error)


# A run without failed jobs


def build_earlier_run(project: Project, number: int, failed: int) -> MonitorFile:
    """Write the documents of a run, `number` hours before the newest one."""
    file = replace(MONITOR_FILE, MONITOR_START_TIME=MONITOR_FILE.MONITOR_START_TIME - number * 3_600_000)
    documents = RunDocuments(project.clients.s3, file)
    documents.end_job("done")
    lines: list[dict[str, Any]] = []
    for job in range(failed):
        message = {"command": "work", "output_location": "r", "group": {"n": number * 100 + job}}
        values = {"reason": "exit code 1", "reason_class": "program", "message": message}
        lines.append(documents.end_job(f"{number}-{job}", "failed", **values))
    documents.write_journal("c1", *lines)
    end_run(project, failed, file=file)
    return file


def test_retry_leads_straight_to_the_newest_run_with_failed_jobs(project: Project) -> None:
    project.run.end_job("done")
    end_run(project, 0)
    project.run.put_object(build_monitor_file_key("App"), json.dumps(asdict(MONITOR_FILE)).encode())
    for number in (1, 2, 5):
        build_earlier_run(project, number, 0)
    repeated, failed = build_earlier_run(project, 3, 2), build_earlier_run(project, 4, 3)
    for job in range(2):
        project.run.end_job(f"3-{job}")  # these have succeeded since
    error = project.send_jobs()
    assert join_commands(error).splitlines()[-2:] == [
        f"failed jobs     in the run {failed.run}; to send them, type:",
        f"                python run.py retry {failed.run}",
    ]
    assert repeated.run not in error
    code, _, error = project.retry("--only", "time-out")
    assert (code, len(list_error_lines(error))) == (ExitCode.INPUT, 1)
    assert list_commands(error) == [f"python run.py retry {failed.run}"]


def test_retry_of_a_run_whose_jobs_fail_in_the_queue_gives_the_advice_of_status(project: Project) -> None:
    attempt = {"reason": "exit code 127", "reason_class": "program", "exit_code": 127}
    lines = [project.run.end_job(f"job-{n}", "failed", final=False, **attempt) for n in range(3)]
    project.run.write_journal("c1", *lines)
    end_run(project, 0, reason="nothing works", left=3, done=0)
    send_waiting(project, 3)
    error = project.send_jobs("--yes")
    assert re.search(r"^in the queue +3 jobs; attempts of 3 jobs have failed$", error, re.M), error
    assert list_next(error) == ["python run.py submitJob JOBFILE --replace", *START]
    assert list_next(project.run_command("status")[1]) == list_next(error)
