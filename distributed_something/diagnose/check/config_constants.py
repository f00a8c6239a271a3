"""Checks constants in the config: names that are probably misspelled, and the topic for notifications.

The values are valid, or the config is not loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from distributed_something.account.topic.find_topic import find_topic
from distributed_something.core.config_settings import find_misspelled_constants
from distributed_something.core.text import format_count
from distributed_something.diagnose.check.findings import (
    Finding,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups

NOTIFICATION_TOPIC = "notifications"


def check_constants(lookups: Lookups) -> Iterator[Finding]:
    """Check the names of the user's own constants, without calling AWS."""
    return judge_constants(find_misspelled_constants(lookups.settings))


def judge_constants(misspelled: Mapping[str, str]) -> Iterator[Finding]:
    """Warn about each constant whose name is similar to a known one. `misspelled`: the known name for each of them."""
    for name, known in misspelled.items():
        yield build_warning_finding(
            "config", f"{name} is not a known constant, but its name is similar to {known}",
            f"write {known}; if {name} is a constant of your own, nothing needs to be changed",
            details={"constant": name, "similar": known},
        )  # fmt: skip
    if not misspelled:
        yield build_ok_finding("config", "its constants are known, or are your own")


def check_topic(lookups: Lookups) -> Iterator[Finding]:
    """Check that the topic in NOTIFY exists and that somebody gets its messages. The local cloud makes it itself."""
    arn = lookups.settings.NOTIFY
    if not arn:
        return
    if lookups.is_local:
        text = f"{arn} is not looked up with --local, which uses a topic of its own and sends nothing"
        yield build_ok_finding(NOTIFICATION_TOPIC, text)
        return
    account = lookups.account.account_id
    if arn.split(":")[4] != account:
        problem = f"{arn} is not in the account {account}, which you are logged in to"
        yield build_wrong_finding(NOTIFICATION_TOPIC, problem, "use a topic in your account", is_user_error=True)
        return
    yield from judge_topic(arn, find_topic(lookups.clients.sns, arn))


def judge_topic(arn: str, attributes: Mapping[str, str] | None) -> Iterator[Finding]:
    """Check that the topic exists, that an address has confirmed its subscription, and which key encrypts messages.

    Without notifications, a run still works.
    """
    if attributes is None:
        yield build_warning_finding(
            NOTIFICATION_TOPIC, f"there is no topic {arn}, so nobody will be notified",
            "run setupAWS --notify ADDRESS, or correct NOTIFY",
        )  # fmt: skip
        return
    confirmed, pending = (int(attributes.get(f"Subscriptions{state}") or 0) for state in ("Confirmed", "Pending"))
    details = {"confirmed": confirmed, "pending": pending}
    if confirmed:
        yield build_ok_finding(NOTIFICATION_TOPIC, f"{arn}: {format_count(confirmed, 'subscription')}", details=details)
    elif pending:
        problem = f"no address has confirmed its subscription to {arn}, so nobody will be notified"
        remedy = "open the link in the message from AWS Notifications; setupAWS --notify ADDRESS sends it again"
        yield build_warning_finding(NOTIFICATION_TOPIC, problem, remedy, details=details)
    else:
        problem = f"{arn} has no subscriptions, so nobody will be notified"
        yield build_warning_finding(NOTIFICATION_TOPIC, problem, "run setupAWS --notify ADDRESS", details=details)
    if attributes.get("KmsMasterKeyId"):
        yield build_warning_finding(
            NOTIFICATION_TOPIC, f"messages in {arn} are encrypted with a key, which the monitors also need",
            "allow them kms:GenerateDataKey and kms:Decrypt on this key, or remove the encryption", details=details,
        )  # fmt: skip
