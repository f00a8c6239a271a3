"""`startCluster` with an empty queue: it asks before machines are started that would have nothing to do."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from distributed_something.cli import run_commands
from distributed_something.cli.context import Context, ExitCode
from distributed_something.cli.main import main
from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from distributed_something.run import start
from distributed_something.worker import AppKeys
from tests.support.fakes import SETTINGS, FakeBucket, FakeSqs

CONFIG = {name: value for name, value in SETTINGS.model_dump(exclude={"own"}).items() if value != ""}
REQUESTED = 77  # the exit code of this test's startCluster, which ends where it would request a fleet
PROBLEM = (
    "run.py: config.py: SQS_QUEUE_NAME: the queue AppQueue of App is empty, so its machines would have nothing to do;"
    " add --yes, or type first:\n  python run.py submitJob JOBFILE\n"
)


class Project:
    """A project with a Fleet file, a queue, and a bucket. All of startCluster's other checks succeed."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.patch, self.capsys = folder, patch, capsys
        self.sqs, self.bucket = FakeSqs(), FakeBucket()
        self.sqs.created = 0
        self.bucket.modified = time.time()
        (folder / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in CONFIG.items()))
        patch.chdir(folder)
        clients = SimpleNamespace(sqs=self.sqs, s3=self.bucket, ec2=None, sts=None)
        patch.setattr(Context, "clients", clients)
        patch.setattr(run_commands, "_load_fleet_file", lambda *_: {})
        for name in ("check_fleet_file", "_find_queues", "_find_auto_monitor", "_find_unfinished_start"):
            patch.setattr(start, name, lambda *_: None)
        patch.setattr(run_commands, "_stop_if_check_fails", lambda *_: None)
        patch.setattr(start, "resolve_owner", self._request)

    @staticmethod
    def _request(*_: Any) -> None:
        raise SystemExit(REQUESTED)

    def start(self, *arguments: str) -> tuple[int, str]:
        """Run the command, and return its exit code and what it wrote to standard error."""
        code = main(["startCluster", "fleet.json", *arguments])
        return code, self.capsys.readouterr().err

    def answer(self, text: str) -> None:
        """Let the command run in a terminal in which the user types this answer."""
        terminal = SimpleNamespace(isatty=lambda: True)
        self.patch.setattr(sys, "stdin", terminal)
        self.patch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        self.patch.setattr(click.termui, "visible_prompt_func", lambda _: text)

    def write_submission(self, began: float, ended: float | None, count: int = 2, queue: str = "AppQueue") -> None:
        """Write the document of a submission that began and ended this many seconds ago."""
        begin, end = (None if ago is None else build_submission_time(time.time() - ago) for ago in (began, ended))
        assert begin is not None
        document = SubmissionDocument("App", queue, begin, "job.json", "digest", 2, count, end)
        self.bucket.objects[AppKeys("App").submission(begin)] = build_submission(document)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Project:
    return Project(tmp_path, monkeypatch, capsys)


def test_without_a_terminal_an_empty_queue_is_rejected_in_one_line(project: Project) -> None:
    assert project.start() == (ExitCode.INPUT, PROBLEM)


@pytest.mark.parametrize("answer", ["", "n", "no"])
def test_in_a_terminal_no_is_the_default_and_nothing_is_requested(project: Project, answer: str) -> None:
    project.answer(answer)
    code, error = project.start()
    assert code == ExitCode.INPUT
    assert error.startswith("The queue AppQueue is empty; type first:\n  python run.py submitJob JOBFILE\n")
    assert error.splitlines()[-1] == "no machines were requested"


def test_in_a_terminal_the_answer_yes_starts_machines(project: Project) -> None:
    project.answer("y")
    assert project.start()[0] == REQUESTED


def test_with_yes_there_is_no_question(project: Project) -> None:
    assert project.start("--yes") == (REQUESTED, "")


def test_with_jobs_in_the_queue_there_is_no_question(project: Project) -> None:
    project.sqs.received.append("a job")
    assert project.start() == (REQUESTED, "")


@pytest.mark.parametrize(("began", "ended"), [(3, 1), (600, 100), (20, None)])
def test_jobs_that_were_just_sent_are_known_although_sqs_does_not_count_them_yet(
    project: Project, began: float, ended: float | None
) -> None:
    project.write_submission(began, ended)
    assert project.start() == (REQUESTED, "")


def test_earlier_submissions_and_those_of_another_queue_do_not_count(project: Project) -> None:
    project.write_submission(3600, 3000)
    project.write_submission(7200, None)
    project.write_submission(30, 20, count=0)
    project.write_submission(10, 5, queue="OtherQueue")
    assert project.start() == (ExitCode.INPUT, PROBLEM.replace("JOBFILE", "job.json")), "the Job file used last"
