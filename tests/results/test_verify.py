"""Tests of `verify`: results as workers upload them, and everything that can happen to them afterward."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.core.errors import InputError
from distributed_something.results.verify.compare import ResultState, check_result
from distributed_something.results.verify.listed_results import (
    ListedResult,
    VerificationPlan,
    check_run_exists,
    plan_verification,
)
from distributed_something.results.verify.verify_results import Verification, verify_results
from distributed_something.results.verify.view import build_verification_json, format_repair, format_verification
from distributed_something.worker import ResultOwner
from distributed_something.worker.transfer.results import ResultDestination, upload_results
from tests.support.fakes import MONITOR_FILE, RUN
from tests.support.run_documents import RunDocuments, emulated_run

BUCKET = MONITOR_FILE.MONITOR_BUCKET_NAME
EARLIER = replace(MONITOR_FILE, MONITOR_START_TIME=MONITOR_FILE.MONITOR_START_TIME - 7_200_000)
BETWEEN = replace(MONITOR_FILE, MONITOR_START_TIME=MONITOR_FILE.MONITOR_START_TIME - 3_600_000)
LATER = replace(MONITOR_FILE, MONITOR_START_TIME=MONITOR_FILE.MONITOR_START_TIME + 3_600_000)


@pytest.fixture
def run() -> Iterator[RunDocuments]:
    with emulated_run(MONITOR_FILE) as documents:
        yield documents


def finish_job(
    documents: RunDocuments, folder: Path, job: str, files: Mapping[str, bytes], *, location: str = "",
    run: str = RUN, **more: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Upload the files as the worker does, write the job's record, and return what it lists."""
    folder = folder / job
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    owner = ResultOwner(job, run)
    outputs = upload_results(documents.s3, folder, ResultDestination(BUCKET, location or f"results/{job}", owner=owner))
    entries = [output.build_record_entry() for output in outputs]
    documents.end_job(job, outputs=entries, **more)
    return entries


def verify(run: RunDocuments) -> Verification:
    return verify_results(run.s3, MONITOR_FILE)


def list_found(verification: Verification, state: ResultState) -> list[tuple[str, str]]:
    return [(checked.listed.job, checked.listed.key) for checked in verification.checked.get(state, [])]


def put(run: RunDocuments, key: str, body: bytes, owner: ResultOwner | None = None) -> None:
    metadata = {"Metadata": owner.build_metadata()} if owner else {}
    run.s3.put_object(Bucket=BUCKET, Key=key, Body=body, **metadata)


def test_an_untouched_run_is_intact(run: RunDocuments, tmp_path: Path) -> None:
    finish_job(run, tmp_path, "a", {"1.txt": b"one", "2.txt": b"two"})
    finish_job(run, tmp_path, "b", {"empty": b""})
    run.end_job("c", "failed", outputs=[])
    run.s3.reads.clear()

    verification = verify(run)

    assert verification.is_intact
    assert (verification.jobs, verification.results) == (2, 3)
    assert verification.states == {ResultState.INTACT: 3}
    assert len([read for read in run.s3.reads if "/jobs/" in read["Key"]]) == 3
    assert format_verification(verification, RUN, "App").splitlines()[-1].endswith("nothing is missing or changed")


def test_a_result_with_one_other_byte_is_named_as_changed(run: RunDocuments, tmp_path: Path) -> None:
    finish_job(run, tmp_path, "a", {"1.txt": b"one", "2.txt": b"two"})
    put(run, "results/a/2.txt", b"twO")

    verification = verify(run)

    assert list_found(verification, ResultState.CHANGED) == [("a", "results/a/2.txt")]
    assert not verification.is_intact
    text = format_verification(verification, RUN, "App")
    assert f"s3://{BUCKET}/results/a/2.txt" in text
    assert "of a: another checksum than in the record" in text
    found = json.loads(build_verification_json(verification, RUN, "App"))
    assert found["ok"] is False
    assert [(entry["job"], entry["key"], entry["differs"]) for entry in found["changed"]["results"]] == [
        ("a", "results/a/2.txt", "checksum")
    ]


