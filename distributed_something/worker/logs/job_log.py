"""Job logs in CloudWatch: each job's log is sent while its program runs, to a stream named after the job.

One thread reads the logs of all jobs in a container, only as fast as CloudWatch accepts them, so that the backlog stays
in the files and not in memory. A job never waits for its log. Lines that CloudWatch does not accept in time are
dropped; the complete log is in S3, next to the job's record.
"""

from __future__ import annotations

import codecs
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from distributed_something.worker.logs.capped_log import format_omission, skip_hole
from distributed_something.worker.logs.log_stream import (
    MAX_EVENT_CHARACTERS,
    LogBackoff,
    LogStream,
)
from distributed_something.worker.machine.clock import Clock
from distributed_something.worker.visible_text import make_visible

SEND_AFTER_END_SECONDS = 30.0  # how long to keep sending a log after its program has ended
IDLE_CHECK_SECONDS, BUSY_CHECK_SECONDS = 1.0, 0.02  # between rounds
READ_BLOCK_BYTES = 8 * 1024
# How much of one log is queued per round, before watchtower has accepted what is already queued. The last block may
# exceed these limits.
BURST_BYTES, BURST_EVENTS = 256 * 1024, 1_000
MAX_OPEN_LOGS = 200  # finished jobs whose logs are still being sent; each has an open file and usually a thread
PROGRESS_SECONDS = 5.0  # between two updates of a progress bar, which may print hundreds of them each second


