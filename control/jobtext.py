"""A job file as a person would write it: shared keys first, then the jobs, one a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from control.groups import Group


def lines(shared: Mapping[str, Any], groups: Iterable[Group], groups_key: str = "groups") -> Iterator[str]:
    """The file, line by line; a million jobs are never one text."""
    yield "{\n"
    for key, value in shared.items():
        yield f"    {json.dumps(key)}: {_shown(value)},\n"
    yield f"    {json.dumps(groups_key)}: ["
    between = "\n"
    for group in groups:
        yield f"{between}        {json.dumps(group, ensure_ascii=False)}"
        between = ",\n"
    yield "\n    ]\n}\n"


def _shown(value: Any) -> str:
    """On one line where that is short."""
    short = json.dumps(value, ensure_ascii=False)
    if len(short) <= 100:
        return short
    return json.dumps(value, indent=4, ensure_ascii=False).replace("\n", "\n    ")
