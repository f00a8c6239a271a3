"""The values in jobs' groups: as flat text, and how often each one occurs among all jobs of a run."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

MAX_KEYS_COUNTED = 100
MAX_VALUES_COUNTED = 1_000  # of one key; a key with more values, such as the name of an image, is not counted
_PUBLISHED_KEYS = ("Metadata", "plate")  # a group that has only one of these keys stands for its value
_PUBLISHED_GROUP = re.compile(r"Metadata_[^=,]+=[^=,]*(?:,Metadata_[^=,]+=[^=,]*)*")


def read_group_values(line: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of the job's group by key, as text. `line` is a journal's line or a record.

    A group in the published form `Metadata_Plate=P1,Metadata_Well=A01` has the keys `Metadata_Plate` and
    `Metadata_Well`; another group that is a string has the key `group`. The result is empty if the group is unknown.
    """
    group, message = line.get("group"), line.get("message")
    if group is None and isinstance(message, Mapping):
        group = message.get("group")
    if isinstance(group, Mapping) and len(group) == 1 and (key := next(iter(group))) in _PUBLISHED_KEYS:
        value = group[key]
        group = value if isinstance(value, Mapping) or _is_published_group(value) else group
    if isinstance(group, Mapping):
        return {sys.intern(str(key)): _format_value(value) for key, value in group.items()}
    if not isinstance(group, str):
        return {}
    if _is_published_group(group):
        pairs = (pair.partition("=") for pair in group.split(","))
        return {sys.intern(key): value for key, _, value in pairs}
    return {"group": group}


class GroupValueCounter:
    """Counts how many jobs have which group value."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str] | None] = {}  # by key; None: too many values to count
        self._jobs = 0

    def add_job(self, values: Mapping[str, str]) -> None:
        """Count a job by its group's values."""
        self._jobs += bool(values)
        for key, value in values.items():
            if key not in self._counts and len(self._counts) < MAX_KEYS_COUNTED:
                self._counts[key] = Counter()
            counts = self._counts.get(key)
            if counts is not None:
                counts[value] += 1
                if len(counts) > MAX_VALUES_COUNTED:
                    self._counts[key] = None

    def count_jobs(self, key: str, value: str) -> int | None:
        """Return how many of the counted jobs have this value; None if it was not counted."""
        counts = self._counts.get(key)
        return counts[value] if counts else None

    def find_share(self, key: str, value: str) -> float | None:
        """Return the share of the counted jobs that have this value, from 0 to 1; None if it was not counted."""
        count = self.count_jobs(key, value)
        return None if count is None else count / self._jobs


def _is_published_group(group: object) -> bool:
    return isinstance(group, str) and _PUBLISHED_GROUP.fullmatch(group) is not None


def _format_value(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
