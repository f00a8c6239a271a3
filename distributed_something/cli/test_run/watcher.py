"""Watches a test run in AWS: which steps have happened, and whether the next one still can."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from distributed_something.aws.ec2_fleet import FleetState, observe_fleet, observe_fleet_problems
from distributed_something.aws.s3 import iter_bucket_objects
from distributed_something.aws.spot_prices import SpotPriceCache
from distributed_something.cli.test_run.plan import TEST_INPUT
from distributed_something.cli.test_run.steps import MAX_FAILED_CONTAINERS, WATCHED_STEPS, Step, StepPace
from distributed_something.core.errors import AWSError
from distributed_something.observe.containers import read_worker_lines, select_failed_tasks
from distributed_something.observe.machines import list_container_instances
from distributed_something.observe.service import count_protected_tasks, list_active_tasks, list_stopped_tasks
from distributed_something.results.outcome import read_record

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile

NOT_VISIBLE_PROTECTION = "not checked: you may not call ecs:GetTaskProtection"


@dataclass(frozen=True)
class StopReason:
    """Why a step will not happen. `seconds`: its time limit, if that is the reason. `note`: what was seen, or ""."""

    step: Step
    seconds: float | None = None
    note: str = ""


class StepWatcher:
    """The steps of a test run that have been seen in AWS.

    `details`: what was seen, keyed by step; a step is seen once and for all. `machines`: every machine that the fleet
    has had. `hourly`: the cost of the machine in USD per hour; None if it is not known.
    """

    def __init__(self, clients: Clients, file: MonitorFile, jobs: Sequence[str], pace: StepPace) -> None:
        self._clients, self._file, self._jobs, self._pace = clients, file, tuple(jobs), pace
        self._prices = SpotPriceCache(file.MONITOR_MACHINE_PRICE)
        self.details: dict[Step, str] = {}
        self.machines: dict[str, str] = {}
        self.launched_at: float | None = None
        self.hourly: float | None = None
        self.lines: tuple[str, ...] = ()

    def look(self, step: Step, seconds: float, now: float) -> StopReason | None:
        """Look at AWS once. Return a reason if `step`, for which one has waited `seconds`, will not happen.

        AWS errors are not caught.
        """
        looks = (partial(self._look_at_machine, now=now), self._look_at_container, self._look_at_jobs)
        for look in looks:
            reason = look(step)
            if step in self.details or reason is not None:  # an error in a later look would be about a later step
                return reason
        limit = self._pace.limits[step]
        return StopReason(step, limit) if seconds >= limit else None

    def _is_due(self, step: Step) -> bool:
        """Return whether the step has not been seen, but those before it have.

        What the container does is seen in any order.
        """
        number = min(WATCHED_STEPS.index(step), WATCHED_STEPS.index(Step.PROTECTED))
        return step not in self.details and all(earlier in self.details for earlier in WATCHED_STEPS[:number])

    def _look_at_machine(self, step: Step, now: float) -> StopReason | None:
        clients, file = self._clients, self._file
        fleet = observe_fleet(clients.ec2, file.MONITOR_FLEET_ID)
        if fleet is None:  # a new one is not listed for a moment
            return None
        self._add_machines(fleet, now)
        if not fleet.is_active:
            return StopReason(step, note=f"the fleet {file.MONITOR_FLEET_ID} is {fleet.state}")
        if step is not Step.LAUNCHED and self._is_due(Step.JOINED):
            joined = list_container_instances(clients.ecs, file.MONITOR_ECS_CLUSTER, 1)
            if joined:
                self.details[Step.JOINED] = f"{joined[0].instance} in the cluster {file.MONITOR_ECS_CLUSTER}"
        start = file.MONITOR_START_TIME / 1000
        if step is not Step.LAUNCHED or fleet.machines or now - start < self._pace.refusal_seconds:
            return None
        problems = observe_fleet_problems(clients.ec2, file.MONITOR_FLEET_ID, start, now)
        return StopReason(step, note="EC2 starts no machine") if problems else None

    def _add_machines(self, fleet: FleetState, now: float) -> None:
        self.machines |= dict(zip(fleet.machines, fleet.types, strict=False))
        if not fleet.machines:
            return
        if self.launched_at is None:
            self.launched_at = now
        if Step.LAUNCHED not in self.details:
            self.details[Step.LAUNCHED] = ", ".join(f"{name} ({kind})" for name, kind in self.machines.items())
        if self.hourly is None:
            with suppress(*AWSError):  # the test run does not need the price, and asks for it again at the next look
                self.hourly = self._prices.compute_hourly_cost(self._clients.ec2, fleet, now)

    def _look_at_container(self, step: Step) -> StopReason | None:
        ecs, cluster, service = self._clients.ecs, self._file.MONITOR_ECS_CLUSTER, self._file.names.service
        if Step.JOINED not in self.details:
            return None
        if self._is_due(Step.PULLED) or self._is_due(Step.STARTED):
            tasks = list_active_tasks(ecs, cluster, service)
            if any(task.has_image for task in tasks):
                self.details.setdefault(Step.PULLED, "")
            if running := [task.id for task in tasks if task.is_running]:
                self.details.setdefault(Step.STARTED, running[0])
        if self._is_due(Step.PROTECTED):
            protected = count_protected_tasks(ecs, cluster, service)
            if protected is None:
                self.details[Step.PROTECTED] = NOT_VISIBLE_PROTECTION
            elif protected:
                self.details[Step.PROTECTED] = "ECS does not stop the container while it has a job"
        failed = select_failed_tasks(list_stopped_tasks(ecs, cluster, service), self._file.MONITOR_START_TIME / 1000)
        return StopReason(step, note="its containers fail") if len(failed) >= MAX_FAILED_CONTAINERS else None

    def _look_at_jobs(self, step: Step) -> StopReason | None:
        logs, file = self._clients.logs, self._file
        if step is Step.LOGGED:
            for machine in self.machines:
                self.lines = read_worker_lines(logs, file.MONITOR_LOG_GROUP_NAME, machine) or self.lines
            if self.lines:
                self.details[Step.LOGGED] = f"in {file.MONITOR_LOG_GROUP_NAME}"
        if not self._is_due(Step.VERIFIED):
            return None
        records = [read_record(self._clients.s3, file.MONITOR_BUCKET_NAME, file.keys.record(job)) for job in self._jobs]
        if any(record.get("final") and record.get("state") != "done" for record in records):
            return StopReason(step, note="a job failed")
        if not all(record.get("state") == "done" for record in records):
            return None
        results = zip(self._jobs, records, strict=True)
        problems = [problem for job, record in results if (problem := self._find_result_problem(job, record))]
        if problems:
            return StopReason(Step.VERIFIED, note=problems[0])
        self.details[Step.VERIFIED] = f"{len(records)} jobs, in s3://{file.MONITOR_BUCKET_NAME}"
        return None

    def _find_result_problem(self, job: str, record: dict[str, Any]) -> str:
        """Return what is wrong with the results of a job that is done, or ""."""
        s3, result = self._clients.s3, _find_only_result(record, self._file.MONITOR_BUCKET_NAME)
        if result is None:
            return f"the record of the job {job} does not name one result"
        bucket, key = result
        if not any(item["Key"] == key for item in iter_bucket_objects(s3, bucket, key)):
            return f"its record names the result s3://{bucket}/{key}, which does not exist"
        is_equal = s3.get_object(Bucket=bucket, Key=key)["Body"].read(len(TEST_INPUT) + 1) == TEST_INPUT
        return "" if is_equal else f"s3://{bucket}/{key} differs from the job's input"


def _find_only_result(record: dict[str, Any], default_bucket: str) -> tuple[str, str] | None:
    """Return the bucket and the key of the record's result; None if it does not name exactly one."""
    outputs = record.get("outputs")
    output = outputs[0] if isinstance(outputs, list) and len(outputs) == 1 else None
    if not isinstance(output, dict):
        return None
    bucket, key = output.get("bucket", default_bucket), output.get("key")
    return (bucket, key) if isinstance(bucket, str) and isinstance(key, str) and bucket and key else None
