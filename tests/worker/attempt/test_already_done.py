"""CHECK_IF_DONE_BOOL: which files in the bucket make a job done, and which do not."""

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

# A run that begins later than anything that a test writes: what is there is of an earlier one.
SETTINGS = read_worker_settings(
    {"APP_NAME": "App", "SQS_QUEUE_URL": "u", "AWS_BUCKET": "ours", "RUN": "20991231T000000Z"}
    | {"EXPECTED_NUMBER_FILES": "2", "MIN_FILE_SIZE_BYTES": "3", "NECESSARY_STRING": ".tif"}
)
JOB = Job(id="j", command="true", input_bucket="ours", output_bucket="ours", output_location="out/j")


def found(s3: Any, *keys: str, size: int = 3, **settings: Any) -> list[str] | None:
    """The keys that make the job done, where these lie at its outputs' place; None where it is to do."""
    for key in keys:
        s3.put_object(Bucket="ours", Key=key, Body=b"x" * size)
    context = WorkerContext(replace(SETTINGS, **settings), None, s3)
    outputs = observe_prior_results(context, JOB, first_try=True).outputs
    return None if outputs is None else [output.key for output in outputs]


def test_as_many_files_as_expected_make_a_job_done(s3: Any) -> None:
    assert found(s3, "out/j/a.tif") is None
    assert found(s3, "out/j/deep/b.tif") == ["out/j/a.tif", "out/j/deep/b.tif"]


def test_files_that_are_too_small_do_not_count(s3: Any) -> None:
    assert found(s3, "out/j/a.tif", "out/j/b.tif", size=2) is None


def test_files_without_the_necessary_text_in_their_key_do_not_count(s3: Any) -> None:
    assert found(s3, "out/j/a.tif", "out/j/b.csv") is None
    assert found(s3, necessary_string="") == ["out/j/a.tif", "out/j/b.csv"]


def test_files_of_another_job_whose_name_begins_alike_do_not_count(s3: Any) -> None:
    assert found(s3, "out/j2/a.tif", "out/j2/b.tif") is None


def test_what_the_program_writes_beyond_the_first_thousand_files_counts(s3: Any) -> None:
    keys = [f"out/j/{number:04}.{'csv' if number < 1000 else 'tif'}" for number in range(1002)]
    assert found(s3, *keys) == keys[1000:]


def test_files_of_this_run_or_after_a_first_try_prove_nothing(s3: Any) -> None:
    assert found(s3, "out/j/a.tif", "out/j/b.tif", run="20200101T000000Z") is None
    context = WorkerContext(SETTINGS, None, s3)
    assert observe_prior_results(context, JOB, first_try=False).outputs is None


def uploaded(s3: Any, folder: Path, *names: str, until: int) -> None:
    """An attempt's upload of these files that ended after the first `until`."""
    for name in names:
        (folder / name).write_bytes(b"xxx")
    sent: list[str] = []

    def note(model: Any, **_: Any) -> None:
        if model.name == "PutObject":
            sent.append(model.name)
            if len(sent) > until:
                raise LostLease

    s3.meta.events.register("before-call.s3", note, unique_id="cut")
    with pytest.raises(LostLease) if until < len(names) else nullcontext():
        upload_results(s3, folder, ResultDestination("ours", "out/j", {"Metadata": {"of": "us"}}))
    s3.meta.events.unregister("before-call.s3", unique_id="cut")


def test_files_of_an_upload_that_never_came_to_its_end_make_no_job_done(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MAX_PARALLEL_REQUESTS", 1)
    names = ("a.tif", "b.tif", "c.tif")
    uploaded(s3, tmp_path, *names, until=2)
    assert found(s3, expected_number_files=1) is None
    assert found(s3, expected_number_files=2) is None
    uploaded(s3, tmp_path, *names, until=3)
    assert found(s3, expected_number_files=1) == [f"out/j/{name}" for name in names]
    assert s3.head_object(Bucket="ours", Key="out/j/a.tif")["Metadata"] == {"job-files": "3", "of": "us"}


def test_a_job_that_is_done_is_known_with_two_requests(s3: Any, tmp_path: Path) -> None:
    uploaded(s3, tmp_path, "a.tif", "b.tif", until=2)
    asked: list[str] = []
    s3.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name))
    assert found(s3) is not None
    assert asked == ["ListObjectsV2", "HeadObject"]


@pytest.mark.parametrize("told", ["many", "", "-1"])
def test_a_number_that_is_none_is_not_asked(s3: Any, told: str) -> None:
    s3.put_object(Bucket="ours", Key="out/j/a.tif", Body=b"xxx", Metadata={"job-files": told})
    assert found(s3, expected_number_files=1) == ["out/j/a.tif"]


def test_files_that_may_be_listed_but_not_read_are_counted(s3: Any) -> None:
    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadObject")

    s3.meta.events.register("before-call.s3.HeadObject", refuse)
    assert found(s3, "out/j/a.tif", "out/j/b.tif") == ["out/j/a.tif", "out/j/b.tif"]


def test_where_no_file_is_expected_only_a_record_tells(s3: Any) -> None:
    assert found(s3, "out/j/a.tif", expected_number_files=0) is None