def test_a_changed_result_with_the_metadata_of_its_own_job_is_changed(run: RunDocuments, tmp_path: Path) -> None:
    finish_job(run, tmp_path, "a", {"1.txt": b"one"})
    put(run, "results/a/1.txt", b"onE", ResultOwner("a", RUN))

    assert list_found(verify(run), ResultState.CHANGED) == [("a", "results/a/1.txt")]


def test_a_result_of_another_size_is_named_with_both_sizes(run: RunDocuments, tmp_path: Path) -> None:
    finish_job(run, tmp_path, "a", {"1.txt": b"one"})
    put(run, "results/a/1.txt", b"longer")

    assert "of a: 6 bytes instead of 3" in format_verification(verify(run), RUN, "App")


def test_a_deleted_result_is_named_as_missing(run: RunDocuments, tmp_path: Path) -> None:
    finish_job(run, tmp_path, "a", {"1.txt": b"one"})
    run.s3.delete_object(Bucket=BUCKET, Key="results/a/1.txt")

    verification = verify(run)

    assert list_found(verification, ResultState.MISSING) == [("a", "results/a/1.txt")]
    assert not verification.is_intact
    assert format_verification(verification, RUN, "App").splitlines()[-1] == "verdict         1 missing"


def test_a_result_without_sha256_in_s3_is_read(run: RunDocuments, tmp_path: Path) -> None:
    """For example, another program has copied the file back from an archive."""
    finish_job(run, tmp_path, "a", {"1.txt": b"one"})
    put(run, "results/a/1.txt", b"one")

    assert verify(run).states == {ResultState.INTACT: 1}


def test_a_file_in_parts_is_compared_by_the_checksum_of_its_parts(run: RunDocuments, tmp_path: Path) -> None:
    content = bytes(17 * 1024 * 1024)
    (entry,) = finish_job(run, tmp_path, "a", {"large": content})
    checksum = {"checksum_crc32": "AAAAAA==-2"}
    run.end_job("a", outputs=[entry | checksum])
    heads = _HeadChanger(run.s3, {"ChecksumCRC32": "AAAAAA==-2", "ChecksumSHA256": ""})
    run.s3, run.s3.reads = heads, heads.reads

    assert verify(run).states == {ResultState.INTACT: 1}
    assert not [read for read in heads.reads if read["Key"] == "results/a/large"]

    heads.changes["ChecksumCRC32"] = "BBBBBB==-3"  # a copy in other parts: only its content can tell
    assert verify(run).states == {ResultState.INTACT: 1}
    assert [read for read in heads.reads if read["Key"] == "results/a/large"]

    put(run, "results/a/large", content[:-1] + b"1")
    assert verify(run).states[ResultState.CHANGED] == 1


def test_a_large_file_of_an_older_worker_is_compared_by_its_size(run: RunDocuments, tmp_path: Path) -> None:
    (entry,) = finish_job(run, tmp_path, "a", {"large": bytes(17 * 1024 * 1024)})
    run.end_job("a", outputs=[{key: value for key, value in entry.items() if key != "checksum_crc32"}])
    run.s3 = _HeadChanger(run.s3, {"ChecksumCRC32": "AAAAAA==-2", "ChecksumSHA256": ""})

    verification = verify(run)

    assert verification.states == {ResultState.SAME_SIZE: 1}
    assert verification.is_intact
    assert "1 with the size in the record" in format_verification(verification, RUN, "App")


def test_a_result_that_a_job_found_there_is_compared_by_its_size(run: RunDocuments) -> None:
    put(run, "results/a/1", b"one")
    run.end_job("a", "skipped", outputs=[build_entry("results/a/1", 3)])
    put(run, "results/b/1", b"one")
    run.end_job("b", "skipped", outputs=[build_entry("results/b/1", 4)])

    verification = verify(run)

    assert verification.states[ResultState.SAME_SIZE] == 1
    assert list_found(verification, ResultState.CHANGED) == [("b", "results/b/1")]

    put(run, "results/b/1", b"four")
    text = " ".join(format_verification(verify(run), RUN, "App").split())
    assert text.endswith("verdict nothing is missing or changed; of 2 results, only the size was compared")


