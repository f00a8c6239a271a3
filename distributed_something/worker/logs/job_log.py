"""Each job's log goes to CloudWatch while its program runs: one stream a job, named as the job.

One thread reads the logs of all jobs of a container, and no further than CloudWatch takes them: what waits is in the
file, not in memory. A job never waits for its log. What CloudWatch does not take in time is given up: the whole log
lies in S3 beside the job's record.
"""

from __future__ import annotations

import codecs
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from distributed_something.worker.logs.log_stream import (
    MAX_EVENT_CHARACTERS,
    LogBackoff,
    LogStream,
)
from distributed_something.worker.machine.clock import Clock

SEND_AFTER_END_SECONDS = 30.0  # how long a log is still sent after its program's end
IDLE_CHECK_SECONDS, BUSY_CHECK_SECONDS = 1.0, 0.02  # between two looks at the logs
READ_BLOCK_BYTES = 8 * 1024
BURST_BYTES, BURST_EVENTS = 256 * 1024, 1_000  # read of one log before watchtower has taken them; a block more at most
MAX_OPEN_LOGS = 200  # jobs that ended and whose logs are still sent; each has an open file, most have a thread
# NUL and its like as the pictures that Unicode has for them (␀): readable, and harmless wherever the log is shown.
_CONTROL_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) != "\t"} | {0x7F: 0x2421}


class JobLogs:
    """Follows the logs of a container's jobs. `tick()` is one round; `run()` does rounds until `end()`."""

    def __init__(
        self,
        logs_client: Any,
        group: str,
        clock: Clock | None = None,
        where: Callable[[str], str] = lambda job_id: "S3, beside the job's record",
        backoff: LogBackoff | None = None,
    ) -> None:
        """`group` "" switches it off. `where(job_id)`: where the whole log will lie."""
        self._client, self._group, self._where = logs_client, group, where
        self._clock = clock or Clock()
        self._backoff = backoff or LogBackoff("logs of jobs", monotonic=self._clock.monotonic)
        self._followed: list[_LogFollower] = []
        self._room = MAX_OPEN_LOGS  # streams that may still be opened in this tick
        self._lock = threading.Lock()  # of the list; never held while something is read or sent
        self._ticking = threading.Lock()
        self._look, self._ended = threading.Event(), threading.Event()

    @property
    def followed_jobs(self) -> list[str]:
        """The ids of the jobs whose logs are read, or still sent."""
        with self._lock:
            return [follower.job_id for follower in self._followed]

    def follow_log(self, job_id: str, path: Path) -> None:
        """The job's program is about to write to `path`, which is made if need be."""
        if not self._group or self._ended.is_set():
            return
        try:
            file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except (OSError, ValueError) as error:
            self._backoff.log_once(error)
            return
        with self._lock:
            stream, where = partial(self._open_stream, job_id), partial(self._where, job_id)
            self._followed.append(_LogFollower(job_id, path, file, stream, where))

    def unfollow_log(self, job_id: str, path: Path | None = None) -> None:
        """The job's program that wrote to `path` ended (None: all that it has here, of a job that came twice). Returns
        at once; its file may be removed, what is in it is still sent."""
        with self._lock:
            for follower in self._followed:
                if follower.job_id == job_id and path in (None, follower.path) and follower.left is None:
                    follower.left = self._clock.now()
        self._look.set()

    def run(self) -> None:
        while self._group and not self._ended.is_set():
            try:
                busy = self.tick()
            except Exception as error:  # the loop's edge: the other jobs' logs go on
                self._backoff.log_once(error)
                busy = False
            self._look.wait(BUSY_CHECK_SECONDS if busy else IDLE_CHECK_SECONDS)
            self._look.clear()

    def tick(self) -> bool:
        """Looks at each log once; whether there is more to do soon. Calls no AWS: watchtower's threads do."""
        with self._ticking:
            now = self._clock.now()
            with self._lock:
                followed = list(self._followed)
            self._room = MAX_OPEN_LOGS - sum(follower.is_sending for follower in followed)
            busy = [self._step_follower(follower, now) for follower in followed]
            ending = [follower for follower in followed if follower.left is not None and not follower.is_over]
            for follower in ending[:-MAX_OPEN_LOGS]:
                follower.give_up(now)
            with self._lock:
                self._followed = [follower for follower in self._followed if not follower.is_over]
            return any(busy) and not self._backoff.seconds_left

    def end(self, seconds: float) -> None:
        """The container ends: sends what is left, at most that long."""
        start = self._clock.monotonic()
        deadline, last_call = start + seconds, start + seconds / 2
        self._ended.set()
        self._look.set()
        for job_id in self.followed_jobs:
            self.unfollow_log(job_id)
        self.tick()
        while self._followed and self._clock.monotonic() < deadline:
            if self._clock.monotonic() > last_call:
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
        except Exception as error:  # one log that cannot be read must not stop the others
            self._backoff.log_once(error)
            follower.abandon_log()
            return False

    def _open_stream(self, job_id: str) -> LogStream | None:
        """A new stream; None while AWS refuses, or while too many threads wait for it."""
        if self._backoff.seconds_left or self._room <= 0:
            return None
        self._room -= 1
        return LogStream(self._client, self._group, job_id, self._backoff)


