"""Downloads a job's inputs from S3 and the web. Files, and the parts of a large file, are downloaded in parallel."""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

from botocore.exceptions import ClientError, ParamValidationError

from distributed_something.worker.job.addresses import BadAddress, hide_credentials, is_url, parse_input_address
from distributed_something.worker.job.failures import BadData, Failed, MissingInput, get_error_code, is_name_error
from distributed_something.worker.job.upload_flags import S3Arguments
from distributed_something.worker.macos_files import is_macos_file
from distributed_something.worker.transfer.crt.transfer_items import list_downloads
from distributed_something.worker.transfer.crt.transfers import CrtTransfers
from distributed_something.worker.transfer.retry import (
    TRANSFER_ERRORS,
    check_requests,
    is_transient_error,
    retry_transient_errors,
    sleep_with_checks,
)
from distributed_something.worker.transfer.s3_file import (
    RemoteObject,
    create_transfer_pool,
    fetch_object,
    fetch_object_part,
    is_in_parts,
    list_remaining_parts,
)
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects
from distributed_something.worker.transfer.stored_checksum import is_file_intact
from distributed_something.worker.transfer.web import (
    ForbiddenAddress,
    MissingWebFile,
    WebRefusal,
    describe_web_error,
    fetch_web_file,
)

# S3 error codes for a missing key or bucket, or for a name that is not valid for either. Retrying cannot help.
_MISSING_KEY_CODES = {"404", "NoSuchKey", "NotFound"}
_MISSING_INPUT_CODES = {*_MISSING_KEY_CODES, "NoSuchBucket", "InvalidBucketName", "KeyTooLongError"}
_ARCHIVED_CODE = "InvalidObjectState"  # in Glacier, Deep Archive, or an archive tier of Intelligent-Tiering
_NO_SPACE_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
MAX_SHOWN_CHARACTERS = 120  # of an address in a reason
MISSING_WEB_PAUSES_SECONDS = (1, 3)  # a server behind a cache may not find a new file at once
_T = TypeVar("_T")


