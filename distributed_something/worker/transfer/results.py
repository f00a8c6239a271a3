"""Inputs in, outputs out, both in parallel; what went up is verified before anybody says that a job is done."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import Failed, LostLease, UploadError
from distributed_something.worker.job.upload_flags import NO_ARGUMENTS, S3Arguments
from distributed_something.worker.program.processors import use_all_processors
from distributed_something.worker.transfer.s3_file import (
    RETRY_PAUSES_SECONDS,
    TRANSFER_ERRORS,
    build_write_condition,
    compute_object_sha256,
    is_precondition_error,
    is_transient_error,
    sleep_with_checks,
    upload_file_parts,
    upload_whole_file,
)
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects

MAX_PARALLEL_REQUESTS = 16  # requests
MAX_INLINE_BYTES = 1024 * 1024  # a single file up to here is sent without a thread of its own
MAX_SINGLE_PUT_BYTES = 16 * 1024 * 1024  # larger files go up in parts, several at once
MAX_KEY_BYTES = 1024  # S3
FILE_COUNT_KEY = "job-files"  # in an object's metadata: of how many outputs it is one


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file that is in S3. `etag`: as it was when it was verified; not told, since S3's way to make it may change."""

    bucket: str
    key: str
    size: int
    checksum_sha256: str
    etag: str = field(default="", compare=False)

    def told(self) -> dict[str, Any]:
        """As it stands in a record."""
        return {"bucket": self.bucket, "key": self.key, "size": self.size, "checksum_sha256": self.checksum_sha256}


# out


def upload_results(
    s3: Any, folder: Path, bucket: str, location: str, check: Callable[[], None] = lambda: None,
    there: dict[str, ListedObject] | None = None, sleep: Callable[[float], None] = time.sleep,
    leave_out: Sequence[str] = (), arguments: S3Arguments = NO_ARGUMENTS,
) -> list[ResultFile]:  # fmt: skip
    """Uploads all files of `folder` below `location`, but for those like a pattern of `leave_out`, and verifies them:
    only then they count. `arguments`: what S3's calls shall say beside, such as `ACL`. Each of several says how many
    they are, so that the files of an upload that came to no end are known for what they are.

    `there`: what lay below `location` when it was last known that no other attempt was done (None: it is listed now).
    Only that is replaced: where something else has come since then, another worker has the job, and LostLease is
    raised, unless the bytes are the same.

    What failed is tried again, with pauses that grow, and nothing else. Raises UploadFailed after the last try, Failed
    for a file that cannot be an object, and what `check`, called while bytes go up, raises: then nothing more is sent.
    """
    files = list_result_files(folder, location, leave_out)
    if len(files) > 1:  # else it is there, or it is not
        told: Any = arguments.get("Metadata", {})
        arguments = {**arguments, "Metadata": {**told, FILE_COUNT_KEY: str(len(files))}}
    publishing = _ResultUpload(s3, bucket, check, there, arguments)
    reason = ""
    for pause in (0, *RETRY_PAUSES_SECONDS):
        sleep_with_checks(pause, check, sleep)
        try:
            check()
            publishing.send(f"{location}/", files)
            publishing.verify(f"{location}/", files)
            return [publishing.there[key] for key in files]
        except (*TRANSFER_ERRORS, UploadError) as error:
            check()  # botocore wraps what a body raises: it may be check's own
            reason = str(error)
            if not is_transient_error(error):
                break
        except OSError as error:
            raise UploadError(f"an output cannot be read: {error}") from None
    raise UploadError(f"the outputs could not be uploaded to s3://{bucket}/{location}: {reason}")


