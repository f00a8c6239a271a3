"""One try of one job: what it has come to so far."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from distributed_something.worker.attempt.lease import Lease
from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.transfer.results import ResultFile
from distributed_something.worker.transfer.s3_listing import ListedObject

# Message attributes of a job that was interrupted and sent again: SQS counts a new message's receives from zero.
FAILURES_ATTRIBUTE, ATTEMPTS_ATTRIBUTE = "failures", "tries"


@dataclass
class Attempt:
    """`tries` and `failures`: how often this job was begun, and failed, before this attempt.

    A receive that ended without a word (a killed worker, a lost lease) counts as a failure: it may be the job's fault.
    """

    raw: dict[str, Any]
    lease: Lease
    folders: Folders
    tries: int
    failures: int
    started: float  # seconds since 1970
    name: str = "a message"
    message: dict[str, Any] = field(default_factory=dict)
    job: Job | None = None
    time_limit: float = 0.0  # seconds that its program has
    token: str = field(default_factory=lambda: secrets.token_hex(3))  # tells attempts apart that have the same number
    oom_kills: int = 0  # in this container before its program began
    begun: bool = False  # whether its program was
    leaving: bool = False  # whether its message will be deleted: its lease ends with that
    result: Result | None = None
    bytes_in: int = 0
    outputs: list[ResultFile] = field(default_factory=list)
    recorded: bool = True  # where it was done before: whether a record of this run says so
    # What lay at the outputs' place when it was begun; None: nobody looked.
    there: dict[str, ListedObject] | None = None

    @property
    def number(self) -> int:
        return self.tries + 1


def read_attempt_counts(raw: dict[str, Any]) -> tuple[int, int]:
    """Tries and failures before this receive, from the message as SQS gave it."""
    received = max(1, _parse_count(raw.get("Attributes", {}).get("ApproximateReceiveCount")))
    attributes = raw.get("MessageAttributes", {})
    tries, failures = (
        _parse_count(attributes.get(name, {}).get("StringValue")) for name in (ATTEMPTS_ATTRIBUTE, FAILURES_ATTRIBUTE)
    )
    return tries + received - 1, failures + received - 1


def get_message_age(raw: dict[str, Any], now: float) -> float:
    """Seconds since the message's first receive, `now` being seconds since 1970; 0 if that is this one, however wrong
    this machine's clock is."""
    told = raw.get("Attributes", {})
    first = told.get("ApproximateFirstReceiveTimestamp", "")
    is_first = _parse_count(told.get("ApproximateReceiveCount")) < 2 or not first.isdecimal()
    return 0.0 if is_first else max(0.0, now - int(first) / 1000)


def build_message_attributes(attempt: Attempt) -> dict[str, Any]:
    """What the message of a job that is sent again is told. That is no failure, and no try unless its program was
    begun: before that, it leaves nothing behind."""
    told = {ATTEMPTS_ATTRIBUTE: attempt.tries + attempt.begun, FAILURES_ATTRIBUTE: attempt.failures}
    return {name: {"DataType": "Number", "StringValue": str(count)} for name, count in told.items()}


def _parse_count(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 10 else 0