@pytest.mark.parametrize("owner", [None, ResultOwner("a", EARLIER.run)])
def test_damage_to_a_result_that_an_earlier_run_uploaded_is_found(
    run: RunDocuments, tmp_path: Path, owner: ResultOwner | None
) -> None:
    """After a canary, the run of the entire Job file skips its jobs, and their records have no checksums."""
    finish_job(RunDocuments(run.s3, EARLIER), tmp_path, "a", {"1.txt": b"one"}, run=EARLIER.run)
    for file in (BETWEEN, MONITOR_FILE):
        RunDocuments(run.s3, file).end_job("a", "skipped", outputs=[build_entry("results/a/1.txt", 3)])
    assert verify(run).states == {ResultState.INTACT: 1}

    put(run, "results/a/1.txt", b"onE", owner)

    assert list_found(verify(run), ResultState.CHANGED) == [("a", "results/a/1.txt")]


def test_a_result_that_a_run_before_this_one_replaced_is_not_damage(run: RunDocuments, tmp_path: Path) -> None:
    finish_job(RunDocuments(run.s3, EARLIER), tmp_path, "a", {"shared": b"one"}, location="all", run=EARLIER.run)
    between = RunDocuments(run.s3, BETWEEN)
    finish_job(between, tmp_path, "b", {"shared": b"two"}, location="all", run=BETWEEN.run)
    put(run, "all/shared", b"two")
    run.end_job("a", "skipped", outputs=[build_entry("all/shared", 3)])

    assert list_found(verify(run), ResultState.REPLACED) == [("a", "all/shared")]


def test_a_result_of_another_job_that_was_found_there_is_compared_with_its_record(
    run: RunDocuments, tmp_path: Path
) -> None:
    earlier = RunDocuments(run.s3, EARLIER)
    finish_job(earlier, tmp_path, "other", {"1.txt": b"one"}, location="results/a", run=EARLIER.run)
    run.end_job("a", "skipped", outputs=[build_entry("results/a/1.txt", 3)])
    assert verify(run).states == {ResultState.INTACT: 1}

    put(run, "results/a/1.txt", b"onE", ResultOwner("other", EARLIER.run))
    assert verify(run).states[ResultState.CHANGED] == 1


def test_the_records_of_earlier_runs_are_part_of_the_plan(run: RunDocuments) -> None:
    RunDocuments(run.s3, EARLIER).end_job("a", outputs=[])
    run.end_job("a", "skipped", outputs=[build_entry("results/a/1.txt", 3)])

    plan = plan_verification(run.s3, BUCKET, MONITOR_FILE.keys)

    assert (plan.requests, plan.is_exact) == (3, False)


def test_a_result_that_another_job_of_the_run_replaced_is_not_damage(run: RunDocuments, tmp_path: Path) -> None:
    finish_job(run, tmp_path, "a", {"shared": b"one"}, location="all")
    put(run, "all/shared", b"two", ResultOwner("b", RUN))
    finish_job(run, tmp_path, "b", {"shared": b"two"}, location="all", overwritten=[{"key": "all/shared", "job": "a"}])

    verification = verify(run)

    assert verification.is_intact
    assert list_found(verification, ResultState.REPLACED) == [("a", "all/shared")]
    text = " ".join(format_verification(verification, RUN, "App").split())
    assert f"of a: replaced by b in the run {RUN}" in text
    assert "1 replaced by later uploads, which is not damage" in text


def test_a_damaged_file_that_several_jobs_wrote_is_damage_of_the_last_one(run: RunDocuments) -> None:
    for job, content, before in (("a", "1" * 64, None), ("b", "2" * 64, "a"), ("c", "3" * 64, "b")):
        overwritten = [{"key": "all/shared", "job": before}] if before else []
        run.end_job(job, outputs=[build_entry("all/shared", 3, content)], overwritten=overwritten)
    put(run, "all/shared", b"bad")

    verification = verify(run)

    assert list_found(verification, ResultState.CHANGED) == [("c", "all/shared")]
    assert [job for job, _ in list_found(verification, ResultState.REPLACED)] == ["a", "b"]

    run.s3.delete_object(Bucket=BUCKET, Key="all/shared")
    assert list_found(verify(run), ResultState.MISSING) == [("c", "all/shared")]


