"""Shared inputs in a Job file and in a real worker process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed_something.worker.job.job import BadMessage, Folders
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.job.worker_settings import JobDefaults
from tests.support.emulator import WorkerLab, run_ministack, run_roto, wait_until

FOLDERS, DEFAULTS = Folders(Path("/job")), JobDefaults("bucket", "App")


@pytest.fixture(params=[run_ministack, run_roto])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerLab]:
    (tmp_path / "cloud").mkdir()
    with request.param(tmp_path / "cloud") as url:
        lab = WorkerLab(url, tmp_path, visibility=60)
        yield lab
        lab.kill_workers()


def test_twelve_jobs_in_four_slots_fetch_a_shared_input_once(lab: WorkerLab) -> None:
    genome = bytes(range(256)) * 4096 * 40  # 40 MiB: fetched in parts
    lab.put_object("ref/genome.fa", genome)
    lab.put_object("ref/index/a.idx", b"index")
    command = 'cmp {shared_dir}/genome.fa "$SHARED_DIR/genome.fa" && cat {shared_dir}/idx/*.idx > {output_dir}/i'
    shared = {"ref/{name}.fa": "genome.fa", f"s3://{lab.name}/ref/index/": "idx"}
    messages = [
        lab.send_job(group={"n": str(n)}, name="genome", shared_inputs=shared, command=command, shell=True)
        for n in range(12)
    ]
    worker = lab.start_worker(DOCKER_CORES="4")
    records = [lab.wait_for_record(job_id(message), state="done") for message in messages]
    assert sum(record["bytes_in"] for record in records) == len(genome) + 5
    for record in records:
        assert [(file["address"], file["size"]) for file in record["inputs"]] == [
            (f"s3://{lab.name}/ref/genome.fa", len(genome)), (f"s3://{lab.name}/ref/index/a.idx", 5),
        ]  # fmt: skip
    assert lab.read_object(f"App/{job_id(messages[0])}/i") == b"index"
    worker.terminate()
    assert worker.wait(60) == 0
    wait_until(lambda: list((lab.folder / "work").iterdir()) == [], "files of the worker remain")


def test_a_missing_shared_input_fails_the_jobs_that_need_it_and_not_the_container(lab: WorkerLab) -> None:
    bad = [lab.send_job(group=f"bad-{n}", shared_inputs=["ref/none"], command="true") for n in range(6)]
    good = lab.send_job(group="good", command="true > {output_dir}/a", shell=True)
    lab.start_worker(DOCKER_CORES="2")
    for message in bad:
        record = lab.wait_for_record(job_id(message), state="failed", final=True)
        assert record["reason_class"] == "missing input"
        assert record["program_started"] is None
    lab.wait_for_record(job_id(good), state="done")


@pytest.mark.parametrize(
    ("shared_inputs", "problem"),
    [
        (["https://example.org/a"], "'https://example.org/a' is not in S3"), ("ref/a", "`shared_inputs` is 'ref/a'"),
        (["ref/{v}"], r"\{v\} is blank"), ({"ref/a": ""}, "`shared_inputs` is"), (["s3://My Bucket/a"], "bucket"),
    ],
)  # fmt: skip
def test_invalid_shared_inputs_make_the_message_invalid(shared_inputs: object, problem: str) -> None:
    message = {"group": {"v": ""}, "command": "true", "shared_inputs": shared_inputs}
    with pytest.raises(BadMessage, match=problem):
        job_from_message(message, FOLDERS, DEFAULTS)


def test_shared_dir_is_a_name_of_the_users_own_in_jobs_without_shared_inputs() -> None:
    message = {"group": {"shared_dir": "mine"}, "command": "echo {shared_dir}"}
    assert job_from_message(message, FOLDERS, DEFAULTS).command == ["echo", "mine"]
    message |= {"shared_inputs": ["ref/a"]}
    assert job_from_message(message, FOLDERS, DEFAULTS).command == ["echo", "/job/shared"]
