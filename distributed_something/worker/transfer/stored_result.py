"""What S3 says about a result file: its size, ETag, and checksum, and the job and run that wrote it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import is_missing_object
from distributed_something.worker.job.upload_flags import NO_ARGUMENTS, S3Arguments, select_payer_arguments

# Keys in each result file's metadata.
FILE_COUNT_KEY = "job-files"  # the number of files in the upload
JOB_KEY, RUN_KEY = "job-id", "job-run"  # percent-encoded, because metadata must be ASCII
_UNENCODED_CHARACTERS = "="


@dataclass(frozen=True, slots=True)
class ResultOwner:
    """The job that wrote a result file, and the run in which it did."""

    job: str
    run: str

    def build_metadata(self) -> dict[str, str]:
        """Return the metadata that says who wrote a file."""
        return {JOB_KEY: quote(self.job, _UNENCODED_CHARACTERS), RUN_KEY: quote(self.run, _UNENCODED_CHARACTERS)}


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result file in S3.

    `checksum_sha256` (hexadecimal) is None if S3 has no SHA-256 of the whole file, such as for a file that was
    uploaded in parts. `checksum_crc32` is S3's CRC-32, which ends with the number of parts (`2jmj7w==-3`) if there are
    several; "" if S3 has none. `owner` is None for a file that is not from this system's workers or from an older
    version.
    `file_count`: how many files were uploaded together with this one; None if unknown.
    """

    size: int
    etag: str
    checksum_sha256: str | None
    owner: ResultOwner | None
    file_count: int | None
    checksum_crc32: str = ""


def read_stored_result(
    s3: Any, bucket: str, key: str, arguments: S3Arguments = NO_ARGUMENTS, *, with_checksum: bool = True
) -> StoredResult | None:
    """Return the result file at `key`, or None if it does not exist, in one request.

    `arguments` are the upload arguments for the bucket; only `RequestPayer` is used. `with_checksum`: whether to ask S3
    for the checksum.
    """
    checksum_mode = {"ChecksumMode": "ENABLED"} if with_checksum else {}
    try:
        response = s3.head_object(Bucket=bucket, Key=key, **select_payer_arguments(arguments), **checksum_mode)
    except ClientError as error:
        if is_missing_object(error):
            return None
        raise
    metadata = response.get("Metadata", {})
    file_count = metadata.get(FILE_COUNT_KEY, "")
    return StoredResult(
        response["ContentLength"],
        response.get("ETag", ""),
        _decode_checksum(response.get("ChecksumSHA256", "")),
        _read_owner(metadata),
        int(file_count) if file_count.isdecimal() else None,
        response.get("ChecksumCRC32", ""),
    )


def _read_owner(metadata: Mapping[str, str]) -> ResultOwner | None:
    if not metadata.get(JOB_KEY) or not metadata.get(RUN_KEY):
        return None
    return ResultOwner(unquote(metadata[JOB_KEY]), unquote(metadata[RUN_KEY]))


def _decode_checksum(text: str) -> str | None:
    """Return the hexadecimal checksum, or None if S3 sent none, or one of the file's parts (`…-3`)."""
    try:
        return base64.b64decode(text, validate=True).hex() or None
    except binascii.Error:
        return None
