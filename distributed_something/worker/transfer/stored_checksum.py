"""Compares a file with the checksum that S3 stores of the whole object.

S3 sends no checksum with a part of an object, so without this, nothing would notice that a large object was damaged on
its way. S3 stores such a checksum of objects uploaded since December 2024; older ones, and those that were uploaded in
parts, may have none, or only one that is composed of their parts' checksums ("Checking object integrity" in the S3 User
Guide).
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import ClientError

from distributed_something.worker.job.upload_flags import NO_ARGUMENTS, S3Arguments
from distributed_something.worker.transfer.retry import is_transient_error
from distributed_something.worker.transfer.s3_file import RemoteObject

READ_BYTES = 1024 * 1024
_DIGESTS = {"ChecksumSHA256": "sha256", "ChecksumSHA1": "sha1", "ChecksumSHA512": "sha512", "ChecksumMD5": "md5"}


def is_file_intact(
    s3: Any, remote: RemoteObject, path: Path, check: Callable[[], None], arguments: S3Arguments = NO_ARGUMENTS
) -> bool:
    """Return whether a file has the checksum that S3 stores; True if there is none that can be compared.

    `arguments` are extra arguments for the request. `check` is called while the file is read, and can end this by
    raising an exception. Raise an AWS error if a retry of the request may succeed.
    """
    place = {"Bucket": remote.bucket, "Key": remote.key} | ({"IfMatch": remote.etag} if remote.etag else {})
    try:
        response = s3.head_object(**place, ChecksumMode="ENABLED", **arguments)
    except ClientError as error:
        if is_transient_error(error):
            raise
        return True  # such as 412: the object was replaced after the file was fetched
    if response.get("ChecksumType") == "COMPOSITE":
        return True
    for name in (*_get_crc_functions(), *_DIGESTS):
        # A checksum of the parts' checksums ends in the number of parts, such as 2jmj7w==-3.
        if (stored := str(response.get(name, ""))) and "-" not in stored:
            with path.open("rb") as file:
                return base64.b64encode(_compute_checksum(name, file, check)).decode() == stored
    return True


@lru_cache(maxsize=1)
def _get_crc_functions() -> dict[str, tuple[Callable[[bytes, int], int], int]]:
    """Return the functions that continue a CRC, and its length in bytes, by the names in S3's responses."""
    functions: dict[str, tuple[Callable[[bytes, int], int], int]] = {"ChecksumCRC32": (zlib.crc32, 4)}
    if find_spec("awscrt") is not None:
        from awscrt import checksums

        functions |= {"ChecksumCRC32C": (checksums.crc32c, 4), "ChecksumCRC64NVME": (checksums.crc64nvme, 8)}
    return functions


def _compute_checksum(name: str, file: BinaryIO, check: Callable[[], None]) -> bytes:
    if name in _DIGESTS:
        digest = hashlib.new(_DIGESTS[name], usedforsecurity=False)
        for block in _iter_blocks(file, check):
            digest.update(block)
        return digest.digest()
    continue_crc, length = _get_crc_functions()[name]
    crc = 0
    for block in _iter_blocks(file, check):
        crc = continue_crc(block, crc)
    return crc.to_bytes(length)


def _iter_blocks(file: BinaryIO, check: Callable[[], None]) -> Iterator[bytes]:
    while block := file.read(READ_BYTES):
        check()
        yield block
