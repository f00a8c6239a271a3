"""The steps of `setupAWS --notify ADDRESS`: a topic, a subscription, and the auto-monitor's permission to publish."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.account.policies import build_topic_policy
from distributed_something.account.roles import MISSING_CODE, POLICY_NAME, RoleSpec, find_policy, put_policies
from distributed_something.account.step import SetupRow, SetupState, SetupStep
from distributed_something.account.topic.find_topic import find_topic
from distributed_something.aws.retry import none_if_missing
from distributed_something.core.errors import InputError, is_access_denied
from distributed_something.core.names import MONITOR_ROLE, AwsAccount
from distributed_something.core.tags import MADE_BY_TAG, has_made_by_tag

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients

_TOPIC_POLICY_SUFFIX = "-topic"
_EMAIL_PATTERN = re.compile(r"[^@\s:/]+@[^@\s:/]+\.[^@\s:/.]+")
_HTTPS_PATTERN = re.compile(r"https://[^\s/@:]+(:\d+)?(/\S*)?")


@dataclass(frozen=True)
class Subscriber:
    """Where SNS sends notifications: a protocol, `email` or `https`, and an address."""

    protocol: str
    address: str


def parse_subscriber(address: str) -> Subscriber:
    """Return the subscriber with this address. Raise InputError if it is neither an e-mail nor an https address."""
    if _EMAIL_PATTERN.fullmatch(address):
        return Subscriber("email", address)
    if _HTTPS_PATTERN.fullmatch(address):
        return Subscriber("https", address)
    problem = "is not encrypted" if address.startswith("http://") else "is neither an e-mail nor an https address"
    raise InputError("--notify", "", f"{address!r} {problem}", "write one such as you@example.org or https://…")


def check_topic_account(arn: str, account: AwsAccount, file: object) -> None:
    """Raise InputError if the topic belongs to another account: nobody in this one may make or use it."""
    owner = arn.split(":")[4] if arn else account.account_id
    if owner != account.account_id:
        problem = f"the topic is in the account {owner}, but you are logged in to {account.account_id}"
        raise InputError(str(file), "NOTIFY", problem, "use a topic in your account")


def list_topic_planners(
    clients: Clients, arn: str, subscriber: Subscriber | None, sleep: Callable[[float], None], *, is_local: bool = False
) -> Iterator[Callable[[], SetupStep]]:
    """Yield a function for each step, which inspects the account and returns the step.

    Without a subscriber, the auto-monitor only gets its permission; the topic may be anybody's in this account.
    """
    if subscriber is not None:
        yield partial(plan_topic, clients.sns, arn)
        yield partial(plan_subscription, clients.sns, arn, subscriber, is_local=is_local)
    yield partial(plan_topic_permission, clients.iam, arn, sleep)


def plan_topic(sns: Any, arn: str) -> SetupStep:
    """Plan to create the topic."""
    name = arn.rpartition(":")[2]
    row = partial(SetupRow, "topic", name)
    note = f"in config.py: NOTIFY = '{arn}'"
    if find_topic(sns, arn) is not None:
        return SetupStep(row(SetupState.EXISTS, note))
    tags = [{"Key": key, "Value": value} for key, value in MADE_BY_TAG.items()]
    create = partial(sns.create_topic, Name=name, Tags=tags)
    return SetupStep(row(SetupState.CREATED, note), create)


def plan_subscription(sns: Any, arn: str, subscriber: Subscriber, *, is_local: bool = False) -> SetupStep:
    """Plan to subscribe an address to the topic. SNS sends nothing to it until it confirms that."""
    row = partial(SetupRow, "subscription", subscriber.address)
    confirm = f"SNS sends a message to {subscriber.address}: open the link in it to confirm"
    confirm = "the local cloud sends nothing to it" if is_local else confirm
    if find_topic(sns, arn) is not None:
        pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
        known = [item for page in pages for item in page.get("Subscriptions", ())]
        for item in known:
            if (item["Protocol"], item["Endpoint"]) == (subscriber.protocol, subscriber.address):
                is_confirmed = str(item["SubscriptionArn"]).startswith("arn:")
                return SetupStep(row(SetupState.EXISTS, "" if is_confirmed else f"not confirmed yet; {confirm}"))
    subscribe = partial(sns.subscribe, TopicArn=arn, Protocol=subscriber.protocol, Endpoint=subscriber.address)
    return SetupStep(row(SetupState.CREATED, confirm), subscribe)


def plan_topic_permission(iam: Any, arn: str, sleep: Callable[[float], None]) -> SetupStep:
    """Plan to let the auto-monitor publish to the topic, with a policy of its own."""
    name = f"{POLICY_NAME}-{arn.rpartition(':')[2]}{_TOPIC_POLICY_SUFFIX}"
    row, policy = partial(SetupRow, "permission", f"{MONITOR_ROLE} to publish to {arn}"), build_topic_policy(arn)
    current = find_policy(iam, MONITOR_ROLE, name)
    if current == policy:
        return SetupStep(row(SetupState.EXISTS))
    state = SetupState.CREATED if current is None else SetupState.CHANGED
    spec = RoleSpec(MONITOR_ROLE, "lambda.amazonaws.com", {name: policy})
    return SetupStep(row(state), partial(put_policies, iam, spec, [name], sleep))


def plan_topic_removals(clients: Clients, account: AwsAccount, topic: str) -> Iterator[SetupStep]:
    """Plan to delete the topics that setupAWS created in this region, also those that the config no longer names.

    Each of them has a policy in the auto-monitor's role, which must not be deleted before. `topic`: the ARN in the
    config, if any.
    """
    arns = dict.fromkeys([account.topic(topic), *_iter_permitted_topics(clients.iam)])
    for arn in arns:
        if arn.split(":")[3:5] == [account.region, account.account_id]:
            yield from plan_topic_removal(clients.sns, arn)
        else:
            yield SetupStep(SetupRow("topic", arn, SetupState.KEPT, "in another region or account"))


def plan_topic_removal(sns: Any, arn: str) -> Iterator[SetupStep]:
    """Plan to delete the topic with its subscriptions, if setupAWS created it."""
    row = partial(SetupRow, "topic", arn.rpartition(":")[2])
    try:
        if find_topic(sns, arn) is None:
            return
        tags = sns.list_tags_for_resource(ResourceArn=arn).get("Tags")
    except ClientError as error:
        if not is_access_denied(error):
            raise
        note = f"you may not look at it; if setupAWS made it, write NOTIFY = '{arn}', and see setupAWS --policies"
        yield SetupStep(row(SetupState.KEPT, note))
        return
    if has_made_by_tag(tags):
        yield SetupStep(row(SetupState.REMOVED), partial(sns.delete_topic, TopicArn=arn))
    else:
        yield SetupStep(row(SetupState.KEPT, "not created by setupAWS"))


def _iter_permitted_topics(iam: Any) -> Iterator[str]:
    """Yield the ARNs of the topics to which the auto-monitor may publish."""

    def list_names() -> list[str]:
        pages = iam.get_paginator("list_role_policies").paginate(RoleName=MONITOR_ROLE)
        return [name for page in pages for name in page["PolicyNames"]]

    for name in none_if_missing(list_names, MISSING_CODE) or ():
        if name.startswith(f"{POLICY_NAME}-") and name.endswith(_TOPIC_POLICY_SUFFIX):
            for statement in (find_policy(iam, MONITOR_ROLE, name) or {}).get("Statement", ()):
                yield str(statement["Resource"])
