"""Evaluates the policy of a resource, such as a bucket, for one request of an AWS service.

IAM's policy simulator knows only the policies of roles. What these functions do not evaluate is unknown, and neither
allowed nor denied: NotAction, NotPrincipal, NotResource, variables, and conditions about anything but known values.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from distributed_something.account.policy_documents import wrap_in_list

# An operator's name without `Not`, which negates it, and whether its values may have wildcards.
_HAS_WILDCARDS = {"stringequals": False, "bool": False, "stringlike": True, "arnequals": True, "arnlike": True}


class PolicyVerdict(Enum):
    """What a policy says about a request, from good to bad."""

    ALLOWED = "allowed"
    UNKNOWN = "unknown"
    NOT_ALLOWED = "not allowed"  # no statement allows it
    DENIED = "denied"  # a statement denies it, which no other statement can change


@dataclass(frozen=True)
class ServiceRequest:
    """A request of an AWS service. `services`: its names in policies; `resource`: an ARN.

    `values`: the possible values of each condition key that is known, in lowercase. A condition holds if it holds for
    all of them.
    """

    services: frozenset[str]
    action: str
    resource: str
    values: Mapping[str, Iterable[str]]


def judge_request(policy: Mapping[str, Any], request: ServiceRequest) -> PolicyVerdict:
    """Return what the policy says about the request."""
    found: dict[str, set[bool | None]] = {"Allow": set(), "Deny": set()}
    for statement in wrap_in_list(policy.get("Statement")):
        found.setdefault(statement.get("Effect", ""), set()).add(_applies(statement, request))
    if True in found["Deny"]:
        return PolicyVerdict.DENIED
    if found["Allow"] <= {False}:
        return PolicyVerdict.NOT_ALLOWED
    is_certain = True in found["Allow"] and None not in found["Deny"]
    return PolicyVerdict.ALLOWED if is_certain else PolicyVerdict.UNKNOWN


def _applies(statement: Mapping[str, Any], request: ServiceRequest) -> bool | None:
    """Return whether all parts of the statement match the request; None if this is unknown."""
    parts = {
        _matches_principal(statement, request.services),
        _matches_part(statement, "Action", request.action.lower()),
        _matches_part(statement, "Resource", request.resource),
        *_iter_conditions(statement, request),
    }
    return False if False in parts else None if None in parts else True


def _matches_principal(statement: Mapping[str, Any], services: frozenset[str]) -> bool | None:
    principal = statement.get("Principal")
    if principal is None:  # NotPrincipal
        return None
    named = principal if isinstance(principal, dict) else {"AWS": principal}
    return "*" in wrap_in_list(named.get("AWS")) or not services.isdisjoint(wrap_in_list(named.get("Service")))


def _matches_part(statement: Mapping[str, Any], key: str, value: str) -> bool | None:
    if key not in statement:  # NotAction or NotResource
        return None
    patterns = [str(pattern) for pattern in wrap_in_list(statement[key])]
    return _matches_any([pattern.lower() for pattern in patterns] if key == "Action" else patterns, value)


def _iter_conditions(statement: Mapping[str, Any], request: ServiceRequest) -> Iterator[bool | None]:
    """Yield for each condition whether it holds."""
    for operator, tests in (statement.get("Condition") or {}).items():
        for key, patterns in tests.items():
            yield _holds(
                operator.lower().removesuffix("ifexists"), wrap_in_list(patterns), request.values.get(key.lower())
            )


def _holds(operator: str, patterns: list[Any], values: Iterable[str] | None) -> bool | None:
    has_wildcards = _HAS_WILDCARDS.get(operator.replace("not", ""))
    if has_wildcards is None or values is None:
        return None
    texts = [str(pattern).lower() if operator == "bool" else str(pattern) for pattern in patterns]
    outcomes = {_matches_any(texts, value, has_wildcards=has_wildcards) for value in values}
    outcome = outcomes.pop() if len(outcomes) == 1 else None
    return None if outcome is None else outcome is not ("not" in operator)


def _matches_any(patterns: Iterable[str], value: str, *, has_wildcards: bool = True) -> bool | None:
    """Return whether one of the patterns matches; None if none does, but one of them contains a variable."""
    patterns = list(patterns)
    if any(_has_form(value, pattern) if has_wildcards else value == pattern for pattern in patterns):
        return True
    return None if any("${" in pattern for pattern in patterns) else False


def _has_form(value: str, pattern: str) -> bool:
    """Return whether the pattern matches. Brackets have no meaning in IAM, but in fnmatch."""
    return fnmatchcase(value, pattern.replace("[", "[[]"))
