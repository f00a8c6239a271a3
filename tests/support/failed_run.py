"""A project in an emulated account, whose run has records of failed jobs but no resources in AWS except the bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from distributed_something.cli.context import Context, ExitCode
from distributed_something.cli.main import main
from distributed_something.core.monitor_file import build_monitor_file_key
from distributed_something.worker import job_id
from tests.support.emulated_runs import emulated_account
from tests.support.fakes import MONITOR_FILE, SETTINGS
from tests.support.run_documents import RunDocuments

CONFIG = {name: value for name, value in SETTINGS.model_dump(exclude={"own"}).items() if value != ""}
BUCKET = SETTINGS.AWS_BUCKET
LATER = replace(MONITOR_FILE, MONITOR_START_TIME=MONITOR_FILE.MONITOR_START_TIME + 3_600_000)


def build_message(number: int) -> dict[str, Any]:
    return {"command": "work {n}", "output_location": "results/{job}", "group": {"n": number}}


class Project:
    """A project with a run, MONITOR_FILE, and documents of a run that started an hour later.

    The first run's monitor file exists only as the app's copy in the bucket.
    """

    def __init__(self, folder: Path, clients: Any, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.clients, self.capsys = folder, clients, capsys
        clients.s3.create_bucket(Bucket=BUCKET)
        self.sent: list[dict[str, Any]] = []  # the entries of all batches
        clients.sqs.meta.events.register(
            "before-parameter-build.sqs.SendMessageBatch", lambda params, **_: self.sent.extend(params["Entries"])
        )
        self.run, self.later = RunDocuments(clients.s3, MONITOR_FILE), RunDocuments(clients.s3, LATER)
        self.run.put_object(build_monitor_file_key("App"), json.dumps(asdict(MONITOR_FILE)).encode())
        (folder / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in CONFIG.items()))
        (folder / "files").mkdir()

    def fail_jobs(self, count: int, documents: RunDocuments | None = None, **more: Any) -> list[str]:
        """Write records of failed jobs, and return their IDs."""
        messages = [build_message(number) for number in range(count)]
        for message in messages:
            values = {"reason": "exit code 1", "reason_class": "program", "message": message} | more
            (documents or self.run).end_job(job_id(message), "failed", **values)
        return [job_id(message) for message in messages]

    def run_command(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; return its exit code and what it wrote to standard output and standard error."""
        code = main(list(arguments))
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def retry(self, *arguments: str) -> tuple[int, str, str]:
        """Run `retry`; return the same as `run_command`."""
        return self.run_command("retry", *arguments)

    def send_jobs(self, *arguments: str) -> str:
        code, _, error = self.retry(*arguments)
        assert code == ExitCode.DONE, error
        return error

    def find_problems(self, *arguments: str) -> list[str]:
        """Run the command, which must be refused; return the file or option that each line of the error names."""
        code, out, error = self.retry(*arguments)
        assert (code, out) == (ExitCode.INPUT, ""), error
        return [line.removeprefix("run.py: ").split(": ")[0] for line in list_error_lines(error)]

    def empty_queue(self) -> None:
        url = self.clients.sqs.get_queue_url(QueueName=SETTINGS.SQS_QUEUE_NAME)["QueueUrl"]
        self.clients.sqs.purge_queue(QueueUrl=url)


@contextmanager
def open_project(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Project]:
    """Yield a project in `folder`, which becomes the current folder. Its queue's counts settle at once."""
    with emulated_account() as clients:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(Context, "clients", clients)
        monkeypatch.setattr("distributed_something.observe.queue.SETTLING_SECONDS", 0.0)
        yield Project(folder, clients, capsys)


def list_error_lines(error: str) -> list[str]:
    """Return the lines of an error without the commands below them."""
    return [line for line in error.splitlines() if not line.startswith("  ")]
