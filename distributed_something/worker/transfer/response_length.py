"""A check that the body of an AWS response is complete.

Recent versions of botocore (seen in 1.43.127 and 1.44.8) do not compare the length of a body with its Content-Length,
and they parse a truncated JSON body as an empty response. A queue would seem to be empty, and a batch to have no
errors.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import IncompleteReadError

MAX_ATTEMPTS = 3  # calls until a truncated response is an error


def reject_truncated_responses(session: Any) -> None:
    """Retry calls of this boto3 session whose response is truncated; then raise IncompleteReadError."""
    session.events.register_first("needs-retry", _check_response_length)


def _check_response_length(response: Any, operation: Any, attempts: int, **_: Any) -> float | None:
    """Return the seconds until a retry, or None if the response is complete or another check decides."""
    if response is None or operation.has_streaming_output or operation.http.get("method") == "HEAD":
        return None  # no response; a body that its reader checks; no body
    http_response = response[0]
    headers = http_response.headers
    announced = headers.get("Content-Length", "")
    if not announced.isdigit() or "Content-Encoding" in headers or len(http_response.content) >= int(announced):
        return None
    if attempts < MAX_ATTEMPTS:
        return 0.0
    raise IncompleteReadError(actual_bytes=len(http_response.content), expected_bytes=int(announced))
