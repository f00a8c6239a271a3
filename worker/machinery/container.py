"""Serves one container: DOCKER_CORES slots that take jobs until the container is told to end (SIGTERM)."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from . import logs
from .handle import Handler, Hooks
from .job import Folders, Job
from .lease import Keeper
from .program import Result
from .settings import BadEnvironment, Settings, from_environment

POLL_SECONDS = 5  # SQS allows 20; an idle worker must end soon after it is told to
LAST_CALL_SECONDS = 10.0  # of the stop time-out's 110: for a call to AWS that is under way
LONGEST_PAUSE_SECONDS = 60.0  # between polls while AWS refuses them
log = logging.getLogger("worker")


def serve(
    *,
    make_job: Callable[[dict[str, Any], Folders, Settings], Job],
    prepare: Callable[[Job, Folders], None],
    failure: Callable[[Job, Folders, Result], str | None],
) -> int:
    """Works until SIGTERM or SIGINT; the process's exit code (2: the environment is wrong)."""
    try:
        settings = from_environment()
    except BadEnvironment as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # first: a container's first process ignores what it does not handle
        signal.signal(number, lambda *_: stopping.set())
    sqs, s3, logs_client = _clients(settings.docker_cores)
    logs.begin(logs_client, settings)
    keeper = Keeper(sqs, settings.queue_url, settings.visibility_seconds, time.monotonic)
    leases = threading.Thread(target=keeper.run, name="leases", daemon=True)
    leases.start()
    handler = Handler(sqs, s3, settings, Hooks(make_job, prepare, failure), keeper, stopping)
    slots = [Slot(sqs, settings, handler, stopping, number) for number in range(settings.docker_cores)]
    _run(slots, stopping)
    keeper.end()
    leases.join(LAST_CALL_SECONDS)  # a thread that is still in a call while Python ends can crash it
    logging.shutdown()
    return 0


class Slot:
    """Takes one job after the other."""

    def __init__(self, sqs: Any, settings: Settings, handler: Handler, stopping: threading.Event, number: int) -> None:
        self._sqs, self._settings, self._handler, self._stopping = sqs, settings, handler, stopping
        self._delay = number * settings.seconds_to_start

    def run(self) -> None:
        """Polls until told to stop, never ending because one poll was empty or one call failed."""
        self._stopping.wait(self._delay)
        pause = 1.0
        while not self._stopping.is_set():
            try:
                self.poll()
                pause = 1.0
            except (ClientError, BotoCoreError, OSError) as error:
                log.warning("AWS or this machine refuses (%s): trying again in %.0f s", error, pause)
            except Exception:  # the loop's edge: a slot that ended would leave its container idle, unseen
                log.exception("the worker's own code failed: trying again in %.0f s", pause)
            else:
                continue
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def poll(self) -> None:
        """Asks for one message and handles it."""
        asked = time.monotonic()
        answer = self._sqs.receive_message(
            QueueUrl=self._settings.queue_url,
            MaxNumberOfMessages=1,
            WaitTimeSeconds=POLL_SECONDS,
            VisibilityTimeout=self._settings.visibility_seconds,
            AttributeNames=["ApproximateReceiveCount"],
        )
        # The lease began when SQS answered, which is at most POLL_SECONDS after it was asked: on the safe side.
        for raw in answer.get("Messages", []):
            self._handler.handle(raw, asked)


def _run(slots: list[Slot], stopping: threading.Event) -> None:
    threads = [threading.Thread(target=slot.run, name=f"slot-{n}") for n, slot in enumerate(slots)]
    for thread in threads:
        thread.start()
    while not stopping.wait(1.0):
        pass  # the main thread stays free for signals
    for thread in threads:
        thread.join()


def _clients(slots: int) -> tuple[Any, Any, Any]:
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "max_attempts": 8}, max_pool_connections=10 * slots + 10, connect_timeout=10
    )
    session = boto3.Session()
    return tuple(session.client(name, config=config) for name in ("sqs", "s3", "logs"))  # type: ignore[return-value]
