"""One job from its message to its end, in three stages: the only place that says in which order things happen.

begin: parse → already done? → inputs;   run: the program;   finish: success? → outputs, verified → record → delete.
The message goes last: whatever dies before that leaves the job in the queue. The stages of one job follow each other,
those of different jobs overlap.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from distributed_something.worker.admission.health import has_disk_space
from distributed_something.worker.attempt.already_done import observe_prior_results
from distributed_something.worker.attempt.attempt import Attempt, get_message_age, read_attempt_counts
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.job_record import is_record_done, read_record
from distributed_something.worker.attempt.lease import LeaseKeeper
from distributed_something.worker.attempt.outcomes import AttemptFinisher
from distributed_something.worker.attempt.work_folder import build_job_folders, make_job_folder, remove_job_folder
from distributed_something.worker.job.failures import (
    AWS_ERRORS,
    Failed,
    Interruption,
    JobAlreadyDone,
    LostLease,
    StaleMessage,
)
from distributed_something.worker.job.job import MAX_JOB_SECONDS, BadMessage, Folders, Inputs, Job, parse_message
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.logs.job_log import JobLogs
from distributed_something.worker.program.launcher import LauncherPool
from distributed_something.worker.program.memory import OomKills
from distributed_something.worker.program.processors import run_on_all_processors
from distributed_something.worker.program.program import ProgramSurroundings, run_commands
from distributed_something.worker.transfer.inputs import fetch_inputs
from distributed_something.worker.transfer.results import ResultDestination, upload_results
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects

UPLOAD_RESERVE_SECONDS = 1800.0  # kept free for the outputs, of the time that SQS leaves anybody a message
log = logging.getLogger("worker")


@dataclass(frozen=True)
class Hooks:
    """The three functions of `generic-worker.py`."""

    make_job: Callable[[dict[str, Any], Folders, Settings], Job]
    prepare: Callable[[Job, Folders], None]
    failure: Callable[[Job, Folders, Result], str | None]


class StopState(Protocol):
    """Whether the container must end, and when: its StopRequest knows."""

    @property
    def is_announced(self) -> bool:
        """Whether no new job may be begun."""

    @property
    def is_due(self) -> bool:
        """Whether even what runs must end now."""


@dataclass(frozen=True)
class ProgramTools:
    """What programs are run with: who starts them, who sends their logs, and how often the kernel ended one."""

    launcher: LauncherPool
    job_logs: JobLogs
    oom_kills: OomKills = field(default_factory=OomKills)


class JobHandler:
    """Takes jobs through their stages; one object serves all slots of a container."""

    def __init__(
        self, context: WorkerContext, hooks: Hooks, keeper: LeaseKeeper, stop: StopState, finisher: AttemptFinisher,
        tools: ProgramTools,
    ) -> None:  # fmt: skip
        self._context, self._s3, self._settings = context, context.s3, context.settings
        self._clock = context.clock
        self._hooks, self._keeper, self._stop, self._finisher, self._tools = hooks, keeper, stop, finisher, tools

    def take_message(self, raw: dict[str, Any], received: float) -> Attempt:
        """Holds a message as SQS gave it at `received` (the keeper's clock)."""
        folders, now = build_job_folders(self._settings.work_dir), self._clock.now()
        lease = self._keeper.add_lease(raw["ReceiptHandle"], received, get_message_age(raw, now))
        return Attempt(raw, lease, folders, *read_attempt_counts(raw), now)

    def begin_attempt(self, attempt: Attempt) -> bool:
        """Fetches the inputs; whether there is a program to run."""
        return self._run_stage(attempt, self._prepare_attempt)

    def run_attempt(self, attempt: Attempt) -> bool:
        """Runs the program; whether the attempt must be finished."""
        return self._run_stage(attempt, self._run_program)

    def finish_attempt(self, attempt: Attempt) -> None:
        """Publishes, records and deletes; or whatever the attempt came to."""
        if self._run_stage(attempt, self._publish_results):
            self._release_attempt(attempt)

    def give_back(self, attempt: Attempt) -> None:
        """An attempt whose program was not begun goes back to the queue."""
        self._end_attempt(attempt, partial(self._finisher.return_interrupted, attempt))

    def _run_stage(self, attempt: Attempt, work: Callable[[Attempt], None]) -> bool:
        """Whether the attempt goes on after `work`. Where it does not, all is done that its end asks for."""
        end = self._catch_ending(attempt, work)
        if end is not None:
            self._end_attempt(attempt, end)
        return end is None

    def _end_attempt(self, attempt: Attempt, end: Callable[[], None]) -> None:
        try:
            end()
        except LostLease:
            self._finisher.log_lost_lease(attempt)
        except AWS_ERRORS as error:
            log.warning("%s: AWS refuses, so its lease must end by itself: %s", attempt.name, error)
        except Exception:  # the slot's edge: it goes on with other jobs, and this one's lease brings it back
            log.exception("the worker's own code failed at the end of %s", attempt.name)
        finally:
            self._release_attempt(attempt)

    def _catch_ending(self, attempt: Attempt, work: Callable[[Attempt], None]) -> Callable[[], None] | None:
        """What is to be done if `work` was the attempt's last stage; None if it goes on."""
        finisher = self._finisher
        try:
            work(attempt)
        except JobAlreadyDone:
            return partial(finisher.record_skipped, attempt)
        except StaleMessage:
            return partial(finisher.renew_message, attempt)
        except BadMessage as error:
            return partial(finisher.reject_message, attempt, str(error))
        except Interruption:
            return partial(finisher.return_interrupted, attempt)
        except LostLease:
            return partial(finisher.log_lost_lease, attempt)
        except Failed as error:
            return partial(finisher.record_failure, attempt, str(error), error.reason_class)
        except AWS_ERRORS as error:
            return partial(finisher.record_failure, attempt, f"AWS: {error}", "aws")
        except OSError as error:
            return partial(finisher.record_failure, attempt, f"this machine: {error}", "machine")
        except (Exception, SystemExit) as error:  # what a hook does wrong costs one attempt, not the slot
            log.exception("the worker's own code failed on %s", attempt.name)
            return partial(finisher.record_failure, attempt, f"{type(error).__name__}: {error}", "worker code")
        return None

    def _release_attempt(self, attempt: Attempt) -> None:
        if not attempt.leaving:
            self._keeper.release_lease(attempt.lease)
        remove_job_folder(attempt.folders)

    def _prepare_attempt(self, attempt: Attempt) -> None:
        attempt.message = parse_message(attempt.raw["Body"])
        attempt.name = job_id(attempt.message)
        make_job_folder(attempt.folders)
        with run_on_all_processors():
            job = self._hooks.make_job(attempt.message, attempt.folders, self._settings)
        attempt.job, attempt.name = job, job.id
        if self._settings.check_if_done:
            found = observe_prior_results(self._context, job, first_try=attempt.tries == 0)
            attempt.there = found.there
            if found.outputs is not None:
                attempt.outputs, attempt.recorded = found.outputs, found.recorded
                raise JobAlreadyDone
        if attempt.failures >= self._settings.job_retries:  # SQS's own count began anew with a message sent again
            raise Failed(f"tried {attempt.failures} times, and at the last its worker was lost", "crash")
        if attempt.lease.seconds_left - UPLOAD_RESERVE_SECONDS < min(job.timeout_seconds, MAX_JOB_SECONDS):
            raise StaleMessage
        self._prepare_inputs(attempt, job)

    def _prepare_inputs(self, attempt: Attempt, job: Job) -> None:
        folders = attempt.folders
        folders.input_dir.mkdir()
        folders.output_dir.mkdir()
        self._fetch_inputs(attempt, job, job.inputs)
        with run_on_all_processors():
            self._hooks.prepare(job, replace(folders, fetch=partial(self._fetch_inputs, attempt, job)))

    def _fetch_inputs(self, attempt: Attempt, job: Job, inputs: Inputs) -> None:
        attempt.bytes_in += fetch_inputs(
            self._s3, inputs, job.input_bucket, attempt.folders.input_dir, lambda: self._check_can_start(attempt),
            self._clock.sleep,
        )  # fmt: skip

    def _run_program(self, attempt: Attempt) -> None:
        self._check_can_start(attempt)
        job, folders = get_attempt_job(attempt), attempt.folders
        log.info("start %s (attempt %d)", job.id, attempt.number)
        attempt.oom_kills = self._tools.oom_kills.count_kills()
        attempt.time_limit = min(job.timeout_seconds, attempt.lease.seconds_left - UPLOAD_RESERVE_SECONDS)
        surroundings = ProgramSurroundings(folders.root, folders.log, job.shell, monotonic=self._clock.monotonic)
        self._tools.job_logs.follow_log(job.id, folders.log)
        attempt.begun = True
        try:
            attempt.result = run_commands(
                self._tools.launcher, job.commands, surroundings, attempt.time_limit,
                should_stop=lambda: self._stop.is_due or attempt.lease.is_lost,
            )  # fmt: skip
        finally:
            self._tools.job_logs.unfollow_log(job.id, folders.log)

    def _publish_results(self, attempt: Attempt) -> None:
        job = get_attempt_job(attempt)
        self._check_program_result(attempt, job)
        replaceable = self._claim_output_location(attempt, job)
        attempt.outputs = upload_results(
            self._s3, job.output_dir or attempt.folders.output_dir,
            ResultDestination(job.output_bucket, job.output_location, job.upload_arguments, replaceable),
            leave_out=job.leave_out, check=lambda: self._check_can_continue(attempt), sleep=self._clock.sleep,
        )  # fmt: skip
        self._finisher.record_done(attempt)

    def _claim_output_location(self, attempt: Attempt, job: Job) -> dict[str, ListedObject]:
        """What the outputs may replace: nothing, or what attempts left that died, once that is claimed. First the
        listing, then the claim: a result that is done in between is other than what was listed, and S3 refuses to
        replace it."""
        if attempt.there == {}:
            return {}
        there = list_s3_objects(self._s3, job.output_bucket, f"{job.output_location}/", job.upload_arguments)
        if there:
            done = not self._finisher.claim_results(attempt)
        else:
            done = is_record_done(read_record(self._context, job.id))
        if done:
            raise JobAlreadyDone  # delivered twice: the other result stays
        return there

    def _check_program_result(self, attempt: Attempt, job: Job) -> None:
        result = attempt.result
        assert result is not None  # run_attempt() comes before finish_attempt()
        if result.timed_out:
            raise Failed(f"it ran longer than {round(attempt.time_limit / 60, 2):g} minutes", "time-out")
        if result.stopped:
            self._check_can_continue(attempt)
        with run_on_all_processors():
            reason = self._hooks.failure(job, attempt.folders, result)
        if reason is not None:
            raise self._classify_failure(reason, attempt, result)
        self._check_can_continue(attempt)

    def _classify_failure(self, reason: str, attempt: Attempt, result: Result) -> Failed:
        if self._tools.oom_kills.claim_kill(attempt.oom_kills):
            return Failed(f"out of memory: the kernel ended it ({reason})", "out of memory")
        if result.exit_code < 0:
            return Failed(f"killed by signal {-result.exit_code}", "signal")
        if not has_disk_space(self._settings.work_dir):
            return Failed(f"no disk left ({reason})", "disk")
        return Failed(reason)

    def _check_can_start(self, attempt: Attempt) -> None:
        """Before the program: nothing is begun that must end at once."""
        if self._stop.is_announced:
            raise Interruption
        self._check_can_continue(attempt)

    def _check_can_continue(self, attempt: Attempt) -> None:
        if attempt.lease.is_lost:
            raise LostLease
        if self._stop.is_due:
            raise Interruption


def get_attempt_job(attempt: Attempt) -> Job:
    """The attempt's job; begin_attempt() has made it before any other stage."""
    assert attempt.job is not None
    return attempt.job
