"""Checks of the fleet against the account: network, image, disks, and what fits on the machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from control import launchtemplate, machines
from control.asked import Specification
from control.errors import AWSError
from control.facts import Facts
from control.findings import Finding, Level, counted, ok, warning, wrong
from control.kinds import TEMPLATES
from control.machines import MachineType

if TYPE_CHECKING:
    from control.settings import Settings

RENEW = "run fleetFile, which writes a Fleet file with this account's own"
PAST_SUPPORT = ("amzn-ami-", "amzn2-ami-ecs")  # Amazon Linux 1 ended in 2023, Amazon Linux 2's ECS image in 2026
IMDSV2_BEGAN = "2019-11-19"  # announced that day in AWS's security blog: no older program asks with a token
EVERYWHERE = "0.0.0.0/0"
SHOWN = 5  # names in one line


def template(facts: Facts) -> Iterator[Finding]:
    """The launch template that the Fleet file names; what is in it is checked as if it stood in the file."""
    if facts.fleet is None or TEMPLATES not in facts.fleet:
        return
    named = launchtemplate.words(facts.fleet)
    if facts.template is None:
        yield wrong("template", f"no such launch template: {named}", "correct it in the Fleet file", by_user=True)
    elif fault := launchtemplate.fault(facts.template, facts.settings):
        yield wrong("template", f"{named}: {fault[0]}", fault[1], by_user=True)
    else:
        yield ok("template", named)


def subnets(facts: Facts) -> Iterator[Finding]:
    """The subnets that the Fleet file names."""
    if facts.fleet is not None:
        yield from judge_subnets(facts.specifications, facts.subnets, facts.settings.CLUSTER_MACHINES)


def groups(facts: Facts) -> Iterator[Finding]:
    """The security groups that the Fleet file names."""
    try:
        networks = {one["VpcId"] for one in facts.subnets.values()}
    except AWSError:  # told by the check of the subnets
        networks = set()
    yield from judge_groups(facts.specifications, facts.groups, networks)


def keys(facts: Facts) -> Iterator[Finding]:
    """The key pairs that the Fleet file names."""
    yield from judge_keys(facts.specifications, facts.keys)


def way_to_aws(facts: Facts) -> Iterator[Finding]:
    """A way from each subnet to AWS."""
    yield from judge_routes(facts.subnets, facts.routes, public=facts.settings.ASSIGN_IP)


def judge_subnets(asked: Iterable[Specification], found: Mapping[str, Any], machines: int) -> Iterator[Finding]:
    """They exist and have addresses for so many machines."""
    wanted = {subnet for one in asked for subnet in one.subnets}
    missing = sorted(wanted - found.keys())
    free = sum(one.get("AvailableIpAddressCount", 0) for one in found.values())
    zones = sorted({one["AvailabilityZone"] for one in found.values()})
    if missing:
        yield wrong("subnets", f"not in this account and region: {some(missing)}", RENEW, by_user=True)
    elif found and free < machines:
        yield warning(
            "subnets", f"they have {counted(free, 'free IP')} for {counted(machines, 'machine')}", "add a subnet"
        )
    elif found:
        yield ok("subnets", f"{len(found)} in {some(zones)}", details={"zones": zones})
    else:
        yield ok("subnets", "none named: EC2 takes those of the default network, if there is one")


def judge_groups(asked: Iterable[Specification], found: Mapping[str, Any], networks: set[str]) -> Iterator[Finding]:
    """They exist, lie in the subnets' network, and let the machines out."""
    wanted = {group for one in asked for group in one.groups}
    missing = sorted(wanted - found.keys())
    astray = sorted(name for name, one in found.items() if networks and one.get("VpcId") not in networks)
    closed = sorted(name for name, one in found.items() if not one.get("IpPermissionsEgress"))
    if missing:
        yield wrong("groups", f"security groups not in this account and region: {some(missing)}", RENEW, by_user=True)
    elif astray:
        yield wrong("groups", f"in another network than the subnets: {some(astray)}", RENEW, by_user=True)
    elif closed and len(closed) == len(found):
        yield wrong(
            "groups",
            f"without a rule for outgoing traffic: {some(closed)}; machines could not reach AWS",
            "allow outgoing HTTPS (port 443)",
        )
    elif found:
        yield ok("groups", f"{some(sorted(found))}")


