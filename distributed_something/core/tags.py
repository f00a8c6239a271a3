"""The tags on all of a run's resources: app, run, and owner. Cleanup and bills identify the resources by their tags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from distributed_something.core.monitor_file import parse_run_start

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


MADE_BY_TAG = {"made-by": "distributed-something"}  # on resources that setupAWS and fleetFile create and may delete
KEPT_VOLUME_TAG = {"keep": "DeleteOnTermination is false"}  # on volumes that are meant to outlive their machines
MAX_TAG_VALUE_CHARACTERS = 256  # characters; every service's limit
# Every service accepts letters, digits, spaces, and these characters.
_INVALID_CHARACTER_PATTERN = re.compile(r"[^\w .:/=+@-]", re.ASCII)


def build_tags(settings: Settings, owner: str = "", run: str | None = None) -> dict[str, str]:
    """Return the tags for this app's resources.

    `run`: the run's name (`20261123T104500Z`), or None for resources that outlive runs.
    """
    tags = {"app": settings.APP_NAME, "run": run, "owner": build_tag_value(owner)}
    return {key: text for key, text in tags.items() if text}


def build_tag_value(text: str) -> str:
    """Return `text` as the value of a tag; characters that AWS does not accept become `-`."""
    return _INVALID_CHARACTER_PATTERN.sub("-", text)[:MAX_TAG_VALUE_CHARACTERS].strip()


def build_ec2_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the tags in EC2's format."""
    return [{"Key": key, "Value": text} for key, text in tags.items()]


def build_ecs_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the tags in ECS's format."""
    return [{"key": key, "value": text} for key, text in tags.items()]


def parse_tags(tags: Iterable[Mapping[str, Any]] | Mapping[str, str] | None) -> dict[str, str]:
    """Return tags in any service's format as a dictionary.

    The formats are a list of Key and Value (EC2, IAM), a list of key and value (ECS), a dictionary (SQS, Lambda, and
    CloudWatch Logs), and None if there are no tags.
    """
    if isinstance(tags, Mapping):
        return dict(tags)
    return {str(tag.get("Key", tag.get("key"))): str(tag.get("Value", tag.get("value")) or "") for tag in tags or ()}


def has_made_by_tag(tags: Iterable[Mapping[str, Any]] | Mapping[str, str] | None) -> bool:
    """Return whether setupAWS or fleetFile created the resource that has these tags."""
    return MADE_BY_TAG.items() <= parse_tags(tags).items()


def build_tag_specifications(
    specifications: Iterable[Mapping[str, Any]], resource_types: Iterable[str], tags: Mapping[str, str]
) -> list[Any]:
    """Return EC2's TagSpecifications with `tags` added to each of `resource_types`, replacing existing keys."""
    merged = {str(spec.get("ResourceType", "")): parse_tags(spec.get("Tags")) for spec in specifications}
    for resource_type in resource_types:
        merged[resource_type] = merged.get(resource_type, {}) | dict(tags)
    return [{"ResourceType": kind, "Tags": build_ec2_tags(merged_tags)} for kind, merged_tags in merged.items()]


def has_run_tags(tags: Mapping[str, str]) -> bool:
    """Return whether the tags include this package's `app` and `run` tags. Other software also uses the tag `app`."""
    return "app" in tags and parse_run_start(tags.get("run", "")) is not None
