"""A request held against botocore's model of the call, before anything is sent, and answered in a user's words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ParamValidationError
from botocore.validate import validate_parameters

from distributed_something.core.text import MAX_SHOWN_CHARACTERS

if TYPE_CHECKING:
    from botocore.model import Shape


_UNKNOWN_KEY_PATTERN = re.compile(r'Unknown parameter in (\S+): "(.*)", must be one of: (.*)', re.S)
_MISSING_KEY_PATTERN = re.compile(r'Missing required parameter in (\S+): "(.*)"', re.S)
_INVALID_TYPE_PATTERN = re.compile(
    r"Invalid type for parameter ([^\s,]+), value: (.*), type: <class .*>, valid types: (.*)", re.S
)
_TYPE_PHRASES = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "dict": "an object",
    "list": "a list",
    "tuple": "a list",
}

MAX_CHOICES_SHOWN = 12  # values that one line lists


class RequestFault(NamedTuple):
    """One thing that is wrong with a request: the key's path, what is wrong, what would be right."""

    key: str
    wrong: str
    right: str


def find_request_fault(request: dict[str, Any], shape: Shape) -> RequestFault | None:
    """The first thing in `request` that AWS would refuse for its form; None if there is nothing.

    Keys are named from within the one parameter that a call such as RequestSpotFleet takes.
    """
    try:
        validate_parameters(request, shape)
    except ParamValidationError as error:
        return _parse_validation_report(str(error).partition("\n")[2] or str(error))
    return None


def find_unknown_value(request: Any, shape: Shape, key: str = "") -> RequestFault | None:
    """The first text in `request` that is none of those AWS takes there; None if there is none. The form must be right.

    botocore does not look at these. Instance types are left out: AWS has newer ones than any botocore.
    """
    if shape.type_name == "structure":
        inner = [(value, shape.members[name], f"{key}.{name}") for name, value in request.items()]  # type: ignore[attr-defined]
    elif shape.type_name == "list":
        inner = [(value, shape.member, f"{key}[{number}]") for number, value in enumerate(request)]  # type: ignore[attr-defined]
    else:
        known = getattr(shape, "enum", None)
        if not known or request in known or shape.name == "InstanceType":
            return None
        return RequestFault(
            _strip_outer_parameter(key.lstrip(".")),
            f"{str(request)[:MAX_SHOWN_CHARACTERS]!r} is none of AWS's",
            _format_choices(known),
        )
    found = (find_unknown_value(*one) for one in inner)
    return next((fault for fault in found if fault is not None), None)


def _format_choices(known: list[str]) -> str:
    shown = known if len(known) <= MAX_CHOICES_SHOWN else [*known[:MAX_CHOICES_SHOWN], "…"]
    return f"write one of {', '.join(shown)}"


def _parse_validation_report(report: str) -> RequestFault:
    if match := _UNKNOWN_KEY_PATTERN.match(report):
        others = match[3].partition("\n")[0]
        return RequestFault(
            _strip_outer_parameter(f"{match[1]}.{match[2]}"), "AWS knows no such key here", f"there are: {others}"
        )
    if match := _MISSING_KEY_PATTERN.match(report):
        return RequestFault(_strip_outer_parameter(f"{match[1]}.{match[2]}"), "this key is missing", "add it")
    if match := _INVALID_TYPE_PATTERN.match(report):
        kinds = re.findall(r"'(?:\w+\.)?(\w+)'", match[3].partition("\n")[0])
        right = " or ".join(dict.fromkeys(_TYPE_PHRASES.get(kind, kind) for kind in kinds))
        return RequestFault(
            _strip_outer_parameter(match[1]), f"{match[2][:MAX_SHOWN_CHARACTERS]} does not fit", f"write {right}"
        )
    return RequestFault("", report, "write it as AWS's documentation of this call says")


def _strip_outer_parameter(key: str) -> str:
    return key.partition(".")[2] or key
