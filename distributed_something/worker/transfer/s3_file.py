"""Transfers one file from or to S3, completely or not at all.

A small file takes one request; a larger one is transferred in parts, several in parallel. Every read of the data calls
`check`, which can end the transfer by raising an exception. This also happens when botocore itself retries a request,
so a worker that was suspended until its lease ended cannot continue to send. A read returns as soon as any bytes have
arrived, so a server that sends one byte at a time cannot prevent the checks.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError
from botocore.httpchecksum import StreamingChecksumBody

from distributed_something.worker.job.failures import get_error_code
from distributed_something.worker.job.upload_flags import NO_ARGUMENTS, S3Arguments, select_payer_arguments
from distributed_something.worker.processors import use_all_processors
from distributed_something.worker.transfer.retry import IncompleteTransfer, check_requests, watch_requests
from distributed_something.worker.transfer.stored_checksum import StoredChecksum, read_stored_checksum

MAX_PARALLEL_REQUESTS = 16  # per job and direction
DOWNLOAD_PART_BYTES = 16 * 1024 * 1024
UPLOAD_PART_BYTES = 8 * 1024 * 1024  # S3's least is 5 MiB; larger parts gained nothing
MAX_PARTS = 10_000  # S3's limit for one upload
LARGE_FILE_BYTES = 2 * DOWNLOAD_PART_BYTES  # larger files are fetched in parts
SMALL_FILE_BYTES = 64 * 1024  # smaller files are read at once, in few system calls, and sent in one
CHUNK_BYTES = 256 * 1024
SHORTER_FILE_PROBLEM = "a file became shorter while it was uploaded"


def create_transfer_pool() -> ThreadPoolExecutor:
    """Return the threads in which one job's files are transferred in one direction."""
    return ThreadPoolExecutor(MAX_PARALLEL_REQUESTS, "transfer", initializer=use_all_processors)


class UploadedFile(NamedTuple):
    """A file that was uploaded: its SHA-256 (hexadecimal), its ETag, and its size in bytes.

    `crc32`: S3's checksum of a file that was uploaded in parts, such as `2jmj7w==-3`; "" for other files.
    `is_confirmed`: whether the response contains the content's SHA-256 or, as the ETag, the MD5 of a small file.
    """

    sha256: str
    etag: str
    size: int
    crc32: str = ""
    is_confirmed: bool = False


@dataclass(frozen=True)
class RemoteObject:
    """An object in S3, or a web file (with an empty bucket), as described by the first response."""

    bucket: str
    key: str
    size: int
    etag: str


def fetch_object(
    s3: Any, bucket: str, key: str, path: Path, check: Callable[[], None], arguments: S3Arguments = NO_ARGUMENTS,
    *, only_small: bool = False,
) -> RemoteObject:  # fmt: skip
    """Fetch an object, or only the first part if the response shows that the object is large, in one request.

    With `only_small`, read nothing of a large object. Raise FlexibleChecksumError, as botocore does, if the bytes of an
    object that is not large do not have the checksum that S3 stores.
    """
    response = s3.get_object(Bucket=bucket, Key=key, **arguments)
    check()  # before the file is created, because the job's folder may no longer exist
    size = response.get("ContentLength")  # missing if a server sends an object in chunks
    remote = RemoteObject(bucket, key, size or 0, response.get("ETag", ""))
    with closing(response["Body"]) as body, path.open("wb") as file:
        if is_in_parts(remote):
            _copy_body(body, file, 0 if only_small else DOWNLOAD_PART_BYTES, check, read_to_end=False)
            return remote
        checksum = None if isinstance(body, StreamingChecksumBody) else read_stored_checksum(response)
        received = _copy_body(body, file, size, check, checksum=checksum)
    if checksum is not None and not checksum.matches():
        raise FlexibleChecksumError(error_msg="the bytes that arrived do not have the checksum that S3 stores")
    return replace(remote, size=received)


def is_in_parts(remote: RemoteObject) -> bool:
    """Return whether a large object, and not a web file, is fetched in parts."""
    return bool(remote.bucket) and remote.size > LARGE_FILE_BYTES


def list_remaining_parts(remote: RemoteObject) -> list[int]:
    """Return the start positions of the parts that `fetch_object` did not fetch."""
    return list(range(DOWNLOAD_PART_BYTES, remote.size, DOWNLOAD_PART_BYTES)) if is_in_parts(remote) else []


def fetch_object_part(
    s3: Any, remote: RemoteObject, start: int, path: Path, check: Callable[[], None],
    arguments: S3Arguments = NO_ARGUMENTS,
) -> None:  # fmt: skip
    """Fetch the part that begins at `start` and write it to that position in the file.

    S3 rejects the request with PreconditionFailed if the object was replaced after its first part was fetched.
    """
    end = min(start + DOWNLOAD_PART_BYTES, remote.size)
    condition = {"IfMatch": remote.etag} if remote.etag else {}
    byte_range = f"bytes={start}-{end - 1}"
    response = s3.get_object(Bucket=remote.bucket, Key=remote.key, Range=byte_range, **condition, **arguments)
    with closing(response["Body"]) as body, path.open("r+b") as file:
        file.seek(start)
        _copy_body(body, file, end - start, check)


