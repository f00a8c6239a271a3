"""Downloads and uploads through awscrt, as far as it can be used, for all jobs of a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from typing import Any

from distributed_something.worker.job.upload_flags import S3Arguments
from distributed_something.worker.transfer.crt.places import BucketPlace, find_bucket_place, find_upload_place
from distributed_something.worker.transfer.crt.transfer_batch import TransferBatch
from distributed_something.worker.transfer.crt.transfer_items import (
    MAX_SMALL_DOWNLOADS,
    MAX_UPLOADS,
    Download,
    SentObject,
    TransferEvents,
    TransferLimits,
    Upload,
)


class CrtTransfers:
    """The transfers of all jobs of this process. `clients` is a CrtClients object."""

    def __init__(self, s3: Any, clients: Any, now: Callable[[], float] = time.monotonic) -> None:
        self._s3, self._clients, self._now = s3, clients, now
        self._download_limits, self._upload_limits = TransferLimits(MAX_SMALL_DOWNLOADS), TransferLimits(MAX_UPLOADS)
        self._lock = threading.Lock()
        self._places: dict[str, BucketPlace | None] = {}
        self._left_buckets: set[str] = set()  # left to boto3, because awscrt cannot open TLS connections to them

    def fetch_objects(
        self, downloads: Iterable[Download], arguments: S3Arguments, check: Callable[[], None]
    ) -> list[Download]:
        """Fetch what awscrt can fetch, and return the rest, whose files may exist but are incomplete.

        `arguments` are those of boto3's requests. `check` can end this by raising an exception.
        """
        downloads = list(downloads)
        unknown_arguments = arguments.keys() - {"RequestPayer"}
        if not downloads or unknown_arguments or not self._clients.is_usable():
            return downloads
        payer = str(arguments.get("RequestPayer", ""))

        def start(download: Download, events: TransferEvents) -> Any:
            place = self._find_place(download.remote.bucket)
            return place and self._clients.start_download(place, download, payer, events)

        batch = TransferBatch(downloads, start, self._download_limits, check, self._now)
        failed = batch.run()
        for bucket in {download.remote.bucket for download in failed}:
            self._forget_place(bucket, has_tls_failure=batch.has_tls_failure)
        return failed

    def send_files(
        self, uploads: list[Upload], arguments: S3Arguments, check: Callable[[], None]
    ) -> dict[Upload, SentObject]:
        """Upload the files that awscrt can upload, and return what S3 answered. All have the same bucket.

        `arguments` are those of boto3's requests. `check` can end this by raising an exception; it is also called
        whenever awscrt reads a file.
        """
        sent: dict[Upload, SentObject] = {}
        if not uploads or not self._clients.is_usable():
            return sent
        bucket = uploads[0].bucket
        place = None if bucket in self._left_buckets else find_upload_place(self._s3, bucket, arguments)
        if place is None:
            return sent

        def start(upload: Upload, events: TransferEvents) -> Any:
            return self._clients.start_upload(place, upload, check, events, partial(sent.__setitem__, upload))

        batch = TransferBatch(uploads, start, self._upload_limits, check, self._now)
        batch.run()
        if batch.has_tls_failure:
            self._forget_place(bucket, has_tls_failure=True)
        return sent

    def _find_place(self, bucket: str) -> BucketPlace | None:
        """Return where the requests for a bucket are sent, or None if only boto3 can send them."""
        with self._lock:
            if bucket not in self._places:
                is_left = bucket in self._left_buckets
                self._places[bucket] = None if is_left else find_bucket_place(self._s3, bucket)
            return self._places[bucket]

    def _forget_place(self, bucket: str, *, has_tls_failure: bool) -> None:
        """Find the place again for the next request, because boto3 may learn that the bucket is in another region.

        After a TLS failure, leave the bucket to boto3.
        """
        with self._lock:
            self._places.pop(bucket, None)
            if has_tls_failure:
                self._left_buckets.add(bucket)


def build_transfers(s3: Any, session: Any) -> CrtTransfers | None:
    """Return the transfers through awscrt, or None if it is not installed. `session` is the botocore session."""
    if find_spec("awscrt") is None:
        return None
    from distributed_something.worker.transfer.crt.client import CrtClients

    return CrtTransfers(s3, CrtClients(session))
