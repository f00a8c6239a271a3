"""Runs a test run from its first step to the check that nothing is left.

The steps that create something are those of a real run, with other names. Whatever ends them, even Ctrl-C, everything
is removed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.aws.cloudwatch_logs import ensure_log_groups
from distributed_something.aws.sts import resolve_owner
from distributed_something.cli.interrupts import postpone_interrupts, raise_interrupts
from distributed_something.cli.test_run.explanation import Explanation, explain_stop
from distributed_something.cli.test_run.lock import TestRunLock
from distributed_something.cli.test_run.plan import TEST_INPUT, TEST_JOBS
from distributed_something.cli.test_run.removal import (
    Traces,
    build_removal_command,
    list_missing_log_groups,
    release_lock,
    remove_test_run,
)
from distributed_something.cli.test_run.steps import WATCHED_STEPS, Step, StepPace
from distributed_something.cli.test_run.watcher import StepWatcher, StopReason
from distributed_something.core.errors import (
    AWSError,
    explain_aws_error,
    is_access_denied,
    is_login_error,
    translate_aws_errors,
)
from distributed_something.core.monitor_file import build_monitor_file_path
from distributed_something.core.tags import build_tags
from distributed_something.jobs.submission.journal import SubmissionJournal
from distributed_something.jobs.submission.plan import plan_submission
from distributed_something.jobs.submission.submit import Submission, submit_jobs
from distributed_something.run.setup import set_up_run
from distributed_something.run.start import start_run

if TYPE_CHECKING:
    from distributed_something.cli.test_run.plan import PlannedTest
    from distributed_something.cli.test_run.view import StepView
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.run.run_context import RunContext

INTERRUPTION_NOTE = "everything is being removed; please wait"


def _ignore_text(text: str) -> None:
    """Print nothing: the table of the steps replaces what the commands of a run print."""


def _print_if_possible(print_text: Callable[[str], None], text: str) -> None:
    """Print, unless the terminal or the pipe is closed: that must not keep anything from being removed."""
    with suppress(OSError, ValueError, SystemExit):  # ValueError: Python itself has closed the stream
        print_text(text)


@dataclass
class TestOutcome:
    """How a test run ended.

    `explanation`: why it stopped; None if every step happened or an error stopped it. `error`: the error or Ctrl-C that
    stopped it, in the step `stopped_step`. `remaining`: lines about what could not be removed. `machine_seconds`: how
    long the machine was rented; None if there was none. `hourly`: its spot price in USD per hour; None if not known.
    """

    explanation: Explanation | None = None
    error: BaseException | None = None
    stopped_step: Step | None = None
    remaining: list[str] = field(default_factory=list)
    machine_seconds: float | None = None
    hourly: float | None = None

    __test__ = False  # it is not a test

    @property
    def has_passed(self) -> bool:
        return self.explanation is None and self.error is None


class RunTester:
    """One test run. `context`: with the settings of the plan. `project`: the folder of the project."""

    def __init__(self, context: RunContext, plan: PlannedTest, project: Path, pace: StepPace, view: StepView) -> None:
        self._context, self._plan, self._pace, self._view = context, plan, pace, view
        self._project = project
        self._monitor_file = build_monitor_file_path(project, plan.settings.APP_NAME)
        removal = build_removal_command(context.command_line, self._monitor_file)
        self._lock = TestRunLock(context.clients.s3, plan.settings, removal)
        self._owner = ""
        self._has_reported_removal = False
        self._new_log_groups: list[str] = []
        self._jobs: list[str] = []
        self._step = Step.SET_UP
        self._watcher: StepWatcher | None = None

    def run(self) -> TestOutcome:
        """Run all steps, remove everything, and return how this ended.

        AWS errors, Ctrl-C, and a closed terminal or pipe are in the outcome.
        """
        outcome = TestOutcome()
        with postpone_interrupts(self._report_removal):
            try:
                with raise_interrupts():
                    self._take_lock()
                    outcome.explanation = self._run_steps()
            except (Exception, KeyboardInterrupt, SystemExit) as error:  # rich exits if it writes to a closed pipe
                is_explained = not isinstance(error, AWSError)
                outcome.error = error if is_explained else explain_aws_error(f"testing: {self._step.value}", error)
            finally:
                self._end(outcome)
        return outcome

    def _report_removal(self) -> None:
        """Print once, however often Ctrl-C is pressed, that everything is being removed."""
        if not self._has_reported_removal:
            self._has_reported_removal = True
            _print_if_possible(self._context.output.print_progress, INTERRUPTION_NOTE)

    def _end(self, outcome: TestOutcome) -> None:
        """Print the row of the step that stopped, if one did, and remove everything that this test run created."""
        if not outcome.has_passed:
            outcome.stopped_step = self._step
            is_interrupted = isinstance(outcome.error, KeyboardInterrupt)
            _print_if_possible(self._view.end_step, "interrupted" if is_interrupted else "STOPPED")
        if self._lock.is_taken:
            self._clean_up(outcome)
        outcome.remaining += release_lock(self._lock, self._context.clock.now())

    def _begin(self, step: Step) -> None:
        self._step = step
        self._view.begin_step(step, self._pace.limits.get(step))

    def _run_steps(self) -> Explanation | None:
        self._set_up()
        self._send_jobs()
        run = self._request_machine()
        self._watcher = StepWatcher(self._context.clients, run, self._jobs, self._pace)
        reason = self._watch(self._watcher)
        if reason is None:
            return None
        self._step = reason.step
        with translate_aws_errors("looking for the reason"):
            return explain_stop(self._context, run, reason, self._watcher.lines)

    def _take_lock(self) -> None:
        """Keep other test runs of this app away before anything is created. Raise InputError if one is in progress."""
        self._begin(Step.SET_UP)
        clients, plan = self._context.clients, self._plan
        with translate_aws_errors("looking for log groups"):
            self._new_log_groups = list_missing_log_groups(clients, plan)
        self._owner = resolve_owner(clients.sts, plan.project_settings)
        with translate_aws_errors(f"writing {self._lock.address}"):
            self._lock.take(self._owner, self._new_log_groups, self._context.clock.now())

    def _set_up(self) -> None:
        """Create the app's log groups if necessary, with the app's own tags, and everything else for the test run."""
        clients, plan, sleep = self._context.clients, self._plan, self._context.clock.sleep
        tags = build_tags(plan.project_settings, self._owner)
        ensure_log_groups(clients.logs, plan.project_settings, tags, sleep)
        set_up_run(clients, plan.settings, _ignore_text, sleep)
        self._view.end_step("queues, logs, cluster, task definition, service")

    def _send_jobs(self) -> None:
        self._begin(Step.SENT)
        clients, plan = self._context.clients, self._plan
        address = f"s3://{plan.settings.AWS_BUCKET}/{plan.input_key}"
        with translate_aws_errors(f"writing the jobs' input to {address}"):
            clients.s3.put_object(Bucket=plan.settings.AWS_BUCKET, Key=plan.input_key, Body=TEST_INPUT)
        with tempfile.TemporaryDirectory() as folder:
            job_file = plan.build_job_file(Path(folder))
            self._jobs = [message.id for message in job_file.iter_checked_messages()]
            with closing(SubmissionJournal(job_file.path)) as journal:
                submission = Submission(job_file, plan_submission(job_file), journal)
                submit_jobs(
                    clients, plan.settings, submission, self._context.clock,
                    progress=lambda sent, total: None, print_progress=_ignore_text,
                )  # fmt: skip
        self._view.end_step(f"{TEST_JOBS} jobs of one second")

    def _request_machine(self) -> MonitorFile:
        self._begin(Step.REQUESTED)
        run = start_run(self._context, self._plan.fleet_file, self._plan.fleet, self._project)
        self._view.end_step(f"{self._plan.machine_type}, fleet {run.MONITOR_FLEET_ID}")
        return run

    def _watch(self, watcher: StepWatcher) -> StopReason | None:
        """Look until every step has been seen, or one will not happen; return why."""
        clock = self._context.clock
        for step in WATCHED_STEPS:
            self._begin(step)
            began = clock.now()
            while step not in watcher.details:
                try:
                    reason = watcher.look(step, clock.now() - began, clock.now())
                except AWSError as error:
                    if is_access_denied(error) or is_login_error(error):
                        raise
                    reason = self._check_time(step, clock.now() - began, error)
                if reason is not None:
                    return reason
                if step not in watcher.details:
                    clock.sleep(self._pace.poll_seconds)
            self._view.end_step(watcher.details[step] or self._describe_image())
        return None

    def _describe_image(self) -> str:
        has_image = self._context.command_line.has_image
        return self._plan.settings.DOCKERHUB_TAG if has_image else "not used: the worker runs without a container"

    def _check_time(self, step: Step, seconds: float, error: BaseException) -> StopReason | None:
        """Return a reason if the error, which may pass, has lasted too long."""
        limit = self._pace.limits[step]
        return StopReason(step, limit, str(explain_aws_error("looking at AWS", error))) if seconds >= limit else None

    def _clean_up(self, outcome: TestOutcome) -> None:
        context, watcher = self._context, self._watcher
        self._begin(Step.CLEANED)
        traces = Traces(list(watcher.machines) if watcher else [], self._new_log_groups)
        if watcher is not None and watcher.launched_at is not None:
            outcome.hourly = watcher.hourly
        outcome.remaining = remove_test_run(
            context.clients, self._plan, traces, self._monitor_file, context.clock, context.pause
        )
        if watcher is not None and watcher.launched_at is not None:
            outcome.machine_seconds = context.clock.now() - watcher.launched_at
        text = "something is left; see below" if outcome.remaining else "nothing is left"
        _print_if_possible(self._view.end_step, text)