class _LogFollower:
    """One job's log, read as it grows. Its stream is opened when there is something to send."""

    def __init__(
        self, job_id: str, path: Path, file: int, open_stream: Callable[[], LogStream | None], where: Callable[[], str]
    ) -> None:
        self.job_id, self.path, self._open_stream, self._where = job_id, path, open_stream, where
        self.left: float | None = None  # when the program ended
        self._file: int | None = file
        self._stream: LogStream | None = None
        self._lines = LineSplitter()
        self._read_all = False

    @property
    def is_sending(self) -> bool:
        return self._stream is not None and (self._file is not None or self._stream.is_running)

    @property
    def is_over(self) -> bool:
        return self._file is None and not self.is_sending

    def step(self, now: float) -> bool:
        """Sends what is new, if there is room; whether there may be more at once."""
        left = self.left  # before the read: what the program wrote is then complete
        late = left is not None and now >= left + SEND_AFTER_END_SECONDS
        if late:
            self.give_up(now)
        elif self._file is not None:
            self._send_new_lines(self._file, now)
            if left is not None and self._read_all:
                self._close_log(now)
        return not self.is_over and (self.left is not None or not self._read_all)

    def give_up(self, now: float) -> None:
        """Its time is over: no more is read, and its stream ends as soon as it can."""
        if self._file is not None:
            self._close_log(now)
        if self._stream is not None:
            self._stream.give_up()

    def abandon_log(self) -> None:
        """It cannot be read: nothing more of it is sent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._stream is not None:
            self._stream.close()
            self._stream.give_up()

    def _send_new_lines(self, file: int, now: float) -> None:
        self._read_all = False
        stream = self._get_ready_stream(file)
        if stream is None:
            return
        for _ in range(BURST_BYTES // READ_BLOCK_BYTES):
            block = os.read(file, READ_BLOCK_BYTES)
            self._read_all = not block
            for line in self._lines.add_block(block):
                stream.send(line, now)
            if self._read_all or stream.waiting_events >= BURST_EVENTS:
                return

    def _get_ready_stream(self, file: int) -> LogStream | None:
        """The stream if it takes more now. A log without a byte needs none."""
        if self._stream is None:
            self._read_all = os.fstat(file).st_size == 0
            if not self._read_all:
                self._stream = self._open_stream()
        return self._stream if self._stream is not None and not self._stream.waiting_events else None

    def _close_log(self, now: float) -> None:
        if self._stream is not None:
            for line in self._lines.end():
                self._stream.send(line, now)
            if not self._read_all or self._stream.is_incomplete:
                self._stream.send(f"(worker) not all of this log is here; the whole log: {self._where()}", now)
            self._stream.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None


class LineSplitter:
    """Bytes in blocks become lines of text that CloudWatch takes as events, whatever the bytes are.

    What is no UTF-8 becomes the replacement character, control characters become pictures, a long line several events.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def add_block(self, block: bytes) -> Iterator[str]:
        """The lines that end in this block; an empty one is a space, because AWS takes no empty event."""
        *whole, self._rest = (self._rest + self._decoder.decode(block)).split("\n")
        for line in whole:
            yield from self._split_events(line.removesuffix("\r") or " ")
        while len(self._rest) > MAX_EVENT_CHARACTERS:
            yield from self._split_events(self._rest[:MAX_EVENT_CHARACTERS])
            self._rest = self._rest[MAX_EVENT_CHARACTERS:]

    def end(self) -> Iterator[str]:
        """The line that has no end."""
        rest, self._rest = self._rest + self._decoder.decode(b"", final=True), ""
        return self._split_events(rest.removesuffix("\r"))

    def _split_events(self, line: str) -> Iterator[str]:
        for first in range(0, len(line), MAX_EVENT_CHARACTERS):
            yield line[first : first + MAX_EVENT_CHARACTERS].translate(_CONTROL_PICTURES)
