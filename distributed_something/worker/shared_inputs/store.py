"""The store of a container's shared inputs.

Each job gets a folder of its own with hard links to the files in the store. The files are read-only, and a job that
adds files to its folder does not affect other jobs. A file in the store that has no other link is not in use.

An object is looked up again for each job. If its ETag has changed, it is another file, and the old one is removed when
the disk is short. A container whose programs run as root cannot keep them from writing to a file; such a file is
noticed by its size or time, fetched again, and no job that used it is done. Any of these jobs may have changed it, so
each gets copies of its own the next time: a job that changes those is at fault, and no other job is affected.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from distributed_something.worker.admission.health import MIN_FREE_BYTES, has_disk_space
from distributed_something.worker.job.failures import Failed, Interruption
from distributed_something.worker.job.job import Inputs
from distributed_something.worker.transfer.inputs import InputFile, InputSource, fetch_inputs, list_input_objects
from distributed_something.worker.transfer.s3_file import CHUNK_BYTES, RemoteObject

WAIT_SECONDS = 0.5  # how often a job that waits for another job's fetch checks whether it must stop
log = logging.getLogger("worker")


@dataclass
class StoredFile:
    """A file in the store, or a job's own copy of one: its path, its object, and the size and modification time (in ns)
    that it must keep. `was_changed`: whether it was removed from the store because a program had changed it."""

    path: Path
    remote: RemoteObject
    mark: tuple[int, int]
    last_use: int = 0
    was_changed: bool = False

    @property
    def is_changed(self) -> bool:
        """Whether a program has written to the file. A file that was removed for another reason is not changed."""
        try:
            return self.was_changed or _read_mark(self.path) != self.mark
        except FileNotFoundError:
            return False


@dataclass(frozen=True)
class SharedFiles:
    """The shared inputs of one job. `fetched_bytes`: how many bytes were downloaded for this job.

    `are_own`: whether they are copies that no other job uses.
    """

    stored: tuple[StoredFile, ...] = ()
    fetched_bytes: int = 0
    are_own: bool = False

    def list_inputs(self) -> list[InputFile]:
        """Return the files as the job's record describes them."""
        remotes = [file.remote for file in self.stored]
        return [InputFile(f"s3://{remote.bucket}/{remote.key}", remote.etag or None, remote.size) for remote in remotes]

    def describe_change(self) -> str | None:
        """Return that a program has written to one of the files while the job could read it; None if none has."""
        for file in self.stored:
            if file.is_changed:
                who, remedy = ("the", "; copy it first") if self.are_own else ("a", "")
                address = f"s3://{file.remote.bucket}/{file.remote.key}"
                place = "" if self.are_own else " in this container"
                return f"{who} program{place} has changed the shared input {address}, which is read-only{remedy}"
        return None

    def check_unchanged(self) -> None:
        """Raise Failed if a program has written to one of the files while the job could read it."""
        if change := self.describe_change():
            raise Failed(change)


