"""Job ids: the readable values of a job's group, followed by a short hash of the whole message.

The same message always has the same id. The hash distinguishes messages whose values look alike. An id can be used in
an S3 key, as a folder name, and as a log stream name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_READABLE_CHARACTERS = 80
HASH_CHARACTERS = 10  # 40 bits; submitJob rejects jobs with equal ids, so the rare collision is noticed
_encode_canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_UNSAFE_CHARACTERS = re.compile(r"[^A-Za-z0-9_-]+|(?<![A-Za-z0-9])_+")


def job_id(message: Mapping[str, Any]) -> str:
    """Return the id of the job in `message`, which contains the shared keys and `group`."""
    digest = hashlib.sha256(_encode_canonical_json(message).encode()).hexdigest()[:HASH_CHARACTERS]
    values = "-".join(_iter_group_values(message.get("group")))
    readable = _UNSAFE_CHARACTERS.sub("-", values)[:MAX_READABLE_CHARACTERS].strip("-_")
    return f"{readable or 'job'}-{digest}"


def _iter_group_values(group: object) -> Iterator[str]:
    if isinstance(group, Mapping):
        for value in group.values():
            yield from _iter_value_texts(value)
    else:
        yield from _iter_value_texts(group)


def _iter_value_texts(value: object) -> Iterator[str]:
    """Yield the text of one value. If the value has the published system's form for groups, `Plate=P1,Well=A01`, yield
    each value in it without its name."""
    if not isinstance(value, str):
        yield "" if value is None else json.dumps(value)
    elif re.fullmatch(r"[^=,]+=[^=,]*(,[^=,]+=[^=,]*)*", value):
        yield from (pair.partition("=")[2] for pair in value.split(","))
    else:
        yield value
