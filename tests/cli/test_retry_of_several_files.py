"""`retry --with` after a run of several Job files: each file makes only its own jobs again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from distributed_something.cli.context import ExitCode
from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from distributed_something.worker import AppKeys, job_id
from tests.support.failed_run import BUCKET, Project, build_message, list_error_lines, open_project
from tests.support.fakes import MONITOR_FILE, START
from tests.support.project import join_commands

FILES = ["files/aJob.json", "files/bJob.json"]
SCRIPT = ""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    with open_project(tmp_path, monkeypatch, capsys) as project:
        for number, path in enumerate(FILES):
            write_job_file(project, path, chr(ord("a") + number))
        yield project


def write_job_file(project: Project, path: str, name: str) -> None:
    content = {"command": f"{name} {{n}}", "output_location": f"{name}/{{job}}", "groups": [{"n": 0}]}
    (project.folder / path).write_text(json.dumps(content))


def fail(project: Project, *submissions: str | None, **more: Any) -> list[str]:
    """Write the records of failed jobs, one of each of these submissions; None for a job of an older worker."""
    jobs = []
    for submission in submissions:
        message = build_message(len(project.sent) + len(jobs) + 10 * bool(more))
        values = {"reason": "exit code 1", "reason_class": "program", "exit_code": 1, "message": message} | more
        origin = {} if submission is None else {"submission": submission}
        project.run.end_job(job_id(message), "failed", **values, **origin)
        jobs.append(job_id(message))
    return jobs


def submit(project: Project, paths: Sequence[str] = FILES) -> list[str]:
    """Write the document of a submission of each of these Job files, and return their times."""
    times = [build_submission_time(START - 100 + number) for number in range(len(paths))]
    for time, path in zip(times, paths, strict=True):
        document = SubmissionDocument("App", "AppQueue", time, Path(path).name, "digest", 2, 2, time, path=path)
        project.clients.s3.put_object(
            Bucket=BUCKET, Key=AppKeys("App").submission(time), Body=build_submission(document)
        )
    return times


def list_commands_sent(project: Project) -> list[str]:
    return sorted(json.loads(entry["MessageBody"])["command"] for entry in project.sent)


def test_each_job_file_makes_only_its_own_jobs_again(project: Project) -> None:
    first, second = submit(project)
    a1, b1, b2 = fail(project, first, second, second)
    error = project.send_jobs("--with", "files/bJob.json")
    assert {entry["MessageAttributes"]["retry_job"]["StringValue"] for entry in project.sent} == {b1, b2}
    assert list_commands_sent(project) == ["b {n}", "b {n}"]
    (command,) = re.findall(
        r"^not selected +1 job of files/aJob.json; .*\n +python run.py (.*)$", join_commands(error), re.M
    )
    assert command == f"retry {MONITOR_FILE.run} --yes --with files/aJob.json"
    error = project.send_jobs("--yes", "--with", "files/aJob.json")
    assert "not selected" not in error
    assert project.sent[-1]["MessageAttributes"]["retry_job"]["StringValue"] == a1
    assert list_commands_sent(project) == ["a {n}", "b {n}", "b {n}"]


def test_jobs_of_an_unknown_job_file_are_sent_with_the_given_one(project: Project) -> None:
    first, second = submit(project)
    fail(project, first, second, None)
    error = project.send_jobs("--with", str(project.folder / "files" / "aJob.json"))
    assert list_commands_sent(project) == ["a {n}"] * 2
    assert "1 job of files/bJob.json" in error


def test_jobs_of_a_script_are_left_out_if_the_given_file_made_other_failed_jobs(project: Project) -> None:
    (first,) = submit(project, FILES[:1])
    fail(project, first, SCRIPT, SCRIPT)
    error = project.send_jobs("--with", FILES[0])
    assert list_commands_sent(project) == ["a {n}"]
    row = "not selected 2 jobs that a script sent; run the corrected script to send them again"
    assert row in " ".join(error.split())


def test_a_corrected_copy_of_one_of_several_job_files_needs_a_selection(project: Project) -> None:
    first, second = submit(project)
    a1, b1 = fail(project, first, second)
    write_job_file(project, "files/copy.json", "c")
    code, _, error = project.retry("--with", "files/copy.json")
    (line,) = list_error_lines(error)
    assert code == ExitCode.INPUT
    assert "files/aJob.json (1 job) and files/bJob.json (1 job)" in line
    assert "--only" in line
    assert project.find_problems("--with", "files/copy.json", "--only", "program") == ["--with files/copy.json"]
    project.send_jobs("--with", "files/copy.json", "--only", a1)
    project.send_jobs("--with", "files/aJob.json", "--only", b1, "--yes")
    assert list_commands_sent(project) == ["a {n}", "c {n}"]


def test_a_selection_of_jobs_of_several_files_is_reduced_to_those_of_the_given_file(project: Project) -> None:
    first, second = submit(project)
    fail(project, first, second)
    error = project.send_jobs("--with", "files/aJob.json", "--only", "program")
    assert list_commands_sent(project) == ["a {n}"]
    command = f"retry {MONITOR_FILE.run} --yes --only program --with files/bJob.json"
    assert command in join_commands(error)
    project.run_command(*command.split())
    assert list_commands_sent(project) == ["a {n}", "b {n}"]


def test_the_jobs_of_one_job_file_are_never_made_from_another_one_of_the_run(project: Project) -> None:
    first, _ = submit(project)
    (a1,) = fail(project, first)
    code, _, error = project.retry("--with", "files/bJob.json", "--dry-run")
    assert code == ExitCode.INPUT
    assert "no failed job was made from this Job file; they were made from files/aJob.json (1 job)" in error
    project.send_jobs("--with", "files/bJob.json", "--only", a1)
    assert list_commands_sent(project) == ["b {n}"]


def test_after_a_run_of_one_job_file_a_corrected_copy_may_have_another_name(project: Project) -> None:
    (first,) = submit(project, FILES[:1])
    fail(project, first, first)
    write_job_file(project, "files/copy.json", "c")
    project.send_jobs("--with", "files/copy.json")
    assert list_commands_sent(project) == ["c {n}", "c {n}"]


def test_jobs_of_another_file_that_replace_removes_from_the_queue_can_be_sent_again(project: Project) -> None:
    first, second = submit(project)
    fail(project, first, second)
    project.send_jobs("--with", "files/aJob.json")
    project.send_jobs("--yes", "--with", "files/bJob.json")
    error = project.send_jobs("--replace", "--with", "files/aJob.json")
    (command,) = re.findall(r"^not selected +1 job of .*\n +python run.py (.*)$", join_commands(error), re.M)
    error = project.run_command(*command.split())[2]
    assert re.search(r"^to send +1 job$", error, re.M), error
    assert list_commands_sent(project) == ["a {n}", "a {n}", "b {n}", "b {n}"]


def test_only_uploads_of_the_job_files_of_the_sent_jobs_are_noted(project: Project) -> None:
    """The commands in the notes, typed in this order, send each job with its own file."""
    first, second = submit(project)
    a1, _ = fail(project, first, second)
    for name in ("a", "b"):
        path = project.folder / "files" / f"{name}Job.json"
        (project.folder / "files" / name).mkdir()
        (project.folder / "files" / name / "program.sh").write_text("corrected")
        path.write_text(json.dumps({**json.loads(path.read_text()), "upload": {name: name}}))
    error = project.retry("--dry-run", "--only", a1)[2]
    assert "files/aJob.json differs" in error
    assert "bJob.json" not in error
    error = join_commands(project.send_jobs("--yes"))
    commands = re.findall(rf"^ +python run.py (retry {MONITOR_FILE.run} --with .*)$", error, re.M)
    assert [command.split()[3:] for command in commands] == [
        ["files/aJob.json", "--replace"],
        ["files/bJob.json", "--yes"],
    ]
    for command in commands:
        assert "1 file uploaded" in project.run_command(*command.split())[2]
    assert [json.loads(entry["MessageBody"])["command"] for entry in project.sent[2:]] == ["a {n}", "b {n}"]


def test_the_command_for_jobs_that_only_leaves_out_names_the_file_that_they_came_from(project: Project) -> None:
    first, second = submit(project)
    a1, _ = fail(project, first, second)
    error = join_commands(project.retry("--dry-run", "--only", a1, "--with", "files/aJob.json")[2])
    assert f"python run.py retry {MONITOR_FILE.run} --with files/bJob.json\n" in error
