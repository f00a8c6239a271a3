"""The disk's guard: which job must stop when the disk is full, and whose failures do not count."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from distributed_something.worker.job.job import Folders
from distributed_something.worker.program.disk_guard import (
    MIN_FREE_BYTES,
    DiskAmount,
    DiskGuard,
    DiskSpace,
    measure_usage,
    read_disk_space,
)
from tests.support.fakes import FakeTime

MB = 1_000_000
TOTAL = DiskAmount(700 * MB, 100_000)


class SmallDisk:
    """A disk of 700 MB and its guard. The free space is what the test says; the files are real but sparse in size."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.time = folder, FakeTime(0)
        self.space = DiskSpace(DiskAmount(600 * MB, 90_000), TOTAL)
        self.unused_bytes = 0  # of shared inputs that no job uses
        self.guard = DiskGuard(lambda: self.space, self.time.now, self.remove_unused)
        self.programs = ExitStack()

    def start_job(self, name: str, *, is_running: bool = True) -> Folders:
        folders = Folders(self.folder / name)
        self.guard.add_job(folders)
        folders.root.mkdir()
        if is_running:
            self.programs.enter_context(self.guard.watch_program(folders))
        return folders

    def fill(self, free_bytes: int = 0, free_files: int = 90_000) -> None:
        self.space = self.space._replace(free=DiskAmount(free_bytes, free_files))

    def remove_unused(self) -> None:
        self.fill(self.space.free.bytes + self.unused_bytes, self.space.free.files)

    def list_stopped(self, *jobs: Folders) -> list[str]:
        self.time.sleep(1)
        return [job.root.name for job in jobs if self.guard.must_stop(job)]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallDisk:
    def measure(folders: Folders) -> DiskAmount:
        sizes = folders.root / "sizes"
        return DiskAmount(*map(int, sizes.read_text().split())) if sizes.exists() else DiskAmount(0, 1)

    monkeypatch.setattr("distributed_something.worker.program.disk_guard.measure_usage", measure)
    return SmallDisk(tmp_path)


def write(job: Folders, megabytes: int, files: int = 1) -> None:
    """Let the job use that much of the disk."""
    (job.root / "sizes").write_text(f"{megabytes * MB} {files}")


def test_no_program_is_stopped_while_the_disk_has_room(disk: SmallDisk) -> None:
    flood = disk.start_job("flood")
    write(flood, 400)
    disk.fill(free_bytes=200 * MB)
    assert disk.list_stopped(flood) == []
    assert disk.guard.judge_failure(flood, "program") is None


def test_the_job_that_wrote_most_is_stopped_first_and_the_others_only_if_that_is_not_enough(disk: SmallDisk) -> None:
    quiet, flood, second = (disk.start_job(name) for name in ("quiet", "flood", "second"))
    for job, megabytes in ((quiet, 1), (flood, 300), (second, 280)):
        write(job, megabytes)
    disk.fill()
    assert disk.list_stopped(quiet, flood, second) == ["flood"]
    assert disk.list_stopped(quiet, flood, second) == ["flood"]
    disk.guard.remove_job(flood)  # but the second job has written what became free
    write(second, 580)
    assert disk.list_stopped(quiet, second) == ["second"]


def test_the_reason_says_how_much_the_job_wrote_and_the_failure_of_its_neighbor_does_not_count(
    disk: SmallDisk,
) -> None:
    quiet, flood = disk.start_job("quiet"), disk.start_job("flood")
    write(flood, 560)
    disk.fill()
    assert disk.guard.judge_failure(quiet, "program") == (False, "another job filled the disk")
    assert disk.guard.judge_failure(flood, "program") == (True, "wrote 0.6 GB; the disk is full")


def test_a_failure_does_not_count_even_if_the_disk_has_room_again_when_it_is_noticed(disk: SmallDisk) -> None:
    quiet, flood = disk.start_job("quiet"), disk.start_job("flood")
    write(flood, 560)
    disk.fill()
    disk.guard.judge_failure(flood, "program")
    disk.guard.remove_job(flood)
    disk.fill(free_bytes=600 * MB)
    assert disk.guard.judge_failure(quiet, "program") == (False, "another job filled the disk")
    assert disk.guard.judge_failure(disk.start_job("later"), "program") is None


def test_a_job_is_not_held_responsible_if_something_outside_the_container_wrote_more(disk: SmallDisk) -> None:
    job = disk.start_job("job")
    write(job, 200)
    disk.fill()  # 400 MB were written elsewhere
    assert disk.list_stopped(job) == []
    assert disk.guard.judge_failure(job, "program") == (False, "the disk was full, but not because of this job")