def judge_keys(asked: Iterable[Specification], found: Mapping[str, Any]) -> Iterator[Finding]:
    """The key pairs exist, under just these names."""
    missing = sorted({one.key for one in asked if one.key} - found.keys())
    for name in missing:
        remedy = f"write {name.removesuffix('.pem')!r}" if name.endswith(".pem") else "correct KeyName, or leave it out"
        yield wrong("key pair", f"there is no key pair {name} in this region", remedy, by_user=True)
    if found and not missing:
        yield ok("key pair", some(sorted(found)))


def judge_routes(subnets: Mapping[str, Any], tables: Sequence[Any], *, public: bool) -> Iterator[Finding]:
    """A way from each subnet to AWS. With a public address (`public`) that is an internet gateway; without one a NAT
    gateway or VPC endpoints, which are not looked up."""
    kinds = {name: way_out(name, one["VpcId"], tables) for name, one in subnets.items()}
    closed = sorted(name for name, kind in kinds.items() if kind is None)
    to_internet = sorted(name for name, kind in kinds.items() if kind == "igw")
    if closed:
        yield warning(
            "way to AWS",
            f"no route to the internet from {some(closed)}: without VPC endpoints machines "
            "there cannot join the cluster",
            "use a public subnet, or make endpoints",
        )
    if to_internet and not public:
        yield warning(
            "way to AWS",
            f"ASSIGN_IP is False, but {some(to_internet)} reach the internet by public addresses alone",
            "set ASSIGN_IP to 'True', or use a subnet with a NAT gateway",
        )
    if kinds and not closed and (public or not to_internet):
        yield ok("way to AWS", "every subnet has a route to the internet")


def way_out(subnet: str, network: str, tables: Sequence[Any]) -> str | None:
    """What the subnet's route to everywhere leads to: 'igw', another kind, or None without such a route."""
    links = [(table, link) for table in tables for link in table.get("Associations", ())]
    own = [table for table, link in links if link.get("SubnetId") == subnet]
    main = [table for table, link in links if link.get("Main") and table.get("VpcId") == network]
    for table in own or main:
        for route in table.get("Routes", ()):
            target = route.get("GatewayId") or route.get("NatGatewayId") or route.get("TransitGatewayId")
            target = target or route.get("NetworkInterfaceId") or route.get("InstanceId")
            if route.get("DestinationCidrBlock") == EVERYWHERE and target and route.get("State") != "blackhole":
                return str(target).partition("-")[0]
    return None


def images(facts: Facts) -> Iterator[Finding]:
    """The machine images (AMI)."""
    asked = facts.specifications
    yield from judge_images(asked, facts.images, facts.now)
    yield from judge_architectures(asked, facts.images, facts.types)


def disks(facts: Facts) -> Iterator[Finding]:
    """The disks that the machines get."""
    yield from judge_disks(facts.specifications, facts.images, facts.snapshots)


def judge_images(asked: Iterable[Specification], found: Mapping[str, Any], now: datetime) -> Iterator[Finding]:
    """They exist, can be started, are made for ECS and still supported."""
    wanted = {one.image for one in asked if one.image}
    for name in sorted(wanted - found.keys()):
        yield wrong("AMI", f"{name} is not in this region, or not open to this account", RENEW, by_user=True)
    for name, image in found.items():
        yield _judge_image(name, image, now)


def _judge_image(name: str, image: Mapping[str, Any], now: datetime) -> Finding:
    title = str(image.get("Name", ""))
    said = f"{name} ({title or 'unnamed'})"
    deprecated = str(image.get("DeprecationTime", ""))
    if image.get("State", "available") != "available":
        return wrong("AMI", f"{said} is {image['State']}", RENEW, by_user=True)
    if "" < str(image.get("CreationDate", "")) < IMDSV2_BEGAN:
        told = f"{said} is older than IMDSv2, which machines require: its agent would join no cluster"
        return wrong("AMI", told, RENEW, by_user=True)
    if title.startswith(PAST_SUPPORT) or (deprecated and deprecated < now.strftime("%Y-%m-%dT%H:%M:%S")):
        return warning("AMI", f"{said} is past its support", RENEW)
    if "ecs" not in title.lower():
        return warning("AMI", f"{said} does not look made for ECS: without its agent machines join no cluster", RENEW)
    return ok("AMI", f"{said}, {image.get('Architecture', 'x86_64')}")


