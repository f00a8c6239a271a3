"""An AWS account in a dictionary: each call has its answer, in any order and any number of times.

Requests and answers are held against botocore's model, so neither can be something that AWS does not know. A test
changes answers, refuses calls, and reads afterwards what was asked.
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
    """`answers`: «service.Operation» → the answer, a function of the parameters that gives it, or an exception.

    `asked`: every call with its parameters, in order.
    """

    def __init__(self, answers: dict[str, Any], clients: Clients) -> None:
        self.answers = dict(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.clients = clients

    def refuse(self, call: str, code: str = "AccessDeniedException", message: str = "no") -> None:
        operation = call.partition(".")[2]
        self.answers[call] = ClientError({"Error": {"Code": code, "Message": message}}, operation)

    def change(self, call: str, **answer: Any) -> None:
        self.answers[call] = self.answers.get(call, {}) | answer

    @property
    def calls(self) -> list[str]:
        return [call for call, _ in self.asked]

    def parameters(self, call: str) -> dict[str, Any]:
        """What the one such call asked."""
        (found,) = [parameters for made, parameters in self.asked if made == call]
        return found

    def answer(self, model: Any, parameters: dict[str, Any]) -> Any:
        """What the call of this model is answered with; raises the exception that stands there."""
        call = f"{model.service_model.service_name}.{model.name}"
        self.asked.append((call, parameters))
        answer = self.answers.get(call)
        if answer is None:
            pytest.fail(f"{call} was not expected")
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer = answer(parameters)
        if model.output_shape is not None:
            validate_parameters(answer, model.output_shape)
        return answer


class _Line:
    """Between botocore and the account of the test that runs: calls are answered before anything is sent."""

    def __init__(self) -> None:
        self.account: Account | None = None
        core = botocore.session.Session()
        core.set_credentials("test", "test")
        core.set_config_variable("region", REGION)
        core.register("provide-client-params", self._note)
        core.register("before-call", self._answer)
        self.session = boto3.Session(botocore_session=core)
        self.clients = Clients(self.session)

    def _note(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["asked"] = dict(params)  # before botocore adds some of its own

    def _answer(self, model: Any, context: dict[str, Any], **_: Any) -> tuple[AWSResponse, Any]:
        assert self.account is not None, f"{model.name} outside of a test's account"
        try:
            return _respond(200), _copied(self.account.answer(model, context["asked"]))
        except ClientError as error:  # botocore makes the service's own exception of it
            return _respond(400), _copied(error.response)


def _copied(value: Any) -> Any:
    """The answer in containers of its own: botocore decodes some parts of an answer in place."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _respond(status: int) -> AWSResponse:
    return AWSResponse("https://aws", status, {}, None)


@cache
def _line() -> _Line:
    """One for all tests: its clients keep the models of the services, which take most of a second to read."""
    return _Line()


@contextmanager
def account(answers: dict[str, Any]) -> Iterator[Account]:
    """Every call of this process goes to the account, as long as the block lasts."""
    line = _line()
    line.account = Account(answers, line.clients)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(boto3, "Session", lambda *_, **__: line.session)
            yield line.account
    finally:
        line.account = None


@cache
def _session() -> boto3.Session:
    return boto3.Session("test", "test", region_name=REGION)


def new_clients() -> Clients:
    """Clients of a test's own, for Stubbers and moto."""
    return Clients(_session())


@contextmanager
def stubbed(client: Any) -> Iterator[Stubber]:
    """A Stubber around one client, all of whose answers must be asked for."""
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()