def test_a_job_that_ran_out_of_files_is_stopped_by_the_number_of_its_files(disk: SmallDisk) -> None:
    large, many = disk.start_job("large"), disk.start_job("many")
    write(large, 300)
    write(many, 1, files=89_000)
    disk.fill(free_bytes=300 * MB, free_files=0)
    assert disk.list_stopped(large, many) == ["many"]
    assert disk.guard.judge_failure(many, "program") == (True, "wrote 89,000 files; the disk is full")


def test_results_that_are_being_uploaded_make_room_by_themselves(disk: SmallDisk) -> None:
    finished = disk.start_job("finished")
    disk.programs.close()
    running = disk.start_job("running")
    write(finished, 400)
    write(running, 150)
    disk.fill()
    assert disk.list_stopped(running) == []
    assert disk.guard.judge_failure(running, "program") == (False, "another job filled the disk")


def test_a_job_whose_inputs_do_not_fit_is_at_fault_only_once_it_has_failed(disk: SmallDisk) -> None:
    running, fetching = disk.start_job("running"), disk.start_job("fetching", is_running=False)
    write(running, 1)
    write(fetching, 590)
    disk.fill()
    assert disk.list_stopped(running) == []
    assert disk.guard.judge_failure(fetching, "program") == (True, "wrote 0.6 GB; the disk is full")


def test_a_read_only_disk_is_nobodys_fault(disk: SmallDisk) -> None:
    job = disk.start_job("job")
    write(job, 590)
    disk.space = disk.space._replace(is_read_only=True)
    assert disk.list_stopped(job) == []
    assert disk.guard.judge_failure(job, "program") == (False, "the disk was full, but not because of this job")


def test_a_disk_that_cannot_be_queried_stops_nothing(tmp_path: Path) -> None:
    guard = DiskGuard(lambda: read_disk_space(tmp_path / "missing"))
    folders = Folders(tmp_path / "job")
    guard.add_job(folders)
    assert not guard.must_stop(folders)
    assert guard.judge_failure(folders, "program") is None


def test_the_limit_is_smaller_on_a_small_disk(disk: SmallDisk) -> None:
    job = disk.start_job("job")
    write(job, 500)
    disk.fill(free_bytes=100 * MB)
    assert disk.list_stopped(job) == []
    disk.space = disk.space._replace(total=DiskAmount(100 * 10**9, 0))
    assert 100 * MB < MIN_FREE_BYTES
    assert disk.list_stopped(job) == ["job"]


def test_usage_includes_the_log_and_all_folders_and_counts_what_is_on_the_disk(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "job")
    (folders.root / "a" / "b").mkdir(parents=True)
    (folders.root / "a" / "b" / "data").write_bytes(b"x" * 100_000)
    Path(folders.log).write_bytes(b"x" * 50_000)
    with (folders.root / "sparse").open("wb") as file:
        file.truncate(10**9)
    (folders.root / "link").symlink_to("/")
    usage = measure_usage(folders)
    assert 150_000 <= usage.bytes < 300_000
    assert usage.files == 6


def test_shared_inputs_that_no_job_uses_are_removed_before_a_job_is_stopped(disk: SmallDisk) -> None:
    job = disk.start_job("job")
    write(job, 400)
    disk.fill()
    disk.unused_bytes = 200 * MB
    assert disk.list_stopped(job) == []
    assert disk.guard.judge_failure(job, "program") == (False, "the disk was full, but not because of this job")
    disk.unused_bytes = 0
    write(job, 600)
    disk.fill()
    assert disk.list_stopped(job) == ["job"]


def test_usage_includes_temporary_files_and_files_beside_shared_inputs_but_not_these(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "job")
    store = tmp_path / "store"
    store.mkdir()
    for folder in (folders.root, folders.shared_dir / "ref", folders.temp_dir):
        folder.mkdir(parents=True, exist_ok=True)
    (store / "genome").write_bytes(b"x" * 900_000)
    os.link(store / "genome", folders.shared_dir / "ref" / "genome")
    (folders.shared_dir / "ref" / "index").write_bytes(b"x" * 100_000)
    (folders.temp_dir / "sorted").write_bytes(b"x" * 200_000)
    (folders.root / "kept").write_bytes(b"x" * 400_000)
    os.link(folders.root / "kept", folders.root / "again")  # a job's own links do not hide what it wrote
    assert 700_000 <= measure_usage(folders).bytes < 800_000


def test_bad_data_is_the_jobs_fault_whatever_the_disk(disk: SmallDisk) -> None:
    job = disk.start_job("job")
    disk.fill()
    assert disk.guard.judge_failure(job, "bad data") is None