class SharedInputs:
    """The shared inputs of one container; its slots' threads may use one object.

    `folder` is created when it is needed. It must be on the same disk as the jobs' folders.
    """

    def __init__(self, folder: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self._folder, self._sleep = folder, sleep
        self._lock, self._fetch_lock = threading.RLock(), threading.Lock()
        self._files: dict[str, StoredFile] = {}
        self._use_count = 0

    def provide_files(
        self, source: InputSource, inputs: Inputs, target: Path, check: Callable[[], None], *, own_copies: bool = False
    ) -> SharedFiles:
        """Put links to the inputs' files into the folder `target`, and return the files.

        What is not in the store is fetched, by one job at a time. With `own_copies`, the links are replaced with copies
        if the disk has room for them. `check` can end this by raising an exception. Raise MissingInput, BadData, and
        Failed as `fetch_inputs` does, and Failed with the class `disk` if there is no room.
        """
        target.mkdir()
        wanted = list_input_objects(source, inputs, target, check, self._sleep)
        linked: dict[Path, StoredFile] = {}
        remaining = self._link_files(wanted, linked)
        fetched_bytes = 0
        if remaining:
            with self._hold_fetch_lock(check):
                remaining = self._link_files(remaining, linked)  # another job may have fetched them in the meantime
                missing = {_build_name(remote): remote for remote in remaining.values()}
                fetched_bytes = self._fetch_files(source, missing, check)
                check()  # because the job's folder may no longer exist
                remaining = self._link_files(remaining, linked)
        if remaining:
            raise Failed("the shared inputs were removed while they were fetched", "machine")
        files = SharedFiles(tuple(linked.values()), fetched_bytes)
        if own_copies and self.make_room(sum(file.remote.size for file in files.stored)):
            copies = tuple(_replace_with_copy(path, file, target.parent, check) for path, file in linked.items())
            return SharedFiles(copies, fetched_bytes, are_own=True)
        return files

    def make_room(self, size: int = 0) -> bool:
        """Remove files that no job uses, the least recently used first, until `size` bytes fit on the disk.

        Return whether they fit, beyond what must stay free.
        """
        with self._lock:
            unused = [(name, file) for name, file in self._files.items() if not _is_in_use(file.path)]
            for name, file in sorted(unused, key=lambda pair: pair[1].last_use):
                if has_disk_space(self._folder.parent, MIN_FREE_BYTES + size):
                    return True
                log.info("the disk is short: removing the shared input %s, which no job uses", file.remote.key)
                self._drop_file(name)
            return has_disk_space(self._folder.parent, MIN_FREE_BYTES + size)

    def remove_all(self) -> None:
        """Remove the store at the container's end."""
        with self._lock:
            self._files.clear()
            shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _hold_fetch_lock(self, check: Callable[[], None]) -> Any:
        while not self._fetch_lock.acquire(timeout=WAIT_SECONDS):
            check()
        try:
            yield
        finally:
            self._fetch_lock.release()

    def _link_files(
        self, wanted: Mapping[Path, RemoteObject], linked: dict[Path, StoredFile]
    ) -> dict[Path, RemoteObject]:
        """Link the files that are in the store, add them to `linked`, and return the others."""
        remaining: dict[Path, RemoteObject] = {}
        with self._lock:
            self._use_count += 1
            for path, remote in wanted.items():
                name = _build_name(remote)
                if file := self._find_file(name):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    os.link(file.path, path)
                    file.last_use = self._use_count
                    linked[path] = file
                else:
                    remaining[path] = remote
        return remaining

    def _find_file(self, name: str) -> StoredFile | None:
        """Return a file in the store, but drop it if a program has changed it."""
        file = self._files.get(name)
        if file is not None and (file.is_changed or not file.path.exists()):
            file.was_changed = file.is_changed
            log.warning("a program has changed the shared input %s: it is fetched again", file.remote.key)
            self._drop_file(name)
            return None
        return file

    def _drop_file(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._files.pop(name).path.unlink()

    def _fetch_files(self, source: InputSource, missing: Mapping[str, RemoteObject], check: Callable[[], None]) -> int:
        """Fetch the objects to the store under these names, and return the number of bytes."""
        size = sum(remote.size for remote in missing.values())
        if missing and not self.make_room(size):
            raise Failed(f"the shared inputs need {size:,} bytes, for which the disk has no room", "disk")
        self._folder.mkdir(mode=0o755, exist_ok=True)
        try:
            by_bucket = sorted(missing.items(), key=lambda pair: pair[1].bucket)
            for bucket, pairs in groupby(by_bucket, key=lambda pair: pair[1].bucket):
                names = {remote.key: name for name, remote in pairs}
                parts = {key: f"{name}.part" for key, name in names.items()}
                for file in fetch_inputs(replace(source, bucket=bucket), parts, self._folder, check, self._sleep):
                    name = names[file.address.removeprefix(f"s3://{bucket}/")]
                    self._keep_file(name, missing[name], file)
        finally:
            for part in self._folder.glob("*.part"):
                part.unlink(missing_ok=True)
        return size

    def _keep_file(self, name: str, remote: RemoteObject, fetched: InputFile) -> None:
        if (fetched.etag or "") != remote.etag:
            raise Failed(f"the shared input {fetched.address} was replaced while it was fetched", "aws")
        part, path = self._folder / f"{name}.part", self._folder / name
        part.chmod(0o444)
        with self._lock:
            part.rename(path)
            self._files[name] = StoredFile(path, remote, _read_mark(path), self._use_count)


def _replace_with_copy(path: Path, file: StoredFile, folder: Path, check: Callable[[], None]) -> StoredFile:
    """Replace the link `path` to a file in the store with a copy, which is first written to a file in `folder`."""
    draft = folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.part"
    with path.open("rb") as source, draft.open("xb") as target:
        while chunk := source.read(CHUNK_BYTES):
            check()
            target.write(chunk)
    if file.is_changed:  # by another job, so the copy may be of the changed file
        raise Interruption
    draft.chmod(0o444)
    draft.replace(path)
    return StoredFile(path, file.remote, _read_mark(path))


def _build_name(remote: RemoteObject) -> str:
    """Return the name of an object's file in the store, which differs between the versions of an object."""
    text = "\0".join((remote.bucket, remote.key, remote.etag, str(remote.size)))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _read_mark(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _is_in_use(path: Path) -> bool:
    """Return whether a job's folder contains a link to the file."""
    try:
        return path.stat().st_nlink > 1
    except FileNotFoundError:
        return False
