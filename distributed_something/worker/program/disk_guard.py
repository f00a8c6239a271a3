"""Watches the disk while programs run, stops the job that fills it, and protects the others.

Programs of one container share a disk. Without this guard, the first program that needs a byte when the disk is full
fails, whoever filled it. The guard therefore answers two questions: which running program must stop, and was a failed
attempt at fault or only next to the job that was?

The job that has written most is stopped first. Its folder is then removed, so the disk has room again. A job is never
held responsible if something outside this container, such as another container of the machine, wrote more than it did.
Shared inputs count for none of the jobs; those that no job uses are removed before a job is stopped.

Reading the free space takes microseconds, so it happens at each check. Folders are measured only while the disk is
full.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from distributed_something.worker.job.failures import BAD_DATA_CLASS
from distributed_something.worker.job.job import Folders

# Programs stop when less than this is free. A usual disk (EBS gp3) writes 125 MB/s, so about a second remains.
MIN_FREE_BYTES = 128 * 1024 * 1024
MIN_FREE_FILES = 1000  # a disk with many small files can run out of inodes before it runs out of bytes
SMALL_DISK_SHARE = 0.1  # on a small disk, this share is free instead
MEASURE_SECONDS = 1.0  # between two measurements of all folders
# A full disk does not cause failures of these classes, so it does not excuse them either.
DISK_INDEPENDENT_CLASSES = frozenset(
    {"missing input", "bad message", "bad config", BAD_DATA_CLASS, "time-out", "out of memory", "aws", "web", "upload"}
)
# If the disk is often full and no job of this container filled it, the job may have done so in another way.
MAX_UNCOUNTED_ATTEMPTS = 5
BLOCK_BYTES = 512  # the unit of st_blocks, see stat(2)


class DiskAmount(NamedTuple):
    """An amount of disk space: bytes and files."""

    bytes: int
    files: int


NO_AMOUNT = DiskAmount(0, 0)


class DiskSpace(NamedTuple):
    """A disk's free and total space. `total.files` is 0 if the file system has no limit on files."""

    free: DiskAmount
    total: DiskAmount
    is_read_only: bool = False  # Linux remounts a disk with errors as read-only


class DiskVerdict(NamedTuple):
    """What a full disk has to do with a failed attempt. `is_counted`: whether the failure counts."""

    is_counted: bool
    reason: str


@dataclass
class _WatchedJob:
    """A job whose files are on the disk. `culprit_reason` is set once it is responsible for a full disk."""

    folders: Folders
    free_at_start: DiskAmount
    used: DiskAmount = NO_AMOUNT
    has_started: bool = False  # whether the program runs or has run
    is_running: bool = False
    saw_full_disk: bool = False
    saw_culprit: bool = False  # whether another job filled the disk meanwhile
    culprit_reason: str | None = None


