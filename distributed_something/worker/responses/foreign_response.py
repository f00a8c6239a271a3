"""A check that a response comes from AWS.

Proxies and the login pages of networks answer in place of AWS, often with status 200. botocore parses a JSON body that
is not JSON, and XML with another root, as an empty response: a queue would seem to be empty, and machines to be gone.
"""

from __future__ import annotations

import re
from typing import Any

from botocore.exceptions import BotoCoreError, HTTPClientError

from distributed_something.worker.responses.response_length import is_truncated

MAX_HEAD_BYTES = 4096  # of a body that are searched for its root element
_ROOT_PATTERN = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?.*?\?>\s*|<!--.*?-->\s*|<!doctype[^>]*>\s*)*<([A-Za-z][\w.:-]*)", re.S | re.I
)
_HTML_PATTERN = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?.*?\?>\s*|<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.S | re.I
)
# What AWS always returns, where a response without it would be mistaken for "none": at least one key of each tuple.
_REQUIRED_KEYS = {
    "CreateQueue": ("QueueUrl",),
    "DeleteMessageBatch": ("Successful", "Failed"),
    "DescribeClusters": ("clusters", "failures"),
    "DescribeContainerInstances": ("containerInstances", "failures"),
    "DescribeLogGroups": ("logGroups",),
    "DescribeLogStreams": ("logStreams",),
    "DescribeServices": ("services", "failures"),
    "DescribeTaskDefinition": ("taskDefinition",),
    "DescribeTasks": ("tasks", "failures"),
    "GetLogEvents": ("events",),
    "GetObject": ("ETag",),
    "GetQueueAttributes": ("Attributes",),  # every call asks for attributes that all queues have
    "GetQueueUrl": ("QueueUrl",),
    "GetTaskProtection": ("protectedTasks", "failures"),
    "HeadObject": ("ETag",),
    "ListContainerInstances": ("containerInstanceArns",),
    "ListObjectsV2": ("IsTruncated", "KeyCount", "Name"),
    "ListTasks": ("taskArns",),
    "PutObject": ("ETag",),
    "RegisterTaskDefinition": ("taskDefinition",),
    "SendMessage": ("MessageId",),
    "SendMessageBatch": ("Successful", "Failed"),
    "UpdateService": ("service",),
    "UploadPart": ("ETag",),
}  # fmt: skip


class ForeignResponseError(BotoCoreError):
    """Raised if something other than AWS answered a call. `operation`: the call; `problem`: what is wrong with it."""

    fmt = "the response to {operation} {problem}"


def reject_foreign_responses(session: Any) -> None:
    """Let calls of this boto3 session raise ForeignResponseError if something other than AWS answers."""
    session.events.register("before-parse", _check_body)
    session.events.register_first("needs-retry", _check_response)


def _check_body(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Raise ForeignResponseError if the response is a redirect to another host or has a body that AWS does not send."""
    if problem := _find_body_problem(operation_model, response_dict):
        raise ForeignResponseError(operation=operation_model.name, problem=problem)


def _check_response(response: Any, operation: Any, caught_exception: Any = None, **_: Any) -> None:
    """Raise ForeignResponseError for a response without what AWS always returns, and for a redirect.

    urllib3 follows a redirect on the same connection, so that a login page's redirect leads to itself without end
    (RecursionError). After status 303, it cannot change botocore's headers (TypeError).
    """
    cause = caught_exception.kwargs.get("error") if isinstance(caught_exception, HTTPClientError) else None
    if response is None and isinstance(cause, (RecursionError, TypeError)):
        raise ForeignResponseError(operation=operation.name, problem="is a redirect")
    required = _REQUIRED_KEYS.get(operation.name, ())
    if response is None or not required or response[0].status_code >= 300 or is_truncated(response[0], operation):
        return
    if not any(key in response[1] for key in required):
        raise ForeignResponseError(operation=operation.name, problem=f"has no {required[0]}")


def _find_body_problem(operation: Any, response: dict[str, Any]) -> str:
    """Return why AWS cannot have sent this response, or "". AWS's load balancers may send HTML with status 5xx."""
    status, headers, body = response["status_code"], response["headers"], response["body"]
    if status >= 500:
        return ""
    head = body[:MAX_HEAD_BYTES] if isinstance(body, bytes) else b""
    if _HTML_PATTERN.match(head) or (not head and _is_html_without_body(headers, status)):
        return "is an HTML page"
    protocol = operation.service_model.resolved_protocol
    if 300 <= status < 400 and status != 304:  # only S3 redirects, to another region
        is_from_s3 = protocol == "rest-xml" and (_has_amazon_header(headers) or head.lstrip().startswith(b"<"))
        return "" if is_from_s3 else "is a redirect"
    if status >= 300 or not head.strip() or operation.output_shape is None:
        return ""
    if protocol == "json" and not head.lstrip().startswith(b"{"):
        return "is not JSON"
    root = _ROOT_PATTERN.match(head)
    if protocol in ("query", "ec2") and not (root and root[1].endswith(b"Response")):  # DescribeInstancesResponse
        return "is not the XML that AWS sends"
    return ""  # botocore treats a response of S3 that is not XML as one with status 500


def _is_html_without_body(headers: Any, status: int) -> bool:
    """Return whether a response without a body, or with one that is a stream, is a page and not an object in S3."""
    content_type = str(headers.get("Content-Type", "")).lower()
    return status != 304 and content_type.startswith("text/html") and not _has_amazon_header(headers)


def _has_amazon_header(headers: Any) -> bool:
    return any(name.lower().startswith("x-amz") for name in headers)
