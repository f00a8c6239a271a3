"""Translates `aws s3 cp` flags for uploads into S3 request arguments.

Job files and configs of the published system contain such flags, usually for a bucket in another account:
`--acl bucket-owner-full-control`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping

S3Arguments = Mapping[str, object]
NO_ARGUMENTS: S3Arguments = {}


class BadFlags(ValueError):
    """Raised for invalid upload flags. The error message contains the flag, the problem, and what is expected."""


def _build_choice_check(*values: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in values:
            raise ValueError(f"is {value!r}, not one of {', '.join(values)}")
        return value

    return check


def _parse_metadata(value: str) -> dict[str, str]:
    """Return metadata from `name=value,name=value` or a JSON object. The AWS CLI accepts both."""
    if value.lstrip().startswith("{"):
        metadata = json.loads(value)
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError(f"is {value!r}, but each value must be a string")
        return dict(metadata)
    pairs = [pair.partition("=") for pair in value.split(",")]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError(f"is {value!r}, not name=value,name=value")
    return {name: text for name, _, text in pairs}


# The values that S3 accepts, from boto3's service model in 2026. Checked here because emulators accept any value.
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
_DEFAULT_VALUES = {"--sse": "AES256", "--request-payer": "requester"}  # used if the flag has no value
# Flags that control the AWS CLI's output or copies between buckets. They have no effect on an upload.
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
    """Return the S3 arguments for the flags in `text` (none if it is "", false, or null).

    Raise BadFlags if a flag is invalid.
    """
    if text is None or text is False or text in ("", "False", "false"):
        return {}
    if not isinstance(text, str):
        raise BadFlags(f"{text!r} is not a string; write flags as you would for `aws s3 cp`, or false for none")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise BadFlags(f"{text!r} cannot be split into words ({error})") from None
    return dict(_iter_arguments(words))


def select_payer_arguments(arguments: S3Arguments) -> dict[str, object]:
    """Return the part of `arguments` that every request to a requester-pays bucket must contain."""
    return {name: value for name, value in arguments.items() if name == "RequestPayer"}


def _iter_arguments(words: list[str]) -> Iterator[tuple[str, object]]:
    while words:
        flag, equals, value = words.pop(0).partition("=")
        if equals:
            words.insert(0, value)
        if flag in _IGNORED_FLAGS:
            del words[: _IGNORED_FLAGS[flag]]
        elif flag in _KNOWN_FLAGS:
            name, convert = _KNOWN_FLAGS[flag]
            yield name, _convert_value(flag, convert, _pop_value(flag, words))
        else:
            known = ", ".join(sorted(_KNOWN_FLAGS))
            raise BadFlags(f"{flag!r} is not a supported upload flag; use one of {known}")


def _pop_value(flag: str, words: list[str]) -> str:
    if words and not words[0].startswith("--"):
        return words.pop(0)
    if flag in _DEFAULT_VALUES:
        return _DEFAULT_VALUES[flag]
    raise BadFlags(f"{flag} has no value; write a value after it")


def _convert_value(flag: str, convert: Callable[[str], object], value: str) -> object:
    try:
        return convert(value)
    except ValueError as error:
        raise BadFlags(f"{flag} {error}") from None
