"""Uploads a job's results and verifies them before the job counts as done."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import LostLease, SharedByOtherJob, UploadError
from distributed_something.worker.job.upload_flags import NO_ARGUMENTS, S3Arguments
from distributed_something.worker.transfer.crt.transfer_items import MAX_UPLOAD_BYTES, Upload
from distributed_something.worker.transfer.crt.transfers import CrtTransfers
from distributed_something.worker.transfer.result_files import list_result_files
from distributed_something.worker.transfer.retry import (
    RETRY_PAUSES_SECONDS,
    TRANSFER_ERRORS,
    is_transient_error,
    sleep_with_checks,
)
from distributed_something.worker.transfer.s3_file import (
    UploadedFile,
    build_write_condition,
    compute_object_sha256,
    create_transfer_pool,
    is_precondition_error,
    upload_file_parts,
    upload_whole_file,
)
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects
from distributed_something.worker.transfer.stored_result import FILE_COUNT_KEY, ResultOwner, read_stored_result

MAX_INLINE_BYTES = 1024 * 1024  # a single file up to this size is sent without starting threads
MAX_SINGLE_PUT_BYTES = 16 * 1024 * 1024  # larger files are uploaded in parts, several in parallel


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A result file that is in S3.

    `etag` is the ETag at the time of verification. It is not in the record, because S3 does not define how ETags are
    computed. `checksum_crc32`: S3's checksum if the file was uploaded in parts. S3 has no SHA-256 of such a file.
    """

    bucket: str
    key: str
    size: int
    checksum_sha256: str
    etag: str = field(default="", compare=False)
    checksum_crc32: str = field(default="", compare=False)

    def build_record_entry(self) -> dict[str, Any]:
        """Return the file's entry in the job's record."""
        entry = {"bucket": self.bucket, "key": self.key, "size": self.size, "checksum_sha256": self.checksum_sha256}
        return entry | ({"checksum_crc32": self.checksum_crc32} if self.checksum_crc32 else {})


@dataclass(frozen=True)
class ResultDestination:
    """The destination of a job's results: the prefix `location` in `bucket`.

    `arguments` are extra arguments for the S3 requests, such as `ACL`. `replaceable` contains the objects that may be
    replaced: all that existed at the destination when it was last certain that no other attempt had finished. If
    `replaceable` is None, the destination is listed when the upload begins. `owner` is written to each file's metadata.
    `is_aws`: whether the server is AWS's, whose responses show what it has stored.
    """

    bucket: str
    location: str
    arguments: S3Arguments = field(default_factory=dict)
    replaceable: dict[str, ListedObject] | None = None
    owner: ResultOwner | None = None
    is_aws: bool = False


def upload_results(
    s3: Any, folder: Path, destination: ResultDestination, *, leave_out: Sequence[str] = (),
    check: Callable[[], None] = lambda: None, sleep: Callable[[float], None] = time.sleep,
    transfers: CrtTransfers | None = None,
) -> list[ResultFile]:  # fmt: skip
    """Upload and verify the files in `folder` that match no pattern in `leave_out`, and return the uploaded files.

    If there are several files, the metadata of each contains the file count, so that an incomplete upload can be
    recognized later. Raise LostLease if an object at the destination is not replaceable and its content differs,
    because another worker then has the job; SharedByOtherJob if another job wrote that object.

    Several small files are uploaded with `transfers`, and what those do not upload with `s3`, as is everything else.
    Only files that failed are retried, with increasingly long pauses. `check` is called while bytes are sent and can
    end the upload by raising an exception. Raise UploadError if the last retry fails, and Failed if a file cannot
    become an object in S3.
    """
    files = list_result_files(folder, destination.location, leave_out)
    return upload_with_retries(ResultUpload(s3, destination, files, check, transfers), sleep)


def upload_with_retries(upload: ResultUpload, sleep: Callable[[float], None]) -> list[ResultFile]:
    """Upload and verify the files of `upload`, with retries, and return the uploaded files."""
    reason = ""
    for pause in (0, *RETRY_PAUSES_SECONDS):
        sleep_with_checks(pause, upload.check, sleep)
        try:
            upload.check()
            upload.send_missing_files()
            upload.verify_files()
            return [upload.uploaded[key] for key in upload.files]
        except (*TRANSFER_ERRORS, UploadError) as error:
            upload.check()  # if botocore wrapped an error that `check` raised, raise the original error
            reason = str(error)
            if not is_transient_error(error):
                break
        except OSError as error:
            raise UploadError(f"an output file cannot be read: {error}") from None
    raise UploadError(f"the outputs could not be uploaded to {upload.address}: {reason}")


def _add_metadata(destination: ResultDestination, count: int) -> S3Arguments:
    """Return the S3 arguments with the owner and the file count in the metadata. A single file needs no count."""
    added = destination.owner.build_metadata() if destination.owner else {}
    added |= {FILE_COUNT_KEY: str(count)} if count > 1 else {}
    metadata: Any = destination.arguments.get("Metadata", {})
    return {**destination.arguments, "Metadata": {**metadata, **added}} if added else destination.arguments


