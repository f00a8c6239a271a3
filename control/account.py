"""`run.py setupAWS`: what an account needs once, before anybody's first run; and its removal.

Every step looks first and does only what is missing, so it may be repeated at any time, also after a change of the
config or of the code. What was there before is never overwritten: it is added to, or left and told. What setupAWS
makes carries the tag made-by=distributed-something, and only that is ever deleted.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from control import bundle, function, iam, lifecycle, policies
from control.clients import EC2_PAGES, Clients
from control.errors import AWSError, code_of, doing, explain
from control.iam import POLICY, Role
from control.policies import Place
from control.steps import CHANGED, FOUND, KEPT, LEFT, MADE, MADE_BY, REMOVED, Row, Step, is_ours, or_none

if TYPE_CHECKING:
    from control.settings import Settings

USED_SECONDS = 24 * 3600.0  # for so long after its last use in another region a role is thought to be in use there
_ACTIVE = ("submitted", "active", "modifying")


@dataclass(frozen=True)
class Buckets:
    """The buckets of a config: AWS_BUCKET; others that jobs read; and others that they write too."""

    own: str
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    @property
    def all(self) -> list[str]:
        return list(dict.fromkeys((self.own, *self.write, *self.read)))


def place_of(clients: Clients, region: str) -> Place:
    """Whose account this login is of; raises CloudError."""
    with doing("asking AWS who you are"):
        answer = clients.sts.get_caller_identity()
    return Place(answer["Account"], region, answer["Arn"].split(":")[1])


def buckets_of(settings: Settings, read: Iterable[str] = (), write: Iterable[str] = ()) -> Buckets:
    """AWS_BUCKET, the user's own constants named …_BUCKET (written to, if DESTINATION or OUTPUT is in the name), and
    those given: a job file may name others, which the config cannot know."""
    reads, writes = list(read), list(write)
    for name, value in settings.own.items():
        if name.endswith("_BUCKET") and re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value):
            (writes if re.search("DESTINATION|OUTPUT", name) else reads).append(value)
    written = {settings.AWS_BUCKET, *writes}
    return Buckets(
        settings.AWS_BUCKET,
        tuple(sorted(set(reads) - written)),
        tuple(sorted(written - {settings.AWS_BUCKET})),
    )


def set_up(
    clients: Clients, place: Place, buckets: Buckets, root: Path, sleep: Callable[[float], None], *,
    dry_run: bool = False,
) -> Iterator[Row]:  # fmt: skip
    """A line for each thing, once it is as it is to be. Raises CloudError where AWS refuses what runs cannot do
    without; a repeat goes on.

    `root`: the folder of `control/`, which becomes the auto-monitor. `dry_run`: nothing is made or changed.
    """
    code = bundle.build(root)
    looks: list[Callable[[], Step]] = [
        *(partial(iam.service_linked, clients.iam, *one) for one in policies.SERVICE_LINKED.items()),
        *(partial(iam.role, clients.iam, role) for role in roles(place, buckets)),
        partial(iam.profile, clients.iam, policies.INSTANCE_ROLE, sleep),
        partial(function.log_group, clients),
        partial(function.function, clients, place, code, sleep),
        partial(function.permission, clients, place),
        partial(bucket_policy, clients, place, buckets.own),
        partial(lifecycle.rule, clients, buckets.own),
    ]
    for look in looks:
        with doing("looking at the account"):
            step = look()
        yield _would(step) if dry_run else _made(step)


def destroy(
    clients: Clients, place: Place, buckets: Buckets, *, dry_run: bool = False, now: Callable[[], float] = time.time
) -> Iterator[Row]:
    """A line for each thing that was removed or left, and why. Nothing goes while a run goes on.

    What AWS refuses is left, with its reason. Raises CloudError where not even looking is allowed.
    """
    with doing("looking for runs that go on"):
        busy = in_use(clients, place) or used_elsewhere(clients, place, now())
    if busy:
        yield Row("account", place.account, LEFT, f"{busy}: nothing was removed; end the run first")
        return
    ends: list[Callable[[], Iterable[Step]]] = [
        partial(function.end, clients),
        partial(iam.end_profile, clients.iam, policies.INSTANCE_ROLE),
        *(partial(iam.end_role, clients.iam, role.name) for role in roles(place, buckets)),
        partial(_end_security_groups, clients),
        partial(_end_bucket_policy, clients, place, buckets.own),
        partial(lifecycle.end_rule, clients, buckets.own),
        _keep_service_linked,
    ]
    for end in ends:
        with doing("looking at the account"):
            steps = list(end())
        for step in steps:
            yield _would(step) if dry_run else _removed(step)


def in_use(clients: Clients, place: Place) -> str:
    """The first thing found that still needs the account's roles; nothing where none does."""
    found = function.rules(clients, place)
    if found:
        return f"the rule {found[0]} calls the auto-monitor"
    fleet_role = place.role(policies.FLEET_ROLE)
    for page in clients.ec2.get_paginator("describe_spot_fleet_requests").paginate():
        for one in page["SpotFleetRequestConfigs"]:
            role = one["SpotFleetRequestConfig"]["IamFleetRole"]
            if one["SpotFleetRequestState"] in _ACTIVE and role == fleet_role:
                return f"the fleet {one['SpotFleetRequestId']} is active"
    filters: Any = [
        {"Name": "iam-instance-profile.arn", "Values": [place.profile(policies.INSTANCE_ROLE)]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    pages = clients.ec2.get_paginator("describe_instances").paginate(Filters=filters, PaginationConfig=EC2_PAGES)
    for machines in pages:
        for reservation in machines["Reservations"]:
            return f"the machine {reservation['Instances'][0]['InstanceId']} has the role {policies.INSTANCE_ROLE}"
    return ""


def used_elsewhere(clients: Clients, place: Place, now: float) -> str:
    """The other region in which machines had their role within a day: roles are of all regions. IAM tells of the region
    of the last use alone, some hours late. https://docs.aws.amazon.com/IAM/latest/APIReference/API_RoleLastUsed.html
    """
    name = policies.INSTANCE_ROLE
    found: Any = or_none(lambda: clients.iam.get_role(RoleName=name)["Role"], "NoSuchEntity") or {}
    used = found.get("RoleLastUsed", {})
    region, when = used.get("Region", place.region), used.get("LastUsedDate")
    if region == place.region or when is None or now - when.timestamp() > USED_SECONDS:
        return ""
    return f"machines in {region} had the role {name} at {when:%Y-%m-%d %H:%M} UTC, less than a day ago"


def to_hand_out(place: Place, buckets: Buckets) -> dict[str, policies.Document]:
    """What an administrator gives to people, by name: a user's two policies, and what setupAWS itself needs."""
    return policies.control(place, buckets.all) | {
        "distributed-something-administrator": policies.administrator(place, buckets.all)
    }


def roles(place: Place, buckets: Buckets) -> list[Role]:
    """The roles as they are to be. Each bucket has a policy of its own, so that configs with other buckets add up."""
    written = (buckets.own, *buckets.write)
    task = {POLICY: policies.task(place)} | {
        f"{POLICY}-{name}": policies.bucket_of_task(place, name, write=name in written) for name in buckets.all
    }
    monitor = {
        POLICY: policies.monitor(place),
        f"{POLICY}-{buckets.own}": policies.bucket_of_monitor(place, buckets.own),
    }
    return [
        Role(policies.INSTANCE_ROLE, policies.ec2_service(place), {POLICY: policies.instance(place)}),
        Role(policies.FLEET_ROLE, "spotfleet.amazonaws.com", {POLICY: policies.fleet(place)}),
        Role(policies.TASK_ROLE, "ecs-tasks.amazonaws.com", task),
        Role(policies.EXECUTION_ROLE, "ecs-tasks.amazonaws.com", {POLICY: policies.execution(place)}),
        Role(policies.MONITOR_ROLE, "lambda.amazonaws.com", monitor),
    ]


def bucket_policy(clients: Clients, place: Place, bucket: str) -> Step:
    """Adds to the bucket's own policy what the log export needs; every other statement stays."""
    row = partial(Row, "bucket policy", bucket)
    try:
        current = _bucket_policy(clients, bucket)
    except ClientError as error:
        if code_of(error) != "NoSuchBucket":
            raise
        return Step(row(LEFT, "there is no such bucket: make it, then type setupAWS again"))
    ours = policies.export_statements(place, bucket)
    wanted = policies.merged(current, ours)
    statements = current["Statement"] if current else []
    if current is not None and all(one in statements for one in ours):
        return Step(row(FOUND))
    note = f"log export; {len(wanted['Statement']) - len(ours)} other statements stay"
    return Step(row(CHANGED if current else MADE, note), partial(_put_bucket_policy, clients, bucket, wanted))


def _would(step: Step) -> Row:
    row = step.row
    return row if step.act is None else replace(row, state=f"would be {row.state}")


def _made(step: Step) -> Row:
    with doing(f"setting up: {step.row.kind} {step.row.name}"):
        try:
            if step.act is not None:
                step.act()
        except ClientError as error:
            if not step.if_denied or code_of(error) != "AccessDenied":
                raise
            return replace(step.row, state=LEFT, note=step.if_denied)
    return step.row


def _removed(step: Step) -> Row:
    if step.act is not None:
        try:
            step.act()
        except AWSError as error:
            return replace(step.row, state=LEFT, note=str(explain(f"removing {step.row.name}", error)))
    return step.row


def _bucket_policy(clients: Clients, bucket: str) -> Any | None:
    answer = or_none(lambda: clients.s3.get_bucket_policy(Bucket=bucket), "NoSuchBucketPolicy")
    return json.loads(answer["Policy"]) if answer else None


def _put_bucket_policy(clients: Clients, bucket: str, document: policies.Document) -> None:
    clients.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document))


