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
import botocore.client
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from botocore.validate import validate_parameters

from distributed_something.aws.clients import Clients

OUR_TAG = {"Key": "made-by", "Value": "distributed-something"}


class Account:
    """`answers`: «service.Operation» → the answer, a function of the parameters that gives it, or an exception.

    `asked`: every call with its parameters, in order.
    """

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = dict(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.clients = _clients()

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

    def answer(self, client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        model = client.meta.service_model
        call = f"{model.service_name}.{operation}"
        self.asked.append((call, parameters))
        shapes = model.operation_model(operation)
        if shapes.input_shape is not None:
            validate_parameters(parameters, shapes.input_shape)
        answer = self.answers.get(call)
        if answer is None:
            pytest.fail(f"{call} was not expected")
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer = answer(parameters)
        if shapes.output_shape is not None:
            validate_parameters(answer, shapes.output_shape)
        return answer


@cache
def _session() -> boto3.Session:
    """One for all tests: it keeps the models of the services, which take most of a second to read."""
    return boto3.Session("test", "test", region_name="us-east-1")


@cache
def _clients() -> Clients:
    return new_clients()


def new_clients() -> Clients:
    """Clients of a test's own, for Stubbers and moto."""
    return Clients(_session())


@contextmanager
def stubbed(client: Any) -> Iterator[Stubber]:
    """A Stubber around one client, all of whose answers must be asked for."""
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


@contextmanager
def account(answers: dict[str, Any]) -> Iterator[Account]:
    """Every call of this process goes to the account, as long as the block lasts."""
    made = Account(answers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", lambda *call: made.answer(*call))
        yield made
