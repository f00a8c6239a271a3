"""Projects that were copied, moved, or renamed while their local cloud was running, and local clouds that were killed.

The queues of a local cloud are in memory, so each of these cases is reported.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distributed_something.localcloud import LocalCloudError, describe_former_cloud, start_local_cloud, stop_local_cloud
from distributed_something.localcloud.base.layout import (
    CloudState,
    build_layout,
    read_cloud_state,
    read_state_file,
    write_cloud_state,
)
from tests.support.local_lab import Lab, wait_until
from tests.support.project import Project, create_project

NO_SERVER = "http://127.0.0.1:9"


@pytest.fixture
def plums(tmp_path: Path) -> Iterator[Project]:
    """A project of its own; the fixture `project` is the folder of the shared one."""
    with create_project(tmp_path / "plums") as project:
        yield project


def write_old_state(folder: Path, former: str, key: str | None = None) -> None:
    """Write the state file of a local cloud that no longer runs, whose project was in the folder `former`."""
    layout = build_layout(folder)
    layout.make_folders()
    key = build_layout(Path(former)).key if key is None else key
    write_cloud_state(layout, CloudState(1, "token", NO_SERVER, NO_SERVER, key, former))


def describe(folder: Path) -> str:
    text = describe_former_cloud(folder)
    assert text is not None
    assert "\n" not in text
    return text


def test_a_local_cloud_that_was_stopped_or_never_started_is_not_mentioned(tmp_path: Path) -> None:
    assert describe_former_cloud(tmp_path) is None
    build_layout(tmp_path).make_folders()
    build_layout(tmp_path).state.write_text('{"pid": ')  # left by a daemon that was killed while it started
    assert describe_former_cloud(tmp_path) is None


def test_a_local_cloud_that_was_killed_is_reported(tmp_path: Path) -> None:
    write_old_state(tmp_path, str(tmp_path))
    text = describe(tmp_path)
    assert "ended without `stop`" in text
    assert "the jobs that were in its queues are lost" in text


def test_a_moved_project_is_reported_with_its_former_folder(tmp_path: Path) -> None:
    write_old_state(tmp_path, str(tmp_path / "former"))
    text = describe(tmp_path)
    assert f"moved from {tmp_path / 'former'} while its local cloud was running, which ended it" in text
    assert "the jobs that were in its queues are lost" in text


def test_a_copy_whose_original_has_ended_is_reported_as_a_copy(tmp_path: Path) -> None:
    (tmp_path / "former").mkdir()
    write_old_state(tmp_path / "copy", str(tmp_path / "former"))
    assert f"a copy of {tmp_path / 'former'}, whose local cloud has ended since" in describe(tmp_path / "copy")


def test_the_state_file_of_an_older_version_is_accepted(tmp_path: Path) -> None:
    layout = build_layout(tmp_path)
    layout.make_folders()
    older = {"pid": 1, "token": "t", "moto": NO_SERVER, "ministack": NO_SERVER}
    layout.state.write_text(json.dumps(older | {"key": layout.key}))
    assert read_cloud_state(layout) == CloudState(1, "t", NO_SERVER, NO_SERVER, layout.key)
    layout.state.write_text(json.dumps(older | {"key": "another"}))
    assert read_cloud_state(layout) is None
    assert "a copy of another folder" in describe(tmp_path)


@pytest.mark.long
def test_commands_in_a_copied_project_neither_use_nor_stop_the_originals_local_cloud(
    plums: Project, tmp_path: Path
) -> None:
    plums.run("setup")
    plums.write_job_file(command="true", groups=[{"n": number} for number in range(3)], output_location="results")
    plums.run("submitJob", "files/job.json")
    plums.build_client("s3").put_object(Bucket="tryout-bucket", Key="a", Body=b"1")
    original = read_cloud_state(build_layout(plums.folder))
    copy = plums.copy_to(tmp_path / "copy")
    try:
        first = copy.run("setup").stderr
        assert f"note: this project is a copy of {plums.folder}, whose local cloud keeps running" in first
        assert "note:" not in copy.run("setup").stderr
        assert count_jobs(copy) == 0
        assert copy.build_client("s3").get_object(Bucket="tryout-bucket", Key="a")["Body"].read() == b"1"
        assert "the local cloud is stopped" in copy.run("stop").stderr
    finally:
        copy.stop()
    assert read_cloud_state(build_layout(plums.folder)) == original
    assert plums.get_local_cloud().state == original
    assert count_jobs(plums) == 3


def test_stop_in_a_fresh_copy_changes_nothing_in_the_original(plums: Project, tmp_path: Path) -> None:
    plums.run("setup")
    original = read_cloud_state(build_layout(plums.folder))
    copy = plums.copy_to(tmp_path / "copy")
    result = copy.run("stop")
    assert "this project's local cloud was not running" in result.stderr
    assert "whose local cloud keeps running" in result.stderr
    assert plums.get_local_cloud().state == original


@pytest.mark.long
def test_a_project_that_is_renamed_while_its_run_is_in_progress_says_so_and_leaves_nothing_behind(
    own_lab: Lab, tmp_path: Path
) -> None:
    own_lab.create_service(1)
    own_lab.request_fleet(1)
    wait_until(lambda: len(own_lab.list_workers()) == 2)
    renamed = tmp_path / "renamed"
    own_lab.project.rename(renamed)
    wait_until(lambda: not own_lab.list_processes())
    assert not own_lab.project.exists()
    assert "was deleted, moved, or renamed" in build_layout(renamed).log.read_text()
    cloud = start_local_cloud(renamed, default_worker=renamed / "worker")
    try:
        assert f"moved from {own_lab.project}" in (cloud.notice or "")
        assert start_local_cloud(renamed, default_worker=renamed / "worker").notice is None
    finally:
        stop_local_cloud(renamed)
    assert not own_lab.project.exists()


def test_objects_that_are_written_while_a_project_is_renamed_are_in_the_new_folder(
    own_lab: Lab, tmp_path: Path
) -> None:
    s3, renamed = own_lab.cloud.build_client("s3"), tmp_path / "renamed"
    own_lab.cloud.ensure_buckets(["pears"])
    os.kill(own_lab.cloud.state.pid, signal.SIGSTOP)  # so that it cannot notice the new name yet
    own_lab.project.rename(renamed)
    s3.put_object(Bucket="pears", Key="late", Body=b"1")
    os.kill(own_lab.cloud.state.pid, signal.SIGCONT)
    wait_until(lambda: not own_lab.list_processes())
    assert not own_lab.project.exists()
    cloud = start_local_cloud(renamed, default_worker=renamed / "worker")
    try:
        assert (cloud.export_buckets(["pears"]) / "pears" / "late").read_text() == "1"
    finally:
        stop_local_cloud(renamed)


@pytest.mark.long
def test_the_command_after_a_crash_says_that_jobs_may_be_lost(plums: Project) -> None:
    plums.run("setup")
    os.kill(plums.get_local_cloud().state.pid, signal.SIGKILL)
    assert "note: this project's local cloud ended without `stop`" in plums.run("setup").stderr


def test_two_projects_whose_local_folder_is_the_same_link_do_not_stop_each_others_local_cloud(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "local").symlink_to(tmp_path / "disk")
    cloud = start_local_cloud(first, default_worker=first)
    try:
        for command in (lambda: start_local_cloud(second, default_worker=second), lambda: stop_local_cloud(second)):
            with pytest.raises(LocalCloudError, match=f"local cloud of {first} uses; delete the link"):
                command()
        assert start_local_cloud(first, default_worker=first).state == cloud.state
    finally:
        stop_local_cloud(first)
    start_local_cloud(second, default_worker=second)
    assert stop_local_cloud(second)


def test_a_start_that_fails_does_not_lose_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_old_state(tmp_path, str(tmp_path / "former"))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(LocalCloudError):
        start_local_cloud(tmp_path, default_worker=tmp_path)
    assert "was moved from" in describe(tmp_path)


def test_the_state_file_names_the_project(lab: Lab) -> None:
    state = read_state_file(build_layout(lab.project))
    assert state == replace(lab.cloud.state, project=str(lab.project))


def count_jobs(project: Project) -> int:
    sqs = project.build_client("sqs")
    url = sqs.get_queue_url(QueueName="TryoutQueue")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"])
