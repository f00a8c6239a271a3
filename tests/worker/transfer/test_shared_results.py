"""Output locations that several jobs share: which files are replaced, and that no file is lost unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_something.worker.job.failures import Failed, JobAlreadyDone, LostLease, UploadError
from distributed_something.worker.job.run_keys import RunKeys
from distributed_something.worker.transfer import shared_results
from distributed_something.worker.transfer.reservations import Reservations
from distributed_something.worker.transfer.results import ResultDestination, ResultFile
from distributed_something.worker.transfer.shared_results import (
    SharingRules,
    has_unchanged_shared_results,
    upload_shared_results,
)
from distributed_something.worker.transfer.stored_result import ResultOwner, read_stored_result
from tests.support.objects import list_sizes, put_objects
from tests.worker.transfer.interleaved_s3 import Actor, ActorKilled, MemoryS3, run_in_turns
from tests.worker.transfer.s3_calls import Calls, build_s3_error, fail_first_calls, no_sleep

KEYS = RunKeys("App", "20261123T104500Z")
OLD_RUN = "20261122T104500Z"


@dataclass
class Upload:
    """One job's upload of the files in `files`, a mapping from names to contents."""

    s3: Any
    folder: Path
    job: str = "A"
    run: str = KEYS.run
    may_replace: bool = False
    claim: Callable[[], None] = lambda: None
    skipped_jobs: tuple[str, ...] = ()  # jobs whose results from earlier runs are also their results in this run
    overwritten: list[tuple[str, str]] = field(default_factory=list)

    def send(self, **files: str) -> list[ResultFile]:
        folder = self.folder / "job" / "output"
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        for name, content in files.items():
            (folder / name).write_text(content)
        destination = ResultDestination(
            "ours", "all", {"Metadata": {"of": "us"}}, owner=ResultOwner(self.job, self.run)
        )
        reservations = Reservations(self.s3, "ours", RunKeys("App", self.run))
        rules = SharingRules(
            reservations,
            self.may_replace,
            self.claim,
            lambda job, key: job in self.skipped_jobs,
            lambda key, job: self.overwritten.append((key, job)),
        )
        return upload_shared_results(self.s3, folder, destination, rules, sleep=no_sleep)


def read_object(s3: Any, key: str) -> str:
    return str(s3.get_object(Bucket="ours", Key=key)["Body"].read().decode())


def test_a_file_carries_its_job_and_run_in_metadata_even_if_the_job_has_letters_that_are_not_ascii(
    s3: Any, tmp_path: Path
) -> None:
    job = "größe=5-" + "字" * 20
    Upload(s3, tmp_path, job).send(a="1", b="2")
    metadata = s3.head_object(Bucket="ours", Key="all/a")["Metadata"]
    assert metadata["job-id"].startswith("gr%C3%B6%C3%9Fe=5-%E5%AD%97")
    assert (metadata["job-run"], metadata["job-files"], metadata["of"]) == (KEYS.run, "2", "us")
    stored = read_stored_result(s3, "ours", "all/a")
    assert stored is not None
    assert stored.owner == ResultOwner(job, KEYS.run)


def test_jobs_with_different_file_names_share_a_location_that_is_never_listed(s3: Any, tmp_path: Path) -> None:
    calls = Calls(s3)
    Upload(s3, tmp_path, "A").send(a="1")
    Upload(s3, tmp_path, "B").send(b="2", c="3")
    assert list_sizes(s3, "all/") == {"all/a": 1, "all/b": 1, "all/c": 1}
    assert calls.names[:2] == ["PutObject", "HeadObject"]
    assert sorted(calls.names[2:6]) == ["HeadObject", "HeadObject", "PutObject", "PutObject"]


def test_a_file_that_another_job_of_the_run_wrote_is_not_replaced_and_the_reason_names_both_jobs(
    s3: Any, tmp_path: Path
) -> None:
    Upload(s3, tmp_path, "A").send(a="from A")
    with pytest.raises(Failed, match="s3://ours/all/a has other content from the job A, so the job B ") as failed:
        Upload(s3, tmp_path, "B").send(a="from B")
    assert failed.value.reason_class == "shared file"
    assert read_object(s3, "all/a") == "from A"


def test_two_jobs_may_write_the_same_content(s3: Any, tmp_path: Path) -> None:
    for job in "ABC":
        (output,) = Upload(s3, tmp_path, job).send(a="same")
        assert has_unchanged_shared_results(s3, [output])


def test_a_job_does_not_change_a_file_that_another_job_relies_on(s3: Any, tmp_path: Path) -> None:
    """A's first attempt dies after its upload. Its second attempt computes something else."""
    Upload(s3, tmp_path, "A").send(a="same")
    Upload(s3, tmp_path, "B").send(a="same")
    with pytest.raises(Failed, match="from the job B, so the job A cannot"):
        Upload(s3, tmp_path, "A").send(a="another")
    assert read_object(s3, "all/a") == "same"


