"""`submitJob --canary`: which jobs are chosen, and how the sizes of their inputs become known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed_something.core.errors import InputError
from distributed_something.jobs.job_file import JobFile, load_job_file
from distributed_something.jobs.submission import input_sizes
from distributed_something.jobs.submission.canary import Canary, choose_canary
from distributed_something.jobs.submission.input_sizes import InputSizeReader
from distributed_something.jobs.submission.plan import plan_submission
from tests.support.fakes import build_client_error

PAGE_SIZE = 1000


class ListedBucket:
    """S3 that lists objects in pages. `sizes`: the size of each object, keyed by bucket and key."""

    def __init__(self) -> None:
        self.sizes: dict[tuple[str, str], int] = {}
        self.requests: list[dict[str, Any]] = []

    def list_objects_v2(self, **request: Any) -> dict[str, Any]:
        self.requests.append(request)
        bucket, prefix, after = request["Bucket"], request["Prefix"], request.get("ContinuationToken", "")
        keys = sorted(key for name, key in self.sizes if name == bucket and key.startswith(prefix) and key > after)
        page = [{"Key": key, "Size": self.sizes[bucket, key]} for key in keys[:PAGE_SIZE]]
        token = page[-1]["Key"] if page else ""
        return {"Contents": page, "IsTruncated": len(keys) > PAGE_SIZE, "NextContinuationToken": token}


class Lab:
    """A Job file with `jobs` jobs, whose inputs have different sizes."""

    def __init__(self, folder: Path, jobs: int, **shared: Any) -> None:
        content: dict[str, Any] = {"command": "work {n}", "inputs": ["images/{n}.tif", "programs/work.py"]} | shared
        groups = [{"n": f"{number:05}"} for number in range(jobs)]
        (folder / "job.json").write_text(
            json.dumps({k: v for k, v in content.items() if v is not None} | {"groups": groups})
        )
        self.job_file: JobFile = load_job_file(folder / "job.json", lambda bucket, prefix: [])
        self.bucket, self.jobs = ListedBucket(), jobs
        self.ticks: Iterator[float] = iter(lambda: 0.0, 1.0)
        for number in range(jobs):
            self.bucket.sizes["my-bucket", f"images/{number:05}.tif"] = (number * 7919) % jobs + 1

    def read_sizes(self) -> list[int] | None:
        s3: Any = self.bucket
        sizes = InputSizeReader(s3, "my-bucket", self.job_file, lambda: next(self.ticks)).read_sizes(self.jobs)
        return None if sizes is None else list(sizes)

    def choose(self, count: int) -> Canary:
        return choose_canary(self.job_file, count, self.jobs, self.read_sizes())


def list_numbers(canary: Canary) -> list[int]:
    return [int(json.loads(body)["group"]["n"]) for body in canary.job_file.iter_bodies()]


def test_the_jobs_are_the_middle_ones_of_equal_parts_by_size(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 1000)
    canary = lab.choose(10)
    assert canary.is_by_size
    sizes = sorted((number * 7919) % 1000 + 1 for number in list_numbers(canary))
    assert sizes == [51 + 100 * part for part in range(10)]
    assert list_numbers(canary) == sorted(list_numbers(canary))  # in the order of the file
    assert list_numbers(canary) == list_numbers(lab.choose(10))


def test_without_sizes_the_jobs_are_spread_evenly_over_the_file(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 100)
    for sizes in (None, [5] * 100):
        canary = choose_canary(lab.job_file, 4, 100, sizes)
        assert not canary.is_by_size
        assert list_numbers(canary) == [12, 37, 62, 87]


def test_a_plan_of_the_canary_has_only_its_jobs(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 60)
    canary, whole = plan_submission(lab.choose(59).job_file), plan_submission(lab.job_file)
    assert (canary.count, whole.count) == (59, 60)
    assert canary.digest != whole.digest


@pytest.mark.parametrize(
    ("count", "problem"),
    [(0, "not a number of jobs"), (-3, "not a number"), (60, "not fewer than the 60 jobs"), (61, "not fewer")],
)
def test_a_canary_is_a_part_of_the_jobs(tmp_path: Path, count: int, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Lab(tmp_path, 60).choose(count)


# Sizes


def test_only_inputs_that_differ_are_listed_and_with_one_request_per_1000_objects(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 2500)
    sizes = lab.read_sizes()
    assert sizes is not None
    assert sizes[1] == 7919 % 2500 + 1
    assert {request["Prefix"] for request in lab.bucket.requests} == {"images/0"}
    assert len(lab.bucket.requests) == 3


def test_the_sizes_of_inputs_in_the_mounted_bucket_are_those_of_their_keys(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 3, inputs=["/home/ubuntu/bucket/images/{n}.tif"])
    assert lab.read_sizes() == Lab(tmp_path, 3).read_sizes() != [0, 0, 0]


def test_folders_and_other_buckets_count_with_everything_in_them(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 3, inputs=["s3://other-bucket/raw/{n}/", "images/{n}.tif"], requester_pays=True)
    lab.bucket.sizes |= {("other-bucket", f"raw/{n:05}/deep/{name}"): 100 for n in range(3) for name in range(n)}
    lab.bucket.sizes["other-bucket", "raw/00000/x"] = 7
    own = [(number * 7919) % 3 + 1 for number in range(3)]
    assert lab.read_sizes() == [own[0] + 7, own[1] + 100, own[2] + 200]
    assert all(request["RequestPayer"] == "requester" for request in lab.bucket.requests)


def test_files_that_will_be_uploaded_have_their_sizes_on_this_computer(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(3):
        (tmp_path / "data" / f"{number:05}.csv").write_text("x" * (10 * number))
    lab = Lab(tmp_path, 3, inputs=["tables/{n}.csv"], upload={"data": "tables"})
    assert lab.read_sizes() == [0, 10, 20]
    lab.bucket.sizes["my-bucket", "tables/00001.csv"] = 12  # an older version, which counts once
    assert lab.read_sizes() == [0, 12, 20]


@pytest.mark.parametrize(
    "shared",
    [
        {"inputs": ["https://example.org/{n}.tif"]},
        {"input_endpoint": "https://s3.example.org"},
        {"command": None},
        {"inputs": ["missing/{n}.tif"]},
    ],
)
def test_sizes_that_a_few_requests_cannot_tell_are_unknown(tmp_path: Path, shared: dict[str, Any]) -> None:
    assert Lab(tmp_path, 10, **shared).read_sizes() is None


def test_listing_stops_after_a_number_of_requests_or_seconds_or_at_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_sizes, "MAX_REQUESTS", 3)
    lab = Lab(tmp_path, 10)
    lab.bucket.sizes |= {("my-bucket", f"images/0000{number}"): 1 for number in range(3 * PAGE_SIZE + 1)}
    assert lab.read_sizes() is None
    assert len(lab.bucket.requests) == 3
    lab = Lab(tmp_path, 10)
    lab.ticks = iter([0.0, 9.0])
    assert lab.read_sizes() is None

    def refuse(**_: Any) -> None:
        raise build_client_error("AccessDenied", "ListObjectsV2")

    lab = Lab(tmp_path, 10)
    lab.bucket.list_objects_v2 = refuse  # type: ignore[method-assign,assignment]
    assert lab.read_sizes() is None