def test_a_result_that_a_record_without_metadata_explains_is_replaced(run: RunDocuments, tmp_path: Path) -> None:
    """Older workers wrote no metadata."""
    finish_job(run, tmp_path, "a", {"shared": b"one"}, location="all")
    finish_job(run, tmp_path, "b", {"shared": b"two"}, location="all")
    put(run, "all/shared", b"two")

    assert list_found(verify(run), ResultState.REPLACED) == [("a", "all/shared")]


@pytest.mark.parametrize("owner", [None, ResultOwner("x", LATER.run)])
def test_a_result_that_a_later_run_replaced_is_not_damage(
    run: RunDocuments, tmp_path: Path, owner: ResultOwner | None
) -> None:
    finish_job(run, tmp_path, "a", {"shared": b"one"}, location="all")
    later = RunDocuments(run.s3, LATER)
    finish_job(later, tmp_path / "later", "x", {"shared": b"new"}, location="all", run=LATER.run)
    put(run, "all/shared", b"new", owner)

    verification = verify(run)

    assert verification.is_intact
    (checked,) = verification.checked[ResultState.REPLACED]
    assert checked.by == ResultOwner("x", LATER.run)

    put(run, "all/shared", b"bad", owner)  # damage after the replacement: the later record does not list this
    assert list_found(verify(run), ResultState.CHANGED) == [("a", "all/shared")]


def test_a_result_that_a_job_without_a_record_replaced_is_not_damage(run: RunDocuments, tmp_path: Path) -> None:
    """A job of this run may have uploaded its results a moment ago, and its record is not written yet."""
    finish_job(run, tmp_path, "a", {"shared": b"one"}, location="all")
    put(run, "all/shared", b"two", ResultOwner("b", RUN))

    assert list_found(verify(run), ResultState.REPLACED) == [("a", "all/shared")]


def test_an_older_version_of_a_result_is_damage(run: RunDocuments, tmp_path: Path) -> None:
    finish_job(run, tmp_path, "a", {"1.txt": b"one"})
    put(run, "results/a/1.txt", b"old", ResultOwner("a", "20200101T000000Z"))

    assert list_found(verify(run), ResultState.CHANGED) == [("a", "results/a/1.txt")]


def test_results_elsewhere_are_counted_and_named(run: RunDocuments) -> None:
    delivered = [{"place": "sftp://store/plates", "name": name, "size": 1, "checksum": "md5:1"} for name in "abc"]
    run.end_job("a", outputs=[], delivered=delivered)
    run.end_job("b", outputs=[build_entry("k", 3)], output_endpoint="https://s3.example.org")

    verification = verify(run)

    assert not verification.is_intact, "nothing was verified"
    assert verification.elsewhere == {"sftp://store/plates": 3, "https://s3.example.org": 1}
    text = " ".join(format_verification(verification, RUN, "App").split())
    assert "not checked 3 results at sftp://store/plates" in text
    assert "not checked 1 result at https://s3.example.org" in text


