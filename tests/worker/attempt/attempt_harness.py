"""A harness for one message, from lease to deletion: the test controls the queue, the bucket, and the stop request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed_something.worker.attempt import job_record
from distributed_something.worker.attempt.attempt import Attempt
from distributed_something.worker.attempt.context import ProgramTools, WorkerContext
from distributed_something.worker.attempt.handler import Hooks, JobHandler
from distributed_something.worker.attempt.lease import Lease, LeaseKeeper
from distributed_something.worker.attempt.outcomes import AttemptFinisher, OutcomeCallbacks
from distributed_something.worker.container.stop import StopRequest
from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.job.worker_settings import read_worker_settings
from distributed_something.worker.logs.job_log import JobLogs
from distributed_something.worker.machine.clock import Clock
from distributed_something.worker.program.disk_guard import DiskGuard, read_disk_space
from distributed_something.worker.program.launcher import LauncherPool
from distributed_something.worker.program.memory import OomKills
from tests.support.emulator import wait_until

HOUR = 3600
QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/queue"
ENVIRONMENT = {
    "APP_NAME": "App",
    "SQS_QUEUE_URL": QUEUE_URL,
    "AWS_BUCKET": "ours",
    "SQS_DEAD_LETTER_QUEUE_URL": f"{QUEUE_URL}-dead",
}
MESSAGE = {"group": "g", "command": "touch {output_dir}/a"}  # the default message
JOB_ID = job_id(MESSAGE)
SLOW_MESSAGE = {"group": "g", "command": "touch started; sleep 600", "shell": True}


class FakeQueue:
    """A queue that records what happened to its messages."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.sent_attributes: list[dict[str, str]] = []  # one entry per sent message

    def change_message_visibility(self, **_: Any) -> None:
        self.calls.append("returned")

    def delete_message(self, **_: Any) -> None:
        self.calls.append("deleted")

    def send_message(self, MessageAttributes: Any, **_: Any) -> None:
        is_sent_again = "reason" not in MessageAttributes
        self.calls.append("sent again" if is_sent_again else "sent to the dead-letter queue")
        self.sent_attributes.append({name: value["StringValue"] for name, value in MessageAttributes.items()})


def build_message(
    body: Any = None, receives: int = 1, hours_since_first: float = 0, attributes: dict[str, str] | None = None,
    message_id: str = "message-1",
) -> dict[str, Any]:  # fmt: skip
    """Return a message in the form that SQS returns, first received `hours_since_first` hours ago."""
    return {
        "MessageId": message_id,
        "ReceiptHandle": "r",
        "Body": body if isinstance(body, str) else json.dumps(body or MESSAGE),
        "Attributes": {
            "ApproximateReceiveCount": str(receives),
            "ApproximateFirstReceiveTimestamp": str(int((time.time() - hours_since_first * HOUR) * 1000)),
        },
        "MessageAttributes": {name: {"StringValue": text} for name, text in (attributes or {}).items()},
    }


class InterceptedS3:
    """An S3 client that calls `before_put` with the request before each PutObject call."""

    def __init__(self, s3: Any, before_put: Callable[[dict[str, Any]], object]) -> None:
        self._s3, self._before_put = s3, before_put

    def __getattr__(self, name: str) -> Any:
        return getattr(self._s3, name)

    def put_object(self, **request: Any) -> Any:
        self._before_put(request)
        return self._s3.put_object(**request)


