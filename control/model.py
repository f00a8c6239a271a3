"""A request held against botocore's model of the call, before anything is sent, and answered in a user's words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ParamValidationError
from botocore.validate import validate_parameters

from control.errors import LONGEST_SHOWN

if TYPE_CHECKING:
    from botocore.model import Shape

_UNKNOWN = re.compile(r'Unknown parameter in (\S+): "(.*)", must be one of: (.*)', re.S)
_MISSING = re.compile(r'Missing required parameter in (\S+): "(.*)"', re.S)
_TYPE = re.compile(r"Invalid type for parameter ([^\s,]+), value: (.*), type: <class .*>, valid types: (.*)", re.S)
_WORDS = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "dict": "an object",
          "list": "a list", "tuple": "a list"}  # fmt: skip

LONGEST_LIST = 12  # values that one line lists


class Fault(NamedTuple):
    """One thing that is wrong with a request: the key's path, what is wrong, what would be right."""

    key: str
    wrong: str
    right: str


def fault(request: dict[str, Any], shape: Shape) -> Fault | None:
    """The first thing in `request` that AWS would refuse for its form; None if there is nothing.

    Keys are named from within the one parameter that a call such as RequestSpotFleet takes.
    """
    try:
        validate_parameters(request, shape)
    except ParamValidationError as error:
        return _in_words(str(error).partition("\n")[2] or str(error))
    return None


def no_such_value(request: Any, shape: Shape, key: str = "") -> Fault | None:
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
        return Fault(_path(key.lstrip(".")), f"{str(request)[:LONGEST_SHOWN]!r} is none of AWS's", _one_of(known))
    found = (no_such_value(*one) for one in inner)
    return next((fault for fault in found if fault is not None), None)


def _one_of(known: list[str]) -> str:
    shown = known if len(known) <= LONGEST_LIST else [*known[:LONGEST_LIST], "…"]
    return f"write one of {', '.join(shown)}"


def _in_words(report: str) -> Fault:
    if match := _UNKNOWN.match(report):
        others = match[3].partition("\n")[0]
        return Fault(_path(f"{match[1]}.{match[2]}"), "AWS knows no such key here", f"there are: {others}")
    if match := _MISSING.match(report):
        return Fault(_path(f"{match[1]}.{match[2]}"), "this key is missing", "add it")
    if match := _TYPE.match(report):
        kinds = re.findall(r"'(?:\w+\.)?(\w+)'", match[3].partition("\n")[0])
        right = " or ".join(dict.fromkeys(_WORDS.get(kind, kind) for kind in kinds))
        return Fault(_path(match[1]), f"{match[2][:LONGEST_SHOWN]} does not fit", f"write {right}")
    return Fault("", report, "write it as AWS's documentation of this call says")


def _path(key: str) -> str:
    return key.partition(".")[2] or key
