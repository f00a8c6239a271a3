"""Evaluates the identity policies of one login, as IAM does for requests within an account.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html

It raises NotImplementedError for elements that it does not know, so that a new kind of condition cannot pass unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

Context = Mapping[str, str | list[str]]
_ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}


def is_allowed(documents: Iterable[Mapping[str, Any]], action: str, resource: str, context: Context) -> bool:
    """Return whether a statement in the policies allows the action on the resource, and no statement denies it.

    `resource`: an ARN, or "*" for a request that refers to no resource. `context`: the request's condition keys with
    their values.
    """
    statements = [statement for document in documents for statement in to_list(document["Statement"])]
    effects = {each["Effect"] for each in statements if applies(each, action, resource, context)}
    return effects == {"Allow"}


def applies(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    """Return whether the statement applies to the request, whatever its effect."""
    if unknown := statement.keys() - _ELEMENTS:
        raise NotImplementedError(f"the element {sorted(unknown)[0]} of a statement")
    return (
        _is_listed(statement, "Action", lambda pattern: matches(action.lower(), pattern.lower()))
        and _is_listed(statement, "Resource", lambda pattern: matches_arn(resource, pattern))
        and all(
            _is_met(operator, key, to_list(expected), context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, expected in keys.items()
        )
    )


def _is_listed(statement: Mapping[str, Any], element: str, is_match: Callable[[str], bool]) -> bool:
    """Return whether an entry of the element matches or, if the statement has the element's negation, none does."""
    if element in statement:
        return any(map(is_match, to_list(statement[element])))
    return not any(map(is_match, to_list(statement[f"Not{element}"])))


def matches(value: str, pattern: str) -> bool:
    """Return whether the value matches the pattern, in which `*` stands for any text and `?` for any character."""
    return bool(_compile_pattern(pattern).fullmatch(value))


@cache
def _compile_pattern(pattern: str) -> re.Pattern[str]:
    if "${" in pattern:
        raise NotImplementedError(f"the policy variable in {pattern}")
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def matches_arn(value: str, pattern: str) -> bool:
    """Return whether the ARN matches. A wildcard matches only within one of the parts that colons separate.

    The last part, which names the resource, may itself contain colons.
    """
    if pattern == "*":
        return True
    values, patterns = value.split(":", 5), pattern.split(":", 5)
    return len(values) == len(patterns) and all(map(matches, values, patterns))


_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, expected: value == expected,
    "StringEqualsIgnoreCase": lambda value, expected: value.lower() == expected.lower(),
    "StringLike": matches,
    "ArnEquals": matches_arn,
    "ArnLike": matches_arn,
    "Bool": lambda value, expected: value.lower() == expected.lower(),
}
_NEGATIONS = {
    name.replace("Equals", "NotEquals").replace("Like", "NotLike"): comparison
    for name, comparison in _COMPARISONS.items()
    if name != "Bool"
}


def _is_met(operator: str, key: str, expected: list[str], context: Context) -> bool:
    """Return whether one condition is met. `operator` may have a quantifier, such as `ForAllValues:StringLike`."""
    values = to_list(next((value for name, value in context.items() if name.lower() == key.lower()), []))
    if operator == "Null":
        return (not values) == (expected == ["true"])
    quantifier, _, name = operator.rpartition(":")
    if name.endswith("IfExists"):
        if not values:
            return True
        name = name.removesuffix("IfExists")
    if name in _NEGATIONS:
        results = [not any(_NEGATIONS[name](value, each) for each in expected) for value in values]
        return all(results) if quantifier != "ForAnyValue" else any(results)  # also met if there are no values
    if name not in _COMPARISONS:
        raise NotImplementedError(f"the condition operator {operator}")
    results = [any(_COMPARISONS[name](value, each) for each in expected) for value in values]
    return all(results) if quantifier == "ForAllValues" else any(results)


def to_list(value: Any) -> list[Any]:
    """Return the value as a list. In policies, a single item may appear without a list around it."""
    return list(value) if isinstance(value, (list, tuple)) else [value]