class ResultUpload:
    """One upload with its retries.

    `files` maps keys to the local files, and `uploaded` maps keys to the files that are already in S3. `check` can end
    the upload by raising an exception.
    """

    def __init__(
        self, s3: Any, destination: ResultDestination, files: dict[str, Path], check: Callable[[], None],
        transfers: CrtTransfers | None = None,
    ) -> None:  # fmt: skip
        self._s3, self.files, self.check, self._transfers = s3, files, check, transfers
        self._bucket, self._arguments = destination.bucket, _add_metadata(destination, len(files))
        self._destination_owner, self._is_aws = destination.owner, destination.is_aws
        self._prefix, self._replaceable = f"{destination.location}/", destination.replaceable
        self.address = f"s3://{destination.bucket}/{destination.location}"
        self.uploaded: dict[str, ResultFile] = {}
        self._confirmed_keys: set[str] = set()  # of files whose content S3 confirmed in its responses

    def send_missing_files(self) -> None:
        """Send the files that are not in S3 yet, and stop at the first error."""
        if self._replaceable is None:
            self._replaceable = self._list_destination()
        sizes = {key: path.stat().st_size for key, path in self.files.items() if key not in self.uploaded}
        if len(sizes) == 1 and sum(sizes.values()) <= MAX_INLINE_BYTES:  # the most common case
            ((key, size),) = sizes.items()
            self._send_file(key, size, upload_whole_file)
            return
        small = {key: size for key, size in sizes.items() if size <= MAX_SINGLE_PUT_BYTES}
        self._send_quickly(small)
        with create_transfer_pool() as pool:
            remaining = [(key, size) for key, size in small.items() if key not in self.uploaded]
            for _ in pool.map(lambda item: self._send_file(item[0], item[1], upload_whole_file), remaining):
                pass
            for key in sizes.keys() - small.keys():
                self._send_file(key, sizes[key], partial(upload_file_parts, pool=pool))

    def _send_quickly(self, sizes: dict[str, int]) -> None:
        """Send what awscrt can send of several small files."""
        if self._transfers is None or len(sizes) < 2:
            return
        uploads = [
            Upload(self.files[key], self._bucket, key, size, self._build_condition(key))
            for key, size in sizes.items()
            if size <= MAX_UPLOAD_BYTES
        ]
        for upload, sent in self._transfers.send_files(uploads, self._arguments, self.check).items():
            digest = sent.sha256 or self._check_same_content(upload.key, upload.path)
            self.uploaded[upload.key] = ResultFile(self._bucket, upload.key, upload.size, digest, sent.etag or "")

    def _build_condition(self, key: str) -> dict[str, str]:
        before = (self._replaceable or {}).get(key)
        return build_write_condition(before.etag if before else None)

    def _send_file(self, key: str, size: int, upload: Callable[..., UploadedFile]) -> None:
        path, condition = self.files[key], self._build_condition(key)
        try:
            sent = upload(self._s3, path, self._bucket, key, self.check, arguments=self._arguments, **condition)
        except ClientError as error:
            if not is_precondition_error(error):
                raise
            sent = UploadedFile(self._check_same_content(key, path), "", size)
        self.uploaded[key] = ResultFile(self._bucket, key, sent.size, sent.sha256, sent.etag, sent.crc32)
        if sent.is_confirmed:
            self._confirmed_keys.add(key)

    def _check_same_content(self, key: str, path: Path) -> str:
        """Return the SHA-256 of `path` if the object at `key` has the same content.

        Raise SharedByOtherJob if it does not and another job wrote the object, and LostLease if no other job did.

        The content is the same if an earlier request succeeded but its response was lost, or if another worker computed
        the same result.
        """
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if compute_object_sha256(self._s3, self._bucket, key, self._arguments) != digest:
            raise SharedByOtherJob if self._is_other_jobs(key) else LostLease
        return digest

    def _is_other_jobs(self, key: str) -> bool:
        """Return whether another job wrote the object. Objects without metadata may be this job's."""
        if self._destination_owner is None:
            return False
        stored = read_stored_result(self._s3, self._bucket, key, self._arguments, with_checksum=False)
        return stored is not None and stored.owner is not None and stored.owner.job != self._destination_owner.job

    def verify_files(self) -> None:
        """Compare the uploaded files with a listing of the destination.

        A single file whose content AWS has confirmed is not listed. AWS stores an object completely or not at all, and
        each later request sees it (source: "Amazon S3 data consistency model" in the S3 User Guide). A listing would be
        just as old as the upload's response is now when the record is written, so it would reveal nothing more.

        Raise UploadError if files are missing or have the wrong size; the next retry sends these files again. Raise
        LostLease or SharedByOtherJob if the listing shows that another worker has replaced a file with other content.
        """
        if self._is_aws and len(self.files) == 1 and self._confirmed_keys:
            self.check()
            return
        listed = self._list_destination() if self.files else {}
        for key, path in self.files.items():
            if key in listed and listed[key].etag != self.uploaded[key].etag:
                self._check_same_content(key, path)
        bad_keys = [key for key in self.files if key not in listed or listed[key].size != self.uploaded[key].size]
        for key in self.files.keys() - set(bad_keys):
            self.uploaded[key] = replace(self.uploaded[key], etag=listed[key].etag)
        for key in bad_keys:
            del self.uploaded[key]
            self._replaceable = {**(self._replaceable or {}), **({key: listed[key]} if key in listed else {})}
        if bad_keys:
            count = f"{len(bad_keys)} of {len(self.files)} files"
            raise UploadError(f"{count} are missing or incomplete in S3, such as {bad_keys[0]}")

    def _list_destination(self) -> dict[str, ListedObject]:
        return list_s3_objects(self._s3, self._bucket, self._prefix, self._arguments)


def has_unchanged_results(
    s3: Any, location: str, outputs: list[ResultFile], arguments: S3Arguments = NO_ARGUMENTS
) -> bool:
    """Return whether all `outputs` still exist below `location` and are unchanged since they were verified."""
    if not outputs:
        return False
    listed = list_s3_objects(s3, outputs[0].bucket, f"{location}/", arguments)
    return all(file.key in listed and listed[file.key].etag == file.etag for file in outputs)
