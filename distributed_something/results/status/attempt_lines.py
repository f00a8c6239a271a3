"""Reads what a journal's line or a record says about an attempt, also those that older workers wrote."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from distributed_something.worker import mask_text

MAX_NUMBER = 1e18  # a larger number in a line is a mistake, and calculations with it may fail
Sending = tuple[int, str | None]  # when a message was sent (seconds since 1970), and its `submission`


def read_sent_time(line: Mapping[str, Any]) -> float:
    """Return when the message was sent or, in lines of older workers, when the attempt began (seconds since 1970)."""
    return parse_time(line.get("sent")) or parse_time(line.get("started"))


def read_sending(line: Mapping[str, Any]) -> Sending:
    """Return how the message was sent."""
    return int(read_sent_time(line)), read_submission(line)


def read_submission(line: Mapping[str, Any]) -> str | None:
    """Return the time of the submission whose Job file the message was made from; "" if a script sent it, None if an
    older worker did not say.
    """
    submission = line.get("submission")
    return None if submission is None else str(submission)


def read_start_error(line: Mapping[str, Any]) -> str:
    """Return why the program could not be started. Older workers said only that it was tried and has no exit code."""
    if "start_error" in line:
        return str(line["start_error"] or "")
    is_failure = line.get("reason_class") == "program" and line.get("exit_code") is None
    return "ENOENT" if is_failure and line.get("time_limit_seconds") is not None else ""


def read_missing_input(line: Mapping[str, Any]) -> str:
    """Return the address of the input that was not in S3, or "".

    An address that cannot be typed, or that may contain a secret, is left out.
    """
    address = str(line.get("missing_input") or "")
    return address if address.isprintable() and mask_text(address) == address else ""


def is_lost_attempt(line: Mapping[str, Any]) -> bool:
    """Return whether the worker of the attempt was lost, and another one wrote this journal's line or record.

    The times in it are those of the other worker. Lines of older workers name the other worker's machine.
    """
    return line.get("state") == "failed" and line.get("reason_class") == "crash" and line.get("machine", "") is None


def compute_line_seconds(line: Mapping[str, Any]) -> float | None:
    """Return how long the attempt took, or None if that is unknown. `line` is a journal's line or a record.

    The time in which it waited for a slot is left out, except in lines and records of older workers.
    """
    if is_lost_attempt(line):
        return None
    seconds = read_number(line.get("seconds"))
    if seconds is not None:
        return max(0.0, seconds)
    started, ended = parse_time(line.get("started")), parse_time(line.get("ended"))
    return round(max(0.0, ended - started), 3) if started and ended else None


def parse_time(value: object) -> float:
    """Return a time in seconds since 1970; 0 if it is earlier, or if there is none. A time without a zone is in UTC."""
    try:
        time = datetime.fromisoformat(str(value))
        return max(0.0, (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return 0.0


def read_integer(value: object) -> int | None:
    """Return an integer of at most MAX_NUMBER; None for any other value."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_NUMBER else None


def read_number(value: object) -> float | None:
    """Return a number of at most MAX_NUMBER; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < MAX_NUMBER else None  # not NaN either
