"""Input addresses: `s3://bucket/key`, a key in the job's input bucket, or a web address."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# Bucket names that S3 allows, including names that are valid only for old buckets, and the access point ARNs that
# botocore accepts.
_BUCKET_NAME_PATTERN = re.compile(
    r"[A-Za-z0-9._-]{3,255}"
    r"|arn:aws[\w-]*:s3[\w-]*:[a-z0-9-]*:[0-9]{12}:(outpost[/:][\w-]+[/:])?accesspoint[/:][\w.-]{1,63}",
    re.ASCII,
)


MAX_KEY_BYTES = 1024  # of a key in UTF-8; S3's limit


class BadAddress(ValueError):
    """An invalid input address. The error message contains the address."""


def is_url(text: str) -> bool:
    return text.startswith(("https://", "http://"))


def is_bucket_name(name: str) -> bool:
    """Return whether `name` is a valid bucket name or the ARN of an access point."""
    return _BUCKET_NAME_PATTERN.fullmatch(name) is not None


def is_whole_bucket(text: str) -> bool:
    """Return whether an input address stands for all objects in a bucket."""
    bucket, _, key = text.removeprefix("s3://").partition("/")
    return text.startswith("s3://") and bool(bucket) and not key.strip("/ ")


def check_input_address(text: str, bucket: str) -> None:
    """Raise BadAddress if `text` is not a valid input address. If `text` is only a key, it belongs to `bucket`."""
    if not is_url(text):
        parse_input_address(text, bucket)
        return
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # urlsplit validates these only when they are read
    except ValueError as error:
        raise BadAddress(f"the input {text!r} is not a valid web address ({error})") from None
    if not host:
        raise BadAddress(f"the input {text!r} is not a valid web address: it has no host name")


def parse_input_address(text: str, bucket: str) -> tuple[str, str]:
    """Return the bucket and the key (or prefix) of an input. If `text` is only a key, it belongs to `bucket`.

    Raise BadAddress if the bucket name is not valid, or if the key is blank or longer than S3 allows. An entire bucket
    must be written as `s3://bucket/`.
    """
    key, slash = text, "/"
    if text.startswith("s3://"):
        bucket, slash, key = text.removeprefix("s3://").partition("/")
    if not text.strip():
        raise BadAddress(f"the input {text!r} is blank")
    if not is_bucket_name(bucket):
        raise BadAddress(f"the input {text!r} has no valid bucket: {bucket!r} is not a bucket name")
    if not slash or (key and not key.strip()):
        raise BadAddress(f"the input {text!r} has no key after the bucket; for all objects, write 's3://{bucket}/'")
    if (length := len(key.encode(errors="surrogatepass"))) > MAX_KEY_BYTES:
        raise BadAddress(f"an input's key is {length:,} bytes long, but S3 allows only {MAX_KEY_BYTES:,}: {key[:100]}…")
    return bucket, key