def test_a_result_that_may_not_be_read_is_named(run: RunDocuments) -> None:
    run.end_job("a", outputs=[build_entry("k", 3)])

    def refuse(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadObject")

    run.s3.head_object = refuse
    verification = verify(run)

    assert not verification.is_intact
    assert list_found(verification, ResultState.UNREADABLE) == [("a", "k")]
    assert "of a: S3 refuses to show it (403)" in format_verification(verification, RUN, "App")


def test_a_run_without_results_is_not_verified(run: RunDocuments) -> None:
    run.end_job("a", "failed", outputs=[])

    verification = verify(run)

    assert not verification.is_intact
    assert format_verification(verification, RUN, "App").splitlines()[-1].endswith("no results to verify")
    assert json.loads(build_verification_json(verification, RUN, "App"))["ok"] is False


def test_a_run_without_anything_in_the_bucket_is_refused(run: RunDocuments) -> None:
    keys, nothing = MONITOR_FILE.keys, VerificationPlan(0, 0, is_exact=True)
    with pytest.raises(InputError, match="there is no such run of"):
        check_run_exists(run.s3, BUCKET, keys, nothing)

    check_run_exists(run.s3, BUCKET, keys, VerificationPlan(1, 0, is_exact=True))
    run.put_object(keys.run_document, b"{}")
    check_run_exists(run.s3, BUCKET, keys, nothing)


def test_the_repair_names_the_commands_to_type() -> None:
    assert format_repair(["python run.py setup", "python run.py submitJob files/j.json"]).splitlines()[-2:] == [
        "next: python run.py setup",
        "      python run.py submitJob files/j.json",
    ]


def test_done_jobs_without_a_record_are_a_problem(run: RunDocuments, tmp_path: Path) -> None:
    finish_job(run, tmp_path, "a", {"1.txt": b"one"})
    run.put_object(MONITOR_FILE.keys.summary, b"text")
    run.put_object(MONITOR_FILE.keys.summary_data, json.dumps({"clean": True, "jobs": {"done": 3}}).encode())

    verification = verify(run)

    assert verification.unrecorded == 2
    assert not verification.is_intact


def test_the_number_of_requests_is_estimated_from_some_of_the_records(run: RunDocuments) -> None:
    for number in range(120):
        run.end_job(f"job-{number}", outputs=[build_entry(f"{number}/{part}", 1) for part in range(3)])
        run.put(f"job-{number}.1-x.log.txt", b"a log")

    plan = plan_verification(run.s3, BUCKET, MONITOR_FILE.keys)

    assert (plan.records, plan.results, plan.is_exact) == (120, 360, False)
    assert plan.requests == 480
    assert plan.cost == pytest.approx(480 * 0.0004 / 1000)


def test_ten_thousand_results_are_verified_in_bounded_memory() -> None:
    small, large = measure_peak(500), measure_peak(10_000)

    assert large < small + 2_000_000, "the memory depends on the number of results"


def measure_peak(count: int) -> int:
    """Return the most bytes that verifying this many results took at once."""
    s3 = _LargeRun(count)
    tracemalloc.start()
    try:
        verification = verify_results(s3, MONITOR_FILE)  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert verification.states == {ResultState.INTACT: count}
    return peak


def test_a_result_in_a_bucket_that_does_not_exist_is_missing(run: RunDocuments) -> None:
    listed = ListedResult("a", RUN, "no-such-bucket", "k", 1, "1" * 64)

    assert check_result(run.s3, BUCKET, "App", listed).state is ResultState.MISSING


def build_entry(key: str, size: int, checksum: str = "") -> dict[str, Any]:
    return {"bucket": BUCKET, "key": key, "size": size, "checksum_sha256": checksum}


class _HeadChanger:
    """An S3 client whose HeadObject responses are changed: moto computes no checksum of parts."""

    def __init__(self, s3: Any, changes: dict[str, str]) -> None:
        self._s3, self.changes, self.reads = s3, changes, s3.reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._s3, name)

    def head_object(self, **request: Any) -> Any:
        response = self._s3.head_object(**request) | self.changes
        return {key: value for key, value in response.items() if value}


class _LargeRun:
    """An S3 client for a run in which each job has 10 results, without storing anything."""

    def __init__(self, results: int) -> None:
        self._jobs = results // 10

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, *, Prefix: str, **_: Any) -> Iterator[dict[str, Any]]:
        for start in range(0, self._jobs if Prefix.endswith("jobs/") else 0, 1000):
            numbers = range(start, min(start + 1000, self._jobs))
            yield {"Contents": [{"Key": f"{Prefix}{number}.json", "ETag": "e"} for number in numbers]}

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:
        if "/jobs/" not in Key:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "none"}}, "GetObject")
        job = Key.rpartition("/")[2].removesuffix(".json")
        outputs = [build_entry(f"results/{job}/{part}-{'x' * 500}", 1, "00" * 32) for part in range(10)]
        return {"Body": BytesIO(json.dumps({"job": job, "state": "done", "outputs": outputs}).encode())}

    def head_object(self, *, ChecksumMode: str, **_: Any) -> dict[str, Any]:
        assert ChecksumMode == "ENABLED"
        return {"ContentLength": 1, "ETag": "e", "ChecksumSHA256": "A" * 43 + "="}
