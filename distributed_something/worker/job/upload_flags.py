"""Flags for the upload, in the form of `aws s3 cp`, as arguments of S3's own calls.

Published job files and configs hold such flags, mostly for another account's bucket: `--acl bucket-owner-full-control`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping

S3Arguments = Mapping[str, object]
NO_ARGUMENTS: S3Arguments = {}


class BadFlags(ValueError):
    """The text names the flag, what is wrong with it and what would be right."""


def _build_choice_check(*values: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in values:
            raise ValueError(f"is {value!r}, not one of {', '.join(values)}")
        return value

    return check


def _parse_metadata(value: str) -> dict[str, str]:
    """`name=value,name=value`, or JSON, as the AWS CLI takes both."""
    if value.lstrip().startswith("{"):
        found = json.loads(value)
        if not all(isinstance(text, str) for text in found.values()):
            raise ValueError(f"is {value!r}, whose values are no texts")
        return dict(found)
    pairs = [pair.partition("=") for pair in value.split(",")]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError(f"is {value!r}, not name=value,name=value")
    return {name: text for name, _, text in pairs}


# Values as S3 knows them in 2026 (boto3's service model): an emulator takes any.
_KNOWN_FLAGS: dict[str, tuple[str, Callable[[str], object]]] = {
    "--acl": (
        "ACL",
        _build_choice_check(
            "private",
            "public-read",
            "public-read-write",
            "authenticated-read",
            "aws-exec-read",
            "bucket-owner-read",
            "bucket-owner-full-control",
        ),
    ),
    "--storage-class": (
        "StorageClass",
        _build_choice_check(
            "STANDARD",
            "REDUCED_REDUNDANCY",
            "STANDARD_IA",
            "ONEZONE_IA",
            "INTELLIGENT_TIERING",
            "GLACIER",
            "DEEP_ARCHIVE",
            "GLACIER_IR",
        ),
    ),
    "--sse": ("ServerSideEncryption", _build_choice_check("AES256", "aws:kms", "aws:kms:dsse")),
    "--sse-kms-key-id": ("SSEKMSKeyId", str),
    "--request-payer": ("RequestPayer", _build_choice_check("requester")),
    "--content-type": ("ContentType", str),
    "--content-encoding": ("ContentEncoding", str),
    "--content-disposition": ("ContentDisposition", str),
    "--content-language": ("ContentLanguage", str),
    "--cache-control": ("CacheControl", str),
    "--metadata": ("Metadata", _parse_metadata),
}
_DEFAULT_VALUES = {"--sse": "AES256", "--request-payer": "requester"}  # what these mean without a value
# About the CLI's own output, or about copies between buckets: nothing to do for an upload.
_IGNORED_FLAGS = {
    "--quiet": 0,
    "--only-show-errors": 0,
    "--no-progress": 0,
    "--no-guess-mime-type": 0,
    "--recursive": 0,
    "--metadata-directive": 1,
    "--copy-props": 1,
}


def parse_upload_flags(text: object) -> dict[str, object]:
    """The arguments that `text` stands for; none for "", false or null. Raises BadFlags."""
    if text is None or text is False or text in ("", "False", "false"):
        return {}
    if not isinstance(text, str):
        raise BadFlags(f"{text!r} is neither a text, with flags as for `aws s3 cp`, nor false")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise BadFlags(f"{text!r} cannot be split into words ({error})") from None
    return dict(_iter_arguments(words))


def select_payer_arguments(arguments: S3Arguments) -> dict[str, object]:
    """Of `arguments`, what every request to a bucket must say whose requester pays."""
    return {name: value for name, value in arguments.items() if name == "RequestPayer"}


def _iter_arguments(words: list[str]) -> Iterator[tuple[str, object]]:
    while words:
        flag, given, value = words.pop(0).partition("=")
        if given:
            words.insert(0, value)
        if flag in _IGNORED_FLAGS:
            del words[: _IGNORED_FLAGS[flag]]
        elif flag in _KNOWN_FLAGS:
            name, read = _KNOWN_FLAGS[flag]
            yield name, _convert_value(flag, read, _pop_value(flag, words))
        else:
            known = ", ".join(sorted(_KNOWN_FLAGS))
            raise BadFlags(f"{flag!r} is no flag that an upload here takes (there are: {known})")


def _pop_value(flag: str, words: list[str]) -> str:
    if words and not words[0].startswith("--"):
        return words.pop(0)
    if flag in _DEFAULT_VALUES:
        return _DEFAULT_VALUES[flag]
    raise BadFlags(f"{flag} has no value behind it")


def _convert_value(flag: str, read: Callable[[str], object], value: str) -> object:
    try:
        return read(value)
    except ValueError as error:
        raise BadFlags(f"{flag} {error}") from None
