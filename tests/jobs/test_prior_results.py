"""The hint how many jobs have results already."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed_something.jobs.job_file import JobFile, load_job_file
from distributed_something.jobs.submission.plan import plan_submission
from distributed_something.jobs.submission.prior_results import (
    MAX_REQUESTS,
    PriorResultCounter,
    is_location_in_job_file,
)
from tests.support.fakes import SETTINGS, build_client_error
from tests.support.paths import ROOT

PAGE_SIZE = 1000


class ListedBucket:
    """S3 that lists objects in pages of 1,000. `sizes`: the size of each object, keyed by its key."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.requests: list[tuple[str, str]] = []

    def list_objects_v2(self, *, Bucket: str, Prefix: str, ContinuationToken: str = "") -> dict[str, Any]:
        self.requests.append((Bucket, Prefix))
        keys = sorted(key for key in self.sizes if key.startswith(Prefix) and key > ContinuationToken)
        page = [{"Key": key, "Size": self.sizes[key]} for key in keys[:PAGE_SIZE]]
        return {
            "Contents": page,
            "IsTruncated": len(keys) > PAGE_SIZE,
            "NextContinuationToken": page[-1]["Key"] if page else "",
        }


class Lab:
    """A Job file with `jobs` jobs, and a bucket to which their results are written."""

    def __init__(self, folder: Path, jobs: int, **shared: Any) -> None:
        content = {"command": "work {n}", "output_location": "results/{job}", "expected_files": 2} | shared
        groups = [{"n": f"{number:05}"} for number in range(jobs)]
        (folder / "job.json").write_text(json.dumps(content | {"groups": groups}))
        self.job_file: JobFile = load_job_file(folder / "job.json", lambda bucket, prefix: [])
        self.messages = list(self.job_file.iter_checked_messages())
        self.bucket = ListedBucket()
        self.settings = SETTINGS
        self.ticks: Iterator[float] = iter(lambda: 0.0, 1.0)

    def write(self, jobs: int, *names: str, size: int = 10) -> None:
        """Write these files for the first `jobs` jobs."""
        for message in self.messages[:jobs]:
            self.bucket.sizes |= {f"{message.output_location}/{name}": size for name in names}

    def configure(self, **settings: Any) -> None:
        self.settings = self.settings.model_copy(update=settings)

    def count(self) -> int | None:
        s3: Any = self.bucket
        counter = PriorResultCounter(s3, self.settings, self.job_file, lambda: next(self.ticks))
        return counter.count_jobs(plan_submission(self.job_file).places)


@pytest.mark.parametrize("jobs", [60, 250])
def test_a_job_has_results_if_it_has_enough_files(tmp_path: Path, jobs: int) -> None:
    lab = Lab(tmp_path, jobs)
    assert lab.count() == 0
    lab.write(jobs, "a.csv")
    assert lab.count() == 0
    lab.write(48, "deep/er/b.csv")
    assert lab.count() == 48


@pytest.mark.parametrize("jobs", [60, 250])
def test_only_files_of_the_minimum_size_with_the_necessary_text_count(tmp_path: Path, jobs: int) -> None:
    lab = Lab(tmp_path, jobs)
    lab.configure(MIN_FILE_SIZE_BYTES=10, NECESSARY_STRING=".csv")
    lab.write(30, "a.csv", "b.csv")
    lab.write(20, "a.csv", size=9)
    assert lab.count() == 10
    lab.write(20, "c.csv", "d.txt")
    assert lab.count() == 30


@pytest.mark.parametrize("jobs", [60, 250])
def test_without_expected_files_the_number_in_the_config_applies(tmp_path: Path, jobs: int) -> None:
    lab = Lab(tmp_path, jobs, expected_files=0)
    lab.configure(EXPECTED_NUMBER_FILES=1)
    lab.write(7, "a.csv")
    assert lab.count() == 7
    lab.configure(EXPECTED_NUMBER_FILES=0)
    assert lab.count() is None  # the worker does not look at the files either


@pytest.mark.parametrize("jobs", [60, 250])
@pytest.mark.parametrize(
    "location", ["{job}", "{job}/out", "a/{n}/{job}/deep", "x/{n}-{job}", "other/{job}/", "results/{n}"]
)
def test_any_output_location_is_understood(tmp_path: Path, jobs: int, location: str) -> None:
    lab = Lab(tmp_path, jobs, output_location=location)
    lab.write(5, "a.csv", "sub/b.csv")
    lab.bucket.sizes |= {f"{location}/unrelated{number}/x/y": 10 for number in range(3)}
    assert lab.count() == 5


