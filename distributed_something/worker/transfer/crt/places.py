"""Finds out where and how boto3 would send a bucket's requests, so that awscrt sends its own to the same place.

No public function of botocore returns what its rules for endpoints (regions, dual stack, path style, emulators) and the
redirects that it has followed lead to. Therefore, boto3 prepares and signs a request, which is read and not sent.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import get_environ_proxies
from urllib3 import HTTPResponse

from distributed_something.worker.job.upload_flags import S3Arguments

_SIGNATURE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d+/([^/]+)/s3/")  # others need another way to sign
_PROBE_KEY = "k"
# Headers of one request, which awscrt or the upload sets. The other headers stand for the arguments of a job's uploads.
_OWN_HEADERS = re.compile(
    r"host|authorization|expect|user-agent|amz-sdk-.*|content-(length|md5)"
    r"|x-amz-(date|content-sha256|security-token|sdk-checksum-algorithm|checksum-.*)",
    re.IGNORECASE,
)
_probe = threading.local()  # `requests`: the requests that this thread has captured


@dataclass(frozen=True)
class BucketPlace:
    """Where requests for a bucket are sent, and the region for which they are signed. `path` ends in `/`.

    `headers` are added to uploads.
    """

    scheme: str
    host: str
    path: str
    region: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def port(self) -> int | None:
        return urlsplit(f"//{self.host}").port


def find_bucket_place(s3: Any, bucket: str) -> BucketPlace | None:
    """Return where to send requests for `bucket`; None if only boto3 can send them, such as through a proxy."""
    request = _capture_request(s3, lambda: s3.get_object(Bucket=bucket, Key=_PROBE_KEY))
    return _parse_place(s3, request) if request else None


def find_upload_place(s3: Any, bucket: str, arguments: S3Arguments) -> BucketPlace | None:
    """Return where to send uploads to `bucket` and the headers that stand for `arguments`, or None if only boto3 can
    send them."""
    probe = {"Bucket": bucket, "Key": _PROBE_KEY, "Body": b"", "ChecksumSHA256": "", **arguments}
    request = _capture_request(s3, lambda: s3.put_object(**probe))
    place = _parse_place(s3, request) if request else None
    if place is None:
        return None
    headers = [(name, _decode(value)) for name, value in request.headers.items()]
    return replace(place, headers=tuple(header for header in headers if not _OWN_HEADERS.fullmatch(header[0])))


def _capture_request(s3: Any, call: Callable[[], object]) -> Any:
    """Return the request that `call` would send, or None if boto3 cannot build it."""
    for operation in ("GetObject", "PutObject"):
        s3.meta.events.register(f"before-send.s3.{operation}", _keep_request, unique_id=f"keep-request-{operation}")
    _probe.requests = []
    try:
        call()
        return _probe.requests[0]
    except (BotoCoreError, ClientError):
        return None  # the request that boto3 sends next fails in the same way, and is explained
    finally:
        _probe.requests = None


def _parse_place(s3: Any, request: Any) -> BucketPlace | None:
    url, match = urlsplit(request.url), _SIGNATURE.match(_decode(request.headers.get("Authorization", b"")))
    if not match or s3.meta.config.proxies or get_environ_proxies(request.url):
        return None
    return BucketPlace(url.scheme, url.netloc, url.path.removesuffix(_PROBE_KEY), match[1])


def _decode(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _keep_request(request: Any, **_: Any) -> AWSResponse | None:
    """Keep the request instead of sending it, if `_capture_request` asked for it in this thread."""
    if (requests := getattr(_probe, "requests", None)) is None:
        return None
    requests.append(request)
    headers = HTTPHeaders.from_dict({"Content-Length": "0", "ETag": '""'})  # what `responses` expects of S3
    return AWSResponse(request.url, 200, headers, HTTPResponse(BytesIO(), preload_content=False))
