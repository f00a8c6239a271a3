"""Compares all results that a run's records list with what is in S3.

Records and results are read in parallel, a few at a time, so that the memory does not depend on their number. If some
results are not as listed, the records are read once more: perhaps another job has replaced them in a shared location.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from distributed_something.observe.documents.parallel import read_in_parallel
from distributed_something.observe.documents.run_start import list_runs
from distributed_something.results.summary import find_run_summary
from distributed_something.results.verify.compare import (
    PROBLEM_STATES,
    CheckedResult,
    ResultState,
    check_result,
    is_result_of,
)
from distributed_something.results.verify.listed_results import (
    ListedResult,
    is_done,
    list_results,
    read_records,
    read_results,
)
from distributed_something.worker import ResultOwner, RunKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.monitor_file import MonitorFile

MAX_KEPT = 10_000  # results of each state whose details are kept; all of them are counted
MAX_PLACES_KEPT = 100  # places to which `deliver` sent results; all of these results are counted
MAX_LATER_RECORDS = 100_000  # records of later runs that are read to find who replaced a result


@dataclass
class Verification:
    """What was found.

    `records`: jobs that have a record; `jobs`: those that are done. `unrecorded`: done jobs without a record, according
    to the run's summary. `states`: the number of results in each state. `checked`: the details of results that are not
    as listed, sorted by key. `elsewhere`: how many results are at other endpoints and other places of `deliver`, keyed
    by the endpoint or place, which are not checked.
    """

    records: int = 0
    jobs: int = 0
    unrecorded: int = 0
    states: Counter[ResultState] = field(default_factory=Counter)
    checked: dict[ResultState, list[CheckedResult]] = field(default_factory=dict)
    elsewhere: Counter[str] = field(default_factory=Counter)

    @property
    def results(self) -> int:
        """Number of results that were checked."""
        return self.states.total()

    @property
    def is_intact(self) -> bool:
        """Whether there are results, and none of them is missing, changed, or unreadable."""
        return self.results > 0 and not self.unrecorded and not any(self.states[state] for state in PROBLEM_STATES)

    @property
    def is_repairable(self) -> bool:
        """Whether running jobs again would replace results that are missing or changed."""
        return any(self.states[state] for state in (ResultState.MISSING, ResultState.CHANGED))

    def add_record(self, record: Mapping[str, Any]) -> None:
        self.records += 1
        self.jobs += is_done(record)
        if is_done(record):
            delivered = record.get("delivered")
            places = [str(entry.get("place")) for entry in (delivered if isinstance(delivered, list) else ())]
            endpoint = _find_endpoint(record)
            places += [endpoint] * len(list_results(record, "")) if endpoint else []
            for place in places:
                is_known = place in self.elsewhere or len(self.elsewhere) < MAX_PLACES_KEPT
                self.elsewhere[place if is_known else "other places"] += 1

    def add_result(self, checked: CheckedResult) -> None:
        self.states[checked.state] += 1
        if checked.state not in (ResultState.INTACT, ResultState.SAME_SIZE):
            kept = self.checked.setdefault(checked.state, [])
            if len(kept) < MAX_KEPT:
                kept.append(checked)

    def set_replaced(self, replaced: Iterable[tuple[CheckedResult, ResultOwner]]) -> None:
        """Turn results that were missing or changed into replaced ones."""
        owners = {id(checked): (checked, owner) for checked, owner in replaced}
        for state in (ResultState.MISSING, ResultState.CHANGED):
            kept = self.checked.get(state, [])
            self.checked[state] = [checked for checked in kept if id(checked) not in owners]
            self.states[state] -= len(kept) - len(self.checked[state])
        for checked, owner in owners.values():
            self.add_result(replace(checked, state=ResultState.REPLACED, by=owner))


def verify_results(
    s3: S3Client, file: MonitorFile, on_result: Callable[[int], object] = lambda count: None
) -> Verification:
    """Compare the run's results with their records. AWS errors are not caught.

    `on_result` is called with the number of results so far. Results at other endpoints are only counted.
    """
    bucket, app = file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME
    verification = Verification()
    results = _iter_results(read_results(s3, bucket, file.keys), verification)
    for _, checked in read_in_parallel(results, partial(check_result, s3, bucket, app)):
        verification.add_result(checked)
        on_result(verification.results)
    _find_replacements(s3, file, verification)
    for kept in verification.checked.values():
        kept.sort(key=lambda checked: (checked.listed.bucket, checked.listed.key, checked.listed.job))
    summary = find_run_summary(s3, file)
    done = summary.jobs.get("done") if summary is not None else None
    verification.unrecorded = max(0, (done or 0) - verification.records)
    return verification


def _iter_results(
    records: Iterable[tuple[Mapping[str, Any], list[ListedResult]]], verification: Verification
) -> Iterator[ListedResult]:
    for record, results in records:
        verification.add_record(record)
        if not _find_endpoint(record):
            yield from results


def _find_endpoint(record: Mapping[str, Any]) -> str:
    return str(record.get("output_endpoint") or "")


def _find_replacements(s3: S3Client, file: MonitorFile, verification: Verification) -> None:
    """Find results that other jobs of this or a later run have replaced, according to these jobs' records.

    What a later run replaced is found only among the first MAX_LATER_RECORDS records. AWS errors are not caught.
    """
    search = _ReplacementSearch(s3, verification)
    if not search.open_results:
        return
    for record in read_records(s3, file.MONITOR_BUCKET_NAME, file.keys):
        search.add_record(record, file.run)
    runs = [
        checked.listed.run
        for kept in search.open_results.values()
        for checked in kept
        if checked.state is ResultState.CHANGED
    ]
    if runs:
        for run, record in islice(_iter_later_records(s3, file, min(runs)), MAX_LATER_RECORDS):
            search.add_record(record, run)
    verification.set_replaced(search.replaced)


def _iter_later_records(s3: S3Client, file: MonitorFile, oldest: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the other runs after the run `oldest`, and the records of each, the newest run first."""
    bucket, app = file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME
    for run in reversed(list_runs(s3, bucket, app)):
        if run > oldest and run != file.run:
            yield from ((run, record) for record in read_records(s3, bucket, RunKeys(app, run)))


