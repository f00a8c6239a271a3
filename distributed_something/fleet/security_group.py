"""The security groups that fleetFile creates: one that admits nothing, and one that admits SSH from given addresses.

They are separate, so that `fleetFile --ssh-from` opens only the machines of the Fleet files that were written with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any

from distributed_something.aws.retry import retry_until_consistent
from distributed_something.core.errors import CloudError, InputError, translate_aws_errors
from distributed_something.core.names import AwsAccount
from distributed_something.core.tags import MADE_BY_TAG, build_tag_specifications, has_made_by_tag

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

SECURITY_GROUP_NAME = "distributed-something"
SSH_GROUP_NAME = "distributed-something-ssh"
SSH_PORT = 22
MIN_PREFIX_LENGTHS = {4: 8, 6: 32}  # of the networks that --ssh-from accepts, by IP version
_SSH_OPTION = "--ssh-from"
_SOURCE_KEYS = ("IpRanges", "Ipv6Ranges", "PrefixListIds", "UserIdGroupPairs")  # of a rule in a security group

SshSource = IPv4Network | IPv6Network


def parse_ssh_source(text: str) -> SshSource:
    """Return the network in --ssh-from: an address, or a network such as 192.0.2.0/24.

    Raise InputError if it is neither, or so large that almost everybody could try to log in.
    """
    remedy = "give the address of your computer, such as 203.0.113.7, or a network, such as 203.0.113.0/24"
    try:
        network = ip_network(text.strip(), strict=False)
    except ValueError:
        raise InputError(_SSH_OPTION, "", f"{text!r} is neither an IP address nor a network", remedy) from None
    if network.prefixlen < MIN_PREFIX_LENGTHS[network.version]:
        problem = f"{network} would let the whole internet, or much of it, try to log in to the machines"
        raise InputError(_SSH_OPTION, "", problem, remedy)
    return network


def ensure_security_group(
    ec2: EC2Client, account: AwsAccount, vpc: str, sleep: Callable[[float], None], ssh_source: SshSource | None = None
) -> str:
    """Return the ID of this package's security group in the VPC; create the group if it does not exist.

    `ssh_source`: who may connect to the machines over SSH, instead of those who may so far. None for nobody.
    Raise CloudError if the group admits anything else, or if someone else created it. In a VPC that another account
    shares, only this account's groups count.
    """
    name = SECURITY_GROUP_NAME if ssh_source is None else SSH_GROUP_NAME
    values = {"group-name": name, "vpc-id": vpc, "owner-id": account.account_id}
    filters: Any = [{"Name": key, "Values": [value]} for key, value in values.items()]
    with translate_aws_errors(f"looking for the security group {name}"):
        groups = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    group: Any = groups[0] if groups else {"GroupId": _create_security_group(ec2, name, vpc, sleep)}
    if groups:
        _check_security_group(name, group, is_ssh_group=ssh_source is not None)
    if ssh_source is not None:
        _replace_ssh_sources(ec2, name, group, ssh_source)
    return str(group["GroupId"])


def _replace_ssh_sources(ec2: EC2Client, name: str, group: Mapping[str, Any], source: SshSource) -> None:
    """Let `source` connect, and then nobody else: an address that its user no longer has belongs to a stranger."""
    if not _has_rule(group, source):
        with translate_aws_errors(f"allowing SSH in the security group {name}"):
            permissions: Any = [_build_ssh_permission(source)]
            ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=permissions)
    if earlier := _list_other_permissions(group, source):
        with translate_aws_errors(f"removing the earlier addresses from the security group {name}"):
            ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=earlier)


def _list_other_permissions(group: Mapping[str, Any], source: SshSource) -> Any:
    """Return the group's SSH rules as EC2 removes them, without `source`."""
    permissions = []
    for rule in group.get("IpPermissions", ()):
        sources = {
            key: [entry for entry in rule.get(key, ()) if str(source) not in entry.values()] for key in _SOURCE_KEYS
        }
        if any(sources.values()):
            ports = {key: rule[key] for key in ("IpProtocol", "FromPort", "ToPort")}
            permissions.append(ports | {key: entries for key, entries in sources.items() if entries})
    return permissions


def _check_security_group(name: str, group: Mapping[str, Any], *, is_ssh_group: bool) -> None:
    if not has_made_by_tag(group.get("Tags")):
        ((key, value),) = MADE_BY_TAG.items()
        raise CloudError(
            f"the security group {group['GroupId']} is named {name}, but fleetFile did not create it",
            f"rename the group, or add the tag {key}={value} to let fleetFile use it",
        )
    others = [rule for rule in group["IpPermissions"] if not is_ssh_group or not _is_ssh_rule(rule)]
    if others:
        remedy = "remove its inbound rules, which machines do not need, or write your own group into the Fleet file"
        if is_ssh_group:
            remedy = (
                "remove its inbound rules except those for TCP port 22, or write your own group into the Fleet file"
            )
        what = "inbound traffic other than SSH" if is_ssh_group else "inbound traffic"
        raise CloudError(f"the security group {group['GroupId']} ({name}) allows {what}", remedy)


def _is_ssh_rule(rule: Mapping[str, Any]) -> bool:
    return (rule.get("IpProtocol"), rule.get("FromPort"), rule.get("ToPort")) == ("tcp", SSH_PORT, SSH_PORT)


def _has_rule(group: Mapping[str, Any], source: SshSource) -> bool:
    rules = group.get("IpPermissions", ())
    ranges = [entry for rule in rules for key in ("IpRanges", "Ipv6Ranges") for entry in rule.get(key, ())]
    return str(source) in {entry.get("CidrIp") or entry.get("CidrIpv6") for entry in ranges}


def _build_ssh_permission(source: SshSource) -> dict[str, Any]:
    ranges = {"IpRanges": [{"CidrIp": str(source)}]} if source.version == 4 else {}
    ranges |= {"Ipv6Ranges": [{"CidrIpv6": str(source)}]} if source.version == 6 else {}
    return {"IpProtocol": "tcp", "FromPort": SSH_PORT, "ToPort": SSH_PORT, **ranges}


def _create_security_group(ec2: EC2Client, name: str, vpc: str, sleep: Callable[[float], None]) -> str:
    """Create the security group, without inbound rules and with all outbound traffic (EC2's default); return its ID."""
    tags: Any = build_tag_specifications((), ["security-group"], MADE_BY_TAG | {"Name": name})
    traffic = "no inbound traffic" if name == SECURITY_GROUP_NAME else "SSH from given addresses"
    with translate_aws_errors(f"creating the security group {name}"):
        group: str = ec2.create_security_group(
            GroupName=name,
            Description=f"Machines of Distributed-Something: {traffic}",
            VpcId=vpc,
            TagSpecifications=tags,
        )["GroupId"]
        # EC2 rejects a fleet with a new security group until the group is visible everywhere in EC2.
        retry_until_consistent(
            lambda: ec2.describe_security_groups(GroupIds=[group]), "InvalidGroup.NotFound", sleep=sleep
        )
    return group
