"""Where an input lies: at `s3://bucket/key`, at a key of the job's own bucket, or at an address of the web."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# Names as S3 has them, those of older buckets included, and ARNs of access points, as botocore takes them.
_BUCKET_NAME_PATTERN = re.compile(
    r"[A-Za-z0-9._-]{3,255}"
    r"|arn:aws[\w-]*:s3[\w-]*:[a-z0-9-]*:[0-9]{12}:(outpost[/:][\w-]+[/:])?accesspoint[/:][\w.-]{1,63}",
    re.ASCII,
)


class BadAddress(ValueError):
    """No input can be there; the text names it."""


def is_url(text: str) -> bool:
    return text.startswith(("https://", "http://"))


def is_bucket_name(name: str) -> bool:
    """Whether that can be a bucket's name."""
    return _BUCKET_NAME_PATTERN.fullmatch(name) is not None


def check_input_address(text: str, bucket: str) -> None:
    """Raises BadAddress where no input can be there."""
    if not is_url(text):
        parse_input_address(text, bucket)
        return
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # which are looked at only when they are asked for
    except ValueError as error:
        raise BadAddress(f"the input {text!r} is no address: {error}") from None
    if not host:
        raise BadAddress(f"the input {text!r} is no address: it names no host")


def parse_input_address(text: str, bucket: str) -> tuple[str, str]:
    """Bucket and key (or prefix) of an input; `bucket`: where plain keys lie. Raises BadAddress."""
    key = text
    if text.startswith("s3://"):
        bucket, _, key = text.removeprefix("s3://").partition("/")
    if not is_bucket_name(bucket):
        raise BadAddress(f"the input {text!r} is in no bucket: {bucket!r} cannot be a bucket's name")
    return bucket, key
