"""Job ids: the readable values of a job's group, followed by a short hash of its message.

The same message always has the same id. The hash distinguishes messages whose values look alike. An id can be used in
an S3 key, as a folder name, and as a log stream name.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

MAX_READABLE_BYTES = 160  # in UTF-8; file names may have 255 bytes, and attempt numbers and endings are added to ids
HASH_CHARACTERS = 10  # 40 bits; submitJob rejects jobs with equal ids, so the rare collision is noticed
# A job stays the same job if only these keys change, so changing them never runs finished jobs again.
LIMIT_KEYS = frozenset(
    {"timeout_minutes", "expected_files", "keep_failed", "leave_out", "upload_flags", "requester_pays"}
)
_ALTERNATIVE_GROUP_KEYS = ("Metadata", "plate")  # in messages from published implementations and labs' scripts
_PUBLISHED_GROUP = re.compile(r"Metadata_[^=,]+=[^=,]*(,Metadata_[^=,]+=[^=,]*)*")
_REPLACED_CHARACTERS = re.compile(r"[^\w.=-]+")  # \w: letters and digits of any script, and "_"
_encode_canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def job_id(message: Mapping[str, Any]) -> str:
    """Return the id of the job in `message`, which contains the shared keys and `group`."""
    identity = {key: value for key, value in message.items() if key not in LIMIT_KEYS}
    identity["group"] = group = _unwrap_group(message.get("group"))
    digest = hashlib.sha256(_encode_canonical_json(identity).encode()).hexdigest()[:HASH_CHARACTERS]
    return f"{_build_readable_part(group) or 'job'}-{digest}"


def add_missing_group(message: dict[str, Any]) -> None:
    """Give a message without `group` the group that published implementations put into `Metadata` or `plate`."""
    for key in _ALTERNATIVE_GROUP_KEYS:
        if "group" not in message and isinstance(message.get(key), (dict, str)):
            group = message.pop(key)
            message["group"] = {key: group} if key == "Metadata" and isinstance(group, str) else group


def _unwrap_group(group: object) -> object:
    """Return the value of a group that has only the key `Metadata` or `plate`, because both forms mean the same job."""
    if isinstance(group, Mapping) and len(group) == 1:
        for key in _ALTERNATIVE_GROUP_KEYS:
            if isinstance(group.get(key), (Mapping, str)):
                return group[key]
    return group


def _build_readable_part(group: object) -> str:
    """Return the group's values with `-` for every run of other characters, at most MAX_READABLE_BYTES long.

    Letters and digits of any script and `.=_-` stay. The text has Unicode's composed form (NFC), so that names from
    macOS, which uses the decomposed form, look the same as others.
    """
    text = unicodedata.normalize("NFC", "-".join(_iter_value_texts(group)))
    readable = _REPLACED_CHARACTERS.sub("-", text).lstrip(".-").encode()[:MAX_READABLE_BYTES]
    return readable.decode(errors="ignore").rstrip("-")


def _iter_value_texts(value: object) -> Iterator[str]:
    """Yield the texts in a value, at any depth of lists and objects.

    A group in the published form, `Metadata_Plate=P1,Metadata_Well=A01`, yields its values without their names.
    """
    if isinstance(value, Mapping):
        for key in sorted(value):  # the order of keys has no meaning in JSON, so it must not change an ID
            yield from _iter_value_texts(value[key])
    elif isinstance(value, list):
        for part in value:
            yield from _iter_value_texts(part)
    elif not isinstance(value, str):
        yield "" if value is None else json.dumps(value)
    elif _PUBLISHED_GROUP.fullmatch(value):
        yield from (pair.partition("=")[2] for pair in value.split(","))
    else:
        yield value