def _copy_body(
    body: Any, file: BinaryIO, size: int | None, check: Callable[[], None], *, read_to_end: bool = True,
    checksum: StoredChecksum | None = None,
) -> int:  # fmt: skip
    """Copy `size` bytes (None: all that arrive), add them to `checksum`, and return how many they were.

    With `read_to_end`, also read the end of the body, so that botocore compares the checksum and releases the
    connection. Raise IncompleteTransfer if bytes are missing.
    """
    received = 0
    _return_reads_early(body)
    while chunk := body.read(CHUNK_BYTES if read_to_end else min(CHUNK_BYTES, (size or 0) - received)):
        check()
        received += len(chunk)
        file.write(chunk)
        if checksum is not None:
            checksum.update(chunk)
    if size is not None and received != size:
        raise IncompleteTransfer(f"{received} of {size} bytes arrived")
    return received


class _EarlyReader:
    """The raw stream of a response. A read returns as soon as any bytes have arrived."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int | None = None) -> bytes:
        return bytes(self._stream.read(size) if size is None else self._stream.read1(size))


def _return_reads_early(body: Any) -> None:
    """Make `body.read` return as soon as any bytes have arrived. botocore itself offers no such method."""
    stream = getattr(body, "_raw_stream", None)
    if hasattr(stream, "read1") and not isinstance(stream, _EarlyReader):
        body._raw_stream = _EarlyReader(stream)


class CheckedBody(io.RawIOBase):
    """A section of an open file, used as the body of a request. It calls `check` on every read and seek.

    A read raises IncompleteTransfer if the file has become shorter. Otherwise, the server would wait for the rest.
    """

    def __init__(self, file: BinaryIO, start: int, size: int, check: Callable[[], None]) -> None:
        self._file, self._start, self._size, self._check, self._position = file, start, size, check, 0
        self._is_cut = False

    def check(self) -> None:
        """Call `check`, and raise IncompleteTransfer if the file has become shorter, so that no request is repeated."""
        self._check()
        if self._is_cut:
            raise IncompleteTransfer(SHORTER_FILE_PROBLEM)

    def read(self, size: int | None = -1) -> bytes:
        self._check()
        remaining = self._size - self._position
        length = remaining if size is None or size < 0 else min(size, remaining)
        self._file.seek(self._start + self._position)
        chunk = self._file.read(length)
        if length > 0 and not chunk:
            self._is_cut = True
            self.check()
        self._position += len(chunk)
        return chunk

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`, which botocore does if it signs with awscrt."""
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check()
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def build_write_condition(etag: str | None) -> dict[str, str]:
    """Return the condition for an upload: the object must still have this ETag, or must not exist if `etag` is None.

    S3 rejects the upload with PreconditionFailed if the condition is not met.
    """
    return {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}


def is_precondition_error(error: ClientError) -> bool:
    """Return whether S3 rejected an upload because the object at its key is not the expected one."""
    return get_error_code(error) in ("PreconditionFailed", "412")


def compute_object_sha256(s3: Any, bucket: str, key: str, arguments: S3Arguments = NO_ARGUMENTS) -> str:
    """Download an object from S3 and return its SHA-256 (hexadecimal)."""
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
    **condition: str,
) -> UploadedFile:
    """Upload a file in one request.

    S3 verifies the SHA-256. `condition` is the result of `build_write_condition`.
    """
    with path.open("rb") as file:
        return upload_open_file(s3, file, bucket, key, check, arguments, **condition)


def upload_open_file(
    s3: Any,
    file: Any,
    bucket: str,
    key: str,
    check: Callable[[], None],
    arguments: S3Arguments = NO_ARGUMENTS,
    **condition: str,
) -> UploadedFile:
    """Upload a file that is open at its start, as `upload_whole_file` does."""
    content = file.read(SMALL_FILE_BYTES + 1)
    body: Any = content
    if len(content) <= SMALL_FILE_BYTES:
        size, digest = len(content), hashlib.sha256(content)
    else:
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
        size = file.tell()
        body = CheckedBody(file, 0, size, check)
    checksum = base64.b64encode(digest.digest()).decode()
    with check_requests(check if body is content else body.check):
        response = s3.put_object(Bucket=bucket, Key=key, Body=body, ChecksumSHA256=checksum, **arguments, **condition)
    is_confirmed = response.get("ChecksumSHA256") == checksum or (body is content and _is_md5_etag(response, content))
    return UploadedFile(digest.hexdigest(), response.get("ETag", ""), size, is_confirmed=is_confirmed)