def _end_bucket_policy(clients: Clients, place: Place, bucket: str) -> Iterator[Step]:
    current = or_none(lambda: _bucket_policy(clients, bucket), "NoSuchBucket")
    ours = policies.export_statements(place, bucket)
    sids = {one["Sid"] for one in ours}
    if current is None:
        return
    others = policies.without(current, ours)
    if others is not None and others["Statement"] == policies.listed(current["Statement"]):
        return
    row = Row("bucket policy", bucket, REMOVED, f"the statements {' and '.join(sorted(sids))}")
    if others is None:
        yield Step(row, partial(clients.s3.delete_bucket_policy, Bucket=bucket))
    else:
        yield Step(row, partial(_put_bucket_policy, clients, bucket, others))


def _end_security_groups(clients: Clients) -> Iterator[Step]:
    """Those that fleetFile made in this region."""
    filters: Any = [{"Name": f"tag:{MADE_BY[0]}", "Values": [MADE_BY[1]]}]
    for page in clients.ec2.get_paginator("describe_security_groups").paginate(Filters=filters):
        for group in page["SecurityGroups"]:
            if is_ours(group.get("Tags", [])):
                delete = partial(clients.ec2.delete_security_group, GroupId=group["GroupId"])
                yield Step(Row("security group", group["GroupId"], REMOVED), delete)


def _keep_service_linked() -> Iterator[Step]:
    for name in policies.SERVICE_LINKED:
        yield Step(Row("service-linked role", name, KEPT, "AWS's own, shared by all that uses the service"))