class DiskGuard:
    """The guard of one container, shared by the threads of its slots.

    `read_space` returns the disk's space and raises OSError if it cannot. `monotonic` is a clock in seconds.
    `make_room` removes files that no job needs; it is called before a job is held responsible for a full disk.
    """

    def __init__(
        self, read_space: Callable[[], DiskSpace], monotonic: Callable[[], float] = time.monotonic,
        make_room: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        self._read_space, self._monotonic, self._make_room = read_space, monotonic, make_room
        self._jobs: dict[Path, _WatchedJob] = {}
        self._next_measurement = float("-inf")
        self._lock = threading.Lock()

    def add_job(self, folders: Folders) -> None:
        """Watch a job from now on. Call this before its folder is created."""
        with self._lock:
            self._jobs[folders.root] = _WatchedJob(folders, self._read_free_amount())

    @contextmanager
    def watch_program(self, folders: Folders) -> Iterator[None]:
        """Note that the job's program runs while the context lasts. Only a running program can be stopped."""
        with self._lock:
            job = self._jobs[folders.root]
            job.has_started = job.is_running = True
        try:
            yield
        finally:
            job.is_running = False

    def remove_job(self, folders: Folders) -> None:
        """Forget a job whose files have been removed."""
        with self._lock:
            self._jobs.pop(folders.root, None)

    def must_stop(self, folders: Folders) -> bool:
        """Check the disk, and return whether the job's program must stop because it filled the disk."""
        with self._lock:
            self._check_disk()
            job = self._jobs.get(folders.root)
            return job is not None and job.culprit_reason is not None

    def judge_failure(self, folders: Folders, reason_class: str, uncounted: int = 0) -> DiskVerdict | None:
        """Return what a full disk has to do with the job's failure; None if nothing.

        `reason_class`: the class of the failure. `uncounted`: how many earlier attempts at the job did not count.
        """
        if reason_class in DISK_INDEPENDENT_CLASSES:
            return None
        with self._lock:
            job = self._jobs.get(folders.root)
            if job is None:  # the attempt was given up
                return None
            self._check_disk(failed=job)
        if job.culprit_reason is not None:
            return DiskVerdict(True, job.culprit_reason)
        if not job.saw_full_disk:
            return None
        if job.saw_culprit:
            return DiskVerdict(False, "another job filled the disk")
        return DiskVerdict(uncounted >= MAX_UNCOUNTED_ATTEMPTS, "the disk was full, but not because of this job")

    def _read_free_amount(self) -> DiskAmount:
        try:
            return self._read_space().free
        except OSError:
            return NO_AMOUNT

    def _check_disk(self, failed: _WatchedJob | None = None) -> None:
        """Note whether the disk is full, and if so, find the job that filled it.

        `failed`: a job that has just failed, so that the folders are measured even if they were measured a moment ago.
        """
        try:
            space = self._read_space()
        except OSError:
            return
        scarce = _find_scarce_resource(space)
        if scarce is None and not space.is_read_only:
            return
        culprits = [job for job in self._jobs.values() if job.culprit_reason]
        for job in self._jobs.values():
            job.saw_full_disk, job.saw_culprit = True, job.saw_culprit or any(other is not job for other in culprits)
        now = self._monotonic()
        if scarce is None or space.is_read_only or (failed is None and now < self._next_measurement):
            return
        self._make_room()
        for job in self._jobs.values():
            job.used = measure_usage(job.folders)
        # Measuring many files takes long, and must not become all that the worker does.
        self._next_measurement = self._monotonic() + max(MEASURE_SECONDS, 5 * (self._monotonic() - now))
        with suppress(OSError):
            self._choose_culprit(self._read_space(), scarce, failed)

    def _choose_culprit(self, space: DiskSpace, scarce: int, failed: _WatchedJob | None) -> None:
        """Hold the job that uses most of the scarce resource responsible, unless enough will soon be free anyway.

        A job whose program has not started is responsible only if it has failed: its inputs did not fit.
        """
        limit = _compute_limit(space.total, scarce)
        soon_free = space.free[scarce] + sum(job.used[scarce] for job in self._jobs.values() if job.culprit_reason)
        candidates = [
            job for job in self._jobs.values() if (job.has_started or job is failed) and not job.culprit_reason
        ]
        largest = max(candidates, key=lambda job: job.used[scarce], default=None)
        if soon_free >= limit or largest is None or largest.used[scarce] < limit:
            return
        known = sum(job.used[scarce] for job in self._jobs.values())
        if largest.used[scarce] < largest.free_at_start[scarce] - space.free[scarce] - known:
            return  # something outside this container wrote more
        if largest.is_running or largest is failed:  # otherwise, its results are being uploaded, and it ends by itself
            largest.culprit_reason = f"wrote {_format_amount(largest.used, scarce)}; the disk is full"
        for job in self._jobs.values():
            job.saw_culprit |= job is not largest


def read_disk_space(path: Path) -> DiskSpace:
    """Return the space of the disk that holds `path`, as an unprivileged user may use it."""
    disk = os.statvfs(path)
    return DiskSpace(
        DiskAmount(disk.f_bavail * disk.f_frsize, disk.f_favail),
        DiskAmount(disk.f_blocks * disk.f_frsize, disk.f_files),
        bool(disk.f_flag & os.ST_RDONLY),
    )


def measure_usage(folders: Folders) -> DiskAmount:
    """Return what an attempt's folder, its TMPDIR, and its log take up on the disk.

    Shared inputs and files that cannot be read are left out.
    """
    statuses = [os.lstat(folders.log)] if folders.log.exists() else []
    statuses += _iter_statuses(str(folders.root), str(folders.shared_dir))
    statuses += _iter_statuses(str(folders.temp_dir))
    bytes_used = sum(status.st_blocks * BLOCK_BYTES // max(1, status.st_nlink) for status in statuses)
    return DiskAmount(bytes_used, len(statuses))


def _iter_statuses(root: str, shared: str = "") -> Iterator[os.stat_result]:
    """Yield the status of every file and folder below `root`, except shared inputs.

    Those are the files below `shared` that have more than one link, because they are also in the container's store. A
    job may have added files of its own.
    """
    pending = [] if os.path.islink(root) else [root]  # the program may have replaced the folder
    while pending:
        folder = pending.pop()
        is_shared = bool(shared) and (folder == shared or folder.startswith(f"{shared}/"))
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if is_folder:
                        pending.append(entry.path)
                    if is_folder or not is_shared or status.st_nlink == 1:
                        yield status


def _find_scarce_resource(space: DiskSpace) -> int | None:
    """Return the position in DiskAmount of what the disk is short of; None if it has room."""
    for resource in range(len(space.free)):
        if space.total[resource] and space.free[resource] < _compute_limit(space.total, resource):
            return resource
    return None


def _compute_limit(total: DiskAmount, resource: int) -> int:
    return int(min((MIN_FREE_BYTES, MIN_FREE_FILES)[resource], total[resource] * SMALL_DISK_SHARE))


def _format_amount(amount: DiskAmount, resource: int) -> str:
    if resource == 1:
        return f"{amount.files:,} files"
    return f"{amount.bytes / 1e9:.1f} GB" if amount.bytes >= 1e8 else f"{amount.bytes / 1e6:.0f} MB"
