"""What is left in AWS of a run, or of all runs of this account and region.

Each service is asked itself. The tagging service would answer for all of them in one call, but it still lists what is
deleted and not yet what is new, which is no proof that nothing is left. Names and tags are compared whole. Log groups
are not looked at: they stay on purpose, for 60 days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from distributed_something.aws.clients import Clients
from distributed_something.core.text import format_row
from distributed_something.observe.collect import UnseenPart, collect_findings
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
    iter_named_queues,
    iter_tagged_fleets,
    iter_tagged_machines,
    iter_tagged_queues,
    iter_tagged_templates,
    iter_tagged_volumes,
)

if TYPE_CHECKING:
    from distributed_something.core.monitor_file import MonitorFile

REMAINING_WAIT_SECONDS = 60.0  # how long AWS's answers may lag behind what was removed
ENDING_WAIT_SECONDS = 300.0  # how long what is ending is given to end


@dataclass(frozen=True)
class Inventory:
    """What a look found, and what it could not see: then nothing is proven."""

    things: list[Resource] = field(default_factory=list)
    unseen: list[UnseenPart] = field(default_factory=list)

    def of(self, state: ResourceState) -> list[Resource]:
        return [thing for thing in self.things if thing.state is state]

    @property
    def clean(self) -> bool:
        """Whether nothing is left that must go, and everything could be looked at."""
        return not (self.unseen or self.of(ResourceState.LEFT) or self.of(ResourceState.ENDING))

    @property
    def recheck_seconds(self) -> float:
        """Seconds after which another look could still tell something else."""
        if self.of(ResourceState.LEFT) or any(not part.denied for part in self.unseen):
            return REMAINING_WAIT_SECONDS
        return ENDING_WAIT_SECONDS if self.of(ResourceState.ENDING) else 0.0


@dataclass(frozen=True)
class RunNames:
    """Whose things are looked for: a run's, with the names that its tags do not tell. `tagged`: only what a tag says to
    be this run's, where the names are the next batch's by now."""

    run: MonitorFile
    dead_letter_queue: str
    tagged: bool = False

    def of_run(self, thing: Resource) -> bool:
        return thing.run == self.run.run or self.run.MONITOR_FLEET_ID in (thing.id, thing.fleet)


ResourceLister = Callable[[], Iterable[Resource]]


def wait_for_removal(
    clients: Clients, names: RunNames | None, sleep: Callable[[float], None], *, pause: float = 10.0
) -> Inventory:
    """What is left of a run, or of all runs (None), right after a clean-up: what seems to be left, or cannot be seen
    just now, is looked at again for a minute, what is ending for five. Raises CloudError only where AWS does not know
    who asks."""
    waited = 0.0
    while True:
        left = observe_run_resources(clients, names) if names else observe_all_resources(clients)
        if waited >= left.recheck_seconds:
            return left
        sleep(pause)
        waited += pause


def observe_run_resources(clients: Clients, names: RunNames) -> Inventory:
    """One look at every kind of thing that the run has; what AWS refuses is noted, and keeps no other from being
    looked at."""
    things, unseen = collect_findings(_iter_run_listers(clients, names))
    own = [thing for thing in things if not names.tagged or names.of_run(thing)]
    return Inventory(_mark_ending_machines(own), unseen)


def observe_all_resources(clients: Clients) -> Inventory:
    """The same for all runs of this account and region. Needs a few rights more, which the auto-monitor lacks."""
    things, unseen = collect_findings(_iter_account_listers(clients))
    return Inventory(_resolve_unknown_resources(_mark_ending_machines(things)), unseen)


def format_inventory(left: Inventory) -> str:
    """A line for each thing, for standard output; one that says so where nothing is left."""
    marks = {
        ResourceState.LEFT: "LEFT",
        ResourceState.ENDING: "still ending",
        ResourceState.KEPT: "kept",
        ResourceState.UNKNOWN: "not ours?",
    }
    lines = [format_row(marks[state], format_resource(thing)) for state in ResourceState for thing in left.of(state)]
    lines += [format_row("NOT SEEN", part.error) for part in left.unseen]
    return "\n".join([*lines, "nothing is left"] if left.clean else lines)


def _iter_run_listers(clients: Clients, names: RunNames) -> Iterator[tuple[str, ResourceLister]]:
    run, app = names.run, names.run.MONITOR_APP_NAME
    both = (run.MONITOR_QUEUE_NAME, names.dead_letter_queue)
    yield from _iter_common_listers(clients, app)
    yield "queues", partial(iter_named_queues, clients.sqs, app, both)
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


def _mark_ending_machines(things: list[Resource]) -> list[Resource]:
    """A fleet that is cancelled ends its machines itself, in its own time."""
    fleets_ending = {
        thing.id for thing in things if thing.kind is ResourceKind.FLEET and thing.state is ResourceState.ENDING
    }
    return [
        replace(thing, state=ResourceState.ENDING)
        if thing.kind is ResourceKind.MACHINE and thing.fleet in fleets_ending
        else thing
        for thing in things
    ]


def _resolve_unknown_resources(things: list[Resource]) -> list[Resource]:
    """Of a word as common as `app` as a tag: an app is one of ours where anything of it is surely ours."""
    sure = {thing.app for thing in things if thing.state is not ResourceState.UNKNOWN}
    return [
        replace(thing, state=ResourceState.LEFT)
        if thing.state is ResourceState.UNKNOWN and thing.app in sure
        else thing
        for thing in things
    ]
