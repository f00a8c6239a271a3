"""Ways in which the daemon can end, and the cleanup that follows."""

from __future__ import annotations

import os
import shutil
import signal

from distributed_something.localcloud.base.layout import build_layout
from tests.support.local_lab import Lab, wait_until


def test_killing_the_daemon_ends_its_workers_and_keeps_the_objects(own_lab: Lab) -> None:
    lab = own_lab
    lab.create_service(1)
    lab.request_fleet(1)
    lab.cloud.ensure_buckets(["pears"])
    lab.cloud.build_client("s3").put_object(Bucket="pears", Key="a", Body=b"1")
    wait_until(lambda: len(lab.list_workers()) == 2)
    os.kill(lab.cloud.state.pid, signal.SIGKILL)
    wait_until(lambda: not lab.list_processes())
    lab.start_cloud()
    assert (lab.cloud.export_buckets(["pears"]) / "pears" / "a").read_text() == "1"


def test_the_next_start_cleans_up_if_the_daemon_and_the_cleanup_process_were_killed(own_lab: Lab) -> None:
    lab = own_lab
    lab.create_service(1)
    lab.request_fleet(1)
    wait_until(lambda: len(lab.list_workers()) == 2)
    workers = lab.list_workers()
    for pid in lab.list_processes():
        if pid not in workers:
            os.kill(pid, signal.SIGKILL)
    tasks_folder = build_layout(lab.project).tasks
    assert list(tasks_folder.iterdir())
    lab.start_cloud()
    assert not set(workers) & set(lab.list_processes())
    assert list(tasks_folder.iterdir()) == []


def test_a_local_cloud_ends_when_its_folder_is_deleted(own_lab: Lab) -> None:
    lab = own_lab
    shutil.rmtree(build_layout(lab.project).root)
    wait_until(lambda: not lab.list_processes())
