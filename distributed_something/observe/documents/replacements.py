"""Which jobs that had ended `submitJob --replace` has replaced, from the submissions' documents.

The corrected jobs usually have other IDs, so the documents decide: a job is replaced if it was sent before the
replacement, by a submission of the same Job file. Jobs of other Job files, which `--replace` also removes from the
queue, count as replaced only while that submission can be nothing but an earlier form of the same jobs. Jobs that a
script sent are never replaced: no Job file sends them again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed_something.aws.s3 import CLOCK_TOLERANCE_SECONDS
from distributed_something.core.submission import is_same_path
from distributed_something.observe.documents.submissions import SubmissionReader

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.core.submission import SubmissionDocument

MAX_MESSAGE_SECONDS = 14 * 86400.0  # SQS keeps a message for at most 14 days, so older submissions are not in the queue


@dataclass(frozen=True)
class Replacements:
    """The submissions to one queue, oldest first; some may have replaced the jobs of earlier ones."""

    documents: Sequence[SubmissionDocument] = ()

    @property
    def has_any(self) -> bool:
        return any(item.replaced and not item.retry_of for item in self.documents)

    @property
    def last_removal(self) -> float | None:
        """When `submitJob --replace` last removed the waiting jobs, in seconds since 1970; None if it did not."""
        return max((item.removal_end for item in self.documents if item.removal_end is not None), default=None)

    def count_removed_jobs(self, left: int, since: float, until: float = math.inf) -> int:
        """Return how many of the jobs that were in the queue at `since` `submitJob --replace` removed, at least.

        `left`: how many they were. `until`: when other machines started to work on them. Both in seconds since 1970.
        """
        sent = 0
        for item in self.documents:
            if item.began <= since or item.began >= until:
                continue
            if item.removed:
                return max(0, min(left, item.removed - sent))
            sent += item.sent
        return 0

    def is_replaced(self, sent: float, submission: str | None = None, *, is_done: bool = False) -> bool:
        """Return whether a job that has ended, and whose message was sent then, was replaced.

        `sent`: in seconds since 1970; of older workers, when the job's last attempt began; 0 if that is unknown, too.
        `submission`: the time of the submission whose Job file the message was made from; "" if a script sent it, None
        of older workers.
        `is_done`: whether the job is done. It then still counts if the Job file has fewer jobs than before.
        """
        if not sent or not self.has_any or submission == "":
            return False
        sources = [number for number, item in enumerate(self.documents) if item.time == submission]
        sources = sources or self._find_sources(sent)
        return any(
            item.replaced and not item.retry_of and sent < item.began - CLOCK_TOLERANCE_SECONDS
            and bool(sources) and all(self._is_earlier_form(number, item) for number in sources)
            and not (is_done and any(item.planned < self.documents[number].job_count for number in sources))
            for item in self.documents
        )  # fmt: skip

    def _find_sources(self, sent: float) -> list[int]:
        """Return the numbers of the submissions that may have sent a message then."""
        before = [number for number, item in enumerate(self.documents) if item.began - CLOCK_TOLERANCE_SECONDS <= sent]
        ends = [math.inf if item.end is None else item.end + CLOCK_TOLERANCE_SECONDS for item in self.documents]
        return [number for number in before if sent <= ends[number]] or before

    def _is_earlier_form(self, number: int, later: SubmissionDocument) -> bool:
        """Return whether `later` sent the jobs of this submission again, from the same Job file or a copy of it.

        A copy has as many jobs, and replaced what the submission had sent last.
        """
        item = self.documents[number]
        files = [item.job_file_path] if item.job_file_path else self._list_files_before(number)
        if files and all(is_same_path(file, later.job_file_path) for file in files):
            return True
        is_previous = number + 1 < len(self.documents) and self.documents[number + 1] == later
        return is_previous and later.removed > 0 and item.job_count == later.job_count

    def _list_files_before(self, number: int) -> list[str]:
        """Return the Job files of all earlier submissions: `retry` sends jobs of any of them again."""
        return [item.job_file_path for item in self.documents[:number] if item.job_file_path]


NO_REPLACEMENTS = Replacements()


def load_replacements(s3: S3Client, file: MonitorFile, now: float, until: float = math.inf) -> Replacements:
    """Return the submissions to the run's queue that began until then (seconds since 1970). AWS errors are not caught.

    Jobs of older submissions than the queue keeps cannot have been in it when the run started.
    """
    reader = SubmissionReader(s3, file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME)
    return find_replacements(reader, file, now, until)


def find_replacements(reader: SubmissionReader, file: MonitorFile, now: float, until: float = math.inf) -> Replacements:
    """Return the same as `load_replacements` with a reader that has read earlier documents."""
    documents = reader.list_submissions(file.MONITOR_START_TIME / 1000 - MAX_MESSAGE_SECONDS, now)
    return Replacements(
        tuple(item for item in documents if item.queue == file.MONITOR_QUEUE_NAME and item.began <= until)
    )
