"""Checks whether a job is already done (CHECK_IF_DONE_BOOL).

Three things can prove it: the job's record from this run, the files at the job's own output location, and, for a job
that has one, its done document. Whatever proves it, the results must satisfy the current `expected_files`, and they
must not be older than the submission if the job was submitted with `--again`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from botocore.exceptions import ClientError

from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.done_document import DoneDocument, do_results_exist, read_done_document
from distributed_something.worker.attempt.job_record import is_record_done, is_submission_done, read_record
from distributed_something.worker.hooks.delivery import Delivery, read_delivery
from distributed_something.worker.job.failures import is_access_denied
from distributed_something.worker.job.job import Job
from distributed_something.worker.machine.times import build_utc_timestamp
from distributed_something.worker.transfer.results import ResultFile
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects
from distributed_something.worker.transfer.stored_result import StoredResult, read_stored_result


@dataclass(frozen=True)
class PriorResults:
    """The results of earlier attempts at a job.

    `outputs`: the job's uploaded files if it is done, else None. `delivered`: the files that `deliver` sent elsewhere.
    `listed_objects`: the objects at the job's output location, or None if they were not listed. `is_recorded`: whether
    the record from this run is about the same message, which was then delivered twice. If it is not, the job was
    already done, and `results_of` says which run the results are from (None if unknown) and how old they are (a UTC
    timestamp).
    """

    outputs: list[ResultFile] | None
    listed_objects: dict[str, ListedObject] | None = None
    is_recorded: bool = True
    results_of: dict[str, str | None] | None = None
    delivered: list[Delivery] = field(default_factory=list)


def observe_prior_results(
    context: WorkerContext, job: Job, *, is_first_attempt: bool, message_id: str = "",
    again_since: float | None = None,
) -> PriorResults:  # fmt: skip
    """Return the results that earlier attempts at the job uploaded.

    A record from this run is decisive. On the first attempt, files that are older than this run also count if they form
    a complete upload; an attempt that died during its upload leaves only some of its files. Results that are older than
    `again_since` (seconds since 1970) do not count, except those of the same message, which `message_id` identifies.

    Makes one or two requests (a listing takes one per 1,000 objects), or up to four if an upload seems incomplete.
    For a job with a done document, also looks up its result files.
    """
    search = _PriorResultsSearch(context, job, message_id, again_since)
    if job.needs_done_document:
        return search.find_documented_results()
    if is_first_attempt and search.expected_files:
        return search.find_listed_results()
    return search.find_recorded_results()


def is_current_result(context: WorkerContext, job: str, key: str) -> bool:
    """Return whether this run's record of the job says that it is done and that the file at `key` is its result."""
    record = read_record(context, job)
    if record is None or not is_record_done(record):
        return False
    return any(output.get("key") == key for output in record.get("outputs", []))


