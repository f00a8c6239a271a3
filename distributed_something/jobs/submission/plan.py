"""The plan for a submission: the jobs of a Job file, which are checked, counted, and kept until they are sent.

Nothing is sent here.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from distributed_something.core.errors import MAX_PROBLEMS_SHOWN, InputError, InputProblems
from distributed_something.jobs.job_file import JobFile
from distributed_something.jobs.sources import build_problem_collector
from distributed_something.jobs.submission.prior_results import ResultPlaces, build_result_places

_SHARD_COUNT = 256  # a hash is in the shard of its first byte
_HASH_BYTES = 8
_BLOCK_MESSAGES = 20  # that are written at once; each may have 1 MiB
_NUMBERS_SHOWN = 3  # of identical jobs


class CheckedBodies:
    """The bodies of a Job file's messages, in a temporary file. Only one thread may read them at a time.

    What is sent is therefore what was checked, even if the table changes in the meantime, and a million messages need
    little memory. All bodies begin with `start`, which is not in the file. `digest`: of all of them, in order.
    """

    def __init__(self, start: str) -> None:
        self._start, self.digest = start, hashlib.sha256()
        try:
            self._file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 - needed as long as the plan
        except OSError as error:
            raise build_space_error(error) from None
        weakref.finalize(self, _close_file, self._file)

    def add(self, bodies: Sequence[str]) -> None:
        """Add bodies, which are JSON without line breaks. Raise InputError if the file cannot be written."""
        own = len(self._start)
        self.digest.update("".join(bodies).encode())
        try:
            self._file.writelines([f"{body[own:]}\n" for body in bodies])
        except OSError as error:
            raise build_space_error(error) from None

    def flush(self) -> None:
        """Write what is still in memory. Raise InputError if the file cannot be written."""
        try:
            self._file.flush()
        except OSError as error:
            raise build_space_error(error) from None

    def __iter__(self) -> Iterator[str]:
        start = self._start
        self._file.seek(0)
        for line in self._file:
            yield start + line[:-1]


def _close_file(file: IO[str]) -> None:
    with suppress(OSError):  # of a full disk, which has been reported
        file.close()


def build_space_error(error: OSError) -> InputError:
    """Return the error for messages that cannot be written to a temporary file."""
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:  # none can be written to
        folder = os.environ.get("TMPDIR", "/tmp")
    problem = f"the messages cannot be kept here until they are sent ({error.strerror})"
    return InputError(folder, "", problem, "make room, or name another folder in the environment variable TMPDIR")


class FileState(NamedTuple):
    """What changes if a file does: its inode, its size in bytes, and when it was modified, in nanoseconds."""

    inode: int
    size: int
    modified: int


def read_file_state(path: Path | None) -> FileState | None:
    """Return the state of a file; None if there is none, or if it cannot be read."""
    try:
        status = path.stat() if path else None
    except OSError:
        return None
    return FileState(status.st_ino, status.st_size, status.st_mtime_ns) if status else None


@dataclass(frozen=True)
class SubmissionPlan:
    """The messages to send: their number, the first body, a digest of all bodies, and `bodies`, in order.

    `jobs_digest`: as in SubmissionDocument. `places`: where the results will be. `table`: the state of the table when
    it was read; None if there is none.
    """

    count: int
    first: str
    digest: str
    jobs_digest: str = ""
    places: ResultPlaces = field(default_factory=ResultPlaces)
    bodies: Iterable[str] = ()
    table: FileState | None = None


def plan_submission(job_file: JobFile) -> SubmissionPlan:
    """Read and check every job without sending anything. Raise a single InputError that lists all invalid jobs."""
    problems, table = InputProblems(), read_file_state(job_file.groups.file)
    shards = [bytearray() for _ in range(_SHARD_COUNT)]
    count, first = 0, ""
    places, bodies = build_result_places(job_file), CheckedBodies(job_file.build_body_start())
    messages = job_file.iter_checked_messages(build_problem_collector(problems))
    while block := list(itertools.islice(messages, _BLOCK_MESSAGES)):
        first = first or block[0].body
        count += len(block)
        bodies.add([message.body for message in block])
        for message in block:
            identity_hash = _hash_id(message.id)
            shards[identity_hash[0]] += identity_hash
            places.add_job(message)
    bodies.flush()
    for error in _iter_duplicate_errors(job_file, shards):
        problems.add(error)
    problems.raise_if_any()
    if not count:
        raise InputError(job_file.path, job_file.groups_key, "it contains no jobs", "list at least one")
    jobs_digest = sum(sum(_read_hashes(shard)) for shard in shards) % 2**64  # does not depend on the order
    return SubmissionPlan(count, first, bodies.digest.hexdigest(), f"{jobs_digest:016x}", places, bodies, table)


def _hash_id(text: str) -> bytes:
    """Return a hash of 8 bytes, the same in every process; a million complete job IDs would need too much memory."""
    return hashlib.blake2b(text.encode(), digest_size=_HASH_BYTES).digest()


def _read_hashes(shard: bytearray) -> array[int]:
    """Return the hashes in a shard as numbers. The first byte of a hash is the highest one of its number."""
    hashes = array("Q", bytes(shard))
    if sys.byteorder == "little":
        hashes.byteswap()
    return hashes


def _iter_duplicate_errors(job_file: JobFile, shards: list[bytearray]) -> Iterator[InputError]:
    """Yield an error for each job that occurs several times, up to the maximum number that is shown."""
    duplicates = itertools.islice(_iter_duplicates(shards), MAX_PROBLEMS_SHOWN + 1)
    numbers: dict[bytes, list[int]] = {identity_hash: [] for identity_hash in duplicates}
    if not numbers:
        return
    # Problems are ignored here, because the first pass has already reported them.
    for message in job_file.iter_checked_messages(lambda _: None):
        same_job = numbers.get(_hash_id(message.id))
        if same_job is not None and len(same_job) < _NUMBERS_SHOWN:
            same_job.append(message.number)
    for same_job in sorted(numbers.values()):
        problem = f"jobs {' and '.join(map(str, same_job))} are the same job"
        yield InputError(job_file.path, job_file.groups_key, problem, "keep one of them")


def _iter_duplicates(shards: list[bytearray]) -> Iterator[bytes]:
    """Yield each hash that occurs several times. To save memory, only one shard is sorted at a time."""
    for shard in shards:
        pairs = itertools.pairwise(sorted(_read_hashes(shard)))
        for number in dict.fromkeys(first for first, second in pairs if first == second):
            yield number.to_bytes(_HASH_BYTES, "big")
