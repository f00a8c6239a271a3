"""One file from S3 or to S3, whole or not at all; `check` is asked whenever bytes move, and ends a transfer by raising.

A small file is one request; what is larger travels in parts, several at once. A worker that was frozen past its lease
must not go on sending: `check` is asked again by every read, also when botocore repeats a request by itself.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from distributed_something.worker.job.failures import get_error_code
from distributed_something.worker.job.upload_flags import NO_ARGUMENTS, S3Arguments, select_payer_arguments
from distributed_something.worker.transfer.retry import IncompleteTransfer

MAX_PARALLEL_REQUESTS = 16  # of one job in one direction
PART_BYTES = 16 * 1024 * 1024
MAX_PARTS = 10_000  # S3: parts of one upload
LARGE_FILE_BYTES = 2 * PART_BYTES  # larger files are fetched in parts
CHUNK_BYTES = 256 * 1024
_completing = threading.local()


@dataclass(frozen=True)
class RemoteObject:
    """An object as its first answer described it."""

    bucket: str
    key: str
    size: int
    etag: str


def fetch_object(s3: Any, bucket: str, key: str, path: Path, check: Callable[[], None]) -> RemoteObject:
    """Fetches an object, or of a large one the first part. One request: its answer tells the size."""
    answer = s3.get_object(Bucket=bucket, Key=key)
    remote = RemoteObject(bucket, key, answer["ContentLength"], answer.get("ETag", ""))
    with closing(answer["Body"]) as body, path.open("wb") as file:
        if list_remaining_parts(remote):
            _copy_body(body, file, PART_BYTES, check, whole=False)
        else:
            _copy_body(body, file, remote.size, check)
    return remote


def list_remaining_parts(remote: RemoteObject) -> list[int]:
    """Where the parts begin that `fetch_object` left."""
    return list(range(PART_BYTES, remote.size, PART_BYTES)) if remote.size > LARGE_FILE_BYTES else []


def fetch_object_part(s3: Any, remote: RemoteObject, start: int, path: Path, check: Callable[[], None]) -> None:
    """Fetches one part into its place; refused with PreconditionFailed where the object was replaced meanwhile."""
    end = min(start + PART_BYTES, remote.size)
    same = {"IfMatch": remote.etag} if remote.etag else {}
    answer = s3.get_object(Bucket=remote.bucket, Key=remote.key, Range=f"bytes={start}-{end - 1}", **same)
    with closing(answer["Body"]) as body, path.open("r+b") as file:
        file.seek(start)
        _copy_body(body, file, end - start, check)


def _copy_body(body: Any, file: BinaryIO, size: int, check: Callable[[], None], whole: bool = True) -> None:
    """Reads a `whole` body to its end: only there botocore compares the checksum and keeps the connection."""
    came = 0
    while chunk := body.read(CHUNK_BYTES if whole else min(CHUNK_BYTES, size - came)):
        check()
        came += len(chunk)
        file.write(chunk)
    if came != size:
        raise IncompleteTransfer(f"{came} of {size} bytes came")


class CheckedBody(io.RawIOBase):
    """A stretch of an open file that asks `check` at every read and at every new start."""

    def __init__(self, file: BinaryIO, start: int, size: int, check: Callable[[], None]) -> None:
        self._file, self._start, self._size, self._check, self._at = file, start, size, check, 0

    def read(self, size: int | None = -1) -> bytes:
        self._check()
        left = self._size - self._at
        self._file.seek(self._start + self._at)
        chunk = self._file.read(left if size is None or size < 0 else min(size, left))
        self._at += len(chunk)
        return chunk

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check()
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def build_write_condition(etag: str | None) -> dict[str, str]:
    """For an upload: S3 is to refuse it (PreconditionFailed) unless the object is still that one, or still none."""
    return {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}


def is_precondition_error(error: ClientError) -> bool:
    """Whether S3 refused since another object is there than the upload expected."""
    return get_error_code(error) in ("PreconditionFailed", "412")


def compute_object_sha256(s3: Any, bucket: str, key: str, arguments: S3Arguments = NO_ARGUMENTS) -> str:
    """The SHA-256 (hexadecimal) of an object that is there."""
    digest = hashlib.sha256()
    with closing(s3.get_object(Bucket=bucket, Key=key, **select_payer_arguments(arguments))["Body"]) as body:
        while chunk := body.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def upload_whole_file(
    s3: Any,
    path: Path,
    bucket: str,
    key: str,
    check: Callable[[], None],
    arguments: S3Arguments = NO_ARGUMENTS,
    **more: str,
) -> tuple[str, str]:
    """Uploads a file in one request, which S3 refuses if its bytes are others; its SHA-256 (hexadecimal) and ETag."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        body = CheckedBody(file, 0, file.tell(), check)
        checksum = base64.b64encode(digest.digest()).decode()
        answer = s3.put_object(Bucket=bucket, Key=key, Body=body, ChecksumSHA256=checksum, **arguments, **more)
    return digest.hexdigest(), answer.get("ETag", "")