@dataclass(frozen=True)
class InputSource:
    """What inputs are read with.

    `bucket`: the bucket of inputs that are only keys. `arguments`: extra arguments for the S3 requests.
    `allow_unsafe`: whether web addresses may be `http://` addresses and addresses of the machine itself. `transfers`:
    the downloads through awscrt; without them, boto3 fetches everything.
    """

    s3: Any
    bucket: str
    arguments: S3Arguments = field(default_factory=dict)
    allow_unsafe: bool = False
    transfers: CrtTransfers | None = None


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input file that was downloaded.

    `address` begins with `s3://`, `https://`, or `http://`. `etag` is the server's ETag header, usually in quotes, or
    None if there was none. `size` is the number of bytes received.
    """

    address: str
    etag: str | None
    size: int

    def build_record_entry(self) -> dict[str, Any]:
        """Return the file's entry in the job's record."""
        return {"address": self.address, "etag": self.etag, "size": self.size}


def fetch_inputs(
    source: InputSource, inputs: Iterable[str] | Mapping[str, str], folder: Path,
    check: Callable[[], None] = lambda: None, sleep: Callable[[float], None] = time.sleep,
) -> list[InputFile]:  # fmt: skip
    """Download inputs to `folder` and return the downloaded files.

    An input is a key in the source's bucket, a prefix that ends in `/`, the `s3://` address of a key or prefix, or a
    web address. A file is named after the last part of its key, or of its address's path, decoded. The files below a
    prefix keep their paths relative to the prefix.
    If `inputs` is a mapping, its values are paths below `folder`. For a key, the path is the file, or the file's folder
    if it ends in `/`; for a prefix, it is the folder.

    `check` is called while bytes arrive and can end the download by raising an exception. Raise MissingInput if an
    input does not exist, BadData if it is archived or cannot be stored under its name on any disk, and Failed if it
    cannot be read or written, if two inputs would have the same file name, or if the file already exists.
    """
    fetcher = _InputFetcher(source, check, sleep)
    sources = fetcher.collect_sources(inputs, folder)
    if not sources:
        return []
    _make_folders(sources, folder)
    with create_transfer_pool() as pool:
        return fetcher.fetch_all(sources, pool)


def list_input_objects(
    source: InputSource, inputs: Iterable[str] | Mapping[str, str], folder: Path,
    check: Callable[[], None] = lambda: None, sleep: Callable[[float], None] = time.sleep,
) -> dict[Path, RemoteObject]:  # fmt: skip
    """Return the objects that inputs in S3 stand for, keyed by the path to which `fetch_inputs` would download them.

    Nothing is downloaded, but the folders are created. Each key takes a request, as do 1,000 objects below a prefix.
    The errors are those of `fetch_inputs`.
    """
    fetcher = _InputFetcher(source, check, sleep)
    sources = fetcher.collect_sources(inputs, folder)
    _make_folders(sources, folder)
    return {path: fetcher.find_object(*source) for path, source in sources.items()}


class _InputFetcher:
    """The requests for one call of `fetch_inputs`."""

    def __init__(self, source: InputSource, check: Callable[[], None], sleep: Callable[[float], None]) -> None:
        self._source, self._s3, self._arguments = source, source.s3, source.arguments
        self._check, self._sleep = check, sleep
        self._listed: dict[tuple[str, str], ListedObject] = {}  # the objects below prefixes

    def collect_sources(self, inputs: Iterable[str] | Mapping[str, str], folder: Path) -> dict[Path, tuple[str, str]]:
        """Return the (bucket, key) of each object, keyed by the path of its file."""
        sources: dict[Path, tuple[str, str]] = {}
        for text in inputs:
            target = inputs[text] if isinstance(inputs, Mapping) else ""
            for location, path in self.iter_sources(text, folder, target):
                if sources.setdefault(path, location) != location or _does_file_exist(path, location):
                    raise Failed(f"two inputs would have the same file name: {path.name}", "missing input")
        return sources

    def find_object(self, bucket: str, key: str) -> RemoteObject:
        """Return what S3 says about an object, without a request if it was listed."""
        if listed := self._listed.get((bucket, key)):
            return RemoteObject(bucket, key, listed.size, listed.etag)
        response = self._fetch_with_retries(
            bucket, key, lambda: self._s3.head_object(Bucket=bucket, Key=key, **self._arguments)
        )
        return RemoteObject(bucket, key, response["ContentLength"], response.get("ETag", ""))

    def iter_sources(self, text: str, folder: Path, target: str) -> Iterator[tuple[tuple[str, str], Path]]:
        """Yield the (bucket, key) of each object that an input stands for, and the path of its file.

        The bucket is "" for a web address.
        """
        if is_url(text):
            name = _get_web_name(text)
            if not name and target[-1:] in ("", "/"):
                remedy = 'write an object that names it, such as {"https://example.org/": "page.html"}'
                raise MissingInput(f"the input {text} has no file name; {remedy}")
            relative = target if target and target[-1] != "/" else target + name
            yield ("", text), _resolve_input_path(folder, relative, text)
            return
        bucket, text = _parse_address(text, self._source.bucket)
        if text and not text.endswith("/"):
            name = PurePosixPath(text).name
            relative = target if target and target[-1] != "/" else target + name
            yield (bucket, text), _resolve_input_path(folder, relative, _format_address(bucket, text))
            return
        objects = self._fetch_with_retries(
            bucket, text, lambda: list_s3_objects(self._s3, bucket, text, self._arguments)
        )
        keys = [key for key in objects if key[-1] != "/" and not is_macos_file(key[len(text) :])]
        if not keys:
            address = _format_address(bucket, text)
            raise MissingInput(f"the input {address} contains no files", address)
        self._listed |= {(bucket, key): objects[key] for key in keys}
        for key in keys:
            relative = f"{target.rstrip('/')}/{key[len(text) :]}"
            yield (bucket, key), _resolve_input_path(folder, relative, _format_address(bucket, key))

    def fetch_all(self, sources: dict[Path, tuple[str, str]], pool: Executor) -> list[InputFile]:
        """Fetch the files and return them, first those that awscrt can fetch."""
        fetched = self._fetch_quickly(
            {
                path: RemoteObject(*source, listed.size, listed.etag)
                for path, source in sources.items()
                if (listed := self._listed.get(source))
            },
            pool,
        )
        if self._source.transfers is not None:
            firsts = self._fetch_first_parts(_leave_out(sources, fetched), pool, only_small=True)
            large = {path: remote for path, remote in firsts.items() if is_in_parts(remote)}
            fetched |= _leave_out(firsts, large) | self._fetch_quickly(large, pool)
        firsts = self._fetch_first_parts(_leave_out(sources, fetched), pool)
        parts = [(path, start) for path, remote in firsts.items() for start in list_remaining_parts(remote)]
        for _ in pool.map(lambda part: self._fetch_part(firsts[part[0]], part[1], part[0]), parts):
            pass
        for path in self._find_damaged_files({path: firsts[path] for path, _ in parts}, pool):
            raise Failed(f"the input {_format_address(*sources[path])} arrived damaged: S3 has another checksum", "aws")
        fetched |= firsts
        return [_describe_file(fetched[path]) for path in sources]

    def _fetch_quickly(self, remotes: dict[Path, RemoteObject], pool: Executor) -> dict[Path, RemoteObject]:
        """Fetch what awscrt can fetch, and return it."""
        downloads = list_downloads(remotes)
        if self._source.transfers is None or not downloads:
            return {}
        with check_requests(self._check):
            failed = set(self._source.transfers.fetch_objects(downloads, self._arguments, self._check))
        done = [download for download in downloads if download not in failed]
        damaged = self._find_damaged_files({item.path: item.remote for item in done if item.is_large}, pool)
        return {item.path: item.remote for item in done if item.path not in damaged}

    def _find_damaged_files(self, remotes: Mapping[Path, RemoteObject], pool: Executor) -> list[Path]:
        """Return which files that were fetched in parts differ from their objects in S3."""

        def is_intact(path: Path) -> bool:
            remote = remotes[path]
            place = (remote.bucket, remote.key)
            compare = partial(is_file_intact, self._s3, *place, remote.etag, path, self._check, self._arguments)
            return self._fetch_with_retries(*place, compare)

        return [path for path, intact in zip(remotes, pool.map(is_intact, remotes), strict=True) if not intact]

    def _fetch_first_parts(
        self, sources: Mapping[Path, tuple[str, str]], pool: Executor, *, only_small: bool = False
    ) -> dict[Path, RemoteObject]:
        """Fetch each file with one request, but only the first part of a large object, or with `only_small` nothing."""

        def fetch_first_part(path: Path) -> RemoteObject:
            return self._fetch_first_part(*sources[path], path, only_small)

        return dict(zip(sources, pool.map(fetch_first_part, sources), strict=True))

    def _fetch_first_part(self, bucket: str, key: str, path: Path, only_small: bool) -> RemoteObject:
        if not bucket:
            return self._fetch_with_retries("", key, lambda: self._fetch_web_file(key, path))
        fetch = partial(fetch_object, self._s3, bucket, key, path, self._check, self._arguments, only_small=only_small)
        return self._fetch_with_retries(bucket, key, fetch)

    def _fetch_web_file(self, url: str, path: Path) -> RemoteObject:
        """Fetch a web file, and retry it a little if the server does not have it."""
        fetch = partial(fetch_web_file, url, path, self._check, allow_unsafe=self._source.allow_unsafe)
        for pause in MISSING_WEB_PAUSES_SECONDS:
            try:
                return fetch()
            except MissingWebFile as error:
                if not error.may_appear:
                    raise
            sleep_with_checks(pause, self._check, self._sleep)
        return fetch()

    def _fetch_part(self, remote: RemoteObject, start: int, path: Path) -> None:
        self._fetch_with_retries(
            remote.bucket,
            remote.key,
            lambda: fetch_object_part(self._s3, remote, start, path, self._check, self._arguments),
        )

    def _fetch_with_retries(self, bucket: str, key: str, fetch: Callable[[], _T]) -> _T:
        try:
            with check_requests(self._check):
                return retry_transient_errors(fetch, self._check, self._sleep)
        except (*TRANSFER_ERRORS, WebRefusal) as error:
            raise _explain_refused_input(_format_address(bucket, key), error) from None
        except OSError as error:
            raise _explain_write_error(_format_address(bucket, key), error) from None


def _parse_address(text: str, bucket: str) -> tuple[str, str]:
    try:
        return parse_input_address(text, bucket)
    except BadAddress as error:
        raise MissingInput(str(error)) from None


def _get_web_name(url: str) -> str:
    """Return the name of a web file: the last part of the address's path, decoded."""
    encoded = PurePosixPath(urlsplit(url).path).name
    try:
        name = unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        return encoded
    return encoded if "/" in name else name


