"""Input addresses: `s3://bucket/key`, a key in the job's input bucket, or a web address."""

from __future__ import annotations

import re
import socket
from enum import StrEnum
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
# Where AWS offers the credentials of a machine or container: EC2, ECS, and EKS.
_CREDENTIALS_ADDRESSES = frozenset(
    map(ip_address, ("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"))
)
# IPv4 addresses in the forms that the C library also accepts, such as 2130706433, 0x7f.1, and 0177.0.0.1.
_NUMERIC_HOST = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}", re.IGNORECASE | re.ASCII)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCHEMES = ("s3", "https", "http")
_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]*@")  # a user name and password before the host
CREDENTIALS_PROBLEM = (
    "contains a user name or password, which records and names would show; remove them, and copy the file to S3, or"
    " fetch it in the command with a password that is in a file, which `inputs` lists"
)

MOUNT_FOLDER = "/home/ubuntu/bucket"  # where MOUNT_S3 mounts the bucket, as in the published system
MAX_KEY_BYTES = 1024  # of a key in UTF-8; S3's limit


class InternalKind(StrEnum):
    """What an internal address is."""

    CREDENTIALS = "where AWS offers this machine's credentials"
    MACHINE = "an address of the machine itself"
    LINK = "an internal address of the machine's network"


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


def remove_mount_folder(path: str) -> str:
    """Return the key of a path in the mounted bucket, whether or not it is mounted; any other text unchanged."""
    if not path.startswith("/"):
        return path
    inside = path.removeprefix(MOUNT_FOLDER)
    return inside.lstrip("/") if inside != path and inside[:1] in ("", "/") else path


def is_whole_bucket(text: str) -> bool:
    """Return whether an input address stands for all objects in a bucket."""
    if text.startswith(MOUNT_FOLDER):
        return not remove_mount_folder(text).strip()
    if not text.startswith("s3://"):
        return False
    bucket, _, key = text.removeprefix("s3://").partition("/")
    return bool(bucket) and not key.strip("/ ")


def has_credentials(text: str) -> bool:
    """Return whether an address contains a user name or password, as in `https://user:password@host/`."""
    if "://" not in text:  # almost always; submitJob checks the addresses of up to a million jobs
        return False
    scheme = _SCHEME.match(text)
    return scheme is not None and _CREDENTIALS.match(text, scheme.end()) is not None


def hide_credentials(text: str) -> str:
    """Return the text with `***` for the user names and passwords in its addresses."""
    return _CREDENTIALS.sub("***@", text)


def classify_ip(text: str) -> InternalKind | None:
    """Return what an IP address is if it is this machine's own or on its link, where AWS offers the machine's
    credentials; None for any other.

    An IPv6 address that stands for an IPv4 address counts as that one. Raise ValueError if `text` is not an IP address.
    """
    address = _find_ipv4_address(ip_address(text.partition("%")[0]))
    if address in _CREDENTIALS_ADDRESSES:
        return InternalKind.CREDENTIALS
    if address.is_loopback or address.is_unspecified or address in _THIS_NETWORK:
        return InternalKind.MACHINE
    is_internal = address.is_link_local or address.is_multicast or address in _AWS_LINK_NETWORK
    return InternalKind.LINK if is_internal else None


def _find_ipv4_address(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, IPv4Address) or int(address) <= 1:
        return address
    embedded = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    if embedded is None and any(address in network for network in _IPV4_NETWORKS):
        embedded = IPv4Address(int(address) & 0xFFFFFFFF)
    return embedded or address


