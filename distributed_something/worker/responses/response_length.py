"""A check that an AWS response is complete.

Recent versions of botocore (seen in 1.43.127 and 1.44.8) do not compare the length of a body with its Content-Length,
and they parse a truncated JSON body as an empty response. A queue would seem to be empty, and a batch to have no
errors. If the connection ends within the headers, Python accepts those that have arrived, so the length may be missing.
"""

from __future__ import annotations

from typing import Any, cast

from botocore.exceptions import IncompleteReadError

MAX_ATTEMPTS = 3  # calls until a truncated response is an error
STATUSES_WITHOUT_BODY = {204, 304}


def reject_truncated_responses(session: Any) -> None:
    """Retry calls of this boto3 session whose response is truncated; then raise IncompleteReadError."""
    session.events.register_first("needs-retry", _check_response_length)


def _check_response_length(response: Any, operation: Any, attempts: int, **_: Any) -> float | None:
    """Return the seconds until a retry, or None if the response is complete or another check decides."""
    if response is None:
        return None
    expected = _find_missing_length(response[0], operation)
    if expected is None:
        return None
    if attempts < MAX_ATTEMPTS:
        return 0.0
    actual = 0 if operation.has_streaming_output else len(response[0].content)
    raise IncompleteReadError(actual_bytes=actual, expected_bytes=cast("int", expected))


def is_truncated(response: Any, operation: Any) -> bool:
    """Return whether a part of the response is missing."""
    return _find_missing_length(response, operation) is not None


def _find_missing_length(response: Any, operation: Any) -> int | str | None:
    """Return how many bytes the body of an incomplete response should have, or "unknown"; None if it is complete."""
    announced = response.headers.get("Content-Length", "")
    if not announced and "Transfer-Encoding" not in response.headers:
        return "unknown" if _needs_length(response, operation) else None
    if operation.has_streaming_output or operation.http.get("method") == "HEAD":
        return None  # a body that its reader checks; no body
    if not announced.isdigit() or "Content-Encoding" in response.headers or len(response.content) >= int(announced):
        return None
    return int(announced)


def _needs_length(response: Any, operation: Any) -> bool:
    """Return whether a response without a length must be incomplete. A body may also end with the connection."""
    if response.status_code in STATUSES_WITHOUT_BODY or response.status_code >= 400:
        return False
    if operation.http.get("method") == "HEAD":
        return bool(operation.name == "HeadObject")  # which is asked for an object's length
    return bool(operation.has_streaming_output or (not response.content and _has_body(operation)))


def _has_body(operation: Any) -> bool:
    """Return whether successful responses have a body, because not all of their values are in headers."""
    members = operation.output_shape.members.values() if operation.output_shape else ()
    return any("location" not in member.serialization for member in members)
