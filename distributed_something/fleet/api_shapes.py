"""A request held against botocore's model of the call, before anything is sent, and answered in a user's words.

botocore checks requests too, but tells what is wrong in one text for programmers, and it does not look at values of
which AWS takes only some.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.utils import parse_to_aware_datetime

from distributed_something.core.text import MAX_SHOWN_CHARACTERS

if TYPE_CHECKING:
    from botocore.model import Shape


MAX_CHOICES_SHOWN = 12  # values that one line lists
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {  # botocore's name of a type: Python's types, and what to write
    "structure": ((dict,), "an object"),
    "map": ((dict,), "an object"),
    "list": ((list, tuple), "a list"),
    "string": ((str,), "a text"),
    "integer": ((int,), "a whole number"),
    "long": ((int,), "a whole number"),
    "float": ((float, Decimal, int), "a number"),
    "double": ((float, Decimal, int), "a number"),
    "boolean": ((bool,), "true or false"),
    "timestamp": ((datetime,), "a time, as 2026-11-23T10:45:00Z"),
}
_SIZED_TYPES = {"list": "entries", "string": "characters", "integer": "", "long": "", "float": "", "double": ""}
_NEWER_VALUES = ("InstanceType",)  # shapes of which AWS has newer values than any botocore


class RequestFault(NamedTuple):
    """One thing that is wrong with a request: the key's path, what is wrong, what to do."""

    key: str
    problem: str
    remedy: str


class _Node(NamedTuple):
    """A value in a request, what AWS expects there, and the value's path."""

    value: Any
    shape: Any
    path: str


def find_request_fault(request: dict[str, Any], shape: Shape) -> RequestFault | None:
    """Return the first thing in `request` that AWS would refuse; None if there is nothing.

    Faults of form (unknown and missing keys, wrong types) come before values that are none of AWS's. Keys are named
    from within the one parameter that a call such as RequestSpotFleet takes.
    """
    nodes = list(_iter_nodes(_Node(request, shape, "")))
    faults = (find_fault(node) for find_fault in (_find_form_fault, _find_unknown_value) for node in nodes)
    return next((fault for fault in faults if fault is not None), None)


def _iter_nodes(node: _Node) -> Iterator[_Node]:
    """Yield the node and all below it that AWS knows, in the order of the request; nothing below a wrong type."""
    yield node
    if not _has_right_type(node):
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


def _find_form_fault(node: _Node) -> RequestFault | None:
    value, shape, path = node
    if not _has_right_type(node):
        shown = str(value)[:MAX_SHOWN_CHARACTERS]
        return RequestFault(_format_key(path), f"{shown} does not fit", f"write {_TYPES[shape.type_name][1]}")
    return _find_key_fault(node) if shape.type_name == "structure" else _find_size_fault(node)


def _find_size_fault(node: _Node) -> RequestFault | None:
    value, shape, path = node
    least = shape.metadata.get("min")
    if least is None or shape.type_name not in _SIZED_TYPES:
        return None
    unit = _SIZED_TYPES[shape.type_name]
    if (len(value) if unit else value) >= least:
        return None
    problem = f"{str(value)[:MAX_SHOWN_CHARACTERS]!r} is too {'short' if unit else 'small'}"
    return RequestFault(_format_key(path), problem, f"write at least {least} {unit}".rstrip())


def _find_key_fault(node: _Node) -> RequestFault | None:
    value, shape, path = node
    for name in shape.metadata.get("required", ()):
        if name not in value:
            return RequestFault(_format_key(f"{path}.{name}"), "this key is missing", "add it")
    for name in value:
        if name not in shape.members:
            others = f"there are: {', '.join(shape.members)}"
            return RequestFault(_format_key(f"{path}.{name}"), "AWS knows no such key here", others)
    return None


def _find_unknown_value(node: _Node) -> RequestFault | None:
    value, shape, path = node
    known = getattr(shape, "enum", None)
    if not known or value in known or shape.name in _NEWER_VALUES:
        return None
    shown = known if len(known) <= MAX_CHOICES_SHOWN else [*known[:MAX_CHOICES_SHOWN], "…"]
    problem = f"{str(value)[:MAX_SHOWN_CHARACTERS]!r} is none of AWS's"
    return RequestFault(_format_key(path), problem, f"write one of {', '.join(shown)}")


def _has_right_type(node: _Node) -> bool:
    if node.shape.type_name == "timestamp":
        return _is_time(node.value)
    types = _TYPES.get(node.shape.type_name)
    return types is None or isinstance(node.value, types[0])


def _is_time(value: Any) -> bool:
    try:
        parse_to_aware_datetime(value)
    except (TypeError, ValueError, AttributeError, RuntimeError):  # the last two from dateutil and for far years
        return False
    return True


def _format_key(path: str) -> str:
    """The path without the one parameter of the call, unless that is all."""
    key = path.lstrip(".")
    return key.partition(".")[2] or key
