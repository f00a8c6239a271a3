"""Finds out where and how boto3 would send a bucket's requests, so that awscrt sends its own to the same place.

No public function of botocore returns what its rules for endpoints (regions, dual stack, path style, emulators) and the
redirects that it has followed lead to. Therefore, boto3 prepares and signs a request, which is read and not sent.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import get_environ_proxies

_SIGNATURE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d+/([^/]+)/s3/")  # others need another way to sign
_PROBE_KEY = "k"
_probe = threading.local()  # `requests`: the requests that this thread has captured


@dataclass(frozen=True)
class BucketPlace:
    """Where requests for a bucket are sent, and the region for which they are signed. `path` ends in `/`."""

    scheme: str
    host: str
    path: str
    region: str

    @property
    def port(self) -> int | None:
        return urlsplit(f"//{self.host}").port


def find_bucket_place(s3: Any, bucket: str) -> BucketPlace | None:
    """Return where to send requests for `bucket`; None if only boto3 can send them, such as through a proxy."""
    s3.meta.events.register("before-send.s3.GetObject", _capture_request, unique_id="capture-request")
    _probe.requests = []
    try:
        s3.get_object(Bucket=bucket, Key=_PROBE_KEY)
        request = _probe.requests[0]
    except (BotoCoreError, ClientError):
        return None  # the request that boto3 sends next fails in the same way, and is explained
    finally:
        _probe.requests = None
    url, signature = urlsplit(request.url), request.headers.get("Authorization", b"")
    match = _SIGNATURE.match(signature.decode() if isinstance(signature, bytes) else signature)
    if not match or s3.meta.config.proxies or get_environ_proxies(request.url):
        return None
    return BucketPlace(url.scheme, url.netloc, url.path.removesuffix(_PROBE_KEY), match[1])


def _capture_request(request: Any, **_: Any) -> AWSResponse | None:
    """Keep the request instead of sending it, if `find_bucket_place` asked for it in this thread."""
    if (requests := getattr(_probe, "requests", None)) is None:
        return None
    requests.append(request)
    return AWSResponse(request.url, 200, HTTPHeaders.from_dict({"Content-Length": "0"}), None)
