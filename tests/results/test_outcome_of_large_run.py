"""The outcome of a large run: right counts, with few requests."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_something.results.outcome import load_run_outcome
from tests.support.fakes import MONITOR_FILE, FakeBucket
from tests.support.large_run import ETAG, JOBS_PER_OBJECT, LargeRun

PAGE_KEYS = 1_000  # S3's limit for one listing
WITH_LOST_LINES = LargeRun(jobs=20_000, failed=1_000, containers=100, killed=20, lost_lines=50)
JOURNALS_ONLY = LargeRun(jobs=20_000, failed=1_000, containers=4)


class CountingBucket(FakeBucket):
    """A bucket that lists its objects in pages, and counts requests by the folder of the run that they are about."""

    def __init__(self, run: LargeRun) -> None:
        super().__init__()
        self.objects = {key: run.build_object(key) for key in run.iter_keys()}
        self.pages: list[str] = []
        self.reads: list[str] = []

    def get_paginator(self, _: str) -> Any:
        return SimpleNamespace(paginate=self._iter_pages)

    def get_object(self, *, Key: str, **request: Any) -> dict[str, Any]:
        self.reads.append(Key.split("/")[3])
        return super().get_object(Key=Key, **request)

    def _iter_pages(self, *, Prefix: str, **request: Any) -> Iterator[dict[str, Any]]:
        contents = [item | {"ETag": ETAG} for item in self.list_objects_v2(Prefix=Prefix, **request)["Contents"]]
        for first in range(0, len(contents), PAGE_KEYS):
            self.pages.append(Prefix.split("/")[3])
            yield {"Contents": contents[first : first + PAGE_KEYS]}


@pytest.mark.parametrize("run", [WITH_LOST_LINES, JOURNALS_ONLY])
def test_all_jobs_of_a_large_run_are_counted(run: LargeRun) -> None:
    s3: Any = CountingBucket(run)
    outcome = load_run_outcome(s3, MONITOR_FILE, submitted=20_000, left=0)
    counts = outcome.counts
    assert (counts.done, counts.failed, counts.already_there, counts.repeated) == (19_000, 1_000, 0, 0)
    assert (outcome.unrecorded, outcome.unread, outcome.machines) == (0, 0, run.containers)
    assert len({failed.job for failed in outcome.failures}) == len(outcome.failures) == 1_000
    assert [(group.cause, len(group.jobs)) for group in outcome.groups] == [("exit code 1: Error: no picture #", 1_000)]


def test_only_the_jobs_of_lost_lines_and_an_example_of_each_cause_are_read_singly() -> None:
    s3: Any = CountingBucket(WITH_LOST_LINES)
    load_run_outcome(s3, MONITOR_FILE, submitted=20_000, left=0)
    assert s3.reads.count("attempts") == 100
    assert s3.reads.count("jobs") == WITH_LOST_LINES.missing + 1 == 1_001
    # Each job has a record and a log. The journals are listed once for their lines and once for the totals.
    assert (s3.pages.count("jobs"), s3.pages.count("attempts")) == (2 * 20_000 / PAGE_KEYS, 2)


def test_each_object_of_a_journal_is_read_once_and_no_record_is_listed() -> None:
    s3: Any = CountingBucket(JOURNALS_ONLY)
    load_run_outcome(s3, MONITOR_FILE, submitted=20_000, left=0)
    assert s3.reads.count("attempts") == 4 * -(-5_000 // JOBS_PER_OBJECT) == 20
    assert (s3.reads.count("jobs"), s3.pages) == (1, ["attempts", "attempts"])
