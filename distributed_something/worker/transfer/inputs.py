"""Fetches a job's inputs, from S3 and from the web, several files and several parts of a large one at once."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ParamValidationError

from distributed_something.worker.job.addresses import BadAddress, is_url, parse_input_address
from distributed_something.worker.job.failures import Failed, MissingInput, get_error_code
from distributed_something.worker.program.processors import use_all_processors
from distributed_something.worker.transfer.retry import TRANSFER_ERRORS, is_transient_error, retry_transient_errors
from distributed_something.worker.transfer.s3_file import (
    MAX_PARALLEL_REQUESTS,
    RemoteObject,
    fetch_object,
    fetch_object_part,
    list_remaining_parts,
)
from distributed_something.worker.transfer.s3_listing import list_s3_objects
from distributed_something.worker.transfer.web import MissingWebFile, WebRefusal, fetch_web_file

# S3 says so of a key, or of a name that can be no bucket's or no key's: no other try finds it.
_MISSING_INPUT_CODES = {"404", "NoSuchKey", "NotFound", "NoSuchBucket", "InvalidBucketName", "KeyTooLongError"}
_NO_SPACE_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
_T = TypeVar("_T")


def fetch_inputs(
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
    fetching = _InputFetcher(s3, check, sleep)
    for text in inputs:
        place = inputs[text] if isinstance(inputs, Mapping) else ""
        for source, path in fetching.iter_sources(text, bucket, folder, place):
            if wanted.setdefault(path, source) != source or path.exists():
                raise Failed(f"two inputs would be the same file: {path.name}", "missing input")
    if not wanted:
        return 0
    _make_folders(wanted)
    with ThreadPoolExecutor(MAX_PARALLEL_REQUESTS, initializer=use_all_processors) as pool:
        return fetching.fetch_all(wanted, pool)


class _InputFetcher:
    """What all requests of one `fetch_inputs` share."""

    def __init__(self, s3: Any, check: Callable[[], None], sleep: Callable[[float], None]) -> None:
        self._s3, self._check, self._sleep = s3, check, sleep

    def iter_sources(self, text: str, bucket: str, folder: Path, place: str) -> Iterator[tuple[tuple[str, str], Path]]:
        """The objects that one input stands for, and where each will lie."""
        if is_url(text):
            name = PurePosixPath(urlsplit(text).path).name
            yield ("", text), _resolve_input_path(folder, place if place and place[-1] != "/" else place + name)
            return
        bucket, text = _parse_address(text, bucket)
        if text and not text.endswith("/"):
            name = PurePosixPath(text).name
            yield (bucket, text), _resolve_input_path(folder, place if place and place[-1] != "/" else place + name)
            return
        listed = self._fetch_with_retries(bucket, text, lambda: list_s3_objects(self._s3, bucket, text))
        keys = [key for key in listed if key[-1] != "/"]
        if not keys:
            raise MissingInput(f"the input s3://{bucket}/{text} has no files")
        for key in keys:
            yield (bucket, key), _resolve_input_path(folder, f"{place.rstrip('/')}/{key[len(text) :]}")

    def fetch_all(self, wanted: dict[Path, tuple[str, str]], pool: Executor) -> int:
        """First every file or its beginning, then the other parts of the large ones; the bytes."""
        total = 0
        large: list[tuple[Path, RemoteObject]] = []
        for path, remote in zip(
            wanted, pool.map(lambda path: self._fetch_first_part(*wanted[path], path), wanted), strict=True
        ):
            total += remote.size
            if remote.bucket and list_remaining_parts(remote):  # what is from the web came whole
                large.append((path, remote))
        for path, remote in large:
            for _ in pool.map(
                lambda start, p=path, r=remote: self._fetch_part(r, start, p), list_remaining_parts(remote)
            ):
                pass
        return total

    def _fetch_first_part(self, bucket: str, key: str, path: Path) -> RemoteObject:
        if not bucket:
            return self._fetch_with_retries("", key, lambda: fetch_web_file(key, path, self._check))
        return self._fetch_with_retries(bucket, key, lambda: fetch_object(self._s3, bucket, key, path, self._check))

    def _fetch_part(self, remote: RemoteObject, start: int, path: Path) -> None:
        get = fetch_object_part
        self._fetch_with_retries(remote.bucket, remote.key, lambda: get(self._s3, remote, start, path, self._check))

    def _fetch_with_retries(self, bucket: str, key: str, work: Callable[[], _T]) -> _T:
        try:
            return retry_transient_errors(work, self._check, self._sleep)
        except (*TRANSFER_ERRORS, WebRefusal) as error:
            raise _explain_refused_input(_format_address(bucket, key), error) from None
        except OSError as error:
            raise _explain_write_error(_format_address(bucket, key), error) from None


def _parse_address(text: str, bucket: str) -> tuple[str, str]:
    try:
        return parse_input_address(text, bucket)
    except BadAddress as error:
        raise MissingInput(str(error)) from None


def _resolve_input_path(folder: Path, relative: str) -> Path:
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
            raise _explain_write_error(parent.name, error) from None


def _format_address(bucket: str, key: str) -> str:
    """As a job file names it; a key without a bucket is an address of the web."""
    return f"s3://{bucket}/{key}" if bucket else key


def _explain_refused_input(name: str, error: Exception) -> Failed:
    """Only what is not there is missing for certain: any other refusal may be this machine's fault, or its role's."""
    told = get_error_code(error) if isinstance(error, ClientError) else str(error)
    if isinstance(error, (MissingWebFile, ParamValidationError)) or told in _MISSING_INPUT_CODES:
        return MissingInput(f"the input {name} does not exist ({told})")
    if isinstance(error, WebRefusal) or not is_transient_error(error):
        return Failed(f"the input {name} cannot be read ({told})", "aws")
    return Failed(f"the input {name} could not be fetched: {error}", "aws")


def _explain_write_error(name: str, error: OSError) -> Failed:
    kind = "disk" if error.errno in _NO_SPACE_ERRNOS else "machine"
    return Failed(f"the input {name} cannot be written here: {error}", kind)
