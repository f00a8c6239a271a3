"""What all that a run makes is marked with, so that the bill and the clean-up know whose it is: app, run and owner."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from control.errors import doing
from control.monitorfile import start_of

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

    from control.settings import Settings

KEPT = {"keep": "DeleteOnTermination is false"}  # on volumes that outlive their machines on purpose
LONGEST_VALUE = 256  # characters of a tag's value, in every service
_NOT_ALLOWED = re.compile(
    r"[^\w .:/=+@-]", re.ASCII
)  # what every service takes: letters, digits, space and these signs


def owner_of(settings: Settings, sts: STSClient) -> str:
    """OWNER of the config; without it the name of who is logged in: a user, or the session of a role. Nobody needs a
    right for that call. Raises CloudError."""
    if settings.OWNER:
        return settings.OWNER
    with doing("looking up who you are (OWNER in the config spares it)"):
        arn = sts.get_caller_identity()["Arn"]
    return value(arn.rsplit(":", 1)[-1].rsplit("/", 1)[-1])


def of(settings: Settings, owner: str = "", run: str | None = None) -> dict[str, str]:
    """The tags of what is made for this app; `run`: its start (`20261123T104500Z`), None for what outlives runs."""
    found = {"app": settings.APP_NAME, "run": run, "owner": value(owner)}
    return {key: text for key, text in found.items() if text}


def value(text: str) -> str:
    """`text` as a tag's value, in which the signs that AWS does not take are a `-`."""
    return _NOT_ALLOWED.sub("-", text)[:LONGEST_VALUE].strip()


def for_ec2(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """As EC2 takes them."""
    return [{"Key": key, "Value": text} for key, text in tags.items()]


def for_ecs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """As ECS takes them."""
    return [{"key": key, "value": text} for key, text in tags.items()]


def specifications(theirs: Iterable[Mapping[str, Any]], kinds: Iterable[str], ours: Mapping[str, str]) -> list[Any]:
    """EC2's TagSpecifications: `theirs`, with `ours` in each of `kinds`; ours count where both have a key."""
    merged: dict[str, dict[str, str]] = {str(one.get("ResourceType", "")): _of(one) for one in theirs}
    for kind in kinds:
        merged[kind] = merged.get(kind, {}) | dict(ours)
    return [{"ResourceType": kind, "Tags": for_ec2(tags)} for kind, tags in merged.items()]


def _of(specification: Mapping[str, Any]) -> dict[str, str]:
    return {str(tag.get("Key")): str(tag.get("Value", "")) for tag in specification.get("Tags", ())}


def is_of_a_run(tags: Mapping[str, str]) -> bool:
    """Whether the tags tell a run as we write it, beside its app: the word `app` alone is everybody's."""
    return "app" in tags and start_of(tags.get("run", "")) is not None
