"""What all that a run makes is marked with, so that the bill and the clean-up know whose it is: app, run and owner."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from distributed_something.core.monitor_file import parse_run_start

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


MADE_BY_TAG = {"made-by": "distributed-something"}  # on what setupAWS and fleetFile make, and may delete
KEPT_VOLUME_TAG = {"keep": "DeleteOnTermination is false"}  # on volumes that outlive their machines on purpose
MAX_TAG_VALUE_CHARACTERS = 256  # characters of a tag's value, in every service
_INVALID_CHARACTER_PATTERN = re.compile(
    r"[^\w .:/=+@-]", re.ASCII
)  # what every service takes: letters, digits, space and these signs


def build_tags(settings: Settings, owner: str = "", run: str | None = None) -> dict[str, str]:
    """The tags of what is made for this app; `run`: its start (`20261123T104500Z`), None for what outlives runs."""
    found = {"app": settings.APP_NAME, "run": run, "owner": build_tag_value(owner)}
    return {key: text for key, text in found.items() if text}


def build_tag_value(text: str) -> str:
    """`text` as a tag's value, in which the signs that AWS does not take are a `-`."""
    return _INVALID_CHARACTER_PATTERN.sub("-", text)[:MAX_TAG_VALUE_CHARACTERS].strip()


def build_ec2_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """As EC2 takes them."""
    return [{"Key": key, "Value": text} for key, text in tags.items()]


def build_ecs_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """As ECS takes them."""
    return [{"key": key, "value": text} for key, text in tags.items()]


def parse_tags(tags: Iterable[Mapping[str, Any]] | Mapping[str, str] | None) -> dict[str, str]:
    """Return tags as a dictionary, however their service writes them: as a list of Key and Value (EC2, IAM), a list of
    key and value (ECS), or a dictionary (SQS, Lambda, CloudWatch Logs). None: there are none."""
    if isinstance(tags, Mapping):
        return dict(tags)
    return {str(tag.get("Key", tag.get("key"))): str(tag.get("Value", tag.get("value")) or "") for tag in tags or ()}


def has_made_by_tag(tags: Iterable[Mapping[str, Any]] | Mapping[str, str] | None) -> bool:
    """Whether setupAWS or fleetFile made the thing that has these tags."""
    return MADE_BY_TAG.items() <= parse_tags(tags).items()


def build_tag_specifications(
    theirs: Iterable[Mapping[str, Any]], kinds: Iterable[str], ours: Mapping[str, str]
) -> list[Any]:
    """EC2's TagSpecifications: `theirs`, with `ours` in each of `kinds`; ours count where both have a key."""
    merged = {str(one.get("ResourceType", "")): parse_tags(one.get("Tags")) for one in theirs}
    for kind in kinds:
        merged[kind] = merged.get(kind, {}) | dict(ours)
    return [{"ResourceType": kind, "Tags": build_ec2_tags(tags)} for kind, tags in merged.items()]


def has_run_tags(tags: Mapping[str, str]) -> bool:
    """Whether the tags tell a run as we write it, beside its app: the word `app` alone is everybody's."""
    return "app" in tags and parse_run_start(tags.get("run", "")) is not None
