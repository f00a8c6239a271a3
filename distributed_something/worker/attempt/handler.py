"""The job handler: takes a job from its message to its outcome in three stages, and defines the order of all steps.

Begin: parse the message, check whether the job is done, fetch the inputs. Run: run the program. Finish: check for
success, upload and verify the results, write the record, delete the message.

The message is deleted last, so that a job stays in the queue if anything fails earlier. The stages of one job run one
after another; the stages of different jobs overlap.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.attempt.already_done import observe_prior_results
from distributed_something.worker.attempt.attempt import Attempt, get_message_age, read_attempt_counts
from distributed_something.worker.attempt.context import ProgramTools, StopState, WorkerContext
from distributed_something.worker.attempt.job_record import find_final_failure, read_record
from distributed_something.worker.attempt.lease import LeaseKeeper
from distributed_something.worker.attempt.outcomes import AttemptFinisher, describe_transfer_limit
from distributed_something.worker.attempt.publishing.program_failure import classify_failure
from distributed_something.worker.attempt.publishing.result_publisher import ResultPublisher
from distributed_something.worker.attempt.work_folder import (
    build_job_folders,
    build_own_environment,
    give_folders,
    make_job_folder,
    remove_job_folder,
)
from distributed_something.worker.hooks.hook_calls import HookRunner, Hooks
from distributed_something.worker.job.addresses import CREDENTIALS_PROBLEM
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
from distributed_something.worker.job.job import BadMessage, Folders, Inputs, Job
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.message.job_template import parse_message
from distributed_something.worker.job.message.message_keys import MAX_JOB_SECONDS, hide_message_credentials
from distributed_something.worker.logs.capped_log import remove_middle
from distributed_something.worker.machine.times import format_duration
from distributed_something.worker.program.privileges import choose_home
from distributed_something.worker.program.program import ProgramSurroundings, run_commands
from distributed_something.worker.shared_inputs.store import SharedInputs
from distributed_something.worker.transfer.inputs import InputSource, fetch_inputs
from distributed_something.worker.transfer.retry import add_deadline, check_requests
from distributed_something.worker.transfer.s3_listing import OutputBuckets

MAX_ENDING_SECONDS = 2.0  # after a stop request, for the end of an attempt whose program was not started
UPLOAD_RESERVE_SECONDS = 1800.0  # part of the maximum lease reserved for uploading the results
log = logging.getLogger("worker")


class JobHandler:
    """Takes jobs through their stages. One handler serves all slots of a container."""

    def __init__(
        self, context: WorkerContext, hooks: Hooks, keeper: LeaseKeeper, stop: StopState, finisher: AttemptFinisher,
        tools: ProgramTools,
    ) -> None:  # fmt: skip
        self._context, self._settings = context, context.settings
        self._clock = context.clock
        self._keeper, self._stop, self._finisher, self._tools = keeper, stop, finisher, tools
        self._buckets = OutputBuckets(context.get_s3)
        folder = context.settings.work_dir / f"shared-{secrets.token_hex(6)}"
        self.shared_inputs = SharedInputs(folder, context.clock.sleep)
        self._hooks = HookRunner(
            hooks, context.settings.hook_seconds, context.settings.max_transfer_seconds, context.clock.monotonic,
            lambda: stop.announce_end(inf),
        )  # fmt: skip
        self._publisher = ResultPublisher(context, finisher, self._hooks)
        self._attempts: dict[Path, Attempt] = {}  # that have not ended yet, by their folders
        self._lock = threading.Lock()

    @property
    def has_hanging_hook(self) -> bool:
        """Whether a hook did not end in time, which ends the container."""
        return self._hooks.has_hanging_hook

    def close(self) -> None:
        """Remove what the attempts of the container shared, after all of them have ended."""
        self._hooks.end()
        self.shared_inputs.remove_all()

    def take_message(self, raw: dict[str, Any], received: float) -> Attempt:
        """Create the attempt for a message that SQS returned.

        `received`: when the receive call was made, on the lease keeper's clock.
        """
        folders, now = build_job_folders(self._settings.work_dir), self._clock.now()
        self._tools.disk.add_job(folders)
        lease = self._keeper.add_lease(raw["ReceiptHandle"], received, get_message_age(raw, now))
        attempt = Attempt(raw, lease, folders, *read_attempt_counts(raw), now)
        self._attempts[folders.root] = attempt
        return attempt

    @property
    def has_attempts(self) -> bool:
        """Whether any attempt has not ended yet."""
        return bool(self._attempts)

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
        if self._begin_ending(attempt):
            self._end_attempt(attempt, partial(self._finisher.return_interrupted, attempt))

    def return_stalled_attempts(self) -> None:
        """Return the jobs of a stopping container without waiting for their stages, which may hang in a request.

        A job whose program was not started returns at once, and any other job when the stop is overdue. The thread that
        runs the stage finds the lease lost, and publishes nothing.
        """
        for attempt in list(self._attempts.values()):
            if attempt.is_settled or attempt.is_deletion_queued or (attempt.has_started and not self._stop.is_overdue):
                continue
            if self._begin_ending(attempt):
                self._end_attempt(attempt, partial(self._finisher.return_stalled, attempt))
            elif self._clock.monotonic() - (attempt.ending_since or 0.0) >= MAX_ENDING_SECONDS:
                self._end_attempt(attempt, partial(self._finisher.release_message, attempt))

    def _begin_ending(self, attempt: Attempt) -> bool:
        """Return whether the calling thread must end the attempt; False if another thread does or did."""
        with self._lock:
            is_first = attempt.ending_since is None
            if is_first:
                attempt.ending_since = self._clock.monotonic()
        return is_first

    def _run_stage(self, attempt: Attempt, stage: Callable[[Attempt], None]) -> bool:
        """Run one stage, and return whether the attempt continues. If it does not, handle its outcome."""
        attempt.begin_stage(self._clock.now())
        end = self._catch_ending(attempt, stage)
        if end is not None and self._begin_ending(attempt):
            self._end_attempt(attempt, end)  # which belongs to this stage
        attempt.end_stage(self._clock.now())
        return end is None and attempt.ending_since is None

    def _end_attempt(self, attempt: Attempt, end: Callable[[], None]) -> None:
        try:
            try:
                end()
            except Interruption:  # the container must stop before the record could be written
                self._finisher.return_stalled(attempt)
        except LostLease:
            self._finisher.discard_attempt(attempt)
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
            return partial(finisher.discard_attempt, attempt)
        except Failed as error:
            attempt.missing_input = error.missing_input
            return self._judge_failure(attempt, str(error), error.reason_class)
        except AWS_ERRORS as error:
            return partial(finisher.record_failure, attempt, f"{attempt.server_names}: {error}", "aws")
        except OSError as error:
            return self._judge_failure(attempt, f"this machine: {error}", "machine")
        except Exception as error:  # an error in a hook must end this attempt, not the slot
            log.exception("the worker's own code failed on %s", attempt.name)
            return self._judge_failure(attempt, f"{type(error).__name__}: {error}", "worker code")
        return None

    def _judge_failure(self, attempt: Attempt, reason: str, reason_class: str) -> Callable[[], None]:
        """Return the function that handles a failure, which does not count if another job may be its cause."""
        if change := attempt.find_uncounted_change(reason_class):
            attempt.has_changed_inputs, text = True, change if change == reason else f"{change} ({reason})"
            return partial(self._finisher.return_interrupted, attempt, text)
        verdict = self._tools.disk.judge_failure(attempt.folders, reason_class, attempt.uncounted_attempts)
        if verdict is None:
            return partial(self._finisher.record_failure, attempt, reason, reason_class)
        end = self._finisher.record_failure if verdict.is_counted else self._finisher.return_interrupted
        return partial(end, attempt, f"{verdict.reason} ({reason})", "disk")

    def _release_attempt(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt.folders.root, None)
        if not attempt.is_deletion_queued:
            self._keeper.release_lease(attempt.lease)
        remove_job_folder(attempt.folders)
        self._tools.disk.remove_job(attempt.folders)

    def _prepare_attempt(self, attempt: Attempt) -> None:
        # Only in this stage, not at its end: a container that stops because of a hook still records why the job failed.
        with check_requests(lambda: self._check_can_start(attempt)):
            self._prepare_job(attempt)

    def _prepare_job(self, attempt: Attempt) -> None:
        message = parse_message(attempt.raw["Body"])
        attempt.message = hide_message_credentials(message)
        attempt.name = job_id(attempt.message)
        if attempt.message != message:
            raise BadMessage(f"the address of an input {CREDENTIALS_PROBLEM}")
        make_job_folder(attempt.folders)
        job = self._hooks.build_job(
            attempt.name, attempt.message, attempt.folders, self._settings, partial(self._check_can_start, attempt)
        )
        attempt.job = job
        if self._settings.check_if_done:
            self._check_prior_results(attempt, job)
        self._check_recorded_failure(attempt)
        # SQS cannot enforce the limit alone: after a message is sent again, its receive count starts over.
        if attempt.failures >= self._settings.job_retries:
            attempt.earlier_attempts -= 1  # the record is about the last attempt; this one runs nothing
            attempt.is_substitute = True
            raise Failed("the worker of the last attempt was lost", "crash")
        if attempt.lease.seconds_left - UPLOAD_RESERVE_SECONDS < min(job.timeout_seconds, MAX_JOB_SECONDS):
            raise StaleMessage
        if attempt.listed_objects is None:  # otherwise, the output bucket exists
            self._check_output_bucket(job)
        self._prepare_inputs(attempt, job)

    def _check_recorded_failure(self, attempt: Attempt) -> None:
        """Raise JobAlreadyFailed if an earlier attempt has recorded that the job failed for good."""
        if attempt.earlier_attempts:
            reason = find_final_failure(read_record(self._context, attempt.name), attempt.message_id)
            if reason is not None:
                raise JobAlreadyFailed(reason)

    def _check_prior_results(self, attempt: Attempt, job: Job) -> None:
        """Raise JobAlreadyDone if the job's results already exist."""
        try:
            prior = observe_prior_results(
                self._context, job, is_first_attempt=attempt.earlier_attempts == 0, message_id=attempt.message_id,
                again_since=attempt.again_since,
            )  # fmt: skip
        except ClientError:
            self._check_output_bucket(job)
            raise
        attempt.listed_objects = prior.listed_objects
        if prior.outputs is not None:
            attempt.outputs, attempt.delivered = prior.outputs, prior.delivered
            attempt.is_recorded, attempt.results_of = prior.is_recorded, prior.results_of
            raise JobAlreadyDone

    def _prepare_inputs(self, attempt: Attempt, job: Job) -> None:
        folders, attempt.fetch_started = attempt.folders, self._clock.now()
        attempt.fetch_end = self._clock.monotonic() + self._settings.max_transfer_seconds
        folders.input_dir.mkdir()
        folders.output_dir.mkdir()
        if job.shared_inputs:
            self._provide_shared_inputs(attempt, job)
        self._fetch_inputs(attempt, job, job.inputs)
        fetch = partial(self._fetch_inputs, attempt, job)
        self._hooks.prepare_job(attempt.name, job, folders, fetch, partial(self._check_can_start, attempt))

    def _check_output_bucket(self, job: Job) -> None:
        if job.upload_results:
            self._buckets.require_bucket(job.output_bucket, job.output_endpoint)

    def _provide_shared_inputs(self, attempt: Attempt, job: Job) -> None:
        attempt.shared = self.shared_inputs.provide_files(
            self._build_source(job), job.shared_inputs, attempt.folders.shared_dir, self._limit_fetch(attempt),
            own_copies=attempt.needs_own_copies,
        )  # fmt: skip
        attempt.inputs += attempt.shared.list_inputs()
        attempt.bytes_in += attempt.shared.fetched_bytes

    def _fetch_inputs(self, attempt: Attempt, job: Job, inputs: Inputs) -> None:
        source, check = self._build_source(job), self._limit_fetch(attempt)
        files = fetch_inputs(source, inputs, attempt.folders.input_dir, check, self._clock.sleep)
        attempt.inputs += files
        attempt.bytes_in += sum(file.size for file in files)

    def _build_source(self, job: Job) -> InputSource:
        s3, transfers = self._context.get_s3(job.input_endpoint), self._context.get_transfers(job.input_endpoint)
        allow_unsafe = self._settings.allow_unsafe_inputs
        return InputSource(s3, job.input_bucket, job.input_arguments, allow_unsafe, transfers)

    def _limit_fetch(self, attempt: Attempt) -> Callable[[], None]:
        """Return a check that ends the fetch of an attempt's inputs if it must stop or takes too long."""
        return add_deadline(
            lambda: self._check_can_start(attempt), attempt.fetch_end, self._clock.monotonic,
            lambda: Failed(describe_transfer_limit("fetching the inputs", self._settings), "aws"),
        )  # fmt: skip

    def _run_program(self, attempt: Attempt) -> None:
        self._check_can_start(attempt)
        job, folders = get_attempt_job(attempt), attempt.folders
        log.info("start %s (attempt %d)", job.id, attempt.number)
        attempt.oom_kills = self._tools.oom_kills.count_kills()
        attempt.time_limit = min(job.timeout_seconds, attempt.lease.seconds_left - UPLOAD_RESERVE_SECONDS)
        surroundings = self._prepare_surroundings(job, folders)
        self._tools.job_logs.follow_log(job.id, folders.log)
        attempt.has_started = True
        try:
            with self._tools.disk.watch_program(folders):
                attempt.result = run_commands(
                    self._tools.launcher, job.commands, surroundings, attempt.time_limit,
                    should_stop=lambda: self._must_stop_program(attempt),
                    check_command=partial(self._hooks.check_command, job, partial(self._check_can_continue, attempt)),
                )  # fmt: skip
        except ProgramNotStarted as error:
            attempt.start_error = error.start_error
            raise
        finally:
            self._tools.job_logs.unfollow_log(job.id, folders.log)

    def _must_stop_program(self, attempt: Attempt) -> bool:
        """Keep the log small and return whether the running program must end now. Called several times a second."""
        remove_middle(attempt.folders.log)
        return self._stop.is_due or attempt.lease.is_lost or self._tools.disk.must_stop(attempt.folders)

    def _prepare_surroundings(self, job: Job, folders: Folders) -> ProgramSurroundings:
        user = self._tools.user
        identity = give_folders(folders, user) if user else None
        return ProgramSurroundings(
            folders.root, folders.log, job.shell, self._settings.program_may_use_aws, identity,
            home=choose_home(user, folders.root) if user else "", own_env=build_own_environment(job, folders),
            monotonic=self._clock.monotonic, now=self._clock.now,
        )  # fmt: skip

    def _publish_results(self, attempt: Attempt) -> None:
        job = get_attempt_job(attempt)
        self._check_program_result(attempt, job)
        attempt.shared.check_unchanged()
        self._publisher.publish_results(attempt, job, partial(self._check_can_continue, attempt))
        self._finisher.record_done(attempt)

    def _check_program_result(self, attempt: Attempt, job: Job) -> None:
        result = attempt.result
        assert result is not None  # run_attempt() always runs before finish_attempt()
        if result.timed_out:
            raise Failed(f"the program ran longer than {format_duration(attempt.time_limit)}", "time-out")
        if result.stopped:
            self._check_can_continue(attempt)
            raise Failed("the worker stopped the program", "disk")
        if attempt.folders.log.is_symlink():
            raise Failed("the program replaced its log with a link, which is not followed")
        reason = self._hooks.find_failure(
            attempt.name, job, attempt.folders, result, partial(self._check_can_continue, attempt)
        )
        if reason is not None:
            runs_alone = self._settings.docker_cores == 1
            raise classify_failure(reason, attempt, job, result, self._tools.oom_kills, runs_alone=runs_alone)
        self._check_can_continue(attempt)

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
