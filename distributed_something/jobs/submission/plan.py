"""The plan for a submission: the number of jobs in a job file, counted while the jobs are checked.

Nothing is sent here.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from distributed_something.core.errors import MAX_PROBLEMS_SHOWN, InputError, InputProblems
from distributed_something.jobs.job_file import JobFile
from distributed_something.jobs.sources import build_problem_collector
from distributed_something.jobs.submission.prior_results import ResultPlaces, build_result_places

_SHARD_COUNT = 256
_NUMBERS_SHOWN = 3  # of identical jobs


@dataclass(frozen=True)
class SubmissionPlan:
    """The number of jobs, the body of the first message, and a digest of all messages.

    `jobs_digest`: as in SubmissionDocument. `places`: where the results will be.
    """

    count: int
    first: str
    digest: str
    jobs_digest: str = ""
    places: ResultPlaces = field(default_factory=ResultPlaces)


def plan_submission(job_file: JobFile) -> SubmissionPlan:
    """Read and check every job without sending anything. Raise a single InputError that lists all invalid jobs."""
    problems = InputProblems()
    shards = [array("Q") for _ in range(_SHARD_COUNT)]
    digest, count, first, ids_sum = hashlib.sha256(), 0, "", 0
    places = build_result_places(job_file)
    for message in job_file.iter_checked_messages(build_problem_collector(problems)):
        first = first or message.body
        count += 1
        digest.update(message.body.encode())
        identity_hash = _hash_id(message.id)
        shards[identity_hash >> 56].append(identity_hash)
        ids_sum += identity_hash  # does not depend on the order
        places.add_job(message)
    for error in _iter_duplicate_errors(job_file, shards):
        problems.add(error)
    problems.raise_if_any()
    if not count:
        raise InputError(job_file.path, job_file.groups_key, "it contains no jobs", "list at least one")
    return SubmissionPlan(count, first, digest.hexdigest(), f"{ids_sum % 2**64:016x}", places)


def _hash_id(text: str) -> int:
    """Return a 64-bit hash, the same in every process; a million complete job IDs would need too much memory."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _iter_duplicate_errors(job_file: JobFile, shards: list[array[int]]) -> Iterator[InputError]:
    """Yield an error for each job that occurs several times, up to the maximum number that is shown."""
    duplicates = itertools.islice(_iter_duplicates(shards), MAX_PROBLEMS_SHOWN + 1)
    numbers: dict[int, list[int]] = {identity_hash: [] for identity_hash in duplicates}
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


def _iter_duplicates(shards: list[array[int]]) -> Iterator[int]:
    """Yield each hash that occurs several times. To save memory, only one shard is sorted at a time."""
    for shard in shards:
        pairs = itertools.pairwise(sorted(shard))
        yield from dict.fromkeys(first for first, second in pairs if first == second)
