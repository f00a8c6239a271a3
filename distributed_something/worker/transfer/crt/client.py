"""The process's `awscrt` clients, and the requests for one object.

awscrt's own retries lose S3's response, so there are none; the caller retries with boto3.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from awscrt import auth, http, io, s3
from botocore.httpsession import get_cert_path
from botocore.utils import percent_encode

from distributed_something.worker.transfer.crt.download import Download, DownloadEvents
from distributed_something.worker.transfer.crt.places import BucketPlace

PART_BYTES = 8 * 1024 * 1024
MAX_CONNECTIONS = 64
# awscrt accepts no lower limit for its buffers. The limits on downloads keep it from being reached.
BUFFER_BYTES = 256 * 1024 * 1024
CONNECT_TIMEOUT_MS = 5000
MAX_EVENT_LOOPS = 4
# One request, whose checksum awscrt compares; or parallel requests for the parts of a large object. awscrt writes the
# file itself, because passing the bytes to Python would take more than twice the processor time.
_WHOLE = {
    "type": s3.S3RequestType.DEFAULT, "operation_name": "GetObject",
    "checksum_config": s3.S3ChecksumConfig(validate_response=True),
}  # fmt: skip
_PARTS = {"type": s3.S3RequestType.GET_OBJECT}


class CrtClients:
    """The clients of this process: one for each scheme, region, and port, which is one for all ordinary buckets.

    A client is created when it is first needed. `session` is the botocore session with the credentials.
    """

    def __init__(self, session: Any) -> None:
        self._session, self._process = session, os.getpid()
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str, int | None], Any] = {}
        self._bootstrap: Any = None

    def can_download(self) -> bool:
        """Return whether this process can use awscrt: in a forked process, the parent's clients would hang.

        Credentials that expire soon are renewed here, because awscrt's only thread asks for them while it transfers.
        """
        if os.getpid() != self._process or (credentials := self._session.get_credentials()) is None:
            return False
        credentials.get_frozen_credentials()
        return True

    def start_download(self, place: BucketPlace, download: Download, payer: str, events: DownloadEvents) -> Any:
        """Start to fetch an object if its ETag is still the same, and return awscrt's request, which can be canceled.

        Raise an exception if the file cannot be opened or awscrt does not accept the request.
        """
        client, remote = self._get_client(place), download.remote
        headers = [("Host", place.host), ("If-Match", remote.etag)]
        headers += [("x-amz-request-payer", payer)] if payer else []
        headers += [("Range", f"bytes=0-{remote.size - 1}")] if download.is_large else []
        path = place.path + percent_encode(remote.key, safe="/~")
        return client.make_request(
            request=http.HttpRequest("GET", path, http.HttpHeaders(headers)), recv_filepath=str(download.path),
            on_progress=events.on_progress, on_done=lambda error=None, **_: events.on_done(error),
            max_active_connections_override=download.connections, **(_PARTS if download.is_large else _WHOLE),
        )  # fmt: skip

    def _get_client(self, place: BucketPlace) -> Any:
        key = (place.scheme, place.region, place.port)  # awscrt confuses two ports of one host
        with self._lock:
            if key not in self._clients:
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
            part_size=PART_BYTES, memory_limit=BUFFER_BYTES, max_active_connections_override=MAX_CONNECTIONS,
            retry_config=s3.S3RetryConfig(retry_mode=s3.S3RetryMode.NONE), connect_timeout_ms=CONNECT_TIMEOUT_MS,
        )  # fmt: skip

    def _build_tls_options(self) -> Any:
        """Trust the certificates that boto3 trusts, because the image may have none of its own."""
        options = io.TlsContextOptions()
        bundle = self._session.get_config_variable("ca_bundle") or get_cert_path(True)
        options.override_default_trust_store_from_path(ca_filepath=str(bundle))
        return io.ClientTlsContext(options).new_connection_options()

    def _read_credentials(self) -> Any:
        credentials = self._session.get_credentials().get_frozen_credentials()
        return auth.AwsCredentials(credentials.access_key, credentials.secret_key, credentials.token)