def _resolve_input_path(folder: Path, relative: str, address: str) -> Path:
    """Return the path for an input's file. Raise BadData if it would be outside `folder`, because a key can be any
    text, such as `../x`."""
    normalized = os.path.normpath(relative.lstrip("/") or ".")
    if "\0" in normalized:
        remedy = "rename it, or choose its path: write `inputs` as an object"
        raise BadData(f"the input {address!r} cannot be stored as a file: its name contains a null byte; {remedy}")
    if normalized in (".", "..") or normalized.startswith("../"):
        raise BadData(f"the input {address!r} would be written outside the job's folder: {relative!r}")
    return folder / normalized


def _does_file_exist(path: Path, source: tuple[str, str]) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise _explain_write_error(_format_address(*source), error) from None


def _make_folders(sources: Mapping[Path, tuple[str, str]], folder: Path) -> None:
    """Create the folders of all files. Raise BadData if a path would have to be a file and a folder."""
    folders: dict[Path, str] = {}  # with the address of a file that each folder will contain
    for path, source in sources.items():
        for parent in itertools.takewhile(lambda parent: parent != folder, path.parents):
            folders.setdefault(parent, _format_address(*source))
    for path in sources.keys() & folders.keys():
        addresses = f"{_format_address(*sources[path])} and {folders[path]}"
        name = path.relative_to(folder).as_posix()
        raise BadData(f"the inputs {addresses} cannot both be stored: {name!r} would be a file and a folder")
    for path in {path.parent for path in sources}:
        address = folders.get(path, str(folder))
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _explain_write_error(address, error) from None
        except RecursionError:  # mkdir calls itself for each folder that does not exist yet
            raise BadData(f"the input {address} cannot be stored as a file: too many folders in its path") from None


