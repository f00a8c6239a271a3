"""Calls hooks with a time limit.

A hook is code in this process, so it cannot be stopped. It therefore runs in a thread of its own, and if it takes too
long, the attempt fails without it. The thread stays behind until the process ends. Otherwise, the next hook runs in it,
because three new threads for each job would take noticeable time.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from socket import gaierror
from typing import Any, ParamSpec, TypeVar

from distributed_something.worker.hooks.delivery import (
    Delivery,
    DeliveryError,
    check_deliveries,
    describe_program_error,
)
from distributed_something.worker.job.checks import find_failure
from distributed_something.worker.job.failures import Failed, describe_input_folder, describe_outside_folder
from distributed_something.worker.job.job import Folders, Inputs, Job
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.machine.times import format_duration
from distributed_something.worker.processors import on_all_processors
from distributed_something.worker.program.launcher_process import MACHINE_ERRNOS

CHECK_SECONDS = 0.5  # how often to check whether the hook must be given up
log = logging.getLogger("worker")
_T = TypeVar("_T")
_P = ParamSpec("_P")


@dataclass(frozen=True)
class Hooks:
    """The functions of `generic-worker.py`. Without `deliver`, results are only uploaded."""

    make_job: Callable[[dict[str, Any], Folders, Settings], Job]
    prepare: Callable[[Job, Folders], None]
    failure: Callable[[Job, Folders, Result], str | None]
    deliver: Callable[[Job, Folders], list[Delivery]] | None = None


class HangingHook(Failed):
    """Raised for a hook that did not end within its time limit."""

    reason_class = "worker code"


class HookCall:
    """One call of a hook. `limit` is in seconds, and `monotonic` is the clock, in seconds, that it is compared with."""

    def __init__(self, name: str, limit: float, monotonic: Callable[[], float]) -> None:
        self._name, self._limit, self._monotonic = name, limit, monotonic
        self._lock, self._running = threading.Lock(), threading.Lock()  # the latter is held until the hook has ended
        self._excluded_calls, self._excluded_since, self._excluded_seconds = 0, 0.0, 0.0
        self._result: Any = None
        self._error: BaseException | None = None
        self._fetch_error: Exception | None = None

    def run(self, hook: Callable[[], _T], check: Callable[[], None], start: Callable[[Callable[[], None]], None]) -> _T:
        """Return what the hook returns, or raise what it raises.

        `start` calls a function in another thread. `check` is called while the hook runs and can give it up by raising
        an exception. Raise HangingHook if the hook does not end in time.
        """
        started: float | None = None  # usual hooks end at once, so the clock is read only for slow ones
        self._running.acquire()
        start(partial(self._run_hook, hook))
        while not self._running.acquire(timeout=CHECK_SECONDS):
            check()
            started = self._monotonic() if started is None else started
            if self._monotonic() - started - self._count_excluded_seconds() > self._limit:
                limit = format_duration(self._limit)
                raise HangingHook(f"the hook {self._name}() in generic-worker.py did not end within {limit}")
        if self._error is not None:
            raise self._judge_error(self._error)
        result: _T = self._result
        return result

    def exclude_time(self, function: Callable[_P, _T]) -> Callable[_P, _T]:
        """Return `function` in a form whose time does not count toward the hook's limit."""

        def call_function(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            with self._lock:
                if not self._excluded_calls:
                    self._excluded_since = self._monotonic()
                self._excluded_calls += 1
            try:
                return function(*args, **kwargs)
            except Exception as error:  # raised again; kept to tell it from the hook's own errors
                self._fetch_error = error
                raise
            finally:
                with self._lock:
                    self._excluded_calls -= 1
                    if not self._excluded_calls:
                        self._excluded_seconds += self._monotonic() - self._excluded_since

        return call_function

    def _judge_error(self, error: BaseException) -> Exception:
        """Return what to raise for an error of the hook.

        An OSError is the hook's fault, not the machine's, unless a resource of the machine is short, the network
        failed, or it comes from fetching inputs.
        """
        if not isinstance(error, Exception):  # such as sys.exit(), which must not end the slot or the container
            return Failed(f"the hook {self._name}() in generic-worker.py raised {error!r}", "worker code")
        if not isinstance(error, OSError) or error is self._fetch_error or error.errno in MACHINE_ERRNOS:
            return error
        if isinstance(error, ConnectionError | TimeoutError | gaierror):
            return error
        log.error("the hook %s() in generic-worker.py raised an error", self._name, exc_info=error)
        return Failed(f"{type(error).__name__}: {error}", "worker code")

    def _count_excluded_seconds(self) -> float:
        with self._lock:
            current = self._monotonic() - self._excluded_since if self._excluded_calls else 0.0
            return self._excluded_seconds + current

    def _run_hook(self, hook: Callable[[], object]) -> None:
        try:
            self._result = hook()
        except BaseException as error:  # raised again in the thread that waits
            self._error = error
        finally:
            self._running.release()


class HookThreads:
    """Threads in which hooks run. A thread that has run a hook runs the next one."""

    def __init__(self) -> None:
        self._free: SimpleQueue[SimpleQueue[Callable[[], None] | None]] = SimpleQueue()

    def start(self, function: Callable[[], None]) -> None:
        """Call a function in a free thread, or in a new one if there is none."""
        try:
            calls = self._free.get_nowait()
        except Empty:
            calls = SimpleQueue()
            threading.Thread(target=self._run, args=(calls,), name="hook", daemon=True).start()
        calls.put(function)

    def end(self) -> None:
        """End the free threads."""
        with suppress(Empty):
            while True:
                self._free.get_nowait().put(None)

    def _run(self, calls: SimpleQueue[Callable[[], None] | None]) -> None:
        while (function := calls.get()) is not None:
            with on_all_processors():
                function()
            del function  # and with it, the job
            self._free.put(calls)


class HookRunner:
    """Calls a container's hooks.

    `limit`: how long a hook may run, and `delivery_limit`: how long `deliver` may, in seconds of the clock `monotonic`.
    `announce_hang` is called if a hook hangs.
    The container must then start no more jobs and end, because the hook's thread would slow down all later jobs. In all
    methods, `identity` is the job's ID, and `check` can give up the hook by raising an exception.
    """

    def __init__(
        self, hooks: Hooks, limit: float, delivery_limit: float, monotonic: Callable[[], float],
        announce_hang: Callable[[], None],
    ) -> None:  # fmt: skip
        self._delivery_limit, self.has_deliver = delivery_limit, hooks.deliver is not None
        self._hooks, self._limit, self._monotonic, self._announce_hang = hooks, limit, monotonic, announce_hang
        self._threads = HookThreads()
        self.has_hanging_hook = False

    def end(self) -> None:
        """End the threads that run no hook."""
        self._threads.end()

    def build_job(
        self, identity: str, message: dict[str, Any], folders: Folders, settings: Settings, check: Callable[[], None]
    ) -> Job:
        """Return the job that `make_job` builds. The hook gets a copy of the message."""
        make_job = partial(self._hooks.make_job, deepcopy(message), folders, settings)
        job = self._call_hook(self._open_call("make_job"), make_job, check)
        confine_job(job, identity, folders)
        check_destination(job, has_deliver=self.has_deliver)
        return job

    def prepare_job(
        self, identity: str, job: Job, folders: Folders, fetch: Callable[[Inputs], None], check: Callable[[], None]
    ) -> None:
        """Call `prepare`. The time in which the hook fetches inputs does not count."""
        call = self._open_call("prepare")
        prepare = partial(self._hooks.prepare, job, replace(folders, fetch=call.exclude_time(fetch)))
        self._call_hook(call, prepare, check)
        confine_job(job, identity, folders)

    def check_command(self, job: Job, check: Callable[[], None], index: int) -> str | None:
        """Return what the command's function in `command_checks` returns, or None if there is no such function."""
        function = job.command_checks[index] if index < len(job.command_checks) else None
        return self._call_hook(self._open_call("command_checks"), function, check) if function else None

    def find_failure(
        self, identity: str, job: Job, folders: Folders, result: Result, check: Callable[[], None]
    ) -> str | None:
        """Return why the job failed, or None if it succeeded."""
        failure = partial(self._hooks.failure, job, folders, result)
        reason = self._call_hook(self._open_call("failure"), failure, check)
        confine_job(job, identity, folders)
        return find_failure(reason, result)

    def deliver_results(self, identity: str, job: Job, folders: Folders, check: Callable[[], None]) -> list[Delivery]:
        """Return what `deliver` has delivered. Raise DeliveryError if it failed for a reason that may be temporary."""
        assert self._hooks.deliver is not None
        call = HookCall("deliver", self._delivery_limit, self._monotonic)
        try:
            deliveries = self._call_hook(call, partial(self._hooks.deliver, job, folders), check)
        except subprocess.SubprocessError as error:
            raise DeliveryError(f"the results could not be delivered: {describe_program_error(error)}") from None
        except (ConnectionError, TimeoutError, gaierror) as error:
            raise DeliveryError(f"the results could not be delivered: {str(error) or type(error).__name__}") from None
        confine_job(job, identity, folders)
        return check_deliveries(job, deliveries)

    def _open_call(self, name: str) -> HookCall:
        return HookCall(name, self._limit, self._monotonic)

    def _call_hook(self, call: HookCall, hook: Callable[[], _T], check: Callable[[], None]) -> _T:
        try:
            return call.run(hook, check, self._threads.start)
        except HangingHook:
            log.error("a hook hangs; this container ends after its running programs, so that ECS can start another one")
            self.has_hanging_hook = True
            self._announce_hang()
            raise


def check_destination(job: Job, *, has_deliver: bool) -> None:
    """Raise Failed if the job's results would be sent nowhere."""
    if not job.upload_results and not has_deliver:
        problem = "the job has upload_results=False, but generic-worker.py passes no deliver hook to serve()"
        raise Failed(problem, "worker code")


def confine_job(job: Job, identity: str, folders: Folders) -> None:
    """Keep a job that a hook has built or changed within limits: its ID, and its output folder.

    Raise ValueError if the output folder is outside the job's folder, or contains or is a folder with inputs.
    """
    job.id = identity  # a hook that reuses an ID would mix up the records of two jobs
    if job.output_dir is not None:
        job.output_dir = Path(os.path.normpath(folders.root / job.output_dir))
        if not job.output_dir.is_relative_to(folders.root):
            raise ValueError(describe_outside_folder(job.output_dir))
        if _has_inputs(job.output_dir, folders):
            raise ValueError(describe_input_folder(job.output_dir))


def _has_inputs(folder: Path, folders: Folders) -> bool:
    """Return whether a folder contains the job's inputs or shared inputs. A folder below `input_dir` may be the
    program's own."""
    contains_inputs = any(path.is_relative_to(folder) for path in (folders.input_dir, folders.shared_dir))
    return contains_inputs or folder.is_relative_to(folders.shared_dir)
