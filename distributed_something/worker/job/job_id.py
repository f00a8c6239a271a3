"""A job's name: the values of its group, readable, plus a short hash of the whole message.

The same message has the same id wherever it is computed; the hash keeps two different messages apart whose values read
alike. It is safe as part of an S3 key, as a folder's name and as a log stream's name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_READABLE_CHARACTERS = 80
HASH_CHARACTERS = 10  # 40 bits; submitJob refuses the one in a million million that would collide
_encode_canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_UNSAFE_CHARACTERS = re.compile(r"[^A-Za-z0-9_-]+|(?<![A-Za-z0-9])_+")


def job_id(message: Mapping[str, Any]) -> str:
    """The id of the job that `message` (shared keys and `group`) asks for."""
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
    """Of the published `Plate=P1,Well=A01` only what stands behind the equals signs: the names tell nothing new."""
    if not isinstance(value, str):
        yield "" if value is None else json.dumps(value)
    elif re.fullmatch(r"[^=,]+=[^=,]*(,[^=,]+=[^=,]*)*", value):
        yield from (pair.partition("=")[2] for pair in value.split(","))
    else:
        yield value
