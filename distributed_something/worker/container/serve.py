"""Serves one container: DOCKER_CORES slots that work off jobs until the container is told to end.

Told by SIGTERM, or by a spot notice; then no job is begun any more, those that run get the time that there is, and
what is left goes back to the queue.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from distributed_something.worker.attempt.handler import Hooks
from distributed_something.worker.container.container import Container
from distributed_something.worker.container.single_job import ONE_JOB_VARIABLE, run_one_job
from distributed_something.worker.job.checks import usual_failure
from distributed_something.worker.job.job import Folders, Job, job_from_message
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.job.worker_settings import BadEnvironment, Settings, read_worker_settings
from distributed_something.worker.machine.metadata import InstanceMetadata, get_machine_id
from distributed_something.worker.machine.mount import format_mount_obstacle

PROGRAM_PRELOAD_VARIABLE = "PROGRAM_LD_PRELOAD"  # run-worker.sh keeps the image's LD_PRELOAD there, off its own Python


def serve(
    *,
    make_job: Callable[[dict[str, Any], Folders, Settings], Job] = job_from_message,
    prepare: Callable[[Job, Folders], None] = lambda job, folders: None,
    failure: Callable[[Job, Folders, Result], str | None] = usual_failure,
) -> int:
    """Works until told to end; a hook that is not given does as shipped.

    The exit code: 0, 1 (its mount or its own code failed), 2 (the environment is wrong).
    """
    try:
        settings = read_worker_settings()
        if settings.mount_s3 and (reason := format_mount_obstacle()):
            raise BadEnvironment(reason)
    except BadEnvironment as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2
    if preload := os.environ.pop(PROGRAM_PRELOAD_VARIABLE, ""):
        os.environ["LD_PRELOAD"] = preload
    if folder := os.environ.pop(ONE_JOB_VARIABLE, ""):  # the program's environment has none of it
        return run_one_job(Path(folder), settings, Hooks(make_job, prepare, failure))
    told: SimpleQueue[float] = SimpleQueue()  # seconds that are left; unlike an Event, made for signal handlers
    for number in (signal.SIGTERM, signal.SIGINT):  # early: a container's first process ignores what it does not handle
        signal.signal(number, lambda *_: told.put(float(settings.stop_seconds)))
    metadata = InstanceMetadata()
    settings = replace(settings, machine=get_machine_id(metadata))
    return Container(settings, Hooks(make_job, prepare, failure), told, metadata).serve()