def classify_host(host: str) -> InternalKind | None:
    """Return what a host is if it is internal (see `classify_ip`). A name is not resolved."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return InternalKind.MACHINE
    try:
        numeric = socket.inet_ntoa(socket.inet_aton(name)) if _NUMERIC_HOST.fullmatch(name) else name
        return classify_ip(numeric)
    except (ValueError, OSError):  # a name, which is checked when it is resolved
        return None


def check_web_address(url: str, *, allow_unsafe: bool, is_redirect: bool = False) -> None:
    """Raise BadAddress if the config does not allow inputs from this web address. Names are not resolved.

    `is_redirect`: whether a web server redirects to it, which never is a reason to allow more.
    """
    parts = urlsplit(url)
    shown = repr(hide_credentials(url))
    subject = f"{shown}, to which the server redirects," if is_redirect else f"the input {shown}"
    if not is_url(url) or not parts.hostname:
        raise BadAddress(f"{subject} is not a valid web address")
    if has_credentials(url):
        raise BadAddress(f"{subject} {'contains a user name or password' if is_redirect else CREDENTIALS_PROBLEM}")
    if allow_unsafe:
        return
    if kind := classify_host(parts.hostname):
        raise BadAddress(f"{subject} is {kind}{'' if is_redirect else advise_public_address(kind)}")
    if parts.scheme != "https":
        remedy = "" if is_redirect else "; use https://, or set ALLOW_UNSAFE_INPUTS = 'True' in the config"
        raise BadAddress(f"{subject} is not encrypted, so anyone on the way could change it{remedy}")


def check_endpoint(url: str, *, allow_unsafe: bool) -> None:
    """Raise BadAddress if `url` is not the address of an S3 server, or if the config does not allow it.

    `allow_unsafe`: as ALLOW_UNSAFE_INPUTS in the config. Names are not resolved.
    """
    if has_credentials(url):  # which must not be shown
        remedy = "remove it; credentials belong in the image, never in a message"
        raise BadAddress("the address contains a user or password", remedy)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadAddress(f"{url!r} is not the address of an S3 server ({error})", _ENDPOINT_REMEDY) from None
    if not host or not _ENDPOINT_PATTERN.fullmatch(url):
        raise BadAddress(f"{url!r} is not the address of an S3 server", _ENDPOINT_REMEDY)
    if allow_unsafe:
        return
    if kind := classify_host(host):
        is_never_right = kind is InternalKind.CREDENTIALS
        remedy = _ENDPOINT_REMEDY if is_never_right else advise_public_address(kind).removeprefix("; ")
        raise BadAddress(f"{url!r} is {kind}", remedy)
    if parts.scheme != "https":
        remedy = "use https://, or set ALLOW_UNSAFE_INPUTS = 'True' in the config"
        raise BadAddress(f"{url!r} is not encrypted, so anyone on the way could change it", remedy)


def advise_public_address(kind: InternalKind) -> str:
    """Return what to do about an internal address in a Job file."""
    if kind is InternalKind.CREDENTIALS:
        return "; no input is there"
    return "; use a public address, or set ALLOW_UNSAFE_INPUTS = 'True' in the config"


def _check_credentials(text: str) -> None:
    if has_credentials(text):
        raise BadAddress(f"the input {hide_credentials(text)!r} {CREDENTIALS_PROBLEM}")


def _check_scheme(text: str) -> None:
    """Raise BadAddress if the address has a user name or password, or begins with a scheme that is not possible."""
    _check_credentials(text)
    if (scheme := _SCHEME.match(text)) and scheme[1] not in _SCHEMES:
        name = scheme[1].lower()
        remedy = f"write {name}://" if name in _SCHEMES else "use https://, or copy the file to S3"
        raise BadAddress(f"the input {text!r} begins with {scheme[0]}, which is not possible; {remedy}")


def check_input_address(text: str, bucket: str) -> None:
    """Raise BadAddress if `text` is not a valid input address. If `text` is only a key, it belongs to `bucket`."""
    if not is_url(text):
        parse_input_address(text, bucket)
        return
    _check_credentials(text)
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # urlsplit validates these only when they are read
    except ValueError as error:
        raise BadAddress(f"the input {text!r} is not a valid web address ({error})") from None
    if not host:
        raise BadAddress(f"the input {text!r} is not a valid web address: it has no host name")


def parse_input_address(text: str, bucket: str) -> tuple[str, str]:
    """Return the bucket and the key (or prefix) of an input. If `text` is only a key, it belongs to `bucket`.

    A path in the mounted bucket, such as `/home/ubuntu/bucket/images/`, is a key as well. Raise BadAddress if the
    bucket name is not valid, or if the key is blank or longer than S3 allows. An entire bucket must be written as
    `s3://bucket/`.
    """
    key, slash = remove_mount_folder(text), "/"
    if not text.replace("/", " ").strip():
        raise BadAddress(f"the input {text!r} is blank")
    if "://" in text:  # seldom; submitJob checks the addresses of up to a million jobs
        _check_scheme(text)
        if text.startswith("s3://"):
            bucket, slash, key = text.removeprefix("s3://").partition("/")
    if not is_bucket_name(bucket):
        raise BadAddress(f"the input {text!r} has no valid bucket: {bucket!r} is not a bucket name")
    if not slash or (key and not key.strip()):
        raise BadAddress(f"the input {text!r} has no key after the bucket; for all objects, write 's3://{bucket}/'")
    if (length := count_key_bytes(key)) > MAX_KEY_BYTES:
        raise BadAddress(f"an input's key is {length:,} bytes long, but S3 allows only {MAX_KEY_BYTES:,}: {key[:100]}…")
    return bucket, key
