"""The job handler: takes a job from its message to its outcome in three stages, and defines the order of all steps.

Begin: parse the message, check whether the job is done, fetch the inputs. Run: run the program. Finish: check for
success, upload and verify the results, write the record, delete the message.

The message is deleted last, so that a job stays in the queue if anything fails earlier. The stages of one job run one
after another; the stages of different jobs overlap.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from distributed_something.worker.admission.health import has_disk_space
from distributed_something.worker.attempt.already_done import is_current_result, observe_prior_results
from distributed_something.worker.attempt.attempt import Attempt, get_message_age, read_attempt_counts
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.job_record import find_final_failure, is_submission_done, read_record
from distributed_something.worker.attempt.lease import LeaseKeeper
from distributed_something.worker.attempt.outcomes import AttemptFinisher
from distributed_something.worker.attempt.work_folder import build_job_folders, make_job_folder, remove_job_folder
from distributed_something.worker.job.checks import find_failure
from distributed_something.worker.job.failures import (
    AWS_ERRORS,
    Failed,
    Interruption,
    JobAlreadyDone,
    JobAlreadyFailed,
    LostLease,
    ProgramNotStarted,
    StaleMessage,
    UploadError,
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
from distributed_something.worker.transfer.reservations import Reservations
from distributed_something.worker.transfer.results import ResultDestination, ResultFile, upload_results
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects
from distributed_something.worker.transfer.shared_results import SharingRules, upload_shared_results
from distributed_something.worker.transfer.stored_result import ResultOwner

UPLOAD_RESERVE_SECONDS = 1800.0  # part of the maximum lease reserved for uploading the results
log = logging.getLogger("worker")


@dataclass(frozen=True)
class Hooks:
    """The three functions of `generic-worker.py`."""

    make_job: Callable[[dict[str, Any], Folders, Settings], Job]
    prepare: Callable[[Job, Folders], None]
    failure: Callable[[Job, Folders, Result], str | None]


class StopState(Protocol):
    """Whether the container must stop now or soon; implemented by StopRequest."""

    @property
    def is_announced(self) -> bool:
        """Whether the container must stop, so that no more jobs are started."""

    @property
    def is_due(self) -> bool:
        """Whether running programs must also end now."""


@dataclass(frozen=True)
class ProgramTools:
    """Tools for running programs: launchers, log streams, and the out-of-memory kill counter."""

    launcher: LauncherPool
    job_logs: JobLogs
    oom_kills: OomKills = field(default_factory=OomKills)


class JobHandler:
    """Takes jobs through their stages. One handler serves all slots of a container."""

    def __init__(
        self, context: WorkerContext, hooks: Hooks, keeper: LeaseKeeper, stop: StopState, finisher: AttemptFinisher,
        tools: ProgramTools,
    ) -> None:  # fmt: skip
        self._context, self._s3, self._settings = context, context.s3, context.settings
        self._clock = context.clock
        self._hooks, self._keeper, self._stop, self._finisher, self._tools = hooks, keeper, stop, finisher, tools

    def take_message(self, raw: dict[str, Any], received: float) -> Attempt:
        """Create the attempt for a message that SQS returned.

        `received`: when the receive call was made, on the lease keeper's clock.
        """
        folders, now = build_job_folders(self._settings.work_dir), self._clock.now()
        lease = self._keeper.add_lease(raw["ReceiptHandle"], received, get_message_age(raw, now))
        return Attempt(raw, lease, folders, *read_attempt_counts(raw), now)

    def begin_attempt(self, attempt: Attempt) -> bool:
        """Fetch the inputs, and return whether there is a program to run."""
        return self._run_stage(attempt, self._prepare_attempt)

    def run_attempt(self, attempt: Attempt) -> bool:
        """Run the program, and return whether the attempt must be finished."""
        return self._run_stage(attempt, self._run_program)

    def finish_attempt(self, attempt: Attempt) -> None:
        """Upload the results, write the record, and delete the message, or handle the failure."""
        if self._run_stage(attempt, self._publish_results):
            self._release_attempt(attempt)

    def return_attempt(self, attempt: Attempt) -> None:
        """Return the attempt's job to the queue. The program must not have been started."""
        self._end_attempt(attempt, partial(self._finisher.return_interrupted, attempt))

    def _run_stage(self, attempt: Attempt, stage: Callable[[Attempt], None]) -> bool:
        """Run one stage, and return whether the attempt continues. If it does not, handle its outcome."""
        end = self._catch_ending(attempt, stage)
        if end is not None:
            self._end_attempt(attempt, end)
        return end is None

    def _end_attempt(self, attempt: Attempt, end: Callable[[], None]) -> None:
        try:
            end()
        except LostLease:
            self._finisher.log_lost_lease(attempt)
        except (*AWS_ERRORS, UploadError, OSError) as error:
            log.warning("%s: the job returns to the queue when its lease expires: %s", attempt.name, error)
        except Exception:  # the slot must continue; this job returns when its lease expires
            log.exception("the worker's own code failed at the end of %s", attempt.name)
        finally:
            self._release_attempt(attempt)

    def _catch_ending(self, attempt: Attempt, stage: Callable[[Attempt], None]) -> Callable[[], None] | None:
        """Run one stage, and return the function that handles the attempt's outcome; None if the attempt continues."""
        finisher = self._finisher
        try:
            stage(attempt)
        except JobAlreadyDone:
            return partial(finisher.record_skipped, attempt)
        except JobAlreadyFailed as error:
            return partial(finisher.finish_failure, attempt, str(error))
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
        except (Exception, SystemExit) as error:  # an error in a hook must end this attempt, not the slot
            log.exception("the worker's own code failed on %s", attempt.name)
            return partial(finisher.record_failure, attempt, f"{type(error).__name__}: {error}", "worker code")
        return None

    def _release_attempt(self, attempt: Attempt) -> None:
        if not attempt.is_deletion_queued:
            self._keeper.release_lease(attempt.lease)
        remove_job_folder(attempt.folders)

    def _prepare_attempt(self, attempt: Attempt) -> None:
        attempt.message = parse_message(attempt.raw["Body"])
        attempt.name = job_id(attempt.message)
        make_job_folder(attempt.folders)
        with run_on_all_processors():
            job = self._hooks.make_job(deepcopy(attempt.message), attempt.folders, self._settings)
        job.id = attempt.name  # a hook that reuses an id would mix up the records of two jobs
        attempt.job = job
        if self._settings.check_if_done:
            self._check_prior_results(attempt, job)
        self._check_recorded_failure(attempt)
        # SQS cannot enforce the limit alone: after a message is sent again, its receive count starts over.
        if attempt.failures >= self._settings.job_retries:
            attempt.earlier_attempts -= 1  # the record is about the last attempt; this one runs nothing
            attempt.is_substitute = True
            raise Failed(f"failed {attempt.failures} times; the worker of the last attempt was lost", "crash")
        if attempt.lease.seconds_left - UPLOAD_RESERVE_SECONDS < min(job.timeout_seconds, MAX_JOB_SECONDS):
            raise StaleMessage
        self._prepare_inputs(attempt, job)

    def _check_recorded_failure(self, attempt: Attempt) -> None:
        """Raise JobAlreadyFailed if an earlier attempt has recorded that the job failed for good."""
        if attempt.earlier_attempts:
            reason = find_final_failure(read_record(self._context, attempt.name), attempt.message_id)
            if reason is not None:
                raise JobAlreadyFailed(reason)

    def _check_prior_results(self, attempt: Attempt, job: Job) -> None:
        """Raise JobAlreadyDone if the job's results already exist."""
        prior = observe_prior_results(
            self._context, job, is_first_attempt=attempt.earlier_attempts == 0, message_id=attempt.message_id,
            again_since=attempt.again_since,
        )  # fmt: skip
        attempt.listed_objects = prior.listed_objects
        if prior.outputs is not None:
            attempt.outputs, attempt.is_recorded = prior.outputs, prior.is_recorded
            attempt.results_of = prior.results_of
            raise JobAlreadyDone

    def _prepare_inputs(self, attempt: Attempt, job: Job) -> None:
        folders, attempt.fetch_started = attempt.folders, self._clock.now()
        folders.input_dir.mkdir()
        folders.output_dir.mkdir()
        self._fetch_inputs(attempt, job, job.inputs)
        with run_on_all_processors():
            self._hooks.prepare(job, replace(folders, fetch=partial(self._fetch_inputs, attempt, job)))

    def _fetch_inputs(self, attempt: Attempt, job: Job, inputs: Inputs) -> None:
        files = fetch_inputs(
            self._s3, inputs, job.input_bucket, attempt.folders.input_dir, lambda: self._check_can_start(attempt),
            self._clock.sleep,
        )  # fmt: skip
        attempt.inputs += files
        attempt.bytes_in += sum(file.size for file in files)

    def _run_program(self, attempt: Attempt) -> None:
        self._check_can_start(attempt)
        job, folders = get_attempt_job(attempt), attempt.folders
        log.info("start %s (attempt %d)", job.id, attempt.number)
        attempt.oom_kills = self._tools.oom_kills.count_kills()
        attempt.time_limit = min(job.timeout_seconds, attempt.lease.seconds_left - UPLOAD_RESERVE_SECONDS)
        surroundings = ProgramSurroundings(
            folders.root, folders.log, job.shell, monotonic=self._clock.monotonic, now=self._clock.now
        )
        self._tools.job_logs.follow_log(job.id, folders.log)
        attempt.has_started = True
        try:
            attempt.result = run_commands(
                self._tools.launcher, job.commands, surroundings, attempt.time_limit,
                should_stop=lambda: self._stop.is_due or attempt.lease.is_lost,
            )  # fmt: skip
        except ProgramNotStarted as error:
            attempt.start_error = error.start_error
            raise
        finally:
            self._tools.job_logs.unfollow_log(job.id, folders.log)

    def _publish_results(self, attempt: Attempt) -> None:
        job = get_attempt_job(attempt)
        self._check_program_result(attempt, job)
        upload = self._upload_shared_results if job.shared_location else self._upload_own_results
        attempt.outputs = upload(attempt, job)
        self._finisher.record_done(attempt)

    def _upload_own_results(self, attempt: Attempt, job: Job) -> list[ResultFile]:
        """Upload the results to the job's own location."""
        replaceable = self._claim_output_location(attempt, job)
        return upload_results(
            self._s3, job.output_dir or attempt.folders.output_dir,
            self._build_destination(job, replaceable),
            leave_out=job.leave_out, check=lambda: self._check_can_continue(attempt), sleep=self._clock.sleep,
        )  # fmt: skip

    def _upload_shared_results(self, attempt: Attempt, job: Job) -> list[ResultFile]:
        """Upload the results to a location that other jobs also use."""
        if self._is_done_elsewhere(attempt, job):
            raise JobAlreadyDone

        def record_overwrite(key: str, other_job: str) -> None:
            attempt.overwritten.append({"key": key, "job": other_job})

        reservations = Reservations(self._s3, self._settings.aws_bucket, self._settings.keys)
        return upload_shared_results(
            self._s3, job.output_dir or attempt.folders.output_dir, self._build_destination(job, {}),
            SharingRules(
                reservations, job.may_replace, partial(self._claim_results, attempt),
                partial(is_current_result, self._context), record_overwrite,
            ),
            leave_out=job.leave_out, check=lambda: self._check_can_continue(attempt), sleep=self._clock.sleep,
        )  # fmt: skip

    def _build_destination(self, job: Job, replaceable: dict[str, ListedObject]) -> ResultDestination:
        owner = ResultOwner(job.id, self._settings.run)
        return ResultDestination(job.output_bucket, job.output_location, job.upload_arguments, replaceable, owner)

    def _claim_results(self, attempt: Attempt) -> None:
        """Reserve the job's results for this attempt.

        Raise JobAlreadyDone if the message was delivered twice and the first attempt has finished; its results are
        kept.
        """
        if not self._finisher.claim_results(attempt):
            raise JobAlreadyDone

    def _is_done_elsewhere(self, attempt: Attempt, job: Job) -> bool:
        """Return whether another attempt has finished the job in the meantime."""
        return is_submission_done(read_record(self._context, job.id), attempt.message_id)

    def _claim_output_location(self, attempt: Attempt, job: Job) -> dict[str, ListedObject]:
        """Return the objects that this attempt's results may replace, after claiming them from attempts that died.

        The listing comes before the claim. If another attempt's results arrive in between, they differ from the
        listing, and S3 rejects the replacement.
        """
        if attempt.listed_objects == {}:
            return {}
        listed_objects = list_s3_objects(self._s3, job.output_bucket, f"{job.output_location}/", job.upload_arguments)
        if listed_objects:
            self._claim_results(attempt)
        elif self._is_done_elsewhere(attempt, job):
            raise JobAlreadyDone
        return listed_objects

    def _check_program_result(self, attempt: Attempt, job: Job) -> None:
        result = attempt.result
        assert result is not None  # run_attempt() always runs before finish_attempt()
        if result.timed_out:
            raise Failed(f"the program ran longer than {round(attempt.time_limit / 60, 2):g} minutes", "time-out")
        if result.stopped:
            self._check_can_continue(attempt)
        with run_on_all_processors():
            reason = find_failure(self._hooks.failure(job, attempt.folders, result), result)
        if reason is not None:
            raise self._classify_failure(reason, attempt, result)
        self._check_can_continue(attempt)

    def _classify_failure(self, reason: str, attempt: Attempt, result: Result) -> Failed:
        if self._tools.oom_kills.claim_kill(attempt.oom_kills):
            return Failed(f"out of memory: the kernel killed the program ({reason})", "out of memory")
        if result.exit_code < 0:
            return Failed(f"killed by signal {-result.exit_code}", "signal")
        if not has_disk_space(self._settings.work_dir):
            return Failed(f"the disk is full ({reason})", "disk")
        return Failed(reason)

    def _check_can_start(self, attempt: Attempt) -> None:
        """Raise Interruption or LostLease if no program may be started."""
        if self._stop.is_announced:
            raise Interruption
        self._check_can_continue(attempt)

    def _check_can_continue(self, attempt: Attempt) -> None:
        """Raise LostLease or Interruption if the attempt must stop."""
        if attempt.lease.is_lost:
            raise LostLease
        if self._stop.is_due:
            raise Interruption


def get_attempt_job(attempt: Attempt) -> Job:
    """Return the attempt's job, which `begin_attempt()` creates before any other stage."""
    assert attempt.job is not None
    return attempt.job
