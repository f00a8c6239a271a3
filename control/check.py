"""`run.py check [FLEET]`: everything that can be looked at before a cent is spent, in one list.

Each check is a function of the `Facts`; it asks for what it needs and judges it by a pure function beside it. One
check never stops another: what AWS refuses to tell becomes a warning with the right that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control import checks_account, checks_cost, checks_fleet, checks_jobs, fleetrequest
from control.clients import Clients
from control.errors import AWSError, InputError
from control.facts import Facts
from control.findings import Finding, Level, ok, warning, wrong
from control.rights import missing_right, why_not

if TYPE_CHECKING:
    from control.settings import Settings

Check = Callable[[Facts], Iterable[Finding]]
FLEET_FILE = "fleet file"
CHECKS: tuple[tuple[str, Check | None], ...] = (
    ("account", checks_account.login),
    ("bucket", checks_account.bucket),
    ("fleet role", checks_account.fleet_role),
    ("profile", checks_account.profiles),
    ("roles", checks_account.same_account),
    ("image", checks_jobs.image),
    ("queue", checks_jobs.jobs),
    (FLEET_FILE, None),  # looked at first, told here
    ("template", checks_fleet.template),
    ("subnets", checks_fleet.subnets),
    ("groups", checks_fleet.groups),
    ("key pair", checks_fleet.keys),
    ("way to AWS", checks_fleet.way_to_aws),
    ("AMI", checks_fleet.images),
    ("disk", checks_fleet.disks),
    ("types", checks_fleet.types),
    ("room", checks_fleet.room),
    ("ECS limits", checks_cost.ecs_limits),
    ("spot quota", checks_cost.quota),
    ("bid", checks_cost.bid),
    ("cost", checks_cost.cost),
    ("log export", checks_account.log_export),
    ("names", checks_account.names),
)
TRY_AGAIN = "try again; if it stays so, look the code up in AWS's documentation"


def check(
    settings: Settings, clients: Clients, path: Path | None, content: Mapping[str, Any] | None, now: datetime
) -> list[Finding]:
    """Looks at everything; never raises for what it finds. `path`, `content`: the Fleet file, None without one.

    Nothing is made or changed in AWS, and nothing costs anything.
    """
    first, fleet = fleet_file(settings, clients, path, content)
    facts = Facts(settings, clients, now, fleet)
    checks = [(FLEET_FILE, lambda _: [first]) if one is None else (topic, one) for topic, one in CHECKS]
    return list(run(checks, facts))


def fleet_file(
    settings: Settings, clients: Clients, path: Path | None, content: Mapping[str, Any] | None
) -> tuple[Finding, dict[str, Any] | None]:
    """The Fleet file against the config, without a call, and its content; None where there is no file, or where it is
    wrong: then what is in it is not looked up."""
    if path is None or content is None:
        return ok(FLEET_FILE, "none was given: its subnets, image, roles and disks are not checked"), None
    try:
        fleetrequest.check(dict(content), path, settings, clients.ec2)
        return ok(FLEET_FILE, f"{path.name} fits the config"), dict(content)
    except InputError as error:
        _, _, told = str(error).partition(": ")
        said, _, remedy = told.rpartition("; ")
        return wrong(FLEET_FILE, said, remedy, by_user=True), None


def run(checks: Iterable[tuple[str, Check]], facts: Facts) -> Iterator[Finding]:
    """The findings of these checks in order. Where AWS does not know who asks, no more is asked."""
    unasked: list[str] = []
    stranger = False
    for topic, one in checks:
        if stranger and topic != FLEET_FILE:
            unasked.append(topic)
            continue
        try:
            for finding in one(facts):
                stranger = stranger or (topic == "account" and finding.level is Level.WRONG)
                yield finding
        except AWSError as error:
            yield not_looked_up(topic, error)
    if unasked:
        yield warning("not checked", ", ".join(unasked), "log in first, then check again")


def not_looked_up(topic: str, error: BaseException) -> Finding:
    """A warning that names the right that a look-up needs, or AWS's words."""
    right = missing_right(error)
    remedy = checks_account.NO_RIGHT if right else TRY_AGAIN
    return warning(topic, f"could not be looked up: {why_not(error)}", remedy, details={"right": right})