class _ResultUpload:
    """What all tries of one `publish` share: `before`, what it may replace; `there`, what it has brought to S3."""

    def __init__(
        self, s3: Any, bucket: str, check: Callable[[], None], before: dict[str, ListedObject] | None,
        arguments: S3Arguments,
    ) -> None:  # fmt: skip
        self._s3, self._bucket, self._check = s3, bucket, check
        self._before, self._arguments = before, arguments
        self.there: dict[str, ResultFile] = {}

    def send(self, prefix: str, files: dict[str, Path]) -> None:
        """Sends what is not there; the first that fails ends this try."""
        if self._before is None:
            self._before = list_s3_objects(self._s3, self._bucket, prefix, self._arguments)
        todo = {key: path.stat().st_size for key, path in files.items() if key not in self.there}
        small = [key for key, size in todo.items() if size <= MAX_SINGLE_PUT_BYTES]
        if len(todo) == 1 and sum(todo.values()) <= MAX_INLINE_BYTES:  # as most jobs write
            self._put(small[0], files[small[0]], todo[small[0]])
            return
        with ThreadPoolExecutor(MAX_PARALLEL_REQUESTS, initializer=use_all_processors) as pool:
            for _ in pool.map(lambda key: self._put(key, files[key], todo[key]), small):
                pass
            for key in todo.keys() - set(small):
                put_parts = partial(upload_file_parts, pool=pool)
                self._put(key, files[key], todo[key], put_parts)

    def _put(self, key: str, path: Path, size: int, put: Callable[..., tuple[str, str]] = upload_whole_file) -> None:
        before = (self._before or {}).get(key)
        condition = build_write_condition(before.etag if before else None)
        try:
            digest, etag = put(self._s3, path, self._bucket, key, self._check, arguments=self._arguments, **condition)
        except ClientError as error:
            if not is_precondition_error(error):
                raise
            digest, etag = self._check_same_content(key, path), ""
        self.there[key] = ResultFile(self._bucket, key, size, digest, etag)

    def _check_same_content(self, key: str, path: Path) -> str:
        """The SHA-256 of what came in between, if it is this very file: sent by a try whose answer was lost, or by
        another worker. Raises LostLease if it is another worker's own."""
        with path.open("rb") as file:
            ours = hashlib.file_digest(file, "sha256").hexdigest()
        if compute_object_sha256(self._s3, self._bucket, key, self._arguments) != ours:
            raise LostLease
        return ours

    def verify(self, prefix: str, files: dict[str, Path]) -> None:
        """Forgets, and tells, what a listing does not show in its size. Raises LostLease where it shows another's."""
        now = list_s3_objects(self._s3, self._bucket, prefix, self._arguments) if files else {}
        for key, path in files.items():
            if key in now and now[key].etag != self.there[key].etag:
                self._check_same_content(key, path)
        wrong = [key for key in files if key not in now or now[key].size != self.there[key].size]
        for key in files.keys() - set(wrong):
            self.there[key] = replace(self.there[key], etag=now[key].etag)
        for key in wrong:
            del self.there[key]
            self._before = {**(self._before or {}), **({key: now[key]} if key in now else {})}
        if wrong:
            raise UploadError(f"{len(wrong)} of {len(files)} files are not there or incomplete, such as {wrong[0]}")


def list_result_files(folder: Path, location: str, leave_out: Sequence[str] = ()) -> dict[str, Path]:
    """What `publish` brings to S3: keys and paths. Raises Failed for a file that cannot be an object, UploadFailed for
    one that cannot be read."""
    return {_build_key(location, name): path for name, path in _list_files(folder) if not _is_left_out(name, leave_out)}


def has_unchanged_results(
    s3: Any, location: str, outputs: list[ResultFile], arguments: S3Arguments = NO_ARGUMENTS
) -> bool:
    """Whether just these outputs, as they were verified, are what lies below `location` now."""
    if not outputs:
        return False
    now = list_s3_objects(s3, outputs[0].bucket, f"{location}/", arguments)
    return all(one.key in now and now[one.key].etag == one.etag for one in outputs)


def _list_files(folder: Path) -> list[tuple[str, Path]]:
    """Name below `folder` and path of every file, in order of names."""
    found: list[tuple[str, Path]] = []
    try:
        for root, folders, names in os.walk(folder, onerror=_raise_error):
            paths = (Path(root, name) for name in folders + names)
            found += ((path.relative_to(folder).as_posix(), path) for path in paths if _is_result_file(path, folder))
    except OSError as error:
        raise UploadError(f"an output cannot be read: {error}") from None
    return sorted(found)


def _is_left_out(name: str, patterns: Sequence[str]) -> bool:
    """A pattern without `/` is about the file's own name, wherever it lies."""
    return any(fnmatchcase(name if "/" in one else name.rpartition("/")[2], one) for one in patterns)


def _raise_error(error: OSError) -> None:
    raise error


def _is_result_file(path: Path, folder: Path) -> bool:
    """Whether `path` is a file to upload. A link counts as the file that it points to, within the job's folder.

    A job's values must never make it publish other files; nor may a result be missing without a word.
    """
    if not path.is_symlink():
        return path.is_file()
    name, target = path.relative_to(folder).as_posix(), Path(os.path.realpath(path))
    if not target.is_relative_to(folder.resolve().parent):
        raise Failed(f"the output {name!r} is a link out of the job's folder")
    if not target.exists():
        raise Failed(f"the output {name!r} is a link to nothing")
    if target.is_dir() and not target.is_relative_to(folder.resolve()):
        raise Failed(f"the output {name!r} is a link to a folder outside the output folder")
    return target.is_file()  # a folder in the output folder: its files go up under their own names


def _build_key(location: str, name: str) -> str:
    key = f"{location}/{name}"
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise Failed(f"an output's name is not UTF-8: {name!r}") from None
    if length > MAX_KEY_BYTES:
        raise Failed(f"an output's key would have {length:,} bytes, S3 allows {MAX_KEY_BYTES:,}: {key[:100]}…")
    return key