@pytest.mark.parametrize("job", ["A", "B"])
def test_a_file_from_an_earlier_run_is_replaced(s3: Any, tmp_path: Path, job: str) -> None:
    Upload(s3, tmp_path, "A", OLD_RUN).send(a="old")
    Upload(s3, tmp_path, job).send(a="new")
    assert read_object(s3, "all/a") == "new"
    with pytest.raises(Failed, match=f"from the job {job}, so the job C"):
        Upload(s3, tmp_path, "C").send(a="third")


def test_a_file_from_an_earlier_run_is_kept_if_its_job_was_skipped_because_it_is_already_done(
    s3: Any, tmp_path: Path
) -> None:
    Upload(s3, tmp_path, "A", OLD_RUN).send(a="old")
    with pytest.raises(Failed, match="from the job A, so the job B cannot replace it"):
        Upload(s3, tmp_path, "B", skipped_jobs=("A",)).send(a="new")
    Upload(s3, tmp_path, "B", skipped_jobs=("A",)).send(a="old")
    upload = Upload(s3, tmp_path, "C", may_replace=True, skipped_jobs=("A",))
    upload.send(a="new")
    assert read_object(s3, "all/a") == "new"
    assert upload.overwritten == [("all/a", "A")]


def test_a_file_without_metadata_is_replaced(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "all/a")
    Upload(s3, tmp_path).send(a="new")
    assert read_object(s3, "all/a") == "new"


def test_a_job_replaces_its_own_files_from_an_earlier_attempt_after_claiming_them(s3: Any, tmp_path: Path) -> None:
    claims: list[str] = []
    upload = Upload(s3, tmp_path, claim=lambda: claims.append(read_object(s3, "all/a")))
    upload.send(a="first", b="same")
    assert claims == []
    upload.send(a="second", b="same")
    assert claims == ["first"]
    assert read_object(s3, "all/a") == "second"


def test_a_job_does_not_replace_its_files_if_another_attempt_has_finished(s3: Any, tmp_path: Path) -> None:
    def reject() -> None:
        raise JobAlreadyDone

    Upload(s3, tmp_path).send(a="first")
    with pytest.raises(JobAlreadyDone):
        Upload(s3, tmp_path, claim=reject).send(a="second")
    assert read_object(s3, "all/a") == "first"


def test_if_the_rules_allow_it_another_jobs_file_is_replaced_and_recorded(s3: Any, tmp_path: Path) -> None:
    Upload(s3, tmp_path, "A").send(a="from A", b="same")
    upload = Upload(s3, tmp_path, "B", may_replace=True)
    upload.send(a="from B", b="same")
    assert read_object(s3, "all/a") == "from B"
    assert upload.overwritten == [("all/a", "A")]


@pytest.mark.usefixtures("small_parts")
def test_a_large_file_of_another_job_is_found_before_anything_is_sent(s3: Any, tmp_path: Path) -> None:
    content = "0123456789abcdef" * 1024 * 400
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_results, "MAX_SINGLE_PUT_BYTES", 5 * 1024 * 1024)
        Upload(s3, tmp_path, "A").send(a=content)
        calls = Calls(s3)
        with pytest.raises(Failed, match="from the job A"):
            Upload(s3, tmp_path, "B").send(a=content[:-1] + "!")
        assert calls.names == ["HeadObject", "GetObject"]
        Upload(s3, tmp_path, "B").send(a=content)  # S3 has no checksum of the whole file
    assert s3.list_multipart_uploads(Bucket="ours").get("Uploads", []) == []


def test_an_upload_succeeds_if_the_response_was_lost(s3: Any, tmp_path: Path) -> None:
    lost = [True]

    def lose_response(**_: Any) -> None:
        if lost:
            lost.pop()
            raise build_s3_error("InternalError", 500)

    s3.meta.events.register("after-call.s3.PutObject", lose_response)
    Upload(s3, tmp_path).send(a="1")
    assert read_object(s3, "all/a") == "1"


@pytest.mark.parametrize("name", ["PutObject", "HeadObject"])
def test_a_request_is_retried_after_a_temporary_error(s3: Any, tmp_path: Path, name: str) -> None:
    calls = Calls(s3, fail_first_calls(1, name, build_s3_error("ConditionalRequestConflict", 409)))
    Upload(s3, tmp_path).send(a="1")
    assert calls.count(name) == 2


def test_an_upload_without_read_permission_fails_with_the_reason(s3: Any, tmp_path: Path) -> None:
    Calls(s3, fail_first_calls(99, "HeadObject", build_s3_error("403", 403)))
    with pytest.raises(UploadError, match=r"s3://ours/all: .*403"):
        Upload(s3, tmp_path).send(a="1")


