"""Job ids: the readable values of a job's group, followed by a short hash of its message.

The same message always has the same id. The hash distinguishes messages whose values look alike. An id can be used in
an S3 key, as a folder name, and as a log stream name.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

MAX_READABLE_BYTES = 160  # in UTF-8; file names may have 255 bytes, and attempt numbers and endings are added to ids
_MAX_CHARACTER_BYTES = 4  # of a character in UTF-8
HASH_CHARACTERS = 10  # 40 bits; submitJob rejects jobs with equal ids, so the rare collision is noticed
# A job stays the same job if only these keys change, so changing them never runs finished jobs again.
LIMIT_KEYS = frozenset(
    {"timeout_minutes", "expected_files", "keep_failed", "leave_out", "upload_flags", "requester_pays"}
)
ALTERNATIVE_GROUP_KEYS = ("Metadata", "plate")  # in messages from published implementations and labs' scripts
_OBJECTS = (dict, Mapping)  # Python finds out much faster that a value is a dict
_HASH_END = re.compile(rf"-[0-9a-f]{{{HASH_CHARACTERS}}}\Z")
_PUBLISHED_START = "Metadata_"
_PUBLISHED_GROUP = re.compile(r"Metadata_[^=,]+=[^=,]*(,Metadata_[^=,]+=[^=,]*)*")
_REPLACED_CHARACTERS = re.compile(r"[^\w.=-]+")  # \w: letters and digits of any script, and "_"
_encode_canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class JobIdentifier:
    """Builds the ids of jobs whose messages have the same shared keys, which are encoded only once."""

    def __init__(self, shared: Mapping[str, Any]) -> None:
        """`shared`: a message, or its shared keys; its `group` and the keys that do not count are ignored."""
        keys = shared.keys() - LIMIT_KEYS - {"group"}
        before = _encode_canonical_json({key: shared[key] for key in keys if key < "group"})[1:-1]
        after = _encode_canonical_json({key: shared[key] for key in keys if key > "group"})[1:-1]
        self._start = hashlib.sha256(f'{{{before}{"," if before else ""}"group":'.encode())
        self._end = f"{',' if after else ''}{after}}}"

    def build_id(self, group: object) -> str:
        """Return the id of the job with this group."""
        group = _unwrap_group(group)
        digest = self._start.copy()
        digest.update((_encode_canonical_json(group) + self._end).encode())
        return f"{_build_readable_part(group) or 'job'}-{digest.hexdigest()[:HASH_CHARACTERS]}"


def job_id(message: Mapping[str, Any]) -> str:
    """Return the id of the job in `message`, which contains the shared keys and `group`."""
    return JobIdentifier(message).build_id(message.get("group"))


def remove_hash(job: str) -> str:
    """Return the readable part of a job's ID."""
    return _HASH_END.sub("", job)


def add_missing_group(message: dict[str, Any]) -> None:
    """Give a message without `group` the group that published implementations put into `Metadata` or `plate`."""
    for key in ALTERNATIVE_GROUP_KEYS:
        if "group" not in message and isinstance(message.get(key), (dict, str)):
            group = message.pop(key)
            message["group"] = {key: group} if key == "Metadata" and isinstance(group, str) else group


def _unwrap_group(group: object) -> object:
    """Return the value of a group that has only the key `Metadata` or `plate`, because both forms mean the same job."""
    if isinstance(group, _OBJECTS) and len(group) == 1:
        for key in ALTERNATIVE_GROUP_KEYS:
            if isinstance(group.get(key), (Mapping, str)):
                return group[key]
    return group


def _build_readable_part(group: object) -> str:
    """Return the group's values with `-` for every run of other characters, at most MAX_READABLE_BYTES long.

    Letters and digits of any script and `.=_-` stay. The text has Unicode's composed form (NFC), so that names from
    macOS, which uses the decomposed form, look the same as others.
    """
    text = "-".join(_list_value_texts(group))
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    readable = _REPLACED_CHARACTERS.sub("-", text).lstrip(".-")
    if len(readable) * _MAX_CHARACTER_BYTES > MAX_READABLE_BYTES:
        readable = readable.encode()[:MAX_READABLE_BYTES].decode(errors="ignore")
    return readable.rstrip("-")


def _list_value_texts(value: object) -> list[str]:
    """Return the texts in a value, at any depth of lists and objects.

    A group in the published form, `Metadata_Plate=P1,Metadata_Well=A01`, yields its values without their names.
    """
    if isinstance(value, _OBJECTS):
        value = [value[key] for key in sorted(value)]  # the order of keys has no meaning, so it must not change an ID
    elif not isinstance(value, list):
        return _list_single_texts(value)
    texts: list[str] = []
    for part in value:
        if isinstance(part, str) and not part.startswith(_PUBLISHED_START):  # a fast path for most values
            texts.append(part)
        else:
            texts += _list_value_texts(part)
    return texts


def _list_single_texts(value: object) -> list[str]:
    if not isinstance(value, str):
        return ["" if value is None else json.dumps(value)]
    return [pair.partition("=")[2] for pair in value.split(",")] if _PUBLISHED_GROUP.fullmatch(value) else [value]
