"""Input addresses: `s3://bucket/key`, a key in the job's input bucket, or a web address."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

# Bucket names that S3 allows, including names that are valid only for old buckets, and the access point ARNs that
# botocore accepts.
_BUCKET_NAME_PATTERN = re.compile(
    r"[A-Za-z0-9._-]{3,255}"
    r"|arn:aws[\w-]*:s3[\w-]*:[a-z0-9-]*:[0-9]{12}:(outpost[/:][\w-]+[/:])?accesspoint[/:][\w.-]{1,63}",
    re.ASCII,
)

# IPv6 networks whose addresses end in an IPv4 address: IPv4-compatible, NAT64, and local NAT64.
_IPV4_NETWORKS = (ip_network("::/96"), ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_ENDPOINT_REMEDY = "write one such as 'https://s3.example.org:9000'"
_AWS_LINK_NETWORK = IPv6Network("fd00:ec2::/32")  # where AWS offers instance metadata, names, and time over IPv6
# A name or IP address, perhaps with a port and a path. Placeholders are impossible, because the values that they stand
# for are not trusted.
_ENDPOINT_PATTERN = re.compile(r"https?://[\w.:\[\]-]+(/[\w.~/-]*)?", re.ASCII)
_THIS_NETWORK = ip_network("0.0.0.0/8")  # Linux connects 0.0.0.0 to the machine itself


MAX_KEY_BYTES = 1024  # of a key in UTF-8; S3's limit


class BadAddress(ValueError):
    """An invalid address. The error message contains the address, unless that contains a password.

    `problem` and `remedy`: the two parts of the message; the remedy may be missing.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem, self.remedy = problem, remedy


def count_key_bytes(key: str) -> int:
    """Return the length of a key in UTF-8, in bytes."""
    return len(key) if key.isascii() else len(key.encode(errors="surrogatepass"))


def is_url(text: str) -> bool:
    return text.startswith(("https://", "http://"))


@lru_cache(maxsize=16)
def is_bucket_name(name: str) -> bool:
    """Return whether `name` is a valid bucket name or the ARN of an access point."""
    return _BUCKET_NAME_PATTERN.fullmatch(name) is not None


def is_whole_bucket(text: str) -> bool:
    """Return whether an input address stands for all objects in a bucket."""
    if not text.startswith("s3://"):
        return False
    bucket, _, key = text.removeprefix("s3://").partition("/")
    return bool(bucket) and not key.strip("/ ")


def is_internal_ip(text: str) -> bool:
    """Return whether an IP address is this machine's own or on its link, where AWS offers the machine's credentials.

    An IPv6 address that stands for an IPv4 address counts as that one.
    """
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if embedded is None and any(address in network for network in _IPV4_NETWORKS):
            embedded = IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None and int(address) > 1:
            return is_internal_ip(str(embedded))
        if address in _AWS_LINK_NETWORK:
            return True
    elif address in _THIS_NETWORK:
        return True
    return address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast


def check_web_address(url: str, *, allow_unsafe: bool) -> None:
    """Raise BadAddress if the config does not allow inputs from this web address. Names are not resolved."""
    parts = urlsplit(url)
    if not is_url(url) or not parts.hostname:
        raise BadAddress(f"{url!r} is not a valid web address")
    if unsafe := find_unsafe_part(url, allow_unsafe=allow_unsafe):
        raise BadAddress(f"the input {url!r} {unsafe[0]}", unsafe[1])


def find_unsafe_part(url: str, *, allow_unsafe: bool) -> tuple[str, str] | None:
    """Return why the config does not allow this web address, and what to do, or None. Names are not resolved."""
    if allow_unsafe:
        return None
    parts = urlsplit(url)
    if parts.scheme != "https":
        remedy = "use https://, or set ALLOW_UNSAFE_INPUTS = 'True' in the config"
        return "is not encrypted, so anyone on the way could change it", remedy
    host = parts.hostname or ""
    try:
        is_internal = host.rstrip(".") == "localhost" or is_internal_ip(host)
    except ValueError:  # a name, which is checked when it is resolved
        is_internal = False
    if is_internal:
        remedy = "use a public address, or set ALLOW_UNSAFE_INPUTS = 'True' in the config"
        return "is an address of the machine itself", remedy
    return None


def check_endpoint(url: str, *, allow_unsafe: bool) -> None:
    """Raise BadAddress if `url` is not the address of an S3 server, or if the config does not allow it.

    `allow_unsafe`: as ALLOW_UNSAFE_INPUTS in the config. Names are not resolved.
    """
    try:
        parts = urlsplit(url)
        host, has_login, _ = parts.hostname, parts.username is not None or parts.password is not None, parts.port
    except ValueError as error:
        raise BadAddress(f"{url!r} is not the address of an S3 server ({error})", _ENDPOINT_REMEDY) from None
    if has_login:  # which must not be shown
        remedy = "remove it; credentials belong in the image, never in a message"
        raise BadAddress("the address contains a user or password", remedy)
    if not host or not _ENDPOINT_PATTERN.fullmatch(url):
        raise BadAddress(f"{url!r} is not the address of an S3 server", _ENDPOINT_REMEDY)
    if unsafe := find_unsafe_part(url, allow_unsafe=allow_unsafe):
        raise BadAddress(f"{url!r} {unsafe[0]}", unsafe[1])


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
    if (length := count_key_bytes(key)) > MAX_KEY_BYTES:
        raise BadAddress(f"an input's key is {length:,} bytes long, but S3 allows only {MAX_KEY_BYTES:,}: {key[:100]}…")
    return bucket, key