def judge_disks(
    asked: Iterable[Specification], images: Mapping[str, Any], snapshots: Mapping[str, Any]
) -> Iterator[Finding]:
    """Each disk has a name that the image uses, and room for the snapshot that it is made from."""
    seen: set[Finding] = set()
    for one in asked:
        if one.image in images:
            for finding in _disks(one, images[str(one.image)], snapshots):
                if finding not in seen and not seen.add(finding):  # type: ignore[func-returns-value]
                    yield finding


def _disks(one: Specification, image: Mapping[str, Any], snapshots: Mapping[str, Any]) -> Iterator[Finding]:
    own = {m["DeviceName"]: m["Ebs"] for m in image.get("BlockDeviceMappings", ()) if "Ebs" in m}
    named = [device for device, _, _ in one.volumes]
    root = image.get("RootDeviceName")
    faults = list(_disk_faults(one, own, snapshots, str(root)))
    yield from faults
    if one.volumes and root not in named:
        yield warning(
            "disk",
            f"no disk {root} in the Fleet file: the machine's own disk, where containers lie, keeps "
            "the image's size, whatever EBS_VOL_SIZE says",
            f"name {root} last in BlockDeviceMappings",
        )
    elif not faults:
        sizes = ", ".join(
            f"{device} {size or own.get(device, {}).get('VolumeSize')} GiB" for device, size, _ in one.volumes
        )
        yield ok("disk", sizes or f"{root} {own.get(root, {}).get('VolumeSize')} GiB, as the image has it")


def _disk_faults(
    one: Specification, own: Mapping[str, Any], snapshots: Mapping[str, Any], root: str
) -> Iterator[Finding]:
    for device, size, snapshot in one.volumes:
        if snapshot and snapshot not in snapshots:
            yield wrong("disk", f"there is no snapshot {snapshot} for {device}", "take SnapshotId out", by_user=True)
            continue
        least = snapshots[snapshot].get("VolumeSize", 0) if snapshot else own.get(device, {}).get("VolumeSize", 0)
        if size is not None and size < least:
            yield wrong(
                "disk",
                f"{device} would have {size} GiB, its snapshot needs {least}",
                f"set EBS_VOL_SIZE to at least {least}"
                if device == one.volumes[-1][0]
                else f"raise its VolumeSize in the Fleet file to {least}, or take it out",
                by_user=True,
            )
        elif own and device not in own:
            yield warning(
                "disk",
                f"the image does not use {device}: it would be paid for and stay empty",
                f"name {root} instead, or take it out",
            )


def judge_architectures(
    asked: Iterable[Specification], images: Mapping[str, Any], types: Mapping[str, MachineType]
) -> Iterator[Finding]:
    """Each machine's processor runs its image."""
    for kind, name in sorted({(one.machine_type, one.image) for one in asked if one.image}):
        image, machine = images.get(name), types.get(kind)
        if image is None or machine is None or not machine.architectures:
            continue
        needs = image.get("Architecture", "x86_64")
        if needs not in machine.architectures:
            has = ", ".join(sorted(machine.architectures))
            yield wrong(
                "AMI",
                f"{name} is for {needs}, {kind} is {has}",
                f"choose an image for {has}, or another MACHINE_TYPE",
                by_user=True,
            )


def types(facts: Facts) -> Iterator[Finding]:
    """The machine types: known, offered where the subnets are, as spot machines."""
    yield from judge_types(facts.type_names, facts.types, spot=facts.spot_machines > 0)
    zones = {name: one["AvailabilityZone"] for name, one in facts.subnets.items()}
    yield from judge_offers(facts.specifications, zones, facts.offered, facts.types)


def judge_types(names: Iterable[str], found: Mapping[str, MachineType], *, spot: bool = True) -> Iterator[Finding]:
    """They are types of this region and, if `spot` machines are asked for, are sold as such."""
    missing = [name for name in names if name not in found]
    if missing:
        yield wrong(
            "types",
            f"no such machine type in this region: {some(missing)}",
            "correct MACHINE_TYPE in the config",
            by_user=True,
        )
    for name in sorted(name for name, one in found.items() if spot and not one.spot):
        yield wrong("types", f"{name} is not sold as a spot machine", "take it out of MACHINE_TYPE", by_user=True)


