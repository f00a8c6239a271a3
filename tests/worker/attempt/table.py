"""One message from lease to deletion, on a table where a test sees and moves all: the queue, the bucket, the stop."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.handler import Hooks, JobHandler, ProgramTools
from distributed_something.worker.attempt.job_record import read_record
from distributed_something.worker.attempt.lease import Lease, LeaseKeeper
from distributed_something.worker.attempt.outcomes import AttemptFinisher, OutcomeCallbacks
from distributed_something.worker.container.stop import StopRequest
from distributed_something.worker.job.job import Folders, Job, job_from_message
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.worker_settings import read_worker_settings
from distributed_something.worker.logs.job_log import JobLogs
from distributed_something.worker.machine.clock import Clock
from distributed_something.worker.program.launcher import LauncherPool
from distributed_something.worker.program.memory import OomKills
from tests.support.emulator import until

HOUR = 3600
URL = "https://sqs.us-east-1.amazonaws.com/123456789012/queue"
ENVIRONMENT = {
    "APP_NAME": "App",
    "SQS_QUEUE_URL": URL,
    "AWS_BUCKET": "ours",
    "SQS_DEAD_LETTER_QUEUE_URL": f"{URL}-dead",
}
MESSAGE = {"group": "g", "command": "touch {output_dir}/a"}  # what a test handles that says nothing else
JOB = job_id(MESSAGE)
SLOW = {"group": "g", "command": "touch begun; sleep 600", "shell": True}


class Queue:
    """Remembers what was done with messages."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.told: list[dict[str, str]] = []  # the attributes of what was sent

    def change_message_visibility(self, **_: Any) -> None:
        self.calls.append("given back")

    def delete_message(self, **_: Any) -> None:
        self.calls.append("deleted")

    def send_message(self, MessageAttributes: Any, **_: Any) -> None:
        again = "reason" not in MessageAttributes
        self.calls.append("sent again" if again else "buried")
        self.told.append({name: value["StringValue"] for name, value in MessageAttributes.items()})


def message_of(
    body: Any = None, receives: int = 1, first: float = 0, carried: dict[str, str] | None = None
) -> dict[str, Any]:
    """A message as SQS gives it."""
    return {
        "ReceiptHandle": "r",
        "Body": json.dumps(body or MESSAGE),
        "Attributes": {
            "ApproximateReceiveCount": str(receives),
            "ApproximateFirstReceiveTimestamp": str(int((time.time() - first * HOUR) * 1000)),
        },
        "MessageAttributes": {name: {"StringValue": text} for name, text in (carried or {}).items()},
    }


class WatchedS3:
    """A client of S3 that calls `before`, with the request, before each PutObject."""

    def __init__(self, s3: Any, before: Callable[[dict[str, Any]], object]) -> None:
        self._s3, self._before = s3, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._s3, name)

    def put_object(self, **request: Any) -> Any:
        self._before(request)
        return self._s3.put_object(**request)


class Table:
    """A handler with its queue; a test replaces its hooks, its clock, and the clock of its leases."""

    def __init__(self, s3: Any, tmp_path: Path, launcher: LauncherPool) -> None:
        self.launcher, self.oom_kills = launcher, OomKills()
        self.clock, self.lease_clock = Clock(), time.monotonic
        self.queue, self.stop, self.s3 = Queue(), StopRequest(time.monotonic), s3
        self.heard: list[str] = []
        self.leaving: list[Lease] = []
        self.settings = read_worker_settings(ENVIRONMENT | {"WORK_DIR": str(tmp_path)})
        self.keeper = LeaseKeeper(self.queue, URL, 30, lambda: self.lease_clock())

    @property
    def context(self) -> WorkerContext:
        return WorkerContext(self.settings, self.queue, self.s3, self.clock)

    def handle(
        self, body: Any = None, *, receives: int = 1, first: float = 0, carried: dict[str, str] | None = None,
        **hooks: Any,
    ) -> None:  # fmt: skip
        """`first`: how many hours ago the message was first received; `carried`: what it was told when it was sent."""
        handler = self._handler(hooks)
        attempt = handler.take_message(message_of(body, receives, first, carried or {}), self.lease_clock())
        if handler.begin_attempt(attempt) and handler.run_attempt(attempt):
            handler.finish_attempt(attempt)
        self._check_that_nothing_is_left()

    def give_back(self) -> None:
        """A message that was held for a slot, when the container ends."""
        handler = self._handler({})
        handler.give_back(handler.take_message(message_of(), self.lease_clock()))
        self._check_that_nothing_is_left()

    def interrupt(self) -> dict[str, Any]:
        """Ends the container while SLOW's program runs; the record that is there then."""

        def when_it_runs(_job: Job, folders: Folders) -> None:
            def tell() -> None:
                until((folders.root / "begun").exists, "the program does not start")
                self.stop.announce_end(0)

            threading.Thread(target=tell).start()

        self.handle(SLOW, prepare=when_it_runs)
        return self.record(job_id(SLOW))

    def lose_lease(self) -> None:
        """SQS refuses to extend the lease of the message that is handled."""
        self.keeper.held_leases[0].refused = True

    def record(self, job: str = JOB) -> dict[str, Any]:
        """The job's record; an empty one where there is none."""
        return read_record(self.context, job) or {}

    def result(self) -> bytes:
        """The one result of a job that says nothing else."""
        return bytes(self.s3.get_object(Bucket="ours", Key=f"App/{JOB}/a")["Body"].read())

    def _handler(self, hooks: dict[str, Any]) -> JobHandler:
        chosen: dict[str, Any] = {
            "make_job": job_from_message, "prepare": lambda *_: None, "failure": lambda *_: None,
        } | hooks  # fmt: skip
        heard = OutcomeCallbacks(
            lambda size: self.heard.append("success"), lambda *words: self.heard.append(": ".join(words[1:]))
        )
        finisher = AttemptFinisher(self.context, self.keeper, heard, self._delete_soon)
        tools = ProgramTools(self.launcher, JobLogs(None, ""), self.oom_kills)
        return JobHandler(self.context, Hooks(**chosen), self.keeper, self.stop, finisher, tools)

    def _delete_soon(self, lease: Lease) -> None:
        assert lease in self.keeper.held_leases
        self.leaving.append(lease)
        self.queue.calls.append("deleted")

    def _check_that_nothing_is_left(self) -> None:
        assert self.keeper.held_leases == self.leaving  # theirs end with their messages
        while self.leaving:
            self.keeper.release_lease(self.leaving.pop())
        assert list(self.settings.work_dir.glob("job-*")) == []


def broken(*_: Any) -> Any:
    """A hook with a mistake in it."""
    raise KeyError("image")
