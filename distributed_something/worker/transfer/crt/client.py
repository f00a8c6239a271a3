"""The process's `awscrt` clients, and the requests for one object.

awscrt's own retries lose S3's response, so there are none; the caller retries with boto3.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from awscrt import auth, http, io, s3
from botocore.httpsession import get_cert_path
from botocore.utils import percent_encode

from distributed_something.worker.job.failures import AWS_ERRORS
from distributed_something.worker.processors import on_all_processors
from distributed_something.worker.transfer.crt.places import BucketPlace
from distributed_something.worker.transfer.crt.transfer_items import (
    Download,
    SentObject,
    TransferEvents,
    Upload,
)
from distributed_something.worker.transfer.retry import IncompleteTransfer
from distributed_something.worker.transfer.s3_file import CheckedBody

PART_BYTES = 8 * 1024 * 1024
# awscrt accepts no lower limit for its buffers. The limits on downloads keep it from being reached.
BUFFER_BYTES = 256 * 1024 * 1024
CONNECT_TIMEOUT_MS = 5000
# With this throughput, a client of awscrt 0.38.1 opens up to 25 connections (measured). Uploads have a client of their
# own, with a connection for each: an upload that waited for a connection could be sent after the lease has ended.
THROUGHPUT_GBPS = 10.0
MAX_EVENT_LOOPS = 4
# One request, whose checksum awscrt compares; or parallel requests for the parts of a large object. awscrt writes the
# file itself, because passing the bytes to Python would take more than twice the processor time.
_WHOLE = {
    "type": s3.S3RequestType.DEFAULT, "operation_name": "GetObject",
    "checksum_config": s3.S3ChecksumConfig(validate_response=True),
}  # fmt: skip
_PARTS = {"type": s3.S3RequestType.GET_OBJECT}
_CONDITION_HEADERS = {"IfMatch": "If-Match", "IfNoneMatch": "If-None-Match"}
log = logging.getLogger("worker")
_PUT = {"type": s3.S3RequestType.DEFAULT, "operation_name": "PutObject"}


class _StoppableBody(CheckedBody):
    """The body of an upload. awscrt prints an exception that its stream raises, so this one ends early instead, which
    makes the request fail before it is sent."""

    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer)
        except Exception:  # whatever `check` raises; the job's own thread calls it too, and it raises there
            return 0


def _build_path(place: BucketPlace, key: str) -> str:
    return f"{place.path}{percent_encode(key, safe='/~')}"


def _find_etag(headers: list[tuple[str, str]]) -> str:
    return next((value for name, value in headers if name.lower() == "etag"), "")


class CrtClients:
    """The clients of this process: for each scheme, region, and port, one for downloads and one for uploads.

    All ordinary buckets share them. A client is created when it is first needed. `session` is the botocore session with
    the credentials.
    """

    def __init__(self, session: Any) -> None:
        self._session, self._process = session, os.getpid()
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str, int | None, bool], Any] = {}
        self._bootstrap: Any = None

    def is_usable(self) -> bool:
        """Return whether this process can use awscrt: in a forked process, the parent's clients would hang.

        Credentials that expire soon are renewed here, because awscrt's only thread asks for them while it transfers. If
        that fails, boto3 tries it again for its own requests.
        """
        if os.getpid() != self._process or (credentials := self._session.get_credentials()) is None:
            return False
        try:
            credentials.get_frozen_credentials()
        except AWS_ERRORS as error:
            log.info("the credentials could not be renewed; trying again: %s", error)
            return False
        return True

    def start_download(self, place: BucketPlace, download: Download, payer: str, events: TransferEvents) -> Any:
        """Start to fetch an object if its ETag is still the same, and return awscrt's request, which can be canceled.

        Raise an exception if the file cannot be opened or awscrt does not accept the request.
        """
        client, remote = self._get_client(place, is_upload=False), download.remote
        headers = [("Host", place.host), ("If-Match", remote.etag)]
        headers += [("x-amz-request-payer", payer)] if payer else []
        headers += [("Range", f"bytes=0-{remote.size - 1}")] if download.is_large else []
        received, etag = 0, ""

        def record_progress(size: int) -> None:
            nonlocal received
            received += size
            events.on_progress(size)

        def keep_etag(headers: list[tuple[str, str]], **_: Any) -> None:
            nonlocal etag
            etag = _find_etag(headers)

        def end(error: Exception | None = None, **_: Any) -> None:
            # The file's size does not show that a response was complete, because each part has its own position.
            if error is None and received != remote.size:
                error = IncompleteTransfer(f"{received} of {remote.size} bytes arrived")
            if error is None and etag != remote.etag:  # not every server compares the condition
                error = IncompleteTransfer(f"the server sent the object {etag}, not {remote.etag}")
            events.on_done(error)

        return client.make_request(
            request=http.HttpRequest("GET", _build_path(place, remote.key), http.HttpHeaders(headers)),
            recv_filepath=str(download.path), on_headers=keep_etag, on_progress=record_progress, on_done=end,
            max_active_connections_override=download.connections, **(_PARTS if download.is_large else _WHOLE),
        )  # fmt: skip

    def start_upload(
        self, place: BucketPlace, upload: Upload, check: Callable[[], None], events: TransferEvents,
        record_sent: Callable[[SentObject], None],
    ) -> Any:  # fmt: skip
        """Start to upload a file and return awscrt's request, which can be canceled.

        S3 verifies the SHA-256. `check` is called whenever awscrt reads the file. `record_sent` is called before
        `events.on_done` if S3 stored the file, or refused it because of its condition. Raise an exception if the file
        cannot be read or awscrt does not accept the request.
        """
        client, file = self._get_client(place, is_upload=True), upload.path.open("rb")
        digest, etag = hashlib.file_digest(file, "sha256"), ""
        headers = [
            ("Host", place.host), ("Content-Length", str(upload.size)), *place.headers,
            *((_CONDITION_HEADERS[name], value) for name, value in upload.condition.items()),
            ("x-amz-checksum-sha256", base64.b64encode(digest.digest()).decode()),
        ]  # fmt: skip

        def keep_etag(headers: list[tuple[str, str]], **_: Any) -> None:
            nonlocal etag
            etag = _find_etag(headers)

        def end(error: Exception | None = None, **_: Any) -> None:
            file.close()
            is_refused = isinstance(error, s3.S3ResponseError) and error.status_code == HTTPStatus.PRECONDITION_FAILED
            if error is None or is_refused:
                record_sent(SentObject(None, None) if is_refused else SentObject(digest.hexdigest(), etag))
            events.on_done(None if is_refused else error)

        body = _StoppableBody(file, 0, upload.size, check)
        request = http.HttpRequest("PUT", _build_path(place, upload.key), http.HttpHeaders(headers), body)
        return client.make_request(request=request, on_headers=keep_etag, on_done=end, **_PUT)

    def _get_client(self, place: BucketPlace, *, is_upload: bool) -> Any:
        key = (place.scheme, place.region, place.port, is_upload)  # awscrt confuses two ports of one host
        with self._lock:
            if key not in self._clients:
                with on_all_processors():
                    self._clients[key] = self._create_client(place)
            return self._clients[key]

    def _create_client(self, place: BucketPlace) -> Any:
        if self._bootstrap is None:
            loops = io.EventLoopGroup(max(1, min(MAX_EVENT_LOOPS, (os.cpu_count() or 1) // 2)))
            self._bootstrap = io.ClientBootstrap(loops, io.DefaultHostResolver(loops))
        provider = auth.AwsCredentialsProvider.new_delegate(self._read_credentials)
        is_tls = place.scheme == "https"
        return s3.S3Client(
            bootstrap=self._bootstrap, region=place.region,
            tls_mode=s3.S3RequestTlsMode.ENABLED if is_tls else s3.S3RequestTlsMode.DISABLED,
            tls_connection_options=self._build_tls_options() if is_tls else None,
            signing_config=s3.create_default_s3_signing_config(region=place.region, credential_provider=provider),
            part_size=PART_BYTES, memory_limit=BUFFER_BYTES, throughput_target_gbps=THROUGHPUT_GBPS,
            retry_config=s3.S3RetryConfig(retry_mode=s3.S3RetryMode.NONE), connect_timeout_ms=CONNECT_TIMEOUT_MS,
        )  # fmt: skip

    def _build_tls_options(self) -> Any:
        """Trust the certificates that boto3 trusts, because the image may have none of its own."""
        options = io.TlsContextOptions()
        named = self._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        bundle = str(named or get_cert_path(True))
        is_folder = os.path.isdir(bundle)
        options.override_default_trust_store_from_path(**{"ca_dirpath" if is_folder else "ca_filepath": bundle})
        return io.ClientTlsContext(options).new_connection_options()

    def _read_credentials(self) -> Any:
        credentials = self._session.get_credentials().get_frozen_credentials()
        return auth.AwsCredentials(credentials.access_key, credentials.secret_key, credentials.token)