def judge_offers(
    asked: Iterable[Specification],
    zones: Mapping[str, str],
    offered: Collection[tuple[str, str]],
    types: Mapping[str, MachineType],
) -> Iterator[Finding]:
    """Each type is offered in the zones of its subnets (`zones`: of each subnet)."""
    pairs = sorted(
        {(one.machine_type, zones[name]) for one in asked for name in one.subnets if name in zones}
        or {pair for pair in offered}
    )
    known = [pair for pair in pairs if pair[0] in types]
    lacking = [f"{kind} in {zone}" for kind, zone in known if (kind, zone) not in offered]
    if known and len(lacking) == len(known):
        yield wrong(
            "types",
            f"not offered in any zone of the subnets: {some(sorted({k for k, _ in known}))}",
            "choose other MACHINE_TYPE, or subnets in other zones",
            by_user=True,
        )
    elif lacking:
        yield warning(
            "types",
            f"not offered: {some(lacking)}; the fleet can use {len(known) - len(lacking)} of {len(known)} combinations",
            "add subnets or types, for more chances",
        )
    elif known:
        yield ok(
            "types",
            f"{some(sorted({kind for kind, _ in known}))}, offered in {counted(len({z for _, z in known}), 'zone')}",
        )


def room(facts: Facts) -> Iterator[Finding]:
    """How many containers fit on each type."""
    yield from judge_room(facts.settings, facts.types)


def judge_room(settings: Settings, types: Mapping[str, MachineType]) -> Iterator[Finding]:
    """TASKS_PER_MACHINE containers fit, and no more than these would."""
    fits = {name: machines.fit(one, settings.CPU_SHARES, settings.MEMORY) for name, one in types.items()}
    tasks = settings.TASKS_PER_MACHINE
    small = {name: one for name, one in fits.items() if one.containers < tasks}
    large = {name: one for name, one in fits.items() if one.containers > tasks}
    details = {name: {"by_cpu": one.by_cpu, "by_memory": one.by_memory} for name, one in fits.items()}
    if small:
        said = some([f"{name} holds {one.containers} of {tasks}" for name, one in small.items()])
        said += (
            f" containers (CPU for {_spread(one.by_cpu for one in small.values())}, memory for "
            f"{_spread(one.by_memory for one in small.values())})"
        )
        none_fits = len(small) == len(fits)
        level = Level.WRONG if none_fits else Level.WARNING
        yield Finding(level, "room", said, _smaller(settings, types), by_user=none_fits, details=details)
    if large:
        said = some([f"{name} holds {one.containers}" for name, one in large.items()])
        cpu, memory = _shares(types, tasks)
        yield warning(
            "room",
            f"{said} containers, TASKS_PER_MACHINE is {tasks}: ECS may crowd them on some machines while others idle",
            f"raise TASKS_PER_MACHINE; or MEMORY to {memory} and CPU_SHARES to {cpu}, which fill a machine",
            details=details,
        )
    yield from _leftovers(tasks, fits)
    if fits and not small and not large:
        yield ok(
            "room",
            f"{tasks} x {settings.CPU_SHARES} CPU units and {settings.MEMORY} MiB fit on every type",
            details=details,
        )


def _leftovers(tasks: int, fits: Mapping[str, machines.Fit]) -> Iterator[Finding]:
    """CPU or memory worth one more container, where the other is used up: paid for and idle."""
    rest = Counter(
        kind
        for one in fits.values()
        if one.containers == tasks
        for kind, count in (("CPU", one.by_cpu), ("memory", one.by_memory))
        if count > tasks
    )
    for kind, count in rest.items():
        yield ok(
            "room",
            f"{kind} worth one more container is left over on {count} of {len(fits)} types",
            f"a type with less {kind} may cost less, or give the containers more of it",
        )


def _smaller(settings: Settings, types: Mapping[str, MachineType]) -> str:
    cpu, memory = _shares(types, settings.TASKS_PER_MACHINE)
    return f"at most MEMORY {memory} and CPU_SHARES {cpu} fit on every type; or lower TASKS_PER_MACHINE"


def _shares(types: Mapping[str, MachineType], tasks: int) -> tuple[int, int]:
    """CPU units and MiB for each of `tasks` containers that fill the smallest machine."""
    whole = [machines.usable(one) for one in types.values()]
    return min(cpu for cpu, _ in whole) // tasks, min(memory for _, memory in whole) // tasks


def _spread(counts: Iterable[int]) -> str:
    seen = sorted(set(counts))
    return str(seen[0]) if len(seen) == 1 else f"{seen[0]} to {seen[-1]}"


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
