"""Inputs in, outputs out, both in parallel; what went up is verified before anybody says that a job is done."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from .failures import Failed, MissingInput, UploadFailed

AT_ONCE = 8
SINGLE_PUT_BYTES = 16 * 1024 * 1024  # larger files go up in parts, several at once
UPLOAD_TRIES = 3
_NOT_THERE = {"404", "NoSuchKey", "NotFound", "NoSuchBucket"}


@dataclass(frozen=True)
class Output:
    """A file that is in S3."""

    bucket: str
    key: str
    size: int
    checksum_sha256: str


def fetch(s3: Any, inputs: Iterable[str], bucket: str, folder: Path, check: Callable[[], None] = lambda: None) -> int:
    """Brings inputs (keys, prefixes that end in `/`, `s3://` addresses of either) to `folder`; the bytes.

    A key's file has the key's last part as its name; below a prefix the rest of the path is kept. Raises MissingInput
    with its name, Failed where two inputs would be the same file, and what `check`, called while bytes arrive, raises.
    """
    wanted: dict[Path, tuple[str, str]] = {}
    for text in inputs:
        for source, path in _sources(s3, text, bucket, folder):
            if wanted.setdefault(path, source) != source:
                raise Failed(f"two inputs would be the same file: {path.name}", "missing input")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(lambda path: _download(s3, *wanted[path], path, check), wanted))


def publish(s3: Any, folder: Path, bucket: str, location: str) -> list[Output]:
    """Uploads all files of `folder` below `location` and verifies them; raises UploadFailed after several tries."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    pairs = [(path, f"{location}/{_name(path, folder)}") for path in files]
    reason = ""
    for _ in range(UPLOAD_TRIES):
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                outputs = list(pool.map(lambda pair: _upload(s3, pair[0], bucket, pair[1]), pairs))
            _verify(s3, bucket, location, outputs)
            return outputs
        except (ClientError, BotoCoreError, Boto3Error, UploadFailed) as error:
            reason = str(error)
        except OSError as error:
            raise UploadFailed(f"an output cannot be read: {error}") from None
    raise UploadFailed(f"the outputs could not be uploaded to s3://{bucket}/{location}: {reason}")


def _name(path: Path, folder: Path) -> str:
    name = path.relative_to(folder).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Failed(f"an output's name is not UTF-8: {name!r}") from None
    return name


def sizes(s3: Any, bucket: str, prefix: str) -> dict[str, int]:
    """Key and size of every object below `prefix`, all pages."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", [])}


def _sources(s3: Any, text: str, bucket: str, folder: Path) -> Iterator[tuple[tuple[str, str], Path]]:
    if text.startswith("s3://"):
        bucket, _, text = text.removeprefix("s3://").partition("/")
    if text and not text.endswith("/"):
        yield (bucket, text), _inside(folder, PurePosixPath(text).name)
        return
    try:
        keys = [key for key in sizes(s3, bucket, text) if not key.endswith("/")]
    except ClientError as error:
        raise _missing(bucket, text, error) from None
    if not keys:
        raise MissingInput(f"the input s3://{bucket}/{text} has no files")
    for key in keys:
        yield (bucket, key), _inside(folder, key[len(text) :])


def _inside(folder: Path, relative: str) -> Path:
    path = folder / relative.lstrip("/")
    if relative.strip("/") in ("", ".", "..") or not path.resolve().is_relative_to(folder.resolve()):
        raise Failed(f"the input {relative!r} would lie outside the job's folder", "missing input")
    return path


def _download(s3: Any, bucket: str, key: str, path: Path, check: Callable[[], None]) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check()
        s3.download_file(bucket, key, str(path), Callback=lambda _: check())
    except ClientError as error:
        raise _missing(bucket, key, error) from None
    except OSError as error:
        raise Failed(f"the input s3://{bucket}/{key} cannot be written here: {error}", "machine") from None
    return path.stat().st_size


def _missing(bucket: str, key: str, error: ClientError) -> Failed:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _NOT_THERE:
        return MissingInput(f"the input s3://{bucket}/{key} does not exist")
    return MissingInput(f"the input s3://{bucket}/{key} cannot be read ({code})")


def _upload(s3: Any, path: Path, bucket: str, key: str) -> Output:
    size, digest = path.stat().st_size, _sha256(path)
    if size <= SINGLE_PUT_BYTES:
        with path.open("rb") as body:
            checksum = base64.b64encode(digest.digest()).decode()
            s3.put_object(Bucket=bucket, Key=key, Body=body, ChecksumSHA256=checksum)
    else:
        s3.upload_file(str(path), bucket, key, ExtraArgs={"ChecksumAlgorithm": "SHA256"})
    return Output(bucket, key, size, digest.hexdigest())


def _sha256(path: Path) -> Any:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def _verify(s3: Any, bucket: str, location: str, outputs: list[Output]) -> None:
    there = sizes(s3, bucket, f"{location}/") if outputs else {}
    wrong = [output.key for output in outputs if there.get(output.key) != output.size]
    if wrong:
        raise UploadFailed(f"{len(wrong)} of {len(outputs)} files are not there or incomplete, such as {wrong[0]}")
