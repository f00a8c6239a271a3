"""How the daemon ends, and what is left when it is killed."""

from __future__ import annotations

import os
import shutil
import signal

from distributed_something.localcloud.base.layout import build_layout
from tests.support.local_lab import Lab, eventually


def test_a_daemon_that_was_killed_leaves_no_worker_and_objects_survive_it(own_lab: Lab) -> None:
    lab = own_lab
    lab.serve(1)
    lab.fleet(1)
    lab.cloud.ensure_buckets(["pears"])
    lab.cloud.build_client("s3").put_object(Bucket="pears", Key="a", Body=b"1")
    eventually(lambda: len(lab.workers()) == 2)
    os.kill(lab.cloud.state.pid, signal.SIGKILL)
    eventually(lambda: not lab.processes())
    lab.start()
    assert (lab.cloud.export(["pears"]) / "pears" / "a").read_text() == "1"


def test_the_next_start_clears_what_a_killed_daemon_and_its_cleanup_process_left(own_lab: Lab) -> None:
    lab = own_lab
    lab.serve(1)
    lab.fleet(1)
    eventually(lambda: len(lab.workers()) == 2)
    workers = lab.workers()
    for pid in lab.processes():
        if pid not in workers:
            os.kill(pid, signal.SIGKILL)
    folders = build_layout(lab.project).tasks
    assert list(folders.iterdir())
    lab.start()
    assert not set(workers) & set(lab.processes())
    assert list(folders.iterdir()) == []


def test_a_cloud_whose_folder_is_deleted_ends(own_lab: Lab) -> None:
    lab = own_lab
    shutil.rmtree(build_layout(lab.project).root)
    eventually(lambda: not lab.processes())