def upload_file_parts(
    s3: Any, path: Path, bucket: str, key: str, check: Callable[[], None], pool: Executor,
    arguments: S3Arguments = NO_ARGUMENTS, **more: str,
) -> tuple[str, str]:  # fmt: skip
    """Uploads a large file in parts, each with a CRC-32 that S3 verifies, while its SHA-256 is computed; that, and its
    ETag.

    Whatever goes wrong, no half upload stays in S3. Must not be called from a thread of `pool`.
    """
    size = path.stat().st_size
    length = max(PART_BYTES, -(-size // MAX_PARTS))
    upload = {"Bucket": bucket, "Key": key} | select_payer_arguments(arguments)
    check()
    made = s3.create_multipart_upload(**(upload | dict(arguments)), ChecksumAlgorithm="CRC32")
    upload["UploadId"] = made["UploadId"]
    hashed = pool.submit(_hash_file, path, check)
    sent = [
        pool.submit(_upload_part, s3, upload, number, path, start, min(length, size - start), check)
        for number, start in enumerate(range(0, size, length), 1)
    ]
    try:
        parts = [part.result() for part in sent]
        digest = hashed.result()
        with _check_before_completion(s3, check):
            answer = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **more)
        return digest, answer.get("ETag", "")
    except BaseException:
        _abort_upload(s3, upload, [hashed, *sent])
        raise


def _upload_part(
    s3: Any, upload: dict[str, Any], number: int, path: Path, start: int, size: int, check: Callable[[], None]
) -> dict[str, Any]:
    with path.open("rb") as file:
        body = CheckedBody(file, start, size, check)
        answer = s3.upload_part(**upload, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")
    checksum = {"ChecksumCRC32": answer["ChecksumCRC32"]} if "ChecksumCRC32" in answer else {}
    return {"PartNumber": number, "ETag": answer["ETag"], **checksum}


def _abort_upload(s3: Any, upload: dict[str, Any], begun: list[Future[Any]]) -> None:
    """Parts that are still under way would stay in S3 behind the abort: it waits for them."""
    for request in begun:
        request.cancel()
    wait(begun)
    with suppress(ClientError, BotoCoreError):
        s3.abort_multipart_upload(**upload)


@contextmanager
def _check_before_completion(s3: Any, check: Callable[[], None]) -> Iterator[None]:
    """The request that puts the parts in place has no body that asks `check`: here each sending of it does."""
    s3.meta.events.register(
        "before-send.s3.CompleteMultipartUpload", _call_completion_check, unique_id="ask-before-completing"
    )
    _completing.check = check
    try:
        yield
    finally:
        del _completing.check


def _call_completion_check(**_: Any) -> None:
    getattr(_completing, "check", lambda: None)()


def _hash_file(path: Path, check: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(PART_BYTES // 16):
            check()
            digest.update(chunk)
    return digest.hexdigest()
