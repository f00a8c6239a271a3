"""The journals, records, and logs of a large run. Each one is built when it is read, so that they need no memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from distributed_something.core.monitor_file import MonitorFile
from distributed_something.worker.container.journal import build_journal_line
from tests.support.fakes import MONITOR_FILE, START

JOBS_PER_OBJECT = 1_200  # jobs in one object of a journal, which is then about 1 MB large
ATTEMPTS_OF_FAILED_JOBS = 3
SLOTS, PROGRAM_SECONDS = 4, 40
ETAG = '"0123456789abcdef"'  # of every record


@dataclass(frozen=True)
class LargeRun:
    """A run in which each container ran the same number of jobs, and `failed` jobs failed in all their attempts.

    The first `killed` containers did not write the last `lost_lines` lines of their journals. `is_spread`: whether each
    slot runs its programs one after the other, as in a real run, instead of all programs at the same time.
    """

    jobs: int
    failed: int
    containers: int
    killed: int = 0
    lost_lines: int = 0
    file: MonitorFile = MONITOR_FILE
    is_spread: bool = False

    @property
    def missing(self) -> int:
        """Number of jobs that are in no journal."""
        return self.killed * self.lost_lines

    def iter_keys(self) -> Iterator[str]:
        """Yield the keys of all objects."""
        for container in range(self.containers):
            for first in range(0, max(1, self._count_lines(container)), JOBS_PER_OBJECT):
                yield self.file.keys.journal(f"container-{container:06}", first // JOBS_PER_OBJECT + 1)
        for number in range(self.jobs):
            yield self.file.keys.record(_build_name(number))
            yield self.file.keys.log(_build_name(number), "1-abcdef")

    def build_object(self, key: str) -> bytes:
        """Return the content of an object."""
        if key == self.file.keys.run_document:
            return b"{}"
        name = key.rpartition("/")[2]
        if name.endswith(".jsonl"):
            _, container, number = name.removesuffix(".jsonl").split("-")
            return self._build_journal(int(container), int(number))
        if not name.endswith(".json"):
            return b"log\n"
        return json.dumps(self._build_record(int(name.removesuffix(".json").rpartition("-")[2], 16))).encode()

    def _count_lines(self, container: int) -> int:
        """Return how many jobs the container's journal mentions."""
        return self.jobs // self.containers - (self.lost_lines if container < self.killed else 0)

    def _build_journal(self, container: int, number: int) -> bytes:
        first_job = container * (self.jobs // self.containers)
        end = min(self._count_lines(container), number * JOBS_PER_OBJECT)
        ended = range(first_job, first_job + end)
        failed = sum(map(self._is_failed, ended))
        header = {"container": f"container-{container:06}", "machine": f"i-{container:017x}", "slots": 4, "running": 0,
                  "done": end - failed, "failed": failed, "already_there": 0, "attempts": end,
                  "ended": container >= self.killed}  # fmt: skip
        lines = [header]
        for job in ended[(number - 1) * JOBS_PER_OBJECT :]:
            lines += map(build_journal_line, self._build_attempts(job))
        return "".join(f"{json.dumps(line)}\n" for line in lines).encode()

    def _is_failed(self, job: int) -> bool:
        return job % (self.jobs // self.failed) == 0

    def _build_attempts(self, job: int) -> list[dict[str, Any]]:
        """Return the records of all attempts of a job. Each attempt overwrote the record of the earlier ones."""
        last = self._build_record(job) | (self._build_times(job) if self.is_spread else {})
        return [last | {"attempts": n, "final": n == last["attempts"]} for n in range(1, last["attempts"] + 1)]

    def _build_times(self, job: int) -> dict[str, str]:
        start = START + 60 + job % (self.jobs // self.containers) // SLOTS * PROGRAM_SECONDS + job % 7
        times = {
            "fetch_started": -2,
            "program_started": 0,
            "program_ended": PROGRAM_SECONDS - 10,
            "ended": PROGRAM_SECONDS - 8,
        }
        return {
            key: datetime.fromtimestamp(start + seconds, UTC).isoformat(timespec="milliseconds")
            for key, seconds in times.items()
        }

    def _build_record(self, job: int) -> dict[str, Any]:
        is_failed = self._is_failed(job)
        log = f"s3://{self.file.MONITOR_BUCKET_NAME}/{self.file.keys.log(_build_name(job), '1-abcdef')}"
        return {
            "job": _build_name(job),
            "state": "failed" if is_failed else "done",
            "final": True,
            "attempts": ATTEMPTS_OF_FAILED_JOBS if is_failed else 1,
            "message_id": f"01234567-89ab-cdef-0123-{job:012x}",
            "slot": job % SLOTS,
            "started": "2026-11-23T10:45:00.000Z",
            "fetch_started": "2026-11-23T10:45:00.100Z",
            "program_started": "2026-11-23T10:45:03.000Z",
            "program_ended": "2026-11-23T10:49:57.000Z",
            "ended": f"2026-11-23T10:{50 + job % 10}:00.{job % 1000:03}Z",
            "time_limit_seconds": 3600,
            "exit_code": 1 if is_failed else 0,
            "reason": "the program ended with exit code 1" if is_failed else None,
            "reason_class": "program" if is_failed else None,
            "telling_line": f"Error: no picture {job}" if is_failed else None,
            "last_lines": [f"Error: no picture {job}"] if is_failed else [],
            "peak_memory_bytes": 1_234_567_890,
            "cpu_seconds": 290.5,
            "bytes_in": 123_456_789,
            "bytes_out": 12_345_678,
            "output_location": f"s3://{self.file.MONITOR_BUCKET_NAME}/results/{_build_name(job)}",
            "log": log,
            "message": {"group": {"Plate": f"{job // 384:05}", "Well": f"{job % 384:03}"}},
            "record_etag": ETAG,
        }


def _build_name(number: int) -> str:
    return f"Plate={number // 384:05},Well={number % 384:03}-{number:010x}"
