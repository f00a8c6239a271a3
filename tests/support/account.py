"""An AWS account that takes its responses from a dictionary. Calls can be made in any order and any number of times.

Requests and responses are validated against botocore's models, so a test cannot use parameters that do not exist on
AWS. Tests can change responses, make calls fail, and check afterward which calls were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from botocore.validate import validate_parameters

from distributed_something.aws.clients import Clients

OUR_TAG = {"Key": "made-by", "Value": "distributed-something"}
REGION = "us-east-1"


class Account:
    """An emulated account.

    `responses` maps "service.Operation" to a response, to a function that builds a response from the parameters, or to
    an exception. `requests` lists every call and its parameters, in order.
    """

    def __init__(self, responses: dict[str, Any], clients: Clients) -> None:
        self.responses = dict(responses)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.clients = clients

    def refuse_call(self, call: str, code: str = "AccessDeniedException", message: str = "no") -> None:
        operation = call.partition(".")[2]
        self.responses[call] = ClientError({"Error": {"Code": code, "Message": message}}, operation)

    def change_response(self, call: str, **response: Any) -> None:
        self.responses[call] = self.responses.get(call, {}) | response

    @property
    def calls(self) -> list[str]:
        return [call for call, _ in self.requests]

    def get_parameters(self, call: str) -> dict[str, Any]:
        """Return the parameters of the only call with this name."""
        (parameters,) = [parameters for name, parameters in self.requests if name == call]
        return parameters

    def respond(self, model: Any, parameters: dict[str, Any]) -> Any:
        """Return the response to an operation, or raise its exception. Fail the test if neither is defined."""
        call = f"{model.service_model.service_name}.{model.name}"
        self.requests.append((call, parameters))
        response = self.responses.get(call)
        if response is None:
            pytest.fail(f"{call} was not expected")
        if isinstance(response, BaseException):
            raise response
        if callable(response):
            response = response(parameters)
        if model.output_shape is not None:
            validate_parameters(response, model.output_shape)
        return response


class _Connection:
    """Connects botocore to the current test's account, which responds before any request is sent."""

    def __init__(self) -> None:
        self.account: Account | None = None
        core = botocore.session.Session()
        core.set_credentials("test", "test")
        core.set_config_variable("region", REGION)
        core.register("provide-client-params", self._save_parameters)
        core.register("before-call", self._respond)
        self.session = boto3.Session(botocore_session=core)
        self.clients = Clients(self.session)

    def _save_parameters(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["parameters"] = dict(params)  # before botocore adds its own parameters

    def _respond(self, model: Any, context: dict[str, Any], **_: Any) -> tuple[AWSResponse, Any]:
        assert self.account is not None, f"{model.name} was called outside `with emulate_account(…)`"
        try:
            return _build_http_response(200), _copy_containers(self.account.respond(model, context["parameters"]))
        except ClientError as error:  # botocore converts this response to the service's own exception
            return _build_http_response(400), _copy_containers(error.response)


def _copy_containers(value: Any) -> Any:
    """Return a copy of a response, because botocore modifies responses in place."""
    if isinstance(value, dict):
        return {key: _copy_containers(inner) for key, inner in value.items()}
    return [_copy_containers(inner) for inner in value] if isinstance(value, list) else value


def _build_http_response(status: int) -> AWSResponse:
    return AWSResponse("https://aws", status, {}, None)


@cache
def _get_connection() -> _Connection:
    """Return the connection that all tests share, because loading the service models takes most of a second."""
    return _Connection()


@contextmanager
def emulate_account(responses: dict[str, Any]) -> Iterator[Account]:
    """Send all of this process's calls to an emulated account while the block runs."""
    connection = _get_connection()
    connection.account = Account(responses, connection.clients)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(boto3, "Session", lambda *_, **__: connection.session)
            yield connection.account
    finally:
        connection.account = None


@cache
def _session() -> boto3.Session:
    return boto3.Session("test", "test", region_name=REGION)


def create_clients() -> Clients:
    """Return new clients to use with Stubbers and moto."""
    return Clients(_session())


@contextmanager
def stub_client(client: Any) -> Iterator[Stubber]:
    """Yield a Stubber around one client. Fail the test if a response was not used."""
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()
