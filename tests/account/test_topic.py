"""Tests of `setupAWS --notify`: the topic, its subscription, the auto-monitor's permission, and their removal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from distributed_something.account.policies import build_topic_policy
from distributed_something.account.policy_documents import build_trust_policy
from distributed_something.account.setup_aws import set_up_topic
from distributed_something.account.step import SetupState
from distributed_something.account.topic.find_topic import find_topic
from distributed_something.account.topic.plan_topic import (
    Subscriber,
    check_topic_account,
    parse_subscriber,
    plan_topic_removal,
    plan_topic_removals,
)
from distributed_something.aws.clients import Clients
from distributed_something.core.errors import InputError
from distributed_something.core.names import MONITOR_ROLE, AwsAccount
from distributed_something.diagnose.check.config_constants import judge_topic
from distributed_something.diagnose.check.findings import FindingLevel
from tests.support.emulated_runs import emulated_account
from tests.support.fakes import FakeTime, expect_exact_calls

ACCOUNT = AwsAccount("123456789012", "us-east-1")
TOPIC = ACCOUNT.topic()
EMAIL = Subscriber("email", "lab@example.org")


@pytest.fixture
def clients() -> Iterator[Clients]:
    with emulated_account() as found:
        trust = json.dumps(build_trust_policy("lambda.amazonaws.com"))
        found.iam.create_role(RoleName=MONITOR_ROLE, AssumeRolePolicyDocument=trust)
        yield found


def set_up(clients: Clients, subscriber: Subscriber | None = EMAIL, arn: str = TOPIC, **more: Any) -> list[SetupState]:
    return [row.state for row in set_up_topic(clients, arn, subscriber, FakeTime().sleep, **more)]


def list_addresses(clients: Clients) -> list[str]:
    return [item["Endpoint"] for item in clients.sns.list_subscriptions_by_topic(TopicArn=TOPIC)["Subscriptions"]]


def test_a_topic_is_made_with_a_subscription_and_a_permission_once(clients: Clients) -> None:
    rows = list(set_up_topic(clients, TOPIC, EMAIL, FakeTime().sleep))

    assert [row.state for row in rows] == [SetupState.CREATED] * 3
    assert f"NOTIFY = '{TOPIC}'" in rows[0].note
    assert "lab@example.org: open the link in it to confirm" in rows[1].note
    assert set_up(clients) == [SetupState.EXISTS] * 3
    assert list_addresses(clients) == ["lab@example.org"]
    name = "distributed-something-distributed-something-topic"
    policy: Any = clients.iam.get_role_policy(RoleName=MONITOR_ROLE, PolicyName=name)["PolicyDocument"]
    assert [(each["Action"], each["Resource"]) for each in policy["Statement"]] == [(["sns:Publish"], TOPIC)]


def test_another_address_is_added(clients: Clients) -> None:
    set_up(clients)

    assert set_up(clients, Subscriber("https", "https://example.org/hook")) == [
        SetupState.EXISTS, SetupState.CREATED, SetupState.EXISTS,
    ]  # fmt: skip
    assert sorted(list_addresses(clients)) == ["https://example.org/hook", "lab@example.org"]


def test_a_dry_run_makes_nothing(clients: Clients) -> None:
    assert set_up(clients, dry_run=True) == [SetupState.CREATED] * 3
    assert clients.sns.list_topics()["Topics"] == []


def test_a_topic_of_somebody_else_only_gets_the_permission(clients: Clients) -> None:
    arn = clients.sns.create_topic(Name="other")["TopicArn"]

    assert set_up(clients, None, arn) == [SetupState.CREATED]
    (step,) = plan_topic_removal(clients.sns, arn)
    assert (step.row.state, step.apply) == (SetupState.KEPT, None)


def test_the_topic_that_setup_aws_made_is_removed(clients: Clients) -> None:
    set_up(clients)
    (step,) = plan_topic_removal(clients.sns, TOPIC)
    assert step.apply is not None
    step.apply()

    assert find_topic(clients.sns, TOPIC) is None
    assert list(plan_topic_removal(clients.sns, TOPIC)) == []


@pytest.mark.parametrize("configured", ["", TOPIC, ACCOUNT.topic().replace("distributed-something", "newer")])
def test_topics_that_the_config_does_not_name_any_more_are_removed_too(clients: Clients, configured: str) -> None:
    older = TOPIC.rpartition(":")[0] + ":lab"
    set_up(clients, arn=older)
    set_up(clients)
    elsewhere = TOPIC.replace("us-east-1", "eu-west-1").replace("distributed-something", "europe")
    clients.iam.put_role_policy(
        RoleName=MONITOR_ROLE, PolicyName="distributed-something-europe-topic",
        PolicyDocument=json.dumps(build_topic_policy(elsewhere)),
    )  # fmt: skip

    steps = {step.row.name: step for step in plan_topic_removals(clients, ACCOUNT, configured)}

    assert {name: step.row.state for name, step in steps.items()} == {
        "distributed-something": SetupState.REMOVED, "lab": SetupState.REMOVED, elsewhere: SetupState.KEPT,
    }  # fmt: skip


def test_a_topic_that_may_not_be_looked_at_is_kept_and_named() -> None:
    with expect_exact_calls() as aws:
        aws.expect_error("sns.get_topic_attributes", "AuthorizationError", request={"TopicArn": TOPIC})
        (step,) = plan_topic_removal(aws.clients.sns, TOPIC)
    assert (step.row.state, step.apply) == (SetupState.KEPT, None)
    assert f"NOTIFY = '{TOPIC}'" in step.row.note


def test_without_the_auto_monitors_role_only_the_named_topic_is_looked_up(clients: Clients) -> None:
    clients.iam.delete_role(RoleName=MONITOR_ROLE)
    assert list(plan_topic_removals(clients, ACCOUNT, "")) == []


def test_nothing_is_said_to_be_sent_that_the_local_cloud_does_not_send(clients: Clients) -> None:
    rows = list(set_up_topic(clients, TOPIC, EMAIL, FakeTime().sleep, dry_run=True, is_local=True))
    assert rows[1].note == "the local cloud sends nothing to it"


def test_a_subscription_that_nobody_has_confirmed_is_not_repeated() -> None:
    with expect_exact_calls() as aws:
        pending = {"Protocol": "email", "Endpoint": "lab@example.org", "SubscriptionArn": "PendingConfirmation"}
        aws.expect_call("sns.get_topic_attributes", {"TopicArn": TOPIC}, Attributes={})
        aws.expect_call("sns.get_topic_attributes", {"TopicArn": TOPIC}, Attributes={})
        aws.expect_call("sns.list_subscriptions_by_topic", {"TopicArn": TOPIC}, Subscriptions=[pending])
        rows = set_up_topic(aws.clients, TOPIC, EMAIL, FakeTime().sleep)
        assert next(rows).state is SetupState.EXISTS
        row = next(rows)

    assert row.state is SetupState.EXISTS
    assert row.note.startswith("not confirmed yet")


@pytest.mark.parametrize("address", ["lab@example.org", "a.b+c@sub.example.org"])
def test_an_e_mail_address(address: str) -> None:
    assert parse_subscriber(address) == Subscriber("email", address)


@pytest.mark.parametrize("address", ["https://example.org", "https://example.org:8443/hook?x=1"])
def test_an_https_address(address: str) -> None:
    assert parse_subscriber(address) == Subscriber("https", address)


@pytest.mark.parametrize(
    "address", ["", "http://example.org", "lab", "lab@", "@example.org", "a b@example.org", "https://", "+49123", "a@b"]
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="--notify"):
        parse_subscriber(address)


def test_a_topic_in_another_account_is_refused() -> None:
    check_topic_account(TOPIC, ACCOUNT, "config.py")
    with pytest.raises(InputError, match="NOTIFY: the topic is in the account 999999999999"):
        check_topic_account("arn:aws:sns:us-east-1:999999999999:lab", ACCOUNT, "config.py")


@pytest.mark.parametrize(
    ("attributes", "levels", "text"),
    [
        (None, [FindingLevel.WARNING], "there is no topic"),
        ({"SubscriptionsConfirmed": "2"}, [FindingLevel.OK], "2 subscriptions"),
        ({"SubscriptionsPending": "1"}, [FindingLevel.WARNING], "no address has confirmed"),
        ({}, [FindingLevel.WARNING], "has no subscriptions"),
        ({"SubscriptionsConfirmed": "1", "KmsMasterKeyId": "k"}, [FindingLevel.OK, FindingLevel.WARNING], "encrypted"),
    ],
)
def test_what_check_says_about_a_topic(attributes: Any, levels: list[FindingLevel], text: str) -> None:
    findings = list(judge_topic(TOPIC, attributes))

    assert [finding.level for finding in findings] == levels
    assert text in findings[-1].message
