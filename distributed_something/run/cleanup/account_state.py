"""Determines which apps, fleets, and machines in the account are still in use, for the orphan search."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.ec2_fleet import get_fleet_tags, has_fleet_ended, iter_fleets
from distributed_something.aws.sqs import find_queue
from distributed_something.core.errors import get_error_code
from distributed_something.core.names import AppNames
from distributed_something.observe.machines import iter_instances, parse_machine
from distributed_something.observe.resources import get_container_variable
from distributed_something.observe.service import observe_service
from distributed_something.worker import split_into_batches

MIN_ORPHAN_AGE_SECONDS = 3600.0
VALUES_PER_FILTER = 200  # EC2's limit
_ENDED_MACHINE_STATES = {"terminated", "shutting-down"}
_MISSING_DEFINITION_CODES = {"ClientException", "InvalidParameterException"}  # "Unable to describe task definition"


class AccountState:
    """The state of the account and region at `now` (seconds since 1970).

    Fleets and task definitions are cached. AWS errors are not caught.
    """

    def __init__(self, clients: Clients, now: float) -> None:
        self.clients, self.now = clients, now
        self._definitions: dict[str, Any] = {}

    @cached_property
    def fleets(self) -> list[Any]:
        """EC2's descriptions of all fleets that have machines or may start machines."""
        return [fleet for fleet in iter_fleets(self.clients.ec2) if not has_fleet_ended(fleet["SpotFleetRequestState"])]

    @cached_property
    def fleet_ids(self) -> set[str]:
        return {fleet["SpotFleetRequestId"] for fleet in self.fleets}

    def has_fleet(self, app: str) -> bool:
        return any(get_fleet_tags(fleet).get("app") == app for fleet in self.fleets)

    def find_task_definition(self, app: str) -> Any | None:
        """Return the app's latest task definition, or None if the app has no active task definition."""
        if app not in self._definitions:
            self._definitions[app] = self._describe_task_definition(AppNames(app).task_family)
        return self._definitions[app]

    def get_variable(self, app: str, name: str) -> str:
        """Return the value of the variable `name` in the app's containers, or an empty string if it is not set."""
        return get_container_variable(self.find_task_definition(app) or {}, name)

    def has_queue(self, app: str) -> bool:
        """Return whether the app's queue exists: the one its containers use, or else the one with the default name."""
        name = self.get_variable(app, "SQS_QUEUE_URL").rsplit("/", 1)[-1] or AppNames(app).default_queue
        return find_queue(self.clients.sqs, name) is not None

    def has_service(self, app: str) -> bool:
        cluster = self.get_variable(app, "ECS_CLUSTER")
        return bool(cluster) and observe_service(self.clients.ecs, cluster, AppNames(app).service) is not None

    def has_live_app(self, app: str) -> bool:
        """Return whether the app has a fleet or a queue."""
        return self.has_fleet(app) or self.has_queue(app)

    def list_live_machines(self, ids: Iterable[str]) -> set[str]:
        """Return the ids of the machines that still exist.

        The machines are looked up with a filter, because EC2 rejects a call with an id it no longer knows about.
        """
        live: set[str] = set()
        for batch in split_into_batches(sorted(set(ids)), VALUES_PER_FILTER):
            machines = map(parse_machine, iter_instances(self.clients.ec2, [{"Name": "instance-id", "Values": batch}]))
            live.update(machine.id for machine in machines if machine.state not in _ENDED_MACHINE_STATES)
        return live

    def is_recent(self, when: datetime | None, seconds: float = MIN_ORPHAN_AGE_SECONDS) -> bool:
        """Return whether `when` is less than `seconds` ago. An unknown time counts as recent."""
        return when is None or self.now - when.timestamp() < seconds

    def _describe_task_definition(self, family: str) -> Any | None:
        try:
            definition = self.clients.ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
        except ClientError as error:
            if get_error_code(error) not in _MISSING_DEFINITION_CODES:
                raise
            return None
        return definition if definition.get("status", "ACTIVE") == "ACTIVE" else None