class JobLogs:
    """Sends the logs of a container's jobs. `tick()` sends all new output; `run()` repeats this until `end()`."""

    def __init__(
        self,
        logs_client: Any,
        group: str,
        describe_location: Callable[[str], str] = lambda job_id: "in S3, next to the job's record",
        backoff: LogBackoff | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Create the job logs for the log group `group`; "" turns them off.

        `describe_location(job_id)` returns text that says where the job's full log will be.
        """
        self._client, self._group, self._describe_location = logs_client, group, describe_location
        self._clock = clock or Clock()
        self._backoff = backoff or LogBackoff("job logs", monotonic=self._clock.monotonic)
        self._followed: list[_LogFollower] = []
        self._free_streams = MAX_OPEN_LOGS  # streams that may still be opened in this tick
        self._lock = threading.Lock()  # guards the list; not held while logs are read or sent
        self._ticking = threading.Lock()
        self._wake, self._ended = threading.Event(), threading.Event()

    @property
    def followed_jobs(self) -> list[str]:
        """The IDs of the jobs whose logs are still being read or sent."""
        with self._lock:
            return [follower.job_id for follower in self._followed]

    def follow_log(self, job_id: str, path: Path) -> None:
        """Start sending the log file at `path`, which the job's program is about to write. Create a missing file."""
        if not self._group or self._ended.is_set():
            return
        try:
            file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except (OSError, ValueError) as error:
            self._backoff.log_once(error)
            return
        with self._lock:
            open_stream, describe = partial(self._open_stream, job_id), partial(self._describe_location, job_id)
            self._followed.append(_LogFollower(job_id, path, file, open_stream, describe))

    def unfollow_log(self, job_id: str, path: Path | None = None) -> None:
        """Note that the job's program has ended, and return at once.

        The rest of the log is still sent, even if the file is removed. `path`: the log file, or None for all of the
        job's logs (a job that was delivered twice has several).
        """
        with self._lock:
            for follower in self._followed:
                if follower.job_id == job_id and path in (None, follower.path) and follower.ended_at is None:
                    follower.ended_at = self._clock.now()
        self._wake.set()

    def run(self) -> None:
        while self._group and not self._ended.is_set():
            try:
                is_busy = self.tick()
            except Exception as error:  # otherwise this thread would end and no more logs would be sent
                self._backoff.log_once(error)
                is_busy = False
            self._wake.wait(BUSY_CHECK_SECONDS if is_busy else IDLE_CHECK_SECONDS)
            self._wake.clear()

    def tick(self) -> bool:
        """Send the new output of each log, and return whether more can be sent soon. watchtower's threads call AWS."""
        with self._ticking:
            now = self._clock.now()
            with self._lock:
                followed = list(self._followed)
            self._free_streams = MAX_OPEN_LOGS - sum(follower.is_sending for follower in followed)
            has_more = [self._step_follower(follower, now) for follower in followed]
            ending = [follower for follower in followed if follower.ended_at is not None and not follower.is_over]
            for follower in ending[:-MAX_OPEN_LOGS]:
                follower.give_up(now)
            with self._lock:
                self._followed = [follower for follower in self._followed if not follower.is_over]
            return any(has_more) and not self._backoff.seconds_left

    def end(self, seconds: float) -> None:
        """Send the rest of every log within `seconds`, because the container is ending."""
        start = self._clock.monotonic()
        deadline, give_up_at = start + seconds, start + seconds / 2
        self._ended.set()
        self._wake.set()
        for job_id in self.followed_jobs:
            self.unfollow_log(job_id)
        self.tick()
        while self._followed and self._clock.monotonic() < deadline:
            if self._clock.monotonic() > give_up_at:
                self._give_up_logs()
            self._clock.sleep(BUSY_CHECK_SECONDS)
            self.tick()

    def _give_up_logs(self) -> None:
        with self._ticking:
            for follower in self._followed:
                follower.give_up(self._clock.now())

    def _step_follower(self, follower: _LogFollower, now: float) -> bool:
        try:
            return follower.step(now)
        except Exception as error:  # a log that cannot be read must not stop the other logs
            self._backoff.log_once(error)
            follower.abandon_log()
            return False

    def _open_stream(self, job_id: str) -> LogStream | None:
        """Return a new stream; None while AWS calls keep failing or too many streams are open."""
        if self._backoff.seconds_left or self._free_streams <= 0:
            return None
        self._free_streams -= 1
        return LogStream(self._client, self._group, job_id, self._backoff)


class _LogFollower:
    """One job's log, read as it grows. Its stream is opened when there is something to send."""

    def __init__(
        self, job_id: str, path: Path, file: int, open_stream: Callable[[], LogStream | None],
        describe_location: Callable[[], str],
    ) -> None:  # fmt: skip
        self.job_id, self.path = job_id, path
        self._open_stream, self._describe_location = open_stream, describe_location
        self.ended_at: float | None = None  # when the program ended
        self._file: int | None = file
        self._stream: LogStream | None = None
        self._lines = LineSplitter()
        self._has_read_all = False
        self._next_progress = 0.0  # seconds since 1970

    @property
    def is_sending(self) -> bool:
        return self._stream is not None and (self._file is not None or self._stream.is_running)

    @property
    def is_over(self) -> bool:
        return self._file is None and not self.is_sending

    def step(self, now: float) -> bool:
        """Send new output if the stream accepts it, and return whether there may be more right away."""
        ended_at = self.ended_at  # checked before the file is read: if it is set, the file is complete
        if ended_at is not None and now >= ended_at + SEND_AFTER_END_SECONDS:
            self.give_up(now)
        elif self._file is not None:
            self._send_new_lines(self._file, now)
            if ended_at is not None and self._has_read_all:
                self._close_log(now)
        return not self.is_over and (self.ended_at is not None or not self._has_read_all)

    def give_up(self, now: float) -> None:
        """Stop reading, and let the stream end as soon as it can."""
        if self._file is not None:
            self._close_log(now)
        if self._stream is not None:
            self._stream.give_up()

    def abandon_log(self) -> None:
        """Stop sending a log that cannot be read."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._stream is not None:
            self._stream.close()
            self._stream.give_up()

    def _send_new_lines(self, file: int, now: float) -> None:
        self._has_read_all = False
        stream = self._get_ready_stream(file)
        if stream is None:
            return
        for _ in range(BURST_BYTES // READ_BLOCK_BYTES):
            if skipped := skip_hole(file):
                self._send_block(stream, f"\n{format_omission(skipped)}\n".encode(), now)
            block = os.read(file, READ_BLOCK_BYTES)
            self._has_read_all = not block
            self._send_block(stream, block, now)
            if self._has_read_all or stream.waiting_events >= BURST_EVENTS:
                return

    def _send_block(self, stream: LogStream, block: bytes, now: float) -> None:
        for line in self._lines.add_block(block):
            stream.send(line, now)
        if self._lines.progress and now >= self._next_progress:
            self._next_progress = now + PROGRESS_SECONDS
            for line in self._lines.take_progress():
                stream.send(line, now)

    def _get_ready_stream(self, file: int) -> LogStream | None:
        """Return the stream if it accepts more events now, else None. An empty log needs no stream."""
        if self._stream is None:
            self._has_read_all = os.fstat(file).st_size == 0
            if not self._has_read_all:
                self._stream = self._open_stream()
        return self._stream if self._stream is not None and not self._stream.waiting_events else None

    def _close_log(self, now: float) -> None:
        if self._stream is not None:
            for line in self._lines.end():
                self._stream.send(line, now)
            if not self._has_read_all or self._stream.is_incomplete:
                self._stream.send(f"(worker) this log is incomplete; the full log is {self._describe_location()}", now)
            self._stream.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None


class LineSplitter:
    r"""Splits blocks of bytes into lines of text that CloudWatch accepts as events, whatever the bytes are.

    Bytes that are not UTF-8 become the replacement character, `make_visible` replaces control characters, and a long
    line becomes several events. `\n` and `\r\n` end a line. `\r` alone, with which a progress bar overwrites its line,
    also ends a line, but only the latest such line is kept, as `progress`, until the next line replaces it.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial_line = ""
        self.progress = ""

    def add_block(self, block: bytes) -> Iterator[str]:
        """Yield the lines that end in this block. An empty line becomes a space, because AWS rejects empty events."""
        *lines, self._partial_line = (self._partial_line + self._decoder.decode(block)).split("\n")
        for line in lines:
            yield from self._split_events(self._take_last_update(line.removesuffix("\r")) or " ")
            self.progress = ""
        # A \r at the end may be the first half of \r\n.
        updates, separator, rest = self._partial_line.removesuffix("\r").rpartition("\r")
        if separator:
            self._partial_line = rest + self._partial_line[len(updates) + 1 + len(rest) :]
            self.progress = self._take_last_update(updates)
        while len(self._partial_line) > MAX_EVENT_CHARACTERS:
            yield from self._split_events(self._partial_line[:MAX_EVENT_CHARACTERS])
            self._partial_line, self.progress = self._partial_line[MAX_EVENT_CHARACTERS:], ""

    def take_progress(self) -> Iterator[str]:
        """Return the events for the latest line that `\\r` ended, and forget it; none if there is no such line."""
        line, self.progress = self.progress, ""
        return self._split_events(line)

    def end(self) -> Iterator[str]:
        """Return the events for the last line, which has no line break."""
        line, self._partial_line = self._partial_line + self._decoder.decode(b"", final=True), ""
        line, self.progress = self._take_last_update(line.removesuffix("\r")), ""
        return self._split_events(line)

    def _take_last_update(self, line: str) -> str:
        """Return the last part of a line that is not empty; before it, `\\r` moved back to the start of the line."""
        parts = line.split("\r")
        return next((part for part in reversed(parts) if part), self.progress)

    def _split_events(self, line: str) -> Iterator[str]:
        for first in range(0, len(line), MAX_EVENT_CHARACTERS):
            yield make_visible(line[first : first + MAX_EVENT_CHARACTERS]) or " "
