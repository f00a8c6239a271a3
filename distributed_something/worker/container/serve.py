"""Entry point for a container: runs DOCKER_CORES slots until the container must stop.

The container stops on SIGTERM or after a spot notice. It then starts no more jobs, lets running programs use the time
that remains, and returns unfinished jobs to the queue.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from distributed_something.worker.transfer.crt import boto3_choice  # noqa: F401  before anything that imports boto3

# isort: split
from distributed_something.worker.container.check_messages import CHECK_VARIABLE, check_messages
from distributed_something.worker.container.container import Container
from distributed_something.worker.container.single_job import ONE_JOB_VARIABLE, run_one_job
from distributed_something.worker.container.test_job import TEST_RUN_VARIABLE, make_test_job
from distributed_something.worker.hooks.delivery import Delivery
from distributed_something.worker.hooks.hook_calls import Hooks
from distributed_something.worker.job.checks import usual_failure
from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.job.worker_settings import BadEnvironment, Settings, read_worker_settings
from distributed_something.worker.machine.metadata import InstanceMetadata, get_machine_id
from distributed_something.worker.machine.mount import format_mount_obstacle
from distributed_something.worker.program.launcher import UTF8_OPTIONS
from distributed_something.worker.program.privileges import NoSuchUser, find_program_user, hide_process
from distributed_something.worker.transfer.endpoints.credentials import read_endpoint_credentials

# run-worker.sh moves LD_PRELOAD to this variable so that it does not affect the worker.
PROGRAM_PRELOAD_VARIABLE = "PROGRAM_LD_PRELOAD"
MAX_ARENAS = 2  # with transfers for 16 slots, the worker takes a fifth less memory, and no more time
_M_ARENA_MAX = -8  # malloc.h


def serve(
    *,
    make_job: Callable[[dict[str, Any], Folders, Settings], Job] = job_from_message,
    prepare: Callable[[Job, Folders], None] = lambda job, folders: None,
    failure: Callable[[Job, Folders, Result], str | None] = usual_failure,
    deliver: Callable[[Job, Folders], list[Delivery]] | None = None,
    check: Callable[[Job, Folders], None] | None = None,
) -> int:
    """Run jobs until the container must stop. A hook that is not passed keeps its standard behavior.

    `check` is called only by `submitJob`, before the jobs are sent. Return the exit code: 0, 1 (the mount or the
    worker's own code failed), or 2 (an environment variable is missing or invalid).
    """
    _use_utf8()
    hooks = Hooks(make_job, prepare, failure, deliver)
    try:
        settings = read_worker_settings()
        if folder := os.environ.pop(CHECK_VARIABLE, ""):
            return check_messages(Path(folder), settings, make_job, check, has_deliver=deliver is not None)
        _make_work_dir(settings.work_dir)
        find_program_user(settings.program_user)
        read_endpoint_credentials()  # so that the container ends at once if they cannot be read
        if settings.mount_s3 and (reason := format_mount_obstacle()):
            raise BadEnvironment(reason)
    except (BadEnvironment, NoSuchUser) as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2
    _prepare_process()
    if folder := os.environ.pop(ONE_JOB_VARIABLE, ""):  # removed so that the program does not inherit it
        return run_one_job(Path(folder), settings, hooks)
    notices: SimpleQueue[float] = SimpleQueue()  # seconds until the end; SimpleQueue is safe in signal handlers
    # Set early, because Linux drops signals that a container's first process does not handle.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: notices.put(float(settings.stop_seconds)))
    metadata = InstanceMetadata()
    settings = replace(settings, machine=get_machine_id(metadata))
    exit_code = Container(settings, _choose_hooks(hooks), notices, metadata).serve()
    _end_process(exit_code)
    return exit_code


def _prepare_process() -> None:
    hide_process()
    limit_arenas()
    if preload := os.environ.pop(PROGRAM_PRELOAD_VARIABLE, ""):
        os.environ["LD_PRELOAD"] = preload


def limit_arenas() -> None:
    """Let all threads share MAX_ARENAS of malloc's arenas, where the C library is glibc.

    By default, there are up to 8 for each processor (mallopt(3)), and each keeps memory that its threads have freed.
    """
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MAX_ARENAS)


def _end_process(exit_code: int) -> None:
    """End this process at once if threads still run, because Python would wait for those that hang in a request."""
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def _choose_hooks(own: Hooks) -> Hooks:
    """Return the project's own hooks or, in a test run, those for its jobs."""
    is_test = os.environ.get(TEST_RUN_VARIABLE) == "True"
    return Hooks(make_test_job, lambda job, folders: None, usual_failure) if is_test else own


def _use_utf8() -> None:
    """Start this process again in Python's UTF-8 mode if the image's locale has another encoding.

    Names of files and text are UTF-8, whatever the locale is. The locale's variables stay as they are for the program.
    The image's own run-worker.sh uses this mode anyway.
    """
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        os.execv(sys.executable, [sys.orig_argv[0], *UTF8_OPTIONS, *sys.orig_argv[1:]])


def _make_work_dir(work_dir: Path) -> None:
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadEnvironment(f"the environment variable WORK_DIR is {str(work_dir)!r}: {error.strerror}") from None
