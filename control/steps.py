"""What setupAWS does, step by step: each was looked up first, is a line of its table, and may have nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from control.errors import code_of

MADE_BY = ("made-by", "distributed-something")  # the tag of what setupAWS and fleetFile make, and may delete
# Seconds between tries while AWS's parts do not agree yet: a new role is known everywhere after some 10 s.
PAUSES = (1.0, 2.0, 3.0, 5.0, 5.0, 5.0, 5.0, 5.0, 10.0, 10.0)
NOT_YET_TAGGED = "AccessDenied"  # what IAM answers until a tag on which a right depends is known everywhere
FOUND, MADE, CHANGED, REMOVED = "found", "made", "changed", "removed"
KEPT = "kept"  # on purpose
LEFT = "left"  # not as it is to be; the note says why


@dataclass(frozen=True)
class Row:
    """A line of the table: what kind of thing, its name, what became of it, and why."""

    kind: str
    name: str
    state: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.state:<18}{self.kind} {self.name}" + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True)
class Step:
    """A line, and what makes it true; `act` is None where it is true already.

    `if_denied`: of what one can do without, what to do where this login may not do it; then it is left.
    """

    row: Row
    act: Callable[[], object] | None = None
    if_denied: str = ""


def patiently(call: Callable[[], Any], *not_yet: str, sleep: Callable[[float], None]) -> Any:
    """What `call` returns, tried again while AWS's refusal holds one of the words `not_yet`."""
    for pause in PAUSES:
        try:
            return call()
        except ClientError as error:
            if not any(words in f"{code_of(error)} {error}" for words in not_yet):
                raise
            sleep(pause)
    return call()


def or_none(call: Callable[[], Any], *missing: str) -> Any:
    """What `call` returns; None where AWS answers with one of the codes `missing`."""
    try:
        return call()
    except ClientError as error:
        if code_of(error) in missing:
            return None
        raise


def is_ours(tags: list[Any] | dict[str, str] | None) -> bool:
    """Whether the tag says so; services write tags in one of three ways."""
    if isinstance(tags, dict):
        return tags.get(MADE_BY[0]) == MADE_BY[1]
    pairs = ((tag.get("Key", tag.get("key")), tag.get("Value", tag.get("value"))) for tag in tags or [])
    return MADE_BY in pairs
