"""The evaluator of policies, compared with the rules in IAM's documentation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.rights.evaluator import is_allowed

QUEUE = "arn:aws:sqs:us-east-1:111122223333:AppQueue"


def build_policy(*statements: dict[str, Any]) -> list[dict[str, Any]]:
    complete = [{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"} | each for each in statements]
    return [{"Version": "2012-10-17", "Statement": complete}]


def is_sending_allowed(*statements: dict[str, Any], resource: str = QUEUE, **context: Any) -> bool:
    """Return whether sqs:SendMessage is allowed. `context`: condition keys, with `__` for the colon."""
    keys = {name.replace("__", ":"): value for name, value in context.items()}
    return is_allowed(build_policy(*statements), "sqs:SendMessage", resource, keys)


@pytest.mark.parametrize(
    ("action", "allowed"),
    [("sqs:SendMessage", True), ("SQS:sendmessage", True), ("sqs:Send*", True), ("sqs:SendMessag?", True),
     ("*", True), ("sqs:SendMessageBatch", False), ("sns:SendMessage", False), ("sqs:[S]endMessage", False)],
)  # fmt: skip
def test_actions_match_without_regard_to_case_and_with_wildcards(action: str, allowed: bool) -> None:
    assert is_sending_allowed({"Action": ["sqs:Other", action]}) is allowed


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [(QUEUE, True), ("*", True), ("arn:aws:sqs:*:111122223333:*", True), ("arn:aws:sqs:*:*:App*", True),
     ("arn:aws:sqs:us-east-1:111122223333:appqueue", False), ("arn:aws:sqs:*:App*", False),
     ("arn:aws:s*", False), ("arn:aws:sqs:*:999988887777:*", False)],
)  # fmt: skip
def test_a_wildcard_in_a_resource_stays_within_one_part_of_the_arn(pattern: str, allowed: bool) -> None:
    assert is_sending_allowed({"Resource": [pattern]}) is allowed


def test_the_name_of_a_resource_may_contain_colons() -> None:
    stream = "arn:aws:logs:us-east-1:111122223333:log-group:App:log-stream:job:1"
    assert is_sending_allowed({"Resource": "arn:aws:logs:*:111122223333:log-group:*"}, resource=stream)


def test_a_request_without_a_resource_is_allowed_only_on_any_resource() -> None:
    assert is_sending_allowed({"Resource": "*"}, resource="*")
    assert not is_sending_allowed({"Resource": "arn:aws:sqs:*:111122223333:*"}, resource="*")


def test_a_denial_counts_more_than_any_permission() -> None:
    assert not is_sending_allowed({}, {"Effect": "Deny"})
    assert is_sending_allowed({}, {"Effect": "Deny", "Condition": {"StringEquals": {"aws:TagKeys": "x"}}})


def test_nothing_is_allowed_unless_a_statement_says_so() -> None:
    assert not is_sending_allowed()
    assert not is_sending_allowed({"Effect": "Deny", "Action": "sqs:DeleteQueue"})


def test_actions_and_resources_may_be_negated() -> None:
    statement = {"Effect": "Allow", "NotAction": "sqs:Delete*", "NotResource": "arn:aws:sqs:*:*:Other*"}
    documents = [{"Statement": [statement]}]
    assert is_allowed(documents, "sqs:SendMessage", QUEUE, {})
    assert not is_allowed(documents, "sqs:DeleteQueue", QUEUE, {})
    assert not is_allowed(documents, "sqs:SendMessage", QUEUE.replace("App", "Other"), {})


@pytest.mark.parametrize(
    ("condition", "value", "allowed"),
    [
        ({"Null": {"a:k": "false"}}, "App", True), ({"Null": {"a:k": "false"}}, [], False),
        ({"Null": {"a:k": "true"}}, [], True), ({"Null": {"a:k": "true"}}, "App", False),
        ({"StringEquals": {"a:k": ["App", "B"]}}, "App", True), ({"StringEquals": {"a:k": "app"}}, "App", False),
        ({"StringEquals": {"A:K": "App"}}, "App", True), ({"StringEquals": {"a:k": "App"}}, [], False),
        ({"StringEquals": {"a:k": "A*"}}, "App", False), ({"StringLike": {"a:k": "A*"}}, "App", True),
        ({"StringEqualsIgnoreCase": {"a:k": "app"}}, "App", True),
        ({"StringEqualsIfExists": {"a:k": "x"}}, [], True), ({"StringEqualsIfExists": {"a:k": "x"}}, "App", False),
        ({"StringNotEquals": {"a:k": "shared"}}, "App", True), ({"StringNotEquals": {"a:k": "shared"}}, [], True),
        ({"StringNotEquals": {"a:k": ["x", "App"]}}, "App", False), ({"StringNotLike": {"a:k": "A*"}}, "App", False),
        ({"ForAllValues:StringEquals": {"a:k": ["x", "y"]}}, ["x", "y"], True),
        ({"ForAllValues:StringEquals": {"a:k": ["x", "y"]}}, ["x", "z"], False),
        ({"ForAllValues:StringEquals": {"a:k": ["x"]}}, [], True),
        ({"ForAnyValue:StringEquals": {"a:k": ["x"]}}, ["x", "z"], True),
        ({"ForAnyValue:StringEquals": {"a:k": ["x"]}}, [], False),
        ({"ArnLike": {"a:k": "arn:aws:logs:*:1:log-group:*"}}, "arn:aws:logs:us-east-1:1:log-group:a", True),
        ({"ArnLike": {"a:k": "arn:aws:*:1:log-group:*"}}, "arn:aws:logs:us-east-1:1:log-group:a", False),
        ({"Bool": {"a:k": "true"}}, "True", True),
        ({"Null": {"a:k": "false"}, "StringNotEquals": {"a:k": "App"}}, "App", False),
    ],
)  # fmt: skip
def test_conditions_follow_iams_rules_for_operators_and_missing_values(
    condition: dict[str, Any], value: Any, allowed: bool
) -> None:
    assert is_sending_allowed({"Condition": condition}, a__k=value) is allowed


@pytest.mark.parametrize(
    "statement",
    [{"Principal": "*"}, {"Condition": {"DateLessThan": {"aws:CurrentTime": "2026-01-01"}}},
     {"Resource": "arn:aws:sqs:*:*:${aws:username}"}],
)  # fmt: skip
def test_what_the_evaluator_does_not_know_is_an_error(statement: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError):
        is_sending_allowed(statement)