def replace_before_verification(s3: Any, replace: Callable[[], object]) -> None:
    """Call `replace` once, before the first HeadObject request."""
    calls = [replace]

    def call_once(**_: Any) -> None:
        if calls:
            calls.pop()()

    s3.meta.events.register("before-call.s3.HeadObject", call_once)


def put_owned_object(s3: Any, job: str, content: str, run: str = KEYS.run) -> None:
    s3.put_object(Bucket="ours", Key="all/a", Body=content, Metadata=ResultOwner(job, run).build_metadata())


def test_the_lease_is_lost_if_another_attempt_at_the_job_replaces_a_file_before_it_is_verified(
    s3: Any, tmp_path: Path
) -> None:
    replace_before_verification(s3, lambda: put_owned_object(s3, "A", "other"))
    with pytest.raises(LostLease):
        Upload(s3, tmp_path).send(a="mine")


def test_a_file_that_is_deleted_or_replaced_from_outside_before_it_is_verified_is_sent_again(
    s3: Any, tmp_path: Path
) -> None:
    replace_before_verification(s3, lambda: put_objects(s3, "all/a"))
    Upload(s3, tmp_path).send(a="mine")
    assert read_object(s3, "all/a") == "mine"
    replace_before_verification(s3, lambda: s3.delete_object(Bucket="ours", Key="all/b"))
    Upload(s3, tmp_path).send(b="mine")
    assert read_object(s3, "all/b") == "mine"


def test_a_job_that_may_replace_files_is_not_disturbed_if_its_own_file_is_replaced(s3: Any, tmp_path: Path) -> None:
    replace_before_verification(s3, lambda: put_owned_object(s3, "B", "from B"))
    (output,) = Upload(s3, tmp_path, may_replace=True).send(a="mine")
    assert output.size == 4
    assert read_object(s3, "all/a") == "from B"


def test_an_unreadable_reservation_is_replaced(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "all/a", KEYS.reservation("ours", "all/a"))
    Upload(s3, tmp_path).send(a="mine")
    assert read_object(s3, "all/a") == "mine"


# All interleavings of two jobs


@dataclass
class JobRun:
    """One job's attempts. Each one writes its content to the same key. The first of two attempts may be killed."""

    actor: Actor
    upload: Upload
    contents: list[str]
    kill_after: int  # requests of the first attempt
    done: str | None = None  # the content of the attempt that succeeded
    failure: str | None = None

    def run(self) -> None:
        is_retried = len(self.contents) > 1
        self.actor.requests_until_killed = self.kill_after if is_retried else None
        for content in self.contents:
            try:
                self.upload.send(a=content)
            except ActorKilled:
                continue
            except Failed as error:
                self.failure = error.reason_class
                return
            finally:
                self.actor.requests_until_killed = None
            self.done = content
            return


CONTENTS = st.lists(st.sampled_from("xy"), min_size=1, max_size=2)
OLD_OBJECTS = st.none() | st.tuples(st.sampled_from("xyz"), st.sampled_from(["A", "B", ""]))


@settings(derandomize=True, max_examples=300, database=None)
@given(
    contents=st.tuples(CONTENTS, CONTENTS),
    kill_after=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    old=OLD_OBJECTS,
    may_replace=st.booleans(),
    turns=st.lists(st.integers(0, 1), max_size=24),
)
def test_in_any_order_of_requests_no_result_of_a_done_job_is_lost_silently(
    tmp_path_factory: pytest.TempPathFactory,
    contents: tuple[list[str], list[str]],
    kill_after: tuple[int, int],
    old: tuple[str, str] | None,
    may_replace: bool,
    turns: list[int],
) -> None:
    s3, folder = MemoryS3(), tmp_path_factory.mktemp("jobs")
    if old is not None:
        owner = ResultOwner(old[1], OLD_RUN).build_metadata() if old[1] else {}
        s3.objects["ours", "all/a"] = (old[0].encode(), owner)
    jobs = [
        JobRun(actor, Upload(actor, folder / name, name, may_replace=may_replace), texts, kills)
        for actor, name, texts, kills in zip((Actor(s3), Actor(s3)), "AB", contents, kill_after, strict=True)
    ]
    run_in_turns([job.actor for job in jobs], [partial(job.run) for job in jobs], turns)

    content = s3.objects["ours", "all/a"][0].decode()
    overwritten = [entry for job in jobs for entry in job.upload.overwritten]
    for job in jobs:
        assert job.done or job.failure == "shared file"
        assert job.done in (None, content) or (may_replace and overwritten), "a result was lost silently"
    # If both are killed and then compute something else, each may stand in the way of the other.
    assert any(job.done for job in jobs) or all(len(texts) > 1 for texts in contents)
    if may_replace or {text for texts in contents for text in texts} == {content}:
        assert all(job.done for job in jobs)
    assert may_replace or not overwritten