def _is_md5_etag(response: Mapping[str, Any], content: bytes) -> bool:
    """Return whether the ETag is the content's MD5, as on AWS without a customer key. Emulators return no SHA-256."""
    return bool(response.get("ETag") == f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"')


def upload_file_parts(
    s3: Any, path: Path, bucket: str, key: str, check: Callable[[], None], pool: Executor,
    arguments: S3Arguments = NO_ARGUMENTS, **condition: str,
) -> UploadedFile:  # fmt: skip
    """Upload a large file in parts, with the size that it has now.

    S3 verifies the CRC-32 of each part, which is computed together with the SHA-256: if a part changes afterward, S3
    rejects it. If anything fails, the upload is aborted, so that S3 does not keep its parts. `condition` is the result
    of `build_write_condition`. Do not call this function from a thread in `pool`, because it waits for work in `pool`.
    Raise IncompleteTransfer if the file has become shorter.
    """
    size, digest = path.stat().st_size, hashlib.sha256()
    if not size:  # S3 would refuse an upload without parts
        raise IncompleteTransfer(SHORTER_FILE_PROBLEM)
    upload = {"Bucket": bucket, "Key": key} | select_payer_arguments(arguments)
    check()
    created = s3.create_multipart_upload(**(upload | dict(arguments)), ChecksumAlgorithm="CRC32")
    upload["UploadId"] = created["UploadId"]
    requests: list[Future[dict[str, Any]]] = []
    unfinished: list[Future[dict[str, Any]]] = []
    try:
        for part in _split_file(path, size):
            # The pool's threads use all processors. While all of them send, no further part is read.
            checksum = pool.submit(_hash_part, part, digest, check).result()
            requests.append(pool.submit(_upload_part, s3, upload, part, checksum, check))
            unfinished = [request for request in (*unfinished, requests[-1]) if not _has_succeeded(request)]
        sent_parts = [request.result() for request in requests]
        watch_requests(s3)  # the completion request has no `CheckedBody`
        with check_requests(check):
            response = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent_parts}, **condition)
        return UploadedFile(digest.hexdigest(), response.get("ETag", ""), size, response.get("ChecksumCRC32", ""))
    except BaseException:  # whatever it is, uploaded parts would cost money until they are removed
        _abort_upload(s3, upload, requests)
        raise


class _FilePart(NamedTuple):
    """A part of the file at `path`: its number, from 1, and its start and size in bytes."""

    path: Path
    number: int
    start: int
    size: int


def _split_file(path: Path, size: int) -> Iterator[_FilePart]:
    """Yield the parts of a file of this size: as many as S3 allows, at most."""
    length = max(UPLOAD_PART_BYTES, -(-size // MAX_PARTS))
    for number, start in enumerate(range(0, size, length), 1):
        yield _FilePart(path, number, start, min(length, size - start))


def _hash_part(part: _FilePart, digest: Any, check: Callable[[], None]) -> str:
    """Update the file's `digest` with the part, and return the part's CRC-32 in the form of S3's headers.

    Raise IncompleteTransfer if the file has become shorter.
    """
    crc32, remaining = 0, part.size
    with part.path.open("rb") as file:
        file.seek(part.start)
        while chunk := file.read(min(CHUNK_BYTES, remaining)):
            check()
            digest.update(chunk)
            crc32 = zlib.crc32(chunk, crc32)
            remaining -= len(chunk)
    if remaining:
        raise IncompleteTransfer(SHORTER_FILE_PROBLEM)
    return base64.b64encode(crc32.to_bytes(4)).decode()


def _upload_part(
    s3: Any, upload: dict[str, Any], part: _FilePart, checksum: str, check: Callable[[], None]
) -> dict[str, Any]:
    """Upload a part, and return its entry in the completion request.

    Raise IncompleteTransfer if S3 says that it stored other content: not every server compares checksums.
    """
    with part.path.open("rb") as file:
        body = CheckedBody(file, part.start, part.size, check)
        with check_requests(body.check):
            response = s3.upload_part(**upload, PartNumber=part.number, Body=body, ChecksumCRC32=checksum)
    stored = {"ChecksumCRC32": response["ChecksumCRC32"]} if "ChecksumCRC32" in response else {}
    if stored and stored["ChecksumCRC32"] != checksum:
        raise IncompleteTransfer(f"part {part.number} of a file changed while it was uploaded")
    return {"PartNumber": part.number, "ETag": response["ETag"], **stored}


def _has_succeeded(request: Future[Any]) -> bool:
    """Return False if the request has not ended. Raise its error if it has failed."""
    if not request.done():
        return False
    request.result()
    return True


def _abort_upload(s3: Any, upload: dict[str, Any], futures: list[Future[Any]]) -> None:
    """Wait for requests in progress, then abort the upload. A part that arrived after the abort would stay in S3."""
    for future in futures:
        future.cancel()
    wait(futures)
    with suppress(ClientError, BotoCoreError):
        s3.abort_multipart_upload(**upload)
