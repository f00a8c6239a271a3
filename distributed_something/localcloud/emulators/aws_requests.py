"""Requests to AWS and answers to them, in any of AWS's protocols, as far as `strict.py` needs to understand them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, unquote, unquote_plus
from xml.sax.saxutils import escape

# Lambda's operations are not named in its requests: method, then what follows /2015-03-31/functions in the path.
_LAMBDA_OPERATIONS = (
    ("POST", r"", "CreateFunction"),
    ("GET", r"/[^/]+", "GetFunction"),
    ("DELETE", r"/[^/]+", "DeleteFunction"),
    ("PUT", r"/[^/]+/code", "UpdateFunctionCode"),
    ("PUT", r"/[^/]+/configuration", "UpdateFunctionConfiguration"),
    ("POST", r"/[^/]+/policy", "AddPermission"),
)
# SQS sends these codes of its older protocol in a header, and botocore reports them instead of the newer ones.
_SQS_QUERY_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDeletedRecently": "AWS.SimpleQueueService.QueueDeletedRecently",
}
_CREDENTIAL_PATTERN = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request")


@dataclass(frozen=True)
class Answer:
    """An HTTP response: status, headers without the length, and body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class AwsRequest:
    """A request to AWS: who signed it, and for which operation, such as `ecs.CreateService`.

    The service is the one that the signature names; `monitoring` is CloudWatch. `has_json`: whether the body is JSON.
    """

    access_key: str
    region: str
    operation: str
    path: str
    body: bytes
    has_json: bool

    @property
    def service(self) -> str:
        return self.operation.partition(".")[0]

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The parameters; for a form or a REST request, only those with a single value in the body."""
        if self.has_json:
            try:
                return dict(json.loads(self.body or b"{}"))
            except ValueError:  # a compressed body
                return {}
        return {name: values[0] for name, values in parse_qs(self.body.decode(errors="replace")).items()}

    @cached_property
    def text(self) -> str:
        """Everything that the request says, without URL encoding."""
        decode = str if self.has_json else unquote_plus
        return f"{unquote(self.path)} {decode(self.body.decode(errors='replace'))}"

    def replace_parameters(self, parameters: Mapping[str, Any]) -> AwsRequest:
        """Return the request with other parameters. Its body must be JSON."""
        return replace(self, body=json.dumps(parameters).encode())

    def mentions(self, name: str) -> bool:
        """Return whether the name occurs in the request, and not only as a part of a longer name."""
        return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", self.text) is not None


def find_service(headers: Mapping[str, str]) -> str:
    """Return the service that the signature names, or "" if there is none. `headers`: keyed by lower-case names."""
    credential = _CREDENTIAL_PATTERN.search(headers.get("authorization", ""))
    return credential.group(3) if credential else ""


def parse_request(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> AwsRequest | None:
    """Return the request, or None if its operation is not known. `headers`: keyed by lower-case names."""
    credential = _CREDENTIAL_PATTERN.search(headers.get("authorization", ""))
    if credential is None:
        return None
    access_key, region, service = credential.groups()
    target = headers.get("x-amz-target", "")
    operation = target.rpartition(".")[2] or _find_operation(service, method, path, query, body)
    if not operation:
        return None
    has_json = bool(target) or service == "lambda"
    return AwsRequest(access_key, region, f"{service}.{operation}", path, body, has_json)


def _find_operation(service: str, method: str, path: str, query: str, body: bytes) -> str:
    """Return the operation of a request whose headers do not name it, or an empty string if it is not known."""
    if service == "s3":
        return "DeleteObjects" if method == "POST" and "delete" in parse_qs(query, keep_blank_values=True) else ""
    if service == "lambda":
        function = re.sub(r"^/2015-03-31/functions/?(?=/|$)", "", path)
        names = (
            name for verb, pattern, name in _LAMBDA_OPERATIONS if verb == method and re.fullmatch(pattern, function)
        )
        return next(names, "")
    return parse_qs(body.decode(errors="replace")).get("Action", [""])[0]


def build_json_answer(result: Mapping[str, Any], status: int = 200, **headers: str) -> Answer:
    lines = (("Content-Type", "application/x-amz-json-1.1"), *((name, value) for name, value in headers.items()))
    return Answer(status, lines, json.dumps(result).encode())


def build_error(request: AwsRequest, code: str, message: str, status: int = 400) -> Answer:
    """Return an error in the protocol of the request's service."""
    if request.has_json:
        # Lambda names the code in this header. The SDKs also accept it from services that name it in the body.
        headers = {"x-amzn-ErrorType": code}
        if code in _SQS_QUERY_CODES:
            headers["x-amzn-query-error"] = f"{_SQS_QUERY_CODES[code]};Sender"
        return build_json_answer({"__type": code, "message": message}, status, **headers)
    content = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if request.service == "ec2":
        text = f"<Response><Errors><Error>{content}</Error></Errors><RequestID>strict</RequestID></Response>"
    else:
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type>{content}</Error><RequestId>strict</RequestId></ErrorResponse>"
        )
    return build_xml_answer(text, status)


def build_xml_answer(text: str, status: int = 200) -> Answer:
    return Answer(status, (("Content-Type", "text/xml"),), text.encode())