class _ReplacementSearch:
    """Looks for the records that explain why results are not as listed.

    `open_results`: the missing and changed results that are not explained yet, keyed by bucket and key. `replaced`: the
    others, with the job and run that replaced them.
    """

    def __init__(self, s3: S3Client, verification: Verification) -> None:
        self._s3 = s3
        self.open_results: dict[tuple[str, str], list[CheckedResult]] = {}
        self.replaced: list[tuple[CheckedResult, ResultOwner]] = []
        for state in (ResultState.MISSING, ResultState.CHANGED):
            for checked in verification.checked.get(state, ()):
                self.open_results.setdefault((checked.listed.bucket, checked.listed.key), []).append(checked)

    def add_record(self, record: Mapping[str, Any], run: str) -> None:
        """Explain results that this record's job has replaced, or whose key now has what this record lists."""
        owner, overwritten = ResultOwner(str(record.get("job")), run), _list_overwritten(record)
        for other in list_results(record, run):
            place = (other.bucket, other.key)
            for checked in list(self.open_results.get(place, ())):
                listed = checked.listed
                is_named = (other.key, listed.job) in overwritten and run == listed.run
                if owner != ResultOwner(listed.job, listed.run) and (is_named or self._is_stored(other, checked)):
                    self.open_results[place].remove(checked)
                    self.replaced.append((checked, owner))

    def _is_stored(self, other: ListedResult, checked: CheckedResult) -> bool:
        return checked.stored is not None and is_result_of(self._s3, other, checked.stored)


def _list_overwritten(record: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the key and job of each file of another job that the record says its job has replaced."""
    entries = record.get("overwritten")
    return {
        (str(entry.get("key")), str(entry.get("job")))
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    }