def test_one_request_is_made_per_job_or_per_thousand_objects(tmp_path: Path) -> None:
    few, many = Lab(tmp_path, MAX_REQUESTS), Lab(tmp_path, MAX_REQUESTS + 1)
    few.count()
    assert sorted(few.bucket.requests) == sorted(
        ("app-bucket", f"{message.output_location}/") for message in few.messages
    )
    many.bucket.sizes = {f"results/00/{number:07}": 1 for number in range(2500)}
    assert many.count() == 0
    assert many.bucket.requests == [("app-bucket", "results/00")] * 3


def test_nothing_is_said_if_it_takes_more_than_a_hundred_requests_or_five_seconds(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 250)
    lab.bucket.sizes = {f"results/00{number:07}": 1 for number in range(MAX_REQUESTS * PAGE_SIZE)}
    assert lab.count() == 0
    lab.bucket.sizes["results/00z"] = 1
    assert lab.count() is None
    assert len(lab.bucket.requests) == 2 * MAX_REQUESTS
    lab.ticks = iter([0.0, 1.0, 4.9, 5.1])
    assert lab.count() is None


def test_the_output_bucket_in_the_job_file_is_listed(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 3, output_bucket="other-bucket")
    lab.count()
    assert {bucket for bucket, _ in lab.bucket.requests} == {"other-bucket"}


def test_nothing_is_said_if_the_locations_are_unknown_or_nothing_is_skipped(tmp_path: Path) -> None:
    several = Lab(tmp_path, 2, output_bucket="bucket-{n}")
    assert several.count() is None
    off = Lab(tmp_path, 2)
    off.configure(CHECK_IF_DONE_BOOL=False)
    assert off.count() is None
    (tmp_path / "job.json").write_text('{"pipeline": "p", "output_location": "results", "groups": [{"n": 1}]}')
    off.job_file = load_job_file(tmp_path / "job.json", lambda bucket, prefix: [])
    off.configure(CHECK_IF_DONE_BOOL=True)
    assert off.count() is None  # only a custom worker can read these messages
    assert off.bucket.requests == []


def test_nothing_is_said_if_the_bucket_cannot_be_listed(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 3)

    def refuse(**_: object) -> Any:
        raise build_client_error("AccessDenied", "ListObjectsV2")

    lab.bucket.list_objects_v2 = refuse  # type: ignore[method-assign]
    assert lab.count() is None


@pytest.mark.parametrize("jobs", [60, 250])
def test_jobs_that_share_a_location_are_done_if_they_have_a_document(tmp_path: Path, jobs: int) -> None:
    lab = Lab(tmp_path, jobs, output_location="results", shared_location=True, output_bucket="other-bucket")
    lab.write(jobs, "a.csv", "b.csv")
    assert lab.count() == 0
    lab.bucket.sizes |= {f"runs/App/done/{message.id}.json": 200 for message in lab.messages[:9]}
    assert lab.count() == 9


@pytest.mark.parametrize(
    ("body", "is_known"),
    [
        ("return job_from_message(message, folders, settings)", True),
        ("'''Text.'''\n    return job_from_message(message, folders, settings, command=['x'])", True),
        ("return job_from_message(message, folders, settings, output_location='x')", False),
        ("return job_from_message(message, folders, settings, **fields)", False),
        ("job = job_from_message(message, folders, settings)\n    return job", False),
        ("return Job()", False),
        ("return (", False),
    ],
)
def test_the_locations_are_known_only_with_the_shipped_make_job(tmp_path: Path, body: str, is_known: bool) -> None:
    worker = tmp_path / "generic-worker.py"
    assert is_location_in_job_file(worker)
    worker.write_text(f"def make_job(message, folders, settings):\n    {body}\n")
    assert is_location_in_job_file(worker) is is_known


def test_the_locations_are_known_in_the_template_but_not_in_examples_with_their_own() -> None:
    assert is_location_in_job_file(ROOT / "worker" / "generic-worker.py")
    for example in ("cellprofiler", "fiji", "helloworld", "omezarr"):
        assert not is_location_in_job_file(ROOT / "examples" / example / "worker" / "generic-worker.py")
