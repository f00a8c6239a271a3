"""Inputs in, outputs out, both in parallel; what went up is verified before anybody says that a job is done."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ParamValidationError

from . import address, transfer, web
from .failures import Failed, LostLease, MissingInput, UploadFailed
from .processors import use_all
from .uploadflags import NONE, Arguments, payer

AT_ONCE = 16  # requests
NO_THREAD_BYTES = 1024 * 1024  # a single file up to here is sent without a thread of its own
SINGLE_PUT_BYTES = 16 * 1024 * 1024  # larger files go up in parts, several at once
LONGEST_KEY_BYTES = 1024  # S3
FILES_KEY = "job-files"  # in an object's metadata: of how many outputs it is one
_NOT_THERE = {"404", "NoSuchKey", "NotFound", "NoSuchBucket", "InvalidBucketName", "KeyTooLongError"}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Output:
    """A file that is in S3. `etag`: as it was when it was verified; not told, since S3's way to make it may change."""

    bucket: str
    key: str
    size: int
    checksum_sha256: str
    etag: str = field(default="", compare=False)

    def told(self) -> dict[str, Any]:
        """As it stands in a record."""
        return {"bucket": self.bucket, "key": self.key, "size": self.size, "checksum_sha256": self.checksum_sha256}


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it."""

    size: int
    etag: str
    modified: datetime


def listed(s3: Any, bucket: str, prefix: str, arguments: Arguments = NONE) -> dict[str, Listed]:
    """Every object below `prefix` by its key, all pages. `arguments`: as for the uploads there."""
    found: dict[str, Listed] = {}
    further = payer(arguments)
    while True:  # botocore's paginator does the same, at a fifth of a small listing's time
        page = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, **further)
        found |= {
            one["Key"]: Listed(one["Size"], one.get("ETag", ""), one["LastModified"])
            for one in page.get("Contents", [])
        }
        if not page.get("IsTruncated"):
            return found
        further = {**further, "ContinuationToken": page["NextContinuationToken"]}


def sizes(s3: Any, bucket: str, prefix: str) -> dict[str, int]:
    """Key and size of every object below `prefix`, all pages."""
    return {key: one.size for key, one in listed(s3, bucket, prefix).items()}


# in


def fetch(
    s3: Any, inputs: Iterable[str] | Mapping[str, str], bucket: str, folder: Path,
    check: Callable[[], None] = lambda: None, sleep: Callable[[float], None] = time.sleep,
) -> int:  # fmt: skip
    """Brings inputs (keys, prefixes that end in `/`, `s3://` addresses of either, `https://`) to `folder`; the bytes.

    A key's file has the key's last part as its name; below a prefix the rest of the path is kept. A mapping names the
    place of each below `folder`: of a key its file, or where it ends in `/` its folder; of a prefix its folder.
    Raises MissingInput with its name, Failed for one that cannot be read, and where two inputs would be the same file,
    or one that is there already, and what `check`, called while bytes arrive, raises.
    """
    wanted: dict[Path, tuple[str, str]] = {}
    fetching = _Fetching(s3, check, sleep)
    for text in inputs:
        place = inputs[text] if isinstance(inputs, Mapping) else ""
        for source, path in fetching.sources(text, bucket, folder, place):
            if wanted.setdefault(path, source) != source or path.exists():
                raise Failed(f"two inputs would be the same file: {path.name}", "missing input")
    if not wanted:
        return 0
    _make_folders(wanted)
    with ThreadPoolExecutor(AT_ONCE, initializer=use_all) as pool:
        return fetching.all(wanted, pool)


class _Fetching:
    """What all requests of one `fetch` share."""

    def __init__(self, s3: Any, check: Callable[[], None], sleep: Callable[[float], None]) -> None:
        self._s3, self._check, self._sleep = s3, check, sleep

    def sources(self, text: str, bucket: str, folder: Path, place: str) -> Iterator[tuple[tuple[str, str], Path]]:
        """The objects that one input stands for, and where each will lie."""
        if address.is_url(text):
            name = PurePosixPath(urlsplit(text).path).name
            yield ("", text), _inside(folder, place if place and place[-1] != "/" else place + name)
            return
        bucket, text = _split(text, bucket)
        if text and not text.endswith("/"):
            name = PurePosixPath(text).name
            yield (bucket, text), _inside(folder, place if place and place[-1] != "/" else place + name)
            return
        keys = [key for key in self._asked(bucket, text, lambda: sizes(self._s3, bucket, text)) if key[-1] != "/"]
        if not keys:
            raise MissingInput(f"the input s3://{bucket}/{text} has no files")
        for key in keys:
            yield (bucket, key), _inside(folder, f"{place.rstrip('/')}/{key[len(text) :]}")

    def all(self, wanted: dict[Path, tuple[str, str]], pool: Executor) -> int:
        """First every file or its beginning, then the other parts of the large ones; the bytes."""
        total = 0
        large: list[tuple[Path, transfer.Remote]] = []
        for path, remote in zip(wanted, pool.map(lambda path: self._first(*wanted[path], path), wanted), strict=True):
            total += remote.size
            if remote.bucket and transfer.rest_of(remote):  # what is from the web came whole
                large.append((path, remote))
        for path, remote in large:
            for _ in pool.map(lambda start, p=path, r=remote: self._part(r, start, p), transfer.rest_of(remote)):
                pass
        return total

    def _first(self, bucket: str, key: str, path: Path) -> transfer.Remote:
        if not bucket:
            return self._asked("", key, lambda: web.get(key, path, self._check))
        return self._asked(bucket, key, lambda: transfer.get(self._s3, bucket, key, path, self._check))

    def _part(self, remote: transfer.Remote, start: int, path: Path) -> None:
        get = transfer.get_part
        self._asked(remote.bucket, remote.key, lambda: get(self._s3, remote, start, path, self._check))

    def _asked(self, bucket: str, key: str, work: Callable[[], _T]) -> _T:
        try:
            return transfer.again(work, self._check, self._sleep)
        except (*transfer.TROUBLE, web.Refused) as error:
            raise _refused(_address(bucket, key), error) from None
        except OSError as error:
            raise _unwritable(_address(bucket, key), error) from None


def _split(text: str, bucket: str) -> tuple[str, str]:
    try:
        return address.split(text, bucket)
    except address.BadAddress as error:
        raise MissingInput(str(error)) from None


def _inside(folder: Path, relative: str) -> Path:
    """Where an input lies. A key is any text: it may ask for a place that is not its own."""
    plain = os.path.normpath(relative.lstrip("/") or ".")
    if plain in (".", "..") or plain.startswith("../") or "\0" in plain:
        raise Failed(f"the input {relative!r} would lie outside the job's folder", "missing input")
    return folder / plain


def _make_folders(paths: Iterable[Path]) -> None:
    for parent in {path.parent for path in paths}:
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(parent.name, error) from None


def _address(bucket: str, key: str) -> str:
    """As a job file names it; a key without a bucket is an address of the web."""
    return f"s3://{bucket}/{key}" if bucket else key


def _refused(name: str, error: Exception) -> Failed:
    """Only what is not there is missing for certain: any other refusal may be this machine's fault, or its role's."""
    told = str(error.response.get("Error", {}).get("Code")) if isinstance(error, ClientError) else str(error)
    if isinstance(error, (web.NotThere, ParamValidationError)) or told in _NOT_THERE:
        return MissingInput(f"the input {name} does not exist ({told})")
    if isinstance(error, web.Refused) or not transfer.passing(error):
        return Failed(f"the input {name} cannot be read ({told})", "aws")
    return Failed(f"the input {name} could not be fetched: {error}", "aws")


def _unwritable(name: str, error: OSError) -> Failed:
    kind = "disk" if error.errno in _NO_SPACE else "machine"
    return Failed(f"the input {name} cannot be written here: {error}", kind)


# out


def publish(
    s3: Any, folder: Path, bucket: str, location: str, check: Callable[[], None] = lambda: None,
    there: dict[str, Listed] | None = None, sleep: Callable[[float], None] = time.sleep,
    leave_out: Sequence[str] = (), arguments: Arguments = NONE,
) -> list[Output]:  # fmt: skip
    """Uploads all files of `folder` below `location`, but for those like a pattern of `leave_out`, and verifies them:
    only then they count. `arguments`: what S3's calls shall say beside, such as `ACL`. Each of several says how many
    they are, so that the files of an upload that came to no end are known for what they are.

    `there`: what lay below `location` when it was last known that no other attempt was done (None: it is listed now).
    Only that is replaced: where something else has come since then, another worker has the job, and LostLease is
    raised, unless the bytes are the same.

    What failed is tried again, with pauses that grow, and nothing else. Raises UploadFailed after the last try, Failed
    for a file that cannot be an object, and what `check`, called while bytes go up, raises: then nothing more is sent.
    """
    files = results(folder, location, leave_out)
    if len(files) > 1:  # else it is there, or it is not
        told: Any = arguments.get("Metadata", {})
        arguments = {**arguments, "Metadata": {**told, FILES_KEY: str(len(files))}}
    publishing = _Publishing(s3, bucket, check, there, arguments)
    reason = ""
    for pause in (0, *transfer.PAUSES):
        transfer.rest(pause, check, sleep)
        try:
            check()
            publishing.send(f"{location}/", files)
            publishing.verify(f"{location}/", files)
            return [publishing.there[key] for key in files]
        except (*transfer.TROUBLE, UploadFailed) as error:
            check()  # botocore wraps what a body raises: it may be check's own
            reason = str(error)
            if not transfer.passing(error):
                break
        except OSError as error:
            raise UploadFailed(f"an output cannot be read: {error}") from None
    raise UploadFailed(f"the outputs could not be uploaded to s3://{bucket}/{location}: {reason}")


class _Publishing:
    """What all tries of one `publish` share: `before`, what it may replace; `there`, what it has brought to S3."""

    def __init__(
        self, s3: Any, bucket: str, check: Callable[[], None], before: dict[str, Listed] | None,
        arguments: Arguments,
    ) -> None:  # fmt: skip
        self._s3, self._bucket, self._check = s3, bucket, check
        self._before, self._arguments = before, arguments
        self.there: dict[str, Output] = {}

    def send(self, prefix: str, files: dict[str, Path]) -> None:
        """Sends what is not there; the first that fails ends this try."""
        if self._before is None:
            self._before = listed(self._s3, self._bucket, prefix, self._arguments)
        todo = {key: path.stat().st_size for key, path in files.items() if key not in self.there}
        small = [key for key, size in todo.items() if size <= SINGLE_PUT_BYTES]
        if len(todo) == 1 and sum(todo.values()) <= NO_THREAD_BYTES:  # as most jobs write
            self._put(small[0], files[small[0]], todo[small[0]])
            return
        with ThreadPoolExecutor(AT_ONCE, initializer=use_all) as pool:
            for _ in pool.map(lambda key: self._put(key, files[key], todo[key]), small):
                pass
            for key in todo.keys() - set(small):
                put_parts = partial(transfer.put_parts, pool=pool)
                self._put(key, files[key], todo[key], put_parts)

    def _put(self, key: str, path: Path, size: int, put: Callable[..., tuple[str, str]] = transfer.put) -> None:
        before = (self._before or {}).get(key)
        condition = transfer.only_if(before.etag if before else None)
        try:
            digest, etag = put(self._s3, path, self._bucket, key, self._check, arguments=self._arguments, **condition)
        except ClientError as error:
            if not transfer.is_other(error):
                raise
            digest, etag = self._same(key, path), ""
        self.there[key] = Output(self._bucket, key, size, digest, etag)

    def _same(self, key: str, path: Path) -> str:
        """The SHA-256 of what came in between, if it is this very file: sent by a try whose answer was lost, or by
        another worker. Raises LostLease if it is another worker's own."""
        with path.open("rb") as file:
            ours = hashlib.file_digest(file, "sha256").hexdigest()
        if transfer.sha256_of(self._s3, self._bucket, key, self._arguments) != ours:
            raise LostLease
        return ours

    def verify(self, prefix: str, files: dict[str, Path]) -> None:
        """Forgets, and tells, what a listing does not show in its size. Raises LostLease where it shows another's."""
        now = listed(self._s3, self._bucket, prefix, self._arguments) if files else {}
        for key, path in files.items():
            if key in now and now[key].etag != self.there[key].etag:
                self._same(key, path)
        wrong = [key for key in files if key not in now or now[key].size != self.there[key].size]
        for key in files.keys() - set(wrong):
            self.there[key] = replace(self.there[key], etag=now[key].etag)
        for key in wrong:
            del self.there[key]
            self._before = {**(self._before or {}), **({key: now[key]} if key in now else {})}
        if wrong:
            raise UploadFailed(f"{len(wrong)} of {len(files)} files are not there or incomplete, such as {wrong[0]}")


