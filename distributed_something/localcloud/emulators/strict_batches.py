"""Batches in which an entry fails inside a response with status 200, for `strict.py`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from distributed_something.localcloud.emulators.aws_requests import (
    Answer,
    AwsRequest,
    build_json_answer,
    build_xml_answer,
)

# The key of a request's entries. Sources: SQS API Reference, SendMessageBatch: check for batch errors even when the
# status is 200; EventBridge API Reference, PutTargets and RemoveTargets: can partially fail if too many requests are
# made at the same time.
_ENTRY_KEYS = {
    "sqs.SendMessageBatch": "Entries",
    "sqs.DeleteMessageBatch": "Entries",
    "sqs.ChangeMessageVisibilityBatch": "Entries",
    "events.PutTargets": "Targets",
    "events.RemoveTargets": "Ids",
}
# S3 API Reference, DeleteObjects: the response has an element for each key that could not be deleted
_DELETE_OBJECTS = "s3.DeleteObjects"
_OBJECT_PATTERN = re.compile(rb"<Object>.*?</Object>", re.DOTALL)


def count_entries(request: AwsRequest) -> int:
    """Return the number of entries in a batch, and 0 for a request that is not a batch."""
    if request.operation == _DELETE_OBJECTS:
        return len(_OBJECT_PATTERN.findall(request.body))
    key = _ENTRY_KEYS.get(request.operation, "")
    return len(request.parameters.get(key) or [])


def remove_first_entry(request: AwsRequest) -> AwsRequest:
    """Return the batch without its first entry."""
    if request.operation == _DELETE_OBJECTS:
        return replace(request, body=_OBJECT_PATTERN.sub(b"", request.body, count=1))
    key = _ENTRY_KEYS[request.operation]
    return request.replace_parameters({**request.parameters, key: request.parameters[key][1:]})


def build_failed_answer(request: AwsRequest) -> Answer:
    """Return the answer to a batch whose only entry has failed."""
    if request.operation == _DELETE_OBJECTS:
        empty = build_xml_answer('<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></DeleteResult>')
    else:
        empty = build_json_answer({"Successful": []} if request.service == "sqs" else {})
    return add_failed_entry(request, empty)


def add_failed_entry(request: AwsRequest, answer: Answer) -> Answer:
    """Return the answer with a failure of the batch's first entry."""
    if request.operation == _DELETE_OBJECTS:
        key = re.search(rb"<Key>(.*?)</Key>", request.body, re.DOTALL)
        name = key[1] if key else b""
        error = b"<Error><Key>" + name + b"</Key><Code>InternalError</Code><Message>We encountered an internal error."
        return replace(
            answer, body=answer.body.replace(b"</DeleteResult>", error + b"</Message></Error></DeleteResult>")
        )
    first = request.parameters[_ENTRY_KEYS[request.operation]][0]
    result: dict[str, Any] = json.loads(answer.body or b"{}")
    if request.service == "sqs":
        failure = {"Id": first["Id"], "SenderFault": False, "Code": "InternalError", "Message": "Try again."}
        result["Failed"] = [*(result.get("Failed") or []), failure]
    else:
        target = first["Id"] if isinstance(first, dict) else first
        failure = {"TargetId": target, "ErrorCode": "ConcurrentModificationException", "ErrorMessage": "Try again."}
        failures = [*(result.get("FailedEntries") or []), failure]
        result |= {"FailedEntries": failures, "FailedEntryCount": len(failures)}
    return replace(answer, body=json.dumps(result).encode())
