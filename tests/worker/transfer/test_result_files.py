"""Tests for selecting result files: only files in the job's folder count, including the targets of links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distributed_something.worker.attempt.work_folder import remove_job_folder
from distributed_something.worker.job.failures import BadData, Failed
from distributed_something.worker.job.job import Folders
from distributed_something.worker.safe_path import SafePath
from distributed_something.worker.transfer.result_files import list_result_files


def test_a_link_to_a_file_in_the_jobs_folder_counts_as_that_file(output_folder: Path) -> None:
    (output_folder.parent / "input").mkdir()
    (output_folder.parent / "input" / "raw").write_text("raw")
    (output_folder / "real").mkdir()
    (output_folder / "real" / "a").write_text("a")
    (output_folder / "again").symlink_to("real/a")
    (output_folder / "latest").symlink_to("real")
    (output_folder / "raw").symlink_to(output_folder.parent / "input" / "raw")
    (output_folder / "empty").mkdir()
    files = list_result_files(output_folder, "here")
    assert {key: path.read_text() for key, path in files.items()} == {
        "here/again": "a", "here/raw": "raw", "here/real/a": "a",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("../../secret", "'l' is a link to a path outside the job's folder"),
        ("../..", "'l' is a link to a path outside the job's folder"),
        ("gone", "'l' is a link whose target does not exist"),
        ("l", "'l' is a link whose target does not exist"),
        ("../input", "'l' is a link to a folder outside the output folder"),
    ],
)
def test_a_link_that_cannot_be_a_result_is_rejected_with_its_name(
    output_folder: Path, target: str, message: str
) -> None:
    (output_folder.parent.parent / "secret").touch()
    (output_folder.parent / "input").mkdir()
    (output_folder / "l").symlink_to(target)
    with pytest.raises(Failed, match=message):
        list_result_files(output_folder, "here")


def test_a_name_that_makes_a_key_too_long_is_rejected(output_folder: Path) -> None:
    (output_folder / ("ä" * 120)).touch()
    with pytest.raises(BadData, match="1,141 bytes long, but S3 allows only 1,024"):
        list_result_files(output_folder, "x" * 900)


def test_an_output_whose_name_is_not_utf8_is_rejected_with_its_name(output_folder: Path) -> None:
    (output_folder / "caf\udce9.txt").touch()
    with pytest.raises(Failed, match=r"the name of the output 'caf\\xe9\.txt' is not UTF-8"):
        list_result_files(output_folder, "here")


@pytest.mark.parametrize(("name", "depth"), [("n" * 250, 18), ("d", 2100)])
def test_a_path_that_is_too_long_for_the_disk_is_rejected(output_folder: Path, name: str, depth: int) -> None:
    folder = os.open(output_folder, os.O_RDONLY)
    for _ in range(depth):  # a program reaches such a path with relative paths
        os.mkdir(name, dir_fd=folder)
        parent, folder = folder, os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(parent)
    os.close(os.open("file", os.O_CREAT, dir_fd=folder))
    os.close(folder)
    with pytest.raises(BadData, match="the output"):
        list_result_files(output_folder, "here")
    remove_job_folder(Folders(output_folder))


@pytest.mark.parametrize("replaced", ["job", "job/a", "job/a/output"])
def test_results_are_refused_if_the_output_folder_or_a_folder_above_it_is_a_link(tmp_path: Path, replaced: str) -> None:
    secrets = tmp_path / "etc"
    (secrets / "a" / "output").mkdir(parents=True)
    for folder in (secrets, secrets / "a", secrets / "a" / "output"):
        (folder / "secret").touch()
    (tmp_path / replaced).parent.mkdir(parents=True, exist_ok=True)
    target = {"job": secrets, "job/a": secrets / "a", "job/a/output": secrets / "a" / "output"}[replaced]
    (tmp_path / replaced).symlink_to(target)
    folder = SafePath.build(tmp_path / "job" / "a" / "output", tmp_path / "job")
    with pytest.raises(Failed, match=f"the program or a hook replaced '{replaced}' with a link"):
        list_result_files(folder, "here")


def test_results_outside_the_jobs_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    for path in (tmp_path, tmp_path / "job" / ".." / "other"):
        with pytest.raises(Failed, match="is outside the job's folder; use a folder below"):
            list_result_files(SafePath.build(path, tmp_path / "job"), "here")


@pytest.mark.parametrize("replaced", ["output/a/b", "output/a", "output"])
def test_a_file_that_becomes_a_link_after_it_was_listed_is_not_read(output_folder: Path, replaced: str) -> None:
    job = output_folder.parent
    (output_folder / "a").mkdir()
    (output_folder / "a" / "b").write_text("result")
    (path,) = list_result_files(output_folder, "here").values()
    assert path.read_text() == "result"
    (job / replaced).rename(job / "moved")
    (job / replaced).symlink_to(job / "moved")
    for read in (path.read_text, path.stat):
        with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
            read()


def test_a_file_that_becomes_a_pipe_is_not_waited_for(output_folder: Path) -> None:
    (output_folder / "a").touch()
    (path,) = list_result_files(output_folder, "here").values()
    (output_folder / "a").unlink()
    os.mkfifo(output_folder / "a")
    with pytest.raises(OSError, match="not a regular file"):
        path.open("rb")


def test_a_work_folder_that_is_reached_through_a_link_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "disk" / "job" / "output").mkdir(parents=True)
    (tmp_path / "disk" / "job" / "output" / "a").write_text("a")
    (tmp_path / "work").symlink_to(tmp_path / "disk")
    folder = SafePath.build(tmp_path / "work" / "job" / "output", tmp_path / "work" / "job")
    assert [path.read_text() for path in list_result_files(folder, "here").values()] == ["a"]


def test_a_hard_link_to_a_file_outside_the_jobs_folder_is_rejected_with_its_name(output_folder: Path) -> None:
    (output_folder.parent.parent / "secret").write_text("secret")
    os.link(output_folder.parent.parent / "secret", output_folder / "a")
    with pytest.raises(Failed, match="the output 'a' is a hard link to a file outside the job's folder; copy"):
        list_result_files(output_folder, "here")


def test_hard_links_inside_the_jobs_folder_and_its_folder_for_temporary_files_are_results(output_folder: Path) -> None:
    job = output_folder.parent
    temp = job.with_name(f"{job.name}.tmp")
    temp.mkdir()
    (temp / "a").write_text("a")
    for path in (output_folder / "a", output_folder / "b", job / "c"):
        os.link(temp / "a", path)
    assert [path.read_text() for path in list_result_files(output_folder, "here").values()] == ["a", "a"]
