"""What names in AWS look like: a pattern that the whole text must match, and what to write instead."""

from __future__ import annotations

import re
from typing import NamedTuple


class Form(NamedTuple):
    """A pattern, and in words what is right."""

    pattern: str
    right: str

    def fits(self, value: object) -> bool:
        """Whether `value` is a text of this form."""
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None


NAME = Form(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}", "at most 80 letters, digits, -, _, the first no sign")
QUEUE_NAME = Form(r"[A-Za-z0-9_-]{1,80}", "a queue's name: at most 80 letters, digits, - and _")
BUCKET = Form(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "a bucket's name: 3 to 63 of a-z 0-9 . -")
LOG_GROUP = Form(r"[A-Za-z0-9._/#-]{1,480}", "a log group's name: at most 480 of a-z A-Z 0-9 . - _ / #")
FLEET_ID = Form(r"sfr-[0-9a-f-]{8,60}", "a Spot Fleet's id, such as 'sfr-0123abcd-…'")
