"""The state of one attempt at a job."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Any

from distributed_something.worker.attempt.lease import Lease
from distributed_something.worker.hooks.delivery import Delivery
from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.program.disk_guard import MAX_UNCOUNTED_ATTEMPTS
from distributed_something.worker.shared_inputs.store import SharedFiles
from distributed_something.worker.transfer.inputs import InputFile
from distributed_something.worker.transfer.results import ResultFile
from distributed_something.worker.transfer.s3_listing import ListedObject

# Attributes of a message that was sent again after an interruption, because SQS counts a new message's receives from 0
# and gives the new message another ID.
FAILURES_ATTRIBUTE, ATTEMPTS_ATTRIBUTE, FIRST_ID_ATTRIBUTE = "failures", "tries", "first_id"
# An attribute from `submitJob --again`: the time of the submission, such as 2026-11-23T10:45:00.000Z. Results that are
# older do not count as done.
AGAIN_ATTRIBUTE = "again_since"
# Attributes from `retry`: the run in which the job failed, and the ID that the job had there.
RETRY_RUN_ATTRIBUTE, RETRY_JOB_ATTRIBUTE = "retry_of", "retry_job"
# An attribute of a message that was sent again because a program had changed a shared input: "1" if the job gets copies
# of its shared inputs that no other job can change.
OWN_COPIES_ATTRIBUTE = "own_shared_inputs"
# An attribute from `submitJob` and `retry`: the time of the submission whose Job file the message was made from, as in
# the submission's document. Messages that a script sends do not have it.
SUBMISSION_ATTRIBUTE = "submission"
_KEPT_ATTRIBUTES = (AGAIN_ATTRIBUTE, RETRY_RUN_ATTRIBUTE, RETRY_JOB_ATTRIBUTE, SUBMISSION_ATTRIBUTE)  # sent unchanged
MESSAGE_ATTRIBUTES = (
    FAILURES_ATTRIBUTE, ATTEMPTS_ATTRIBUTE, FIRST_ID_ATTRIBUTE, OWN_COPIES_ATTRIBUTE, *_KEPT_ATTRIBUTES,
)  # fmt: skip
# Failures that another job's program may cause by changing a shared input.
_NEIGHBOR_CLASSES = frozenset({"program", "signal", "worker code"})


@dataclass
class Attempt:
    """One attempt at a job and its state so far.

    `earlier_attempts` and `failures`: how many attempts at the job were made before this one, and how many of them
    failed. An attempt whose outcome is unknown (the worker was killed or lost the lease) counts as a failure, since the
    job may have caused it.
    """

    raw: dict[str, Any]
    lease: Lease
    folders: Folders
    earlier_attempts: int
    failures: int
    started: float  # seconds since 1970
    name: str = "a message"
    message: dict[str, Any] = field(default_factory=dict)
    job: Job | None = None
    time_limit: float = 0.0  # for the program, in seconds
    token: str = field(default_factory=lambda: secrets.token_hex(3))  # distinguishes attempts with the same number
    oom_kills: int = 0  # out-of-memory kills in this container before the program started
    fetch_started: float | None = None  # when its inputs began to be fetched, in seconds since 1970
    slot: int | None = None  # the number of the slot that took it, from 0
    used_seconds: float = 0.0  # how long its stages took that have ended; it waits for a slot between two of them
    stage_started: float | None = None  # when its current stage began, in seconds since 1970
    has_started: bool = False  # whether the program was started
    is_substitute: bool = False  # whether it only records the end of an attempt whose worker was lost
    is_deletion_queued: bool = False  # whether the message will be deleted, which also releases the lease
    is_settled: bool = False  # whether the message was deleted or returned to a queue
    fetch_end: float = inf  # when the fetch of its inputs must have ended, on the clock's `monotonic`
    ending_since: float | None = None  # when a thread began to end the attempt, on the clock's `monotonic`
    result: Result | None = None
    start_error: str | None = None  # why the program could not be started, such as ENOENT
    missing_input: str | None = None  # the address of an input that is not in S3
    explanation: str | None = None  # of a failure that the log does not explain, instead of its most telling line
    bytes_in: int = 0
    shared: SharedFiles = field(default_factory=SharedFiles)
    has_changed_inputs: bool = False  # whether a program, possibly of another job, changed one of them
    inputs: list[InputFile] = field(default_factory=list)
    outputs: list[ResultFile] = field(default_factory=list)
    delivered: list[Delivery] = field(default_factory=list)  # by the hook `deliver`
    # Other jobs' files in a shared location that this attempt replaced: `key` and `job`, the other job.
    overwritten: list[dict[str, str]] = field(default_factory=list)
    # For a job that is already done: whether this run's record is about the same message, and if not, which run the
    # results are from (`run`, None if unknown) and how old they are (`modified`, a UTC timestamp).
    is_recorded: bool = True
    has_failed_elsewhere: bool = False  # whether the job also failed on another machine, according to its record
    results_of: dict[str, str | None] | None = None
    # Objects at the output location when the attempt began; None if they were not listed.
    listed_objects: dict[str, ListedObject] | None = None

    def begin_stage(self, now: float) -> None:
        self.stage_started = now

    def end_stage(self, now: float) -> None:
        self.used_seconds, self.stage_started = self.measure_seconds(now), None

    def measure_seconds(self, now: float) -> float:
        """Return how long the attempt has taken, without the time in which it waited for a slot."""
        return self.used_seconds + (0.0 if self.stage_started is None else max(0.0, now - self.stage_started))

    @property
    def server_names(self) -> str:
        """The servers to which the attempt sends requests, for its reason if one of them refuses a request."""
        endpoints = {self.job.input_endpoint, self.job.output_endpoint} - {""} if self.job else ()
        return " or ".join(("AWS", *sorted(endpoints)))

    @property
    def bytes_out(self) -> int:
        """The size of the job's results in bytes."""
        return sum(file.size for file in self.outputs or self.delivered)

    @property
    def number(self) -> int:
        return self.earlier_attempts + 1

    @property
    def uncounted_attempts(self) -> int:
        """How many earlier attempts did not count as failures."""
        return self.earlier_attempts - self.failures

    @property
    def needs_own_copies(self) -> bool:
        """Whether the job's shared inputs must be copies of its own, so that it is known who changes them."""
        return self.has_changed_inputs or _get_attribute(self.raw, OWN_COPIES_ATTRIBUTE) == "1"

    def find_uncounted_change(self, reason_class: str) -> str | None:
        """Return that a program has changed a shared input, if another job's program may thus have caused the failure
        of class `reason_class`; None otherwise.

        A job that never gets copies of its own, because the disk has no room for them, may be what changes it.
        """
        is_excused = not self.shared.are_own and self.uncounted_attempts < MAX_UNCOUNTED_ATTEMPTS
        return self.shared.describe_change() if is_excused and reason_class in _NEIGHBOR_CLASSES else None

    @property
    def message_id(self) -> str:
        """The ID that SQS gave the job's message when it was first sent."""
        return _get_attribute(self.raw, FIRST_ID_ATTRIBUTE) or str(self.raw.get("MessageId", ""))

    @property
    def sent(self) -> float | None:
        """When the message was sent, in seconds since 1970; None if SQS did not say so."""
        milliseconds = str(self.raw.get("Attributes", {}).get("SentTimestamp", ""))
        return int(milliseconds) / 1000 if milliseconds.isdecimal() else None

    @property
    def again_since(self) -> float | None:
        """Results that are older than this (seconds since 1970) do not count; None if all results count."""
        try:
            return datetime.fromisoformat(self.again_text).timestamp()
        except ValueError:
            return None

    @property
    def again_text(self) -> str:
        """`again_since` as the message contains it; "" if all results count."""
        return _get_attribute(self.raw, AGAIN_ATTRIBUTE)

    @property
    def submission(self) -> str:
        """The time of the submission whose Job file the message was made from; "" if it is from a script."""
        return _get_attribute(self.raw, SUBMISSION_ATTRIBUTE)

    @property
    def retry_of(self) -> dict[str, str] | None:
        """The `run` in which the job failed, and the `job` ID that it had there; None unless `retry` sent the job."""
        run = _get_attribute(self.raw, RETRY_RUN_ATTRIBUTE)
        return {"run": run, "job": _get_attribute(self.raw, RETRY_JOB_ATTRIBUTE) or self.name} if run else None


