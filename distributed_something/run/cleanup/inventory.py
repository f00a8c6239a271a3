"""The resources in AWS that remain from a run, or from all runs in this account and region.

Each AWS service is queried directly. The Resource Groups Tagging API covers all services in one call, but its results
are delayed: they still include deleted resources and do not include new ones yet, so they cannot prove that nothing is
left. Names and tags must match exactly. Log groups are not included, because they are kept on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from distributed_something.aws.clients import Clients
from distributed_something.core.text import format_wrapped_row
from distributed_something.observe.collect import UncheckedPart, collect_lookup_results
from distributed_something.observe.queue_resources import iter_named_queue, iter_tagged_queues
from distributed_something.observe.resources import (
    Resource,
    ResourceKind,
    ResourceState,
    format_resource,
    iter_all_dashboards,
    iter_all_task_definitions,
    iter_app_clusters,
    iter_app_dashboards,
    iter_app_services,
    iter_app_task_definitions,
    iter_ecs_resources,
    iter_idle_alarms,
    iter_monitor_rules,
    iter_tagged_fleets,
    iter_tagged_machines,
    iter_tagged_templates,
    iter_tagged_volumes,
)
from distributed_something.run.cleanup.dead_letter_queue import iter_dead_letter_queue

if TYPE_CHECKING:
    from distributed_something.core.monitor_file import MonitorFile

REMAINING_WAIT_SECONDS = 60.0  # how long AWS may still list resources that were deleted
ENDING_WAIT_SECONDS = 300.0  # how long to wait for resources that are ending


@dataclass(frozen=True)
class Inventory:
    """The resources that were found, and the parts of the account that could not be checked."""

    resources: list[Resource] = field(default_factory=list)
    unchecked_parts: list[UncheckedPart] = field(default_factory=list)

    def filter_by_state(self, state: ResourceState) -> list[Resource]:
        return [resource for resource in self.resources if resource.state is state]

    @property
    def is_clean(self) -> bool:
        """Whether every part could be listed, and nothing is left that must be deleted."""
        return not (
            self.unchecked_parts
            or self.filter_by_state(ResourceState.REMAINING)
            or self.filter_by_state(ResourceState.ENDING)
        )

    @property
    def recheck_seconds(self) -> float:
        """How many seconds after the cleanup this inventory may still change on its own."""
        if self.filter_by_state(ResourceState.REMAINING) or any(not part.is_denied for part in self.unchecked_parts):
            return REMAINING_WAIT_SECONDS
        return ENDING_WAIT_SECONDS if self.filter_by_state(ResourceState.ENDING) else 0.0


@dataclass(frozen=True)
class RunNames:
    """The run whose resources are listed, and the name of its dead-letter queue.

    `tagged`: whether to list only resources whose tags name this run, because a newer batch uses the same names.
    """

    run: MonitorFile
    dead_letter_queue: str
    tagged: bool = False

    def is_tagged(self, resource: Resource) -> bool:
        """Return whether the resource's tags name this run or its fleet."""
        return resource.run == self.run.run or self.run.MONITOR_FLEET_ID in (resource.id, resource.fleet)


ResourceLister = Callable[[], Iterable[Resource]]


def wait_for_removal(
    clients: Clients, names: RunNames | None, sleep: Callable[[float], None], *, pause: float = 10.0
) -> Inventory:
    """Return what is left of a run after a cleanup, or of all runs if `names` is None.

    The check is repeated for up to one minute while resources seem to remain or temporarily cannot be listed, and for
    up to five minutes while resources are ending. `pause`: seconds between two checks. Raise CloudError only if the
    user is not logged in to AWS.
    """
    waited = 0.0
    while True:
        inventory = observe_run_resources(clients, names) if names else observe_all_resources(clients)
        if waited >= inventory.recheck_seconds:
            return inventory
        sleep(pause)
        waited += pause


def observe_run_resources(clients: Clients, names: RunNames) -> Inventory:
    """Return the run's resources of every kind.

    If one kind cannot be listed, the inventory includes the error, and the other kinds are still listed.
    """
    resources, unchecked_parts = collect_lookup_results(_iter_run_listers(clients, names))
    own = [resource for resource in resources if not names.tagged or names.is_tagged(resource)]
    return Inventory(_mark_ending_machines(own), unchecked_parts)


