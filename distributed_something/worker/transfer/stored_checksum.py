"""Compares a file with the checksum that S3 stores of the whole object.

S3 sends no checksum with a part of an object, and boto3 cannot compute CRC-64/NVME and CRC-32C without awscrt, so
without this, nothing would notice that such an object was damaged on its way. S3 stores a checksum of objects uploaded
since December 2024; older ones, and those that were uploaded in parts, may have none, or only one that is composed of
their parts' checksums ("Checking object integrity" in the S3 User Guide).
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.upload_flags import NO_ARGUMENTS, S3Arguments
from distributed_something.worker.transfer.retry import is_transient_error

READ_BYTES = 1024 * 1024
_DIGESTS = {"ChecksumSHA256": "sha256", "ChecksumSHA1": "sha1", "ChecksumSHA512": "sha512", "ChecksumMD5": "md5"}


class StoredChecksum:
    """A checksum of a whole object, which `update` compares with the object's bytes, in order.

    `name` and `value` are those in S3's response.
    """

    def __init__(self, name: str, value: str) -> None:
        self._value = value
        self._sum: Any = (
            hashlib.new(_DIGESTS[name], usedforsecurity=False)
            if name in _DIGESTS
            else _RunningCrc(*_get_crc_functions()[name])
        )

    def update(self, block: bytes) -> None:
        """Add the next bytes."""
        self._sum.update(block)

    def matches(self) -> bool:
        """Return whether the bytes so far have this checksum."""
        return base64.b64encode(self._sum.digest()).decode() == self._value


class _RunningCrc:
    """A CRC with the methods of hashlib's objects. `continue_crc` adds bytes to one, and `length` is in bytes."""

    def __init__(self, continue_crc: Callable[[bytes, int], int], length: int) -> None:
        self._continue_crc, self._length, self._crc = continue_crc, length, 0

    def update(self, block: bytes) -> None:
        self._crc = self._continue_crc(block, self._crc)

    def digest(self) -> bytes:
        return self._crc.to_bytes(self._length)


def read_stored_checksum(response: Mapping[str, Any]) -> StoredChecksum | None:
    """Return the checksum of the whole object in S3's response; None if there is none that can be computed."""
    if response.get("ChecksumType") == "COMPOSITE":
        return None
    for name in (*_get_crc_functions(), *_DIGESTS):
        # A checksum of the parts' checksums ends in the number of parts, such as 2jmj7w==-3.
        if (value := str(response.get(name, ""))) and "-" not in value:
            return StoredChecksum(name, value)
    return None


def is_file_intact(
    s3: Any, bucket: str, key: str, etag: str, path: Path, check: Callable[[], None],
    arguments: S3Arguments = NO_ARGUMENTS,
) -> bool:  # fmt: skip
    """Return whether a file has the checksum that S3 stores; True if there is none that can be compared.

    `etag` is the object's when its fetch began. Return False, too, if it has changed and the server ignores conditions.
    `arguments` are extra arguments for the request. `check` is called while the file is read, and can end this by
    raising an exception. Raise an AWS error if a retry of the request may succeed.
    """
    place = {"Bucket": bucket, "Key": key} | ({"IfMatch": etag} if etag else {})
    try:
        response = s3.head_object(**place, ChecksumMode="ENABLED", **arguments)
    except ClientError as error:
        if is_transient_error(error):
            raise
        return True  # such as 412: the object was replaced after the file was fetched
    if etag and response.get("ETag", etag) != etag:
        return False  # the parts may be of two versions of the object
    if (checksum := read_stored_checksum(response)) is None:
        return True
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            check()
            checksum.update(block)
    return checksum.matches()


@lru_cache(maxsize=1)
def _get_crc_functions() -> dict[str, tuple[Callable[[bytes, int], int], int]]:
    """Return the functions that continue a CRC, and its length in bytes, by the names in S3's responses."""
    functions: dict[str, tuple[Callable[[bytes, int], int], int]] = {"ChecksumCRC32": (zlib.crc32, 4)}
    if find_spec("awscrt") is not None:
        from awscrt import checksums

        functions |= {"ChecksumCRC32C": (checksums.crc32c, 4), "ChecksumCRC64NVME": (checksums.crc64nvme, 8)}
    return functions