@dataclass(frozen=True)
class _PriorResultsSearch:
    """The search for one job's results."""

    context: WorkerContext
    job: Job
    message_id: str
    again_since: float | None

    @property
    def expected_files(self) -> int:
        return self.job.expected_files or self.context.settings.expected_number_files

    def find_recorded_results(self) -> PriorResults:
        """Return the results that this run's record lists."""
        record = read_record(self.context, self.job.id)
        if record is None or not is_record_done(record):
            return PriorResults(None)
        outputs = [ResultFile(**output) for output in record.get("outputs", [])]
        delivered = [read_delivery(entry) for entry in record.get("delivered", [])]
        if is_submission_done(record, self.message_id):
            return PriorResults(outputs, delivered=delivered)
        # The job was submitted twice during this run. The config does not change during a run, so only the job's own
        # number of expected files can differ from when the record was written.
        results_of = record.get("results_of") or {"run": self.context.settings.run, "modified": record.get("ended")}
        is_too_old = self._is_too_old(_parse_time(results_of.get("modified")))
        if is_too_old or self._count_results(outputs, delivered) < self.job.expected_files:
            return PriorResults(None)
        return PriorResults(outputs, is_recorded=False, results_of=results_of, delivered=delivered)

    def find_documented_results(self) -> PriorResults:
        """Return the results that the job's done document lists, or else this run's record."""
        document = read_done_document(self.context, self.job.id)
        if document is None:
            return PriorResults(None)  # the usual case: the document is written before the record, so neither exists
        outputs = self._select_countable(document.results)
        if not self._does_document_count(document, outputs):
            return self.find_recorded_results()
        results_of: dict[str, str | None] = {"run": document.run, "modified": document.time}
        return PriorResults(outputs, is_recorded=False, results_of=results_of, delivered=document.delivered)

    def _does_document_count(self, document: DoneDocument, outputs: list[ResultFile]) -> bool:
        """Return whether the document is from another run and current, and enough of its results still exist.

        For a job of this run, the record decides.
        """
        run = self.context.settings.run
        return (
            (document.run != run or _parse_run_start(run) is None)
            and not self._is_too_old(_parse_time(document.time))
            and document.endpoint == self.job.output_endpoint
            and self._count_results(outputs, document.delivered) >= self.expected_files
            and do_results_exist(self.context, self.job, outputs)
        )

    def find_listed_results(self) -> PriorResults:
        """Return the files at the job's own output location if they are older than this run, or else this run's record.

        Do not look for a record if there are no files.
        """
        job = self.job
        listed_objects = list_s3_objects(
            self.context.get_s3(job.output_endpoint), job.output_bucket, f"{job.output_location}/", job.upload_arguments
        )
        if not listed_objects:
            return PriorResults(None, listed_objects)  # the usual case: one request
        run_start = _parse_run_start(self.context.settings.run) or datetime.max.replace(tzinfo=UTC)
        older_objects = {
            key: listed
            for key, listed in listed_objects.items()
            if listed.modified < run_start and not self._is_too_old(listed.modified)
        }
        outputs = self._select_countable(
            [ResultFile(job.output_bucket, key, listed.size, "") for key, listed in older_objects.items()]
        )
        if len(outputs) < self.expected_files:
            return self.find_recorded_results()
        by_age = sorted(older_objects, key=lambda key: older_objects[key].modified, reverse=True)
        stored = self._read_object(by_age[0])  # the last file says how many were uploaded together, and who wrote it
        if stored is not None and not self._is_complete(stored, by_age, older_objects):
            return self.find_recorded_results()
        modified = max(older_objects[output.key].modified for output in outputs).timestamp()
        results_of = {
            "run": stored.owner.run if stored and stored.owner else None,
            "modified": build_utc_timestamp(modified),
        }
        return PriorResults(outputs, is_recorded=False, results_of=results_of)

    def _is_complete(self, last: StoredResult, by_age: list[str], listed_objects: dict[str, ListedObject]) -> bool:
        """Return whether all files are there that were uploaded together with the last one.

        If `--again` replaced older results, and the upload was interrupted, the oldest of as many files is one of an
        earlier run. It is only looked up if it is older than the run of the last one. `by_age`: the newest first.
        """
        count, start = last.file_count, _parse_run_start(last.owner.run if last.owner else "")
        if not count:
            return True
        if count > len(by_age):
            return False
        oldest = by_age[count - 1]
        if last.owner is None or start is None or listed_objects[oldest].modified >= start:
            return True
        stored = self._read_object(oldest)
        return stored is None or stored.owner is None or stored.owner.run == last.owner.run

    def _read_object(self, key: str) -> StoredResult | None:
        """Return what S3 says about a result, or None if it may not be read."""
        job = self.job
        s3 = self.context.get_s3(job.output_endpoint)
        try:
            return read_stored_result(s3, job.output_bucket, key, job.upload_arguments, with_checksum=False)
        except ClientError as error:
            if is_access_denied(error):
                return None
            raise

    def _select_countable(self, outputs: list[ResultFile]) -> list[ResultFile]:
        """Return the files that are large enough and have the necessary string in their keys."""
        settings = self.context.settings
        return [
            output
            for output in outputs
            if output.size >= settings.min_file_size_bytes and settings.necessary_string in output.key
        ]

    def _count_results(self, outputs: list[ResultFile], delivered: list[Delivery]) -> int:
        """Return how many files count as results: uploaded ones or, if the job uploads none, delivered ones."""
        if self.job.upload_results:
            return len(self._select_countable(outputs))
        settings = self.context.settings
        return sum(
            file.size >= settings.min_file_size_bytes and settings.necessary_string in file.name for file in delivered
        )

    def _is_too_old(self, modified: datetime | None) -> bool:
        """Return whether results from this time do not count. None means that the time is unknown."""
        if self.again_since is None:
            return False
        return modified is None or modified.timestamp() < self.again_since


def _parse_run_start(run: str) -> datetime | None:
    """Return the start time in the run's name, or None for a worker that was started by hand."""
    try:
        return datetime.strptime(run, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _parse_time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