def observe_all_resources(clients: Clients) -> Inventory:
    """Return the resources of all runs in this account and region.

    This needs a few permissions that the auto-monitor does not have.
    """
    resources, unchecked_parts = collect_lookup_results(_iter_account_listers(clients))
    return Inventory(_resolve_unknown_resources(_mark_ending_machines(resources)), unchecked_parts)


def format_inventory(inventory: Inventory) -> str:
    """Return the lines that list the resources, followed by "nothing is left" if the inventory is clean."""
    labels = {
        ResourceState.REMAINING: "REMAINING",
        ResourceState.ENDING: "still ending",
        ResourceState.KEPT: "kept",
        ResourceState.UNKNOWN: "unknown origin",
    }
    lines = [
        format_wrapped_row(labels[state], format_resource(resource))
        for state in ResourceState
        for resource in inventory.filter_by_state(state)
    ]
    lines += [format_wrapped_row("NOT CHECKED", part.error) for part in inventory.unchecked_parts]
    return "\n".join([*lines, "nothing is left"] if inventory.is_clean else lines)


def _iter_run_listers(clients: Clients, names: RunNames) -> Iterator[tuple[str, ResourceLister]]:
    run, app = names.run, names.run.MONITOR_APP_NAME
    yield from _iter_common_listers(clients, app)
    yield "the queue", partial(iter_named_queue, clients.sqs, app, run.MONITOR_QUEUE_NAME)
    yield "the dead-letter queue", partial(iter_dead_letter_queue, clients.sqs, run, names.dead_letter_queue)
    yield "the service", partial(iter_app_services, clients.ecs, run.MONITOR_ECS_CLUSTER, app)
    yield "the cluster", partial(iter_app_clusters, clients.ecs, run.MONITOR_ECS_CLUSTER, app)
    yield "task definitions", partial(iter_app_task_definitions, clients.ecs, app)
    yield "dashboards", partial(iter_app_dashboards, clients.cloudwatch, app, keep=not run.CLEAN_DASHBOARD)


def _iter_account_listers(clients: Clients) -> Iterator[tuple[str, ResourceLister]]:
    yield from _iter_common_listers(clients, None)
    yield "queues", partial(iter_tagged_queues, clients.sqs)
    yield "clusters and services", partial(iter_ecs_resources, clients.ecs)
    yield "task definitions", partial(iter_all_task_definitions, clients.ecs)
    yield "dashboards", partial(iter_all_dashboards, clients.cloudwatch)


def _iter_common_listers(clients: Clients, app: str | None) -> Iterator[tuple[str, ResourceLister]]:
    ec2 = clients.ec2
    yield "fleets", partial(iter_tagged_fleets, ec2, app)
    yield "machines", partial(iter_tagged_machines, ec2, app)
    yield "volumes", partial(iter_tagged_volumes, ec2, app)
    yield "launch templates", partial(iter_tagged_templates, ec2, app)
    yield "alarms", partial(iter_idle_alarms, clients.cloudwatch, app)
    yield "rules", partial(iter_monitor_rules, clients.events, app)


def _mark_ending_machines(resources: list[Resource]) -> list[Resource]:
    """Mark machines in canceled fleets as ending, because EC2 takes some time to terminate them."""
    ending_fleets = {
        resource.id
        for resource in resources
        if resource.kind is ResourceKind.FLEET and resource.state is ResourceState.ENDING
    }
    return [
        replace(resource, state=ResourceState.ENDING)
        if resource.kind is ResourceKind.MACHINE and resource.fleet in ending_fleets
        else resource
        for resource in resources
    ]


def _resolve_unknown_resources(resources: list[Resource]) -> list[Resource]:
    """Mark resources of unknown origin as remaining if their app also has resources whose origin is certain.

    The tag `app` alone is too common to prove that a resource belongs to an app of this package.
    """
    certain_apps = {resource.app for resource in resources if resource.state is not ResourceState.UNKNOWN}
    return [
        replace(resource, state=ResourceState.REMAINING)
        if resource.state is ResourceState.UNKNOWN and resource.app in certain_apps
        else resource
        for resource in resources
    ]
