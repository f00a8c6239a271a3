"""The lookup of a topic, which `check` uses too."""

from __future__ import annotations

from typing import Any

from distributed_something.aws.retry import none_if_missing

_MISSING_CODES = ("NotFound", "NotFoundException")


def find_topic(sns: Any, arn: str) -> dict[str, str] | None:
    """Return the topic's attributes, or None if it does not exist. Other AWS errors are not caught."""
    response = none_if_missing(lambda: sns.get_topic_attributes(TopicArn=arn), *_MISSING_CODES)
    return None if response is None else dict(response["Attributes"])