def _leave_out(items: Mapping[Path, _T], paths: Container[Path]) -> dict[Path, _T]:
    return {path: item for path, item in items.items() if path not in paths}


def _describe_file(remote: RemoteObject) -> InputFile:
    return InputFile(_format_address(remote.bucket, remote.key), remote.etag or None, remote.size)


def _format_address(bucket: str, key: str) -> str:
    """Return the address of an input, in the form used in job files. If `bucket` is empty, `key` is a web address.

    A user name and password are left out; such an address is refused, but a hook may contain one.
    """
    return f"s3://{bucket}/{key}" if bucket else hide_credentials(key)


def _shorten_address(address: str) -> str:
    """Return the address without its middle if it is so long that it would hide the rest of the reason."""
    if len(address) <= MAX_SHOWN_CHARACTERS:
        return address
    half = MAX_SHOWN_CHARACTERS // 2
    return f"{address[:half]}…{address[-half:]}"


def _explain_refused_input(name: str, error: Exception) -> Failed:
    """Return the failure for an input that could not be read.

    Return a MissingInput only if the input certainly does not exist. Otherwise the machine or its role may be the
    cause.
    """
    address, is_web, name = name, is_url(name), _shorten_address(name)
    if isinstance(error, ForbiddenAddress):
        return Failed(f"the input {name} is refused: {error}", "bad message")
    detail = get_error_code(error) if isinstance(error, ClientError) else str(error)
    if detail == _ARCHIVED_CODE:
        return BadData(_describe_archived_object(name, cast("ClientError", error)))
    if isinstance(error, (MissingWebFile, ParamValidationError)) or detail in _MISSING_INPUT_CODES:
        can_be_uploaded = not is_web and detail in _MISSING_KEY_CODES
        return MissingInput(f"the input {name} does not exist ({detail})", address if can_be_uploaded else None)
    if isinstance(error, WebRefusal) or not is_transient_error(error):
        return Failed(f"the input {name} cannot be read ({detail})", "web" if is_web else "aws")
    if is_web:
        return Failed(f"the input {name} could not be fetched: {describe_web_error(error)}", "web")
    return Failed(f"the input {name} could not be fetched: {error}", "aws")


def _describe_archived_object(name: str, error: ClientError) -> str:
    response = cast("Mapping[str, Any]", error.response)
    details = {**response.get("Error", {}), **response}  # botocore puts what it knows from its model at the top
    place = details.get("AccessTier") or details.get("StorageClass")
    return (
        f"the input {name} is archived{f' ({place})' if place else ''}; restore it in S3, and wait until that is done"
    )


def _explain_write_error(name: str, error: OSError) -> Failed:
    name = _shorten_address(name)
    if is_name_error(error):
        remedy = "rename it, or choose its path: write `inputs` as an object"
        return BadData(f"the input {name} cannot be stored as a file ({error.strerror}); {remedy}")
    kind = "disk" if error.errno in _NO_SPACE_ERRNOS else "machine"
    return Failed(f"the input {name} cannot be written to the machine's disk: {error}", kind)
