"""Checks a request against botocore's model of the call before anything is sent.

botocore also validates requests, but it reports all errors as a single text written for programmers, and it does not
check whether a value is one that AWS accepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.utils import parse_to_aware_datetime

from distributed_something.core.text import find_similar_name, format_json

if TYPE_CHECKING:
    from botocore.model import Shape


MAX_CHOICES_SHOWN = 12  # maximum number of accepted values listed in a message
# botocore's name of a type: Python's types, what a user calls it, and what to write
_TYPES: dict[str, tuple[tuple[type, ...], str, str]] = {
    "structure": ((dict,), "an object", "write an object: { … }"),
    "map": ((dict,), "an object", "write an object: { … }"),
    "list": ((list, tuple), "a list", "write a list: [ … ]"),
    "string": ((str,), "a string", "write it in quotes"),
    "integer": ((int,), "a whole number", "write a whole number, such as 4"),
    "long": ((int,), "a whole number", "write a whole number, such as 4"),
    "float": ((float, Decimal, int), "a number", "write a number, such as 1.5"),
    "double": ((float, Decimal, int), "a number", "write a number, such as 1.5"),
    "boolean": ((bool,), "true or false", "write true or false, without quotes"),
    "timestamp": ((datetime,), "a time", "write a time, such as 2026-11-23T10:45:00Z"),
}
UNKNOWN_KEY_PROBLEM = "AWS does not recognize this key"
_NUMBER_TYPES = ("integer", "long", "float", "double")
_GROWING_ENUMS = ("InstanceType",)  # AWS adds values to these lists before botocore does


class RequestFault(NamedTuple):
    """One error in a request: the path of the key, the problem, and the remedy."""

    key: str
    problem: str
    remedy: str


class _Node(NamedTuple):
    """A value in a request, its shape in botocore's model, and its path."""

    value: Any
    shape: Any
    path: str


def find_request_faults(request: dict[str, Any], shape: Shape) -> list[RequestFault]:
    """Return everything in `request` that AWS would reject: first unknown keys, missing keys, and wrong types, then
    values that AWS does not accept.

    Keys are relative to the single parameter that a call such as RequestSpotFleet takes.
    """
    nodes = list(_iter_nodes(_Node(request, shape, "")))
    return [fault for find_faults in (_find_form_faults, _find_unknown_value) for node in nodes
            for fault in find_faults(node)]  # fmt: skip


def _iter_nodes(node: _Node) -> Iterator[_Node]:
    """Yield the node and all nodes below it that the model contains, in the order of the request.

    Skip everything below a value of the wrong type.
    """
    yield node
    if not _has_expected_type(node):
        return
    value, shape, path = node
    children: list[_Node] = []
    if shape.type_name == "structure":
        children = [
            _Node(value[name], shape.members[name], f"{path}.{name}") for name in value if name in shape.members
        ]
    elif shape.type_name == "map":
        children = [_Node(inner, shape.value, f"{path}.{name}") for name, inner in value.items()]
    elif shape.type_name == "list":
        children = [_Node(inner, shape.member, f"{path}[{number}]") for number, inner in enumerate(value)]
    for child in children:
        yield from _iter_nodes(child)


def _find_form_faults(node: _Node) -> Iterator[RequestFault]:
    value, shape, path = node
    if not _has_expected_type(node):
        _, name, remedy = _TYPES[shape.type_name]
        yield RequestFault(_format_key(path), f"{format_json(value)} is not {name}", remedy)
    elif shape.type_name == "structure":
        yield from _find_key_faults(node)
    else:
        yield from _find_size_fault(node)


def _find_size_fault(node: _Node) -> Iterator[RequestFault]:
    value, shape, path = node
    least = shape.metadata.get("min")
    if least is None:
        return
    if shape.type_name in _NUMBER_TYPES and value < least:
        remedy = f"write a number that is at least {least}"
        yield RequestFault(_format_key(path), f"{format_json(value)} is too small", remedy)
    if shape.type_name in ("list", "string") and len(value) < least:
        remedy = f"list at least {least}" if shape.type_name == "list" else f"write at least {least} character(s)"
        yield RequestFault(_format_key(path), f"{format_json(value)} is too short", remedy)


def _find_key_faults(node: _Node) -> Iterator[RequestFault]:
    value, shape, path = node
    for name in shape.metadata.get("required", ()):
        if name not in value:
            yield RequestFault(_format_key(f"{path}.{name}"), "this key is missing", "add it")
    for name in value:
        if name not in shape.members:
            similar = find_similar_name(name, shape.members)
            remedy = f"write {similar}" if similar else f"use one of {', '.join(shape.members)}"
            yield RequestFault(_format_key(f"{path}.{name}"), UNKNOWN_KEY_PROBLEM, remedy)


def _find_unknown_value(node: _Node) -> Iterator[RequestFault]:
    value, shape, path = node
    choices = getattr(shape, "enum", None)
    if not choices or value in choices or shape.name in _GROWING_ENUMS or not _has_expected_type(node):
        return
    shown = choices if len(choices) <= MAX_CHOICES_SHOWN else [*choices[:MAX_CHOICES_SHOWN], "…"]
    problem = f"AWS does not accept {format_json(value)}"
    yield RequestFault(_format_key(path), problem, f"write one of {', '.join(shown)}")


def _has_expected_type(node: _Node) -> bool:
    if node.shape.type_name == "timestamp":
        return _is_time(node.value)
    types = _TYPES.get(node.shape.type_name)
    return types is None or isinstance(node.value, types[0])


def _is_time(value: Any) -> bool:
    try:
        parse_to_aware_datetime(value)
    except (TypeError, ValueError, AttributeError, RuntimeError):  # the last two: from dateutil for extreme years
        return False
    return True


def _format_key(path: str) -> str:
    """Return the path without the name of the call's single parameter, unless the path consists only of that name."""
    key = path.lstrip(".")
    return key.partition(".")[2] or key
