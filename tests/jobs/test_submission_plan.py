"""The plan of a submission: what is known about all jobs before the first one is sent."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_something.core.errors import InputError
from distributed_something.jobs.job_file import JobFile, load_job_file
from distributed_something.jobs.submission import plan as plan_module
from distributed_something.jobs.submission.plan import SubmissionPlan, plan_submission


def load_jobs(folder: Path, wells: list[str]) -> JobFile:
    path = folder / "job.json"
    path.write_text(json.dumps({"command": "work {well}", "groups": [{"well": well} for well in wells]}))
    return load_job_file(path, lambda bucket, prefix: [])


def plan(folder: Path, wells: list[str]) -> SubmissionPlan:
    return plan_submission(load_jobs(folder, wells))


@given(wells=st.lists(st.from_regex(r"[A-Z][0-9]{1,4}", fullmatch=True), min_size=1, unique=True), data=st.data())
@settings(max_examples=50)
def test_the_digest_of_the_jobs_is_that_of_their_ids_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, wells: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("jobs")
    ids = [message.id for message in load_jobs(folder, wells).iter_checked_messages()]
    hashes = [hashlib.blake2b(identity.encode(), digest_size=8).digest() for identity in ids]
    expected = sum(int.from_bytes(identity_hash, "big") for identity_hash in hashes) % 2**64
    assert plan(folder, wells).jobs_digest == f"{expected:016x}"
    assert plan(folder, data.draw(st.permutations(wells))).jobs_digest == f"{expected:016x}"


def test_of_each_job_that_occurs_several_times_the_first_numbers_are_named(tmp_path: Path) -> None:
    wells = [f"A{number}" for number in range(1000)]
    wells[10] = wells[20] = wells[999] = wells[5]
    wells[700] = wells[600]
    with pytest.raises(InputError) as caught:
        plan(tmp_path, wells)
    assert [problem.problem for problem in caught.value.problems] == [
        "jobs 6 and 11 and 21 are the same job", "jobs 601 and 701 are the same job",
    ]  # fmt: skip


@given(st.lists(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.none(), min_size=1), min_size=1))
@settings(max_examples=50)
def test_the_plan_keeps_the_messages_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, groups: list[dict[str, object]]
) -> None:
    path = tmp_path_factory.mktemp("jobs") / "job.json"
    numbered = [group | {"number": number} for number, group in enumerate(groups)]
    path.write_text(json.dumps({"command": "work {number}", "groups": numbered}))
    job_file = load_job_file(path, lambda bucket, prefix: [])
    bodies = plan_submission(job_file).bodies
    assert list(bodies) == list(job_file.iter_bodies()) == list(bodies)


@pytest.mark.parametrize("jobs", [1, 1000])
def test_a_full_disk_is_named_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    job_file = load_jobs(tmp_path, [f"A{number}" for number in range(jobs)])
    with open("/dev/full", "w+") as full_disk:
        monkeypatch.setattr(plan_module.tempfile, "TemporaryFile", lambda mode, encoding: full_disk)
        with pytest.raises(InputError, match=r"until they are sent \(No space left on device\); make room, or name"):
            plan_submission(job_file)
        with suppress(OSError):
            full_disk.close()  # it still has text that it cannot write