def results(folder: Path, location: str, leave_out: Sequence[str] = ()) -> dict[str, Path]:
    """What `publish` brings to S3: keys and paths. Raises Failed for a file that cannot be an object, UploadFailed for
    one that cannot be read."""
    return {_key(location, name): path for name, path in _files(folder) if not _like(name, leave_out)}


def still_there(s3: Any, location: str, outputs: list[Output], arguments: Arguments = NONE) -> bool:
    """Whether just these outputs, as they were verified, are what lies below `location` now."""
    if not outputs:
        return False
    now = listed(s3, outputs[0].bucket, f"{location}/", arguments)
    return all(one.key in now and now[one.key].etag == one.etag for one in outputs)


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Name below `folder` and path of every file, in order of names."""
    found: list[tuple[str, Path]] = []
    try:
        for root, folders, names in os.walk(folder, onerror=_raise):
            paths = (Path(root, name) for name in folders + names)
            found += ((path.relative_to(folder).as_posix(), path) for path in paths if _counts(path, folder))
    except OSError as error:
        raise UploadFailed(f"an output cannot be read: {error}") from None
    return sorted(found)


def _like(name: str, patterns: Sequence[str]) -> bool:
    """A pattern without `/` is about the file's own name, wherever it lies."""
    return any(fnmatchcase(name if "/" in one else name.rpartition("/")[2], one) for one in patterns)


def _raise(error: OSError) -> None:
    raise error


def _counts(path: Path, folder: Path) -> bool:
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


def _key(location: str, name: str) -> str:
    key = f"{location}/{name}"
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise Failed(f"an output's name is not UTF-8: {name!r}") from None
    if length > LONGEST_KEY_BYTES:
        raise Failed(f"an output's key would have {length:,} bytes, S3 allows {LONGEST_KEY_BYTES:,}: {key[:100]}…")
    return key
