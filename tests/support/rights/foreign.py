"""The foreign counterparts of permissions: requests like those of a rehearsal, but about what is not ours.

Each counterpart differs from a permission that a login needs in one respect, its change: the resource's account, its
kind, one part of its name, its tags, or a condition key of the request. What the policies allow nevertheless must be in
the table `BROAD`, with the reason. Nothing else here knows the policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

from distributed_something.core.names import SHARED_APP
from tests.support.rights.requests import DATA, Permission

FOREIGN_ACCOUNT, FOREIGN = "999999999999", "Foreign"
# The changes; another part of the name is called like the part in AWS's data, such as BucketName.
ACCOUNT, KIND, UNTAGGED, SHARED, MADE_BY = "account", "kind", "untagged", "shared", "made-by"
_GIVEN_PARTS = {"Partition", "Region", "Account"}
_CHARACTERS = dict.fromkeys(_GIVEN_PARTS, "[^:]*") | {"BucketName": "[^/:]+", "ObjectName": ".+"}
_KEY_FOLDERS = 2  # the folders of an object's key that tell what it is: runs/APP/…


@dataclass(frozen=True)
class Counterpart:
    """A request that differs from a needed one by `change`."""

    change: str
    request: Permission


def list_counterparts(needs: Iterable[Permission]) -> list[Counterpart]:
    """Return the distinct foreign counterparts of what a login needs."""
    needs = list(needs)
    kinds: dict[str, set[str]] = {}
    for need in needs:
        kinds.setdefault(need.action, set()).update(_find_kinds(need))
    found = [
        counterpart
        for need in needs
        for counterpart in (
            *_iter_other_resources(need), *_iter_other_kinds(need, kinds[need.action]), *_iter_other_contexts(need),
        )
    ]  # fmt: skip
    return [each for each in dict.fromkeys(found) if each.request not in set(needs)]


def _iter_other_resources(need: Permission) -> Iterator[Counterpart]:
    """Yield the resource in another account, and with another name; each part of the name is changed alone."""
    parts = need.resource.split(":", 5)
    if len(parts) == 6 and re.fullmatch(r"\d{12}", parts[4]):
        foreign = ":".join([*parts[:4], FOREIGN_ACCOUNT, parts[5]])
        yield Counterpart(ACCOUNT, replace(need, resource=foreign))
    for kind in _find_kinds(need):
        match = _compile_arn(_get_arn_format(need.action, kind)).fullmatch(need.resource)
        assert match
        for part, value in match.groupdict().items():
            if part not in _GIVEN_PARTS and value != "*":
                for change, name in _iter_other_names(part, value):
                    start, end = match.span(part)
                    arn = need.resource[:start] + name + need.resource[end:]
                    yield Counterpart(change, replace(need, resource=arn))


def _iter_other_names(part: str, value: str) -> Iterator[tuple[str, str]]:
    if part != "ObjectName":
        yield part, FOREIGN
        return
    *folders, name = value.split("/")
    for index in range(min(len(folders), _KEY_FOLDERS)):
        yield f"{part}/{index + 1}", "/".join([*folders[:index], FOREIGN, *folders[index + 1 :], name])
    if not folders:
        yield f"{part}/1", f"{FOREIGN}/{name}"


def _iter_other_kinds(need: Permission, used: set[str]) -> Iterator[Counterpart]:
    """Yield the action on the service's other kinds of resources, even on those that AWS would never check."""
    parts = need.resource.split(":", 5)
    for kind in _list_kinds(need.action) if used else ():
        arn_format = _get_arn_format(need.action, kind)
        # The data also list resources of other services, and some ARNs have no account.
        if kind in used or arn_format.split(":")[2] != parts[2] or ("${Account}" in arn_format and not parts[4]):
            continue
        constants = {"Partition": "aws", "Region": parts[3], "Account": parts[4]}
        arn = re.sub(r"\$\{(\w+)\}", lambda part, known=constants: known.get(part[1], FOREIGN), arn_format)  # type: ignore[misc]
        yield Counterpart(KIND, replace(need, resource=arn))


def _iter_other_contexts(need: Permission) -> Iterator[Counterpart]:
    """Yield the request with other tags of the resource, and with each other condition key changed or missing."""
    tags = {key: values for key, values in need.context if "ResourceTag/" in key}
    rest = tuple((key, values) for key, values in need.context if key not in tags)
    if tags:
        yield Counterpart(UNTAGGED, replace(need, context=rest))
    for change, tag, value in ((SHARED, "app", SHARED_APP), (MADE_BY, "made-by", FOREIGN)):
        changed = {key: (value,) if key.endswith(f"/{tag}") else values for key, values in tags.items()}
        if changed != tags and (change != SHARED or need.action.startswith("sqs:")):
            yield Counterpart(change, replace(need, context=tuple(sorted((*changed.items(), *rest)))))
    for key, _ in rest:
        others = tuple(entry for entry in need.context if entry[0] != key)
        if not key.startswith("aws:"):  # a request may always omit tags
            yield Counterpart(f"no {key}", replace(need, context=others))
        if not key.startswith("aws:RequestTag/"):  # users choose the values of tags
            yield Counterpart(key, replace(need, context=tuple(sorted((*others, (key, (FOREIGN,)))))))


def _find_kinds(need: Permission) -> list[str]:
    """Return the kinds of the action's resources, according to AWS's data, as which the ARN can be read."""
    service, name = need.action.split(":")
    kinds = [entry["name"] for entry in DATA.actions.get_action_details(service, name)["resourceTypes"]]
    return [kind for kind in kinds if _compile_arn(_get_arn_format(need.action, kind)).fullmatch(need.resource)]


@cache
def _list_kinds(action: str) -> list[str]:
    """Return all kinds of resources of the action's service."""
    return sorted(DATA.resources.get_resource_types_for_service(action.split(":")[0]))


@cache
def _get_arn_format(action: str, kind: str) -> str:
    return str(DATA.resources.get_resource_type_details(action.split(":")[0], kind)["arn"])


@cache
def _compile_arn(arn_format: str) -> re.Pattern[str]:
    """Return the pattern of a kind's ARNs with its parts as groups. The ARNs of log groups may end in `:*`."""
    pattern = re.escape(arn_format).replace(r"\$\{", "${").replace(r"\}", "}")
    for part in dict.fromkeys(re.findall(r"\$\{(\w+)\}", pattern)):
        characters = _CHARACTERS.get(part, "[^:]+")
        pattern = pattern.replace(f"${{{part}}}", f"(?P<{part}>{characters})", 1).replace(f"${{{part}}}", characters)
    return re.compile(rf"{pattern}(?::\*)?", re.DOTALL)
