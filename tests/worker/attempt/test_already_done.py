"""CHECK_IF_DONE_BOOL: when a job counts as done because of existing files, and when it does not."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.worker.attempt.already_done import observe_prior_results
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.job.failures import LostLease
from distributed_something.worker.job.job import Job
from distributed_something.worker.job.worker_settings import read_worker_settings
from distributed_something.worker.transfer import results
from distributed_something.worker.transfer.results import ResultDestination, upload_results

# This run starts later than any file in these tests, so all files belong to an earlier run.
SETTINGS = read_worker_settings(
    {"APP_NAME": "App", "SQS_QUEUE_URL": "u", "AWS_BUCKET": "ours", "RUN": "20991231T000000Z"}
    | {"EXPECTED_NUMBER_FILES": "2", "MIN_FILE_SIZE_BYTES": "3", "NECESSARY_STRING": ".tif"}
)
JOB = Job(id="j", command="true", input_bucket="ours", output_bucket="ours", output_location="out/j")


def find_result_keys(s3: Any, *keys: str, size: int = 3, **settings: Any) -> list[str] | None:
    """Put objects at these keys, and return the keys of the job's results; None if the job does not count as done."""
    for key in keys:
        s3.put_object(Bucket="ours", Key=key, Body=b"x" * size)
    context = WorkerContext(replace(SETTINGS, **settings), None, s3)
    outputs = observe_prior_results(context, JOB, is_first_attempt=True).outputs
    return None if outputs is None else [output.key for output in outputs]


def test_a_job_with_as_many_files_as_expected_counts_as_done(s3: Any) -> None:
    assert find_result_keys(s3, "out/j/a.tif") is None
    assert find_result_keys(s3, "out/j/deep/b.tif") == ["out/j/a.tif", "out/j/deep/b.tif"]


def test_files_that_are_too_small_do_not_count(s3: Any) -> None:
    assert find_result_keys(s3, "out/j/a.tif", "out/j/b.tif", size=2) is None


def test_files_without_the_necessary_string_in_their_key_do_not_count(s3: Any) -> None:
    assert find_result_keys(s3, "out/j/a.tif", "out/j/b.csv") is None
    assert find_result_keys(s3, necessary_string="") == ["out/j/a.tif", "out/j/b.csv"]


def test_files_of_a_job_whose_name_starts_the_same_way_do_not_count(s3: Any) -> None:
    assert find_result_keys(s3, "out/j2/a.tif", "out/j2/b.tif") is None


def test_files_beyond_the_first_thousand_count(s3: Any) -> None:
    keys = [f"out/j/{number:04}.{'csv' if number < 1000 else 'tif'}" for number in range(1002)]
    assert find_result_keys(s3, *keys) == keys[1000:]


def test_files_do_not_count_if_they_are_from_this_run_or_if_this_is_not_the_first_attempt(s3: Any) -> None:
    assert find_result_keys(s3, "out/j/a.tif", "out/j/b.tif", run="20200101T000000Z") is None
    context = WorkerContext(SETTINGS, None, s3)
    assert observe_prior_results(context, JOB, is_first_attempt=False).outputs is None


def upload_files(s3: Any, folder: Path, *names: str, until: int) -> None:
    """Upload these files like an attempt that dies after the first `until` files."""
    for name in names:
        (folder / name).write_bytes(b"xxx")
    requests: list[str] = []

    def stop_upload(model: Any, **_: Any) -> None:
        if model.name == "PutObject":
            requests.append(model.name)
            if len(requests) > until:
                raise LostLease

    s3.meta.events.register("before-call.s3", stop_upload, unique_id="cut")
    with pytest.raises(LostLease) if until < len(names) else nullcontext():
        upload_results(s3, folder, ResultDestination("ours", "out/j", {"Metadata": {"of": "us"}}))
    s3.meta.events.unregister("before-call.s3", unique_id="cut")


def test_a_job_with_an_incomplete_upload_does_not_count_as_done(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MAX_PARALLEL_REQUESTS", 1)
    names = ("a.tif", "b.tif", "c.tif")
    upload_files(s3, tmp_path, *names, until=2)
    assert find_result_keys(s3, expected_number_files=1) is None
    assert find_result_keys(s3, expected_number_files=2) is None
    upload_files(s3, tmp_path, *names, until=3)
    assert find_result_keys(s3, expected_number_files=1) == [f"out/j/{name}" for name in names]
    assert s3.head_object(Bucket="ours", Key="out/j/a.tif")["Metadata"] == {"job-files": "3", "of": "us"}


def test_two_requests_are_enough_to_detect_that_a_job_is_done(s3: Any, tmp_path: Path) -> None:
    upload_files(s3, tmp_path, "a.tif", "b.tif", until=2)
    requests: list[str] = []
    s3.meta.events.register("before-call.s3", lambda model, **_: requests.append(model.name))
    assert find_result_keys(s3) is not None
    assert requests == ["ListObjectsV2", "HeadObject"]


@pytest.mark.parametrize("file_count", ["many", "", "-1"])
def test_an_invalid_file_count_is_ignored(s3: Any, file_count: str) -> None:
    s3.put_object(Bucket="ours", Key="out/j/a.tif", Body=b"xxx", Metadata={"job-files": file_count})
    assert find_result_keys(s3, expected_number_files=1) == ["out/j/a.tif"]


def test_files_count_even_if_they_can_be_listed_but_not_read(s3: Any) -> None:
    def deny_access(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadObject")

    s3.meta.events.register("before-call.s3.HeadObject", deny_access)
    assert find_result_keys(s3, "out/j/a.tif", "out/j/b.tif") == ["out/j/a.tif", "out/j/b.tif"]


def test_if_no_files_are_expected_only_a_job_with_a_record_counts_as_done(s3: Any) -> None:
    assert find_result_keys(s3, "out/j/a.tif", expected_number_files=0) is None
