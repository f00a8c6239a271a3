"""CHECK_IF_DONE_BOOL: when a job counts as done because of existing files, and when it does not."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.worker.attempt import already_done
from distributed_something.worker.attempt.already_done import observe_prior_results
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.job.failures import LostLease
from distributed_something.worker.job.job import Job
from distributed_something.worker.job.worker_settings import read_worker_settings
from distributed_something.worker.transfer import s3_file
from distributed_something.worker.transfer.results import ResultDestination, upload_results
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects
from tests.support.objects import put_objects

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
    monkeypatch.setattr(s3_file, "MAX_PARALLEL_REQUESTS", 1)
    names = ("a.tif", "b.tif", "c.tif")
    upload_files(s3, tmp_path, *names, until=2)
    assert find_result_keys(s3, expected_number_files=1) is None
    assert find_result_keys(s3, expected_number_files=2) is None
    upload_files(s3, tmp_path, *names, until=3)
    assert find_result_keys(s3, expected_number_files=1) == [f"out/j/{name}" for name in names]
    assert s3.head_object(Bucket="ours", Key="out/j/a.tif")["Metadata"] == {"job-files": "3", "of": "us"}


class AgedUploads:
    """Uploads to the job's location, whose files get the given times: minutes after 10:00 on 23 November 2026."""

    def __init__(self, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._s3, self._minutes = s3, dict[str, int]()
        monkeypatch.setattr(already_done, "list_s3_objects", self._list_objects)

    def put(self, names: str, run_minute: int, minute: int, count: int) -> None:
        """Put files as an upload of `count` files does, in a run that began at `run_minute`."""
        metadata = {"job-files": str(count), "job-id": "j", "job-run": f"20261123T10{run_minute:02}00Z"}
        for name in names:
            self._minutes[key := f"out/j/{name}.tif"] = minute
            self._s3.put_object(Bucket="ours", Key=key, Body=b"xxx", Metadata=metadata)

    def _list_objects(self, *arguments: Any) -> dict[str, ListedObject]:
        start = datetime(2026, 11, 23, 10, tzinfo=UTC)
        listed = list_s3_objects(*arguments)
        return {key: replace(listed[key], modified=start + timedelta(minutes=self._minutes[key])) for key in listed}


@pytest.mark.parametrize("run_minute", [20, 31])  # the second clock is two minutes ahead of S3's
@pytest.mark.parametrize(("replaced", "is_done"), [("a", False), ("ab", False), ("abc", True)])
def test_results_do_not_count_if_an_interrupted_run_has_replaced_some_of_them(
    s3: Any, monkeypatch: pytest.MonkeyPatch, run_minute: int, replaced: str, *, is_done: bool
) -> None:
    """This happens with `--again`. There are as many files as before, so their number does not show it."""
    uploads = AgedUploads(s3, monkeypatch)
    uploads.put("abc", run_minute=0, minute=10, count=3)
    uploads.put(replaced, run_minute, minute=30, count=3)
    assert (find_result_keys(s3) is not None) is is_done


def test_older_files_beside_a_complete_upload_do_not_make_it_incomplete(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = AgedUploads(s3, monkeypatch)
    uploads.put("abcd", run_minute=0, minute=10, count=4)
    uploads.put("ab", run_minute=20, minute=30, count=2)
    assert find_result_keys(s3) == [f"out/j/{name}.tif" for name in "abcd"]


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


# The current message: what it expects, and whether it was submitted with --again


RUN = "20991231T000000Z"


def observe(s3: Any, job: Job = JOB, *, first: bool = True, message_id: str = "m", again: str = "", **more: Any) -> Any:
    """Return the prior results. `again` is the time of the submission with --again."""
    context = WorkerContext(replace(SETTINGS, **more), None, s3)
    again_since = datetime.fromisoformat(again).timestamp() if again else None
    return observe_prior_results(context, job, is_first_attempt=first, message_id=message_id, again_since=again_since)


def put_record(s3: Any, **more: Any) -> None:
    outputs = [build_entry(key) for key in ("out/j/a.tif", "out/j/b.tif")]
    record = {"job": "j", "state": "done", "outputs": outputs, "ended": "2026-11-23T10:45:00.000Z", **more}
    s3.put_object(Bucket="ours", Key=f"runs/App/{RUN}/jobs/j.json", Body=json.dumps(record))


def build_entry(key: str, content: bytes = b"xxx") -> dict[str, Any]:
    checksum = hashlib.sha256(content).hexdigest()
    return {"bucket": "ours", "key": key, "size": len(content), "checksum_sha256": checksum}


def test_the_results_of_an_earlier_run_are_described_by_their_run_and_age(s3: Any) -> None:
    for key, run in (("out/j/a.tif", "20200101T000000Z"), ("out/j/b.tif", "")):
        s3.put_object(Bucket="ours", Key=key, Body=b"xxx", Metadata={"job-id": "j", "job-run": run} if run else {})
    prior = observe(s3, replace(JOB, expected_files=1), necessary_string="a.tif")
    assert not prior.is_recorded
    assert prior.results_of["modified"].startswith("20")
    assert prior.results_of["modified"].endswith("Z")
    s3.delete_object(Bucket="ours", Key="out/j/b.tif")
    assert observe(s3, replace(JOB, expected_files=1)).results_of["run"] == "20200101T000000Z"
    s3.put_object(Bucket="ours", Key="out/j/a.tif", Body=b"xxx")
    assert observe(s3, replace(JOB, expected_files=1)).results_of["run"] is None


def test_listed_files_that_are_older_than_a_submission_with_again_do_not_count(s3: Any) -> None:
    put_objects(s3, "out/j/a.tif", "out/j/b.tif")
    assert observe(s3, again="2020-01-01T00:00:00.000Z").outputs is not None
    assert observe(s3, again="2098-01-01T00:00:00.000Z").outputs is None


def test_a_second_delivery_of_the_same_message_differs_from_a_job_that_is_already_there(s3: Any) -> None:
    put_record(s3, message_id="m")
    assert observe(s3, first=False).is_recorded
    prior = observe(s3, first=False, message_id="another")
    assert not prior.is_recorded
    assert prior.results_of == {"run": RUN, "modified": "2026-11-23T10:45:00.000Z"}
    put_record(s3)  # from an older worker
    assert observe(s3, first=False).is_recorded


def test_a_record_of_this_run_counts_only_if_its_results_satisfy_the_current_number_of_files(s3: Any) -> None:
    put_record(s3, message_id="m")
    job = replace(JOB, expected_files=3)
    assert observe(s3, job, first=False, message_id="another").outputs is None
    assert len(observe(s3, job, first=False).outputs) == 2  # the same message was delivered twice
    assert len(observe(s3, replace(JOB, expected_files=2), first=False, message_id="another").outputs) == 2


@pytest.mark.parametrize("ended", ["2026-11-23T10:44:59.999Z", "yesterday", None])
def test_a_record_of_this_run_that_is_older_than_a_submission_with_again_does_not_count(
    s3: Any, ended: str | None
) -> None:
    put_record(s3, message_id="m", ended=ended)
    assert observe(s3, first=False, message_id="another", again="2026-11-23T10:45:00.000Z").outputs is None
    assert observe(s3, first=False, again="2026-11-23T10:45:00.000Z").outputs is not None


def test_a_record_that_a_job_was_skipped_is_as_old_as_the_results_that_it_is_about(s3: Any) -> None:
    origin = {"run": "20261101T000000Z", "modified": "2026-11-01T01:00:00.000Z"}
    put_record(s3, message_id="m", state="skipped", results_of=origin)
    assert observe(s3, first=False).is_recorded
    assert observe(s3, first=False, message_id="another").results_of == origin
    assert observe(s3, first=False, message_id="another", again="2026-11-02T00:00:00.000Z").outputs is None


# Done documents


DOCUMENTED = replace(JOB, has_done_document=True)


def put_document(s3: Any, count: int = 2, **more: Any) -> None:
    """Put a done document with this many results, and the result files."""
    keys = [f"out/j/{number}.tif" for number in range(count)]
    for key in keys:
        s3.put_object(Bucket="ours", Key=key, Body=b"xxx", Metadata={"job-id": "j", "job-run": "r"})
    document = {"job": "j", "run": "20261123T104500Z", "time": "2026-11-23T11:00:00.000Z"}
    document |= {"results": [build_entry(key) for key in keys], **more}
    s3.put_object(Bucket="ours", Key="runs/App/done/j.json", Body=json.dumps(document))


def test_a_done_document_counts_at_every_attempt_instead_of_the_files(s3: Any) -> None:
    put_objects(s3, "out/j/a.tif", "out/j/b.tif", "out/j/c.tif")
    assert observe(s3, DOCUMENTED).outputs is None
    put_document(s3)
    for is_first in (True, False):
        prior = observe(s3, DOCUMENTED, first=is_first)
        assert [output.key for output in prior.outputs] == ["out/j/0.tif", "out/j/1.tif"]
        assert prior.results_of == {"run": "20261123T104500Z", "modified": "2026-11-23T11:00:00.000Z"}
        assert not prior.is_recorded


@pytest.mark.parametrize(
    "values",
    [
        {"expected_number_files": 3},
        {"min_file_size_bytes": 4},
        {"necessary_string": ".csv"},
        {"run": "20261123T104500Z"},
    ],
)
def test_a_done_document_must_satisfy_the_config_and_be_from_another_run(s3: Any, values: dict[str, Any]) -> None:
    put_document(s3)
    assert observe(s3, DOCUMENTED, **values).outputs is None


def test_a_done_document_must_satisfy_the_current_number_of_expected_files(s3: Any) -> None:
    put_document(s3, 3)
    assert observe(s3, replace(DOCUMENTED, expected_files=4)).outputs is None
    assert len(observe(s3, replace(DOCUMENTED, expected_files=3)).outputs) == 3


def test_a_done_document_without_results_counts_if_no_files_are_expected(s3: Any) -> None:
    put_document(s3, 0)
    assert observe(s3, DOCUMENTED, expected_number_files=0).outputs == []


def test_a_done_document_that_is_older_than_a_submission_with_again_does_not_count(s3: Any) -> None:
    put_document(s3)
    assert observe(s3, DOCUMENTED, again="2026-11-23T10:59:59.000Z").outputs is not None
    assert observe(s3, DOCUMENTED, again="2026-11-23T11:00:01.000Z").outputs is None
    put_document(s3, time="soon")
    assert observe(s3, DOCUMENTED, again="2026-11-23T10:59:59.000Z").outputs is None


@pytest.mark.parametrize("content", [None, b"yyyy", b"yyy"])
def test_a_done_document_does_not_count_if_a_result_is_deleted_or_now_another_jobs(
    s3: Any, content: bytes | None
) -> None:
    put_document(s3)
    if content is None:
        s3.delete_object(Bucket="ours", Key="out/j/1.tif")
    else:
        s3.put_object(Bucket="ours", Key="out/j/1.tif", Body=content, Metadata={"job-id": "k", "job-run": "r"})
    assert observe(s3, DOCUMENTED).outputs is None
    replaceable = observe(s3, replace(DOCUMENTED, shared_location=True, may_replace=True))
    assert (replaceable.outputs is None) == (content is None)


def test_s3s_checksum_shows_whether_a_result_is_unchanged(s3: Any) -> None:
    put_document(s3)
    checksums = {"out/j/0.tif": b"xxx", "out/j/1.tif": b"yyy"}

    def add_checksum(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["key"] = params["Key"]

    def answer(parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        digest = hashlib.sha256(checksums[context["key"]]).digest()
        parsed["ChecksumSHA256"] = base64.b64encode(digest).decode()

    s3.meta.events.register("provide-client-params.s3.HeadObject", add_checksum)
    s3.meta.events.register("after-call.s3.HeadObject", answer)
    assert observe(s3, DOCUMENTED).outputs is None
    checksums["out/j/1.tif"] = b"xxx"
    assert observe(s3, DOCUMENTED).outputs is not None


@pytest.mark.parametrize("stored", ["old==-2", "new==-2"])
def test_s3s_checksum_of_parts_shows_whether_a_large_result_is_unchanged(s3: Any, stored: str) -> None:
    put_document(s3, results=[build_entry(f"out/j/{name}.tif") | {"checksum_crc32": "old==-2"} for name in "01"])

    def answer(parsed: dict[str, Any], **_: Any) -> None:
        parsed["ChecksumCRC32"] = stored

    s3.meta.events.register("after-call.s3.HeadObject", answer)
    assert (observe(s3, DOCUMENTED).outputs is None) is (stored == "new==-2")


def test_at_most_fifty_results_of_a_done_document_are_looked_up(s3: Any) -> None:
    put_document(s3, 120)
    requests: list[str] = []
    s3.meta.events.register("before-call.s3", lambda model, **_: requests.append(model.name))
    assert len(observe(s3, DOCUMENTED).outputs) == 120
    assert requests[0] == "GetObject"
    assert requests[1:] == ["HeadObject"] * 40


def test_the_usual_check_of_a_job_with_a_done_document_takes_one_request(s3: Any) -> None:
    requests: list[str] = []
    s3.meta.events.register("before-call.s3", lambda model, **_: requests.append(model.name))
    assert observe(s3, DOCUMENTED).outputs is None
    assert requests == ["GetObject"]


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"run": 1, "time": 2, "results": [{}]}'])
def test_a_done_document_that_no_worker_wrote_is_ignored(s3: Any, body: str) -> None:
    s3.put_object(Bucket="ours", Key="runs/App/done/j.json", Body=body)
    assert observe(s3, DOCUMENTED, expected_number_files=0).outputs is None


def test_results_that_may_not_be_read_count_as_existing(s3: Any) -> None:
    def deny_access(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadObject")

    put_document(s3)
    s3.meta.events.register("before-call.s3.HeadObject", deny_access)
    assert observe(s3, DOCUMENTED).outputs is not None