def read_attempt_counts(raw: dict[str, Any]) -> tuple[int, int]:
    """Return how many attempts and failures preceded this receive; `raw` is the message as SQS returned it."""
    received = max(1, _parse_count(raw.get("Attributes", {}).get("ApproximateReceiveCount")))
    attempts, failures = (_parse_count(_get_attribute(raw, name)) for name in (ATTEMPTS_ATTRIBUTE, FAILURES_ATTRIBUTE))
    return attempts + received - 1, failures + received - 1


def get_message_age(raw: dict[str, Any], now: float) -> float:
    """Return how many seconds ago the message was first received; `now` is in seconds since 1970.

    If this is the first receive, return 0, whatever this machine's clock shows.
    """
    attributes = raw.get("Attributes", {})
    first = attributes.get("ApproximateFirstReceiveTimestamp", "")
    is_first = _parse_count(attributes.get("ApproximateReceiveCount")) < 2 or not first.isdecimal()
    return 0.0 if is_first else max(0.0, now - int(first) / 1000)


def build_message_attributes(attempt: Attempt) -> dict[str, Any]:
    """Return the attributes for sending the message again.

    An interruption is not a failure. It counts as an attempt only if the program was started.
    """
    counts = {ATTEMPTS_ATTRIBUTE: attempt.earlier_attempts + attempt.has_started, FAILURES_ATTRIBUTE: attempt.failures}
    texts = {FIRST_ID_ATTRIBUTE: attempt.message_id, OWN_COPIES_ATTRIBUTE: "1" if attempt.needs_own_copies else ""}
    texts |= {name: _get_attribute(attempt.raw, name) for name in _KEPT_ATTRIBUTES}
    return {
        **{name: {"DataType": "Number", "StringValue": str(count)} for name, count in counts.items()},
        **{name: {"DataType": "String", "StringValue": text} for name, text in texts.items() if text},
    }


def _get_attribute(raw: dict[str, Any], name: str) -> str:
    """Return a message attribute, or an empty string if the message does not have it."""
    return str(raw.get("MessageAttributes", {}).get(name, {}).get("StringValue", ""))


def _parse_count(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 10 else 0