class AttemptHarness:
    """A job handler with its queue. A test can replace the hooks, the clock, and the clock for leases."""

    def __init__(self, s3: Any, tmp_path: Path, launcher: LauncherPool) -> None:
        self.launcher, self.oom_kills = launcher, OomKills()
        self.disk = DiskGuard(lambda: read_disk_space(tmp_path))
        self.clock, self.lease_clock = Clock(), time.monotonic
        self.queue, self.stop, self.s3 = FakeQueue(), StopRequest(time.monotonic), s3
        self.callback_calls: list[str] = []
        self.is_replaced: Callable[[float | None], bool] = lambda sent: False
        self.recorded: list[dict[str, Any]] = []  # the records that were reported for the journal
        self.leases_to_release: list[Lease] = []
        self.settings = read_worker_settings(ENVIRONMENT | {"WORK_DIR": str(tmp_path)})
        self.keeper = LeaseKeeper(self.queue, QUEUE_URL, 30, lambda: self.lease_clock())

    @property
    def context(self) -> WorkerContext:
        return WorkerContext(self.settings, self.queue, self.s3, self.clock)

    def handle(
        self, body: Any = None, *, receives: int = 1, hours_since_first: float = 0,
        attributes: dict[str, str] | None = None, message_id: str = "message-1",
        wait: Callable[[], object] = lambda: None, **hooks: Any,
    ) -> None:  # fmt: skip
        """Take one message through all stages.

        `hours_since_first`: how long ago the message was first received. `attributes`: the message's
        attributes. `wait()` is called when the attempt waits for a slot.
        """
        handler = self.build_handler(hooks)
        attempt = handler.take_message(
            build_message(body, receives, hours_since_first, attributes or {}, message_id), self.lease_clock()
        )
        if handler.begin_attempt(attempt):
            wait()
            if handler.run_attempt(attempt):
                handler.finish_attempt(attempt)
        self._check_cleanup()

    def begin_attempt(self, body: Any = None) -> Attempt:
        """Take one message through the first stage only, remove its folder, and return the attempt."""
        handler = self.build_handler({})
        attempt = handler.take_message(build_message(body), self.lease_clock())
        handler.begin_attempt(attempt)
        handler.return_attempt(attempt)
        return attempt

    def return_message(self) -> None:
        """Return a message that was received but not started, as a container does when it ends."""
        handler = self.build_handler({})
        handler.return_attempt(handler.take_message(build_message(), self.lease_clock()))
        self._check_cleanup()

    def interrupt(self) -> dict[str, Any]:
        """Stop the container while SLOW_MESSAGE's program runs, and return the record."""

        def stop_container_later(_job: Job, folders: Folders) -> None:
            def stop_container() -> None:
                wait_until((folders.root / "started").exists, "the program did not start")
                self.stop.announce_end(0)

            threading.Thread(target=stop_container).start()

        self.handle(SLOW_MESSAGE, prepare=stop_container_later)
        return self.read_record(job_id(SLOW_MESSAGE))

    def lose_lease(self) -> None:
        """Mark the handled message's lease as rejected by SQS."""
        self.keeper.leases[0].is_rejected = True

    def read_record(self, job: str = JOB_ID) -> dict[str, Any]:
        """Return the job's record, or an empty dict if it does not exist."""
        return job_record.read_record(self.context, job) or {}

    def read_result(self) -> bytes:
        """Return the content of the default message's only result."""
        return bytes(self.s3.get_object(Bucket="ours", Key=f"App/{JOB_ID}/a")["Body"].read())

    def replace_settings(self, **variables: str) -> None:
        """Set environment variables of the container."""
        self.settings = read_worker_settings(ENVIRONMENT | {"WORK_DIR": str(self.settings.work_dir)} | variables)

    def build_handler(self, hooks: dict[str, Any]) -> JobHandler:
        """Return a handler for several messages with these hooks; the others keep their standard behavior."""
        all_hooks: dict[str, Any] = {
            "make_job": job_from_message, "prepare": lambda *_: None, "failure": lambda *_: None,
        } | hooks  # fmt: skip
        callbacks = OutcomeCallbacks(
            lambda size: self.callback_calls.append("success"),
            lambda *args: self.callback_calls.append(": ".join(args[1:])),
            self.recorded.append,
            lambda job_id: self.callback_calls.append("failed elsewhere"),
        )
        finisher = AttemptFinisher(self.context, self.keeper, callbacks, self._delete_soon, self.is_replaced)
        tools = ProgramTools(self.launcher, JobLogs(None, ""), self.disk, self.oom_kills)
        return JobHandler(self.context, Hooks(**all_hooks), self.keeper, self.stop, finisher, tools)

    def _delete_soon(self, lease: Lease) -> None:
        assert lease in self.keeper.leases
        self.leases_to_release.append(lease)
        self.queue.calls.append("deleted")

    def _check_cleanup(self) -> None:
        assert self.keeper.leases == self.leases_to_release  # these leases are released when their messages are deleted
        while self.leases_to_release:
            self.keeper.release_lease(self.leases_to_release.pop())
        assert list(self.settings.work_dir.glob("job-*")) == []


def failing_hook(*_: Any) -> Any:
    """Raise a KeyError, as a hook with a bug might."""
    raise KeyError("image")
