"""What a job file amounts to, once every job in it is read and checked. Nothing is sent here."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from dataclasses import dataclass

from distributed_something.core.errors import InputError
from distributed_something.jobs.job_file import JobFile

_SHARD_COUNT = 256


@dataclass(frozen=True)
class SubmissionPlan:
    """How many jobs there are, the first one's body, and a digest of them all."""

    count: int
    first: str
    digest: str


def plan_submission(job_file: JobFile) -> SubmissionPlan:
    """Reads and checks every job without sending anything; raises InputError for the first that is wrong."""
    seen = [array("Q") for _ in range(_SHARD_COUNT)]
    whole, count, first = hashlib.sha256(), 0, ""
    for body, identity in job_file.iter_checked_messages():
        first = first or body
        count += 1
        whole.update(body.encode())
        digest = _hash_identity(identity)
        seen[digest[0]].append(int.from_bytes(digest, "big"))
    if not count:
        raise InputError(job_file.path, job_file.groups_key, "there is no job in it", "list at least one")
    _check_duplicates(job_file, seen)
    return SubmissionPlan(count, first, whole.hexdigest())


def _check_duplicates(job_file: JobFile, seen: list[array[int]]) -> None:
    for shard in seen:
        ordered = sorted(shard)
        twin = next((a for a, b in itertools.pairwise(ordered) if a == b), None)
        if twin is None:
            continue
        places = [
            number
            for number, (_, identity) in enumerate(job_file.iter_checked_messages(), 1)
            if int.from_bytes(_hash_identity(identity), "big") == twin
        ]
        wrong = f"jobs {' and '.join(map(str, places[:3]))} are the same job"
        raise InputError(job_file.path, job_file.groups_key, wrong, "keep one of them")


def _hash_identity(identity: str) -> bytes:
    """Eight bytes of a job's id: a million ids are never in memory."""
    return hashlib.blake2b(identity.encode(), digest_size=8).digest()
