"""fleetFile: startCluster accepts the file that fleetFile writes, and each choice in the file is looked up in AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from moto import mock_aws

from distributed_something.aws.clients import Clients
from distributed_something.core.errors import CloudError, InputError
from distributed_something.core.names import AwsAccount
from distributed_something.fleet.fleet_file import check_fleet_file, load_fleet_file
from distributed_something.fleet.write_fleet_file import (
    FleetFileOptions,
    format_fleet_file_summary,
    write_fleet_file,
)
from tests.support.account import OUR_TAG, create_clients, stub_client
from tests.support.fakes import SETTINGS, FakeTime

CONFIG = Path("config.py")
ACCOUNT = AwsAccount("111122223333", "us-east-1")
IMAGE = "ami-0123456789abcdef0"
GROUP = "sg-0123456789abcdef0"
X86, ARM = (
    f"/aws/service/ecs/optimized-ami/amazon-linux-2023/{path}image_id"
    for path in ("recommended/", "arm64/recommended/")
)
OWN_GROUP = {"GroupId": GROUP, "Tags": [OUR_TAG], "IpPermissions": []}
GPU = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
SSH_GROUP_NAME = "distributed-something-ssh"


def build_group_filters(vpc: str = "vpc-1", name: str = "distributed-something") -> list[dict[str, Any]]:
    """Return the filters that find this account's security group in the VPC."""
    values = {"group-name": name, "vpc-id": vpc, "owner-id": ACCOUNT.account_id}
    return [{"Name": key, "Values": [value]} for key, value in values.items()]


def build_type_response(name: str, architectures: list[str]) -> dict[str, Any]:
    """Return a machine type as EC2 describes it. The families g4dn, g5, g5g have NVIDIA GPUs, and g4ad has AMD's."""
    manufacturer = "AMD" if name.startswith("g4ad") else "NVIDIA"
    gpus = {"GpuInfo": {"Gpus": [{"Manufacturer": manufacturer, "Count": 1}]}} if name.startswith("g") else {}
    return gpus | {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": 2},
        "MemoryInfo": {"SizeInMiB": 8192},
        "ProcessorInfo": {"SupportedArchitectures": architectures},
    }


class Region:
    """A region whose responses a test can change before it stubs them.

    They are stubbed in the order of `fleetFile`'s calls.
    """

    def __init__(self, clients: Clients, ec2: Stubber, ssm: Stubber) -> None:
        self.clients, self.ec2, self.ssm = clients, ec2, ssm
        self.architectures: dict[str, list[str]] = {"m5.large": ["x86_64"]}
        self.zones: dict[str, list[str]] = {"m5.large": ["us-east-1a", "us-east-1b"]}
        self.subnets = [("subnet-a", "us-east-1a", 10), ("subnet-b", "us-east-1b", 10), ("subnet-c", "us-east-1c", 10)]
        self.route_targets: dict[str, str | None] = {}  # the default routes of subnets that have their own route table
        self.vpcs = ["vpc-1"]
        self.groups: list[dict[str, Any]] = [OWN_GROUP]
        self.group_name = "distributed-something"
        self.owner, self.has_route_tables = ACCOUNT.account_id, True
        self.parameter = X86

    def stub_responses(self, *, vpc: str = "", until: str = "") -> None:
        """Stub the responses to all calls that come before the call `until`."""
        types = [build_type_response(name, architectures) for name, architectures in self.architectures.items()]
        offered = [
            {"InstanceType": name, "LocationType": "availability-zone", "Location": zone}
            for name, zones in self.zones.items()
            for zone in zones
        ]
        subnets = [
            {"SubnetId": name, "AvailabilityZone": zone, "AvailableIpAddressCount": free, "OwnerId": self.owner}
            for name, zone, free in self.subnets
        ]
        used_vpc = vpc or "vpc-1"
        subnet_filters = [{"Name": "vpc-id", "Values": [used_vpc]}, {"Name": "state", "Values": ["available"]}]
        group_filters = build_group_filters(used_vpc, self.group_name)
        type_filters = [{"Name": "instance-type", "Values": sorted(self.architectures)}]
        calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
            ("describe_instance_types", {"InstanceTypes": types}, {"Filters": type_filters}),
            ("get_parameter", {"Parameter": {"Name": self.parameter, "Value": IMAGE}}, {"Name": self.parameter}),
            ("describe_vpcs", {"Vpcs": [{"VpcId": name} for name in self.vpcs]},
             {"Filters": [{"Name": "is-default", "Values": ["true"]}]}),
            ("describe_instance_type_offerings", {"InstanceTypeOfferings": offered},
             {"LocationType": "availability-zone", "Filters": type_filters}),
            ("describe_subnets", {"Subnets": subnets[:1], "NextToken": "more"}, {"Filters": subnet_filters}),
            ("describe_subnets", {"Subnets": subnets[1:]}, {"Filters": subnet_filters, "NextToken": "more"}),
            ("describe_route_tables", {"RouteTables": self.build_route_tables(used_vpc)[:1], "NextToken": "more"},
             {"Filters": subnet_filters[:1]}),
            ("describe_route_tables", {"RouteTables": self.build_route_tables(used_vpc)[1:]},
             {"Filters": subnet_filters[:1], "NextToken": "more"}),
            ("describe_security_groups", {"SecurityGroups": self.groups}, {"Filters": group_filters}),
        ]  # fmt: skip
        for call, response, parameters in calls:
            if call == until:
                return
            if call == "describe_vpcs" and vpc:
                continue
            (self.ssm if call == "get_parameter" else self.ec2).add_response(call, response, parameters)

    def build_route_tables(self, vpc: str) -> list[dict[str, Any]]:
        """Return the main route table, with an internet gateway, and the tables that `route_targets` defines for single
        subnets.
        """

        def table(association: dict[str, Any], target: str | None) -> dict[str, Any]:
            key = "NatGatewayId" if target and target.startswith("nat-") else "GatewayId"
            routes = [{"DestinationCidrBlock": "172.31.0.0/16", "GatewayId": "local", "State": "active"}]
            routes += [{"DestinationCidrBlock": "0.0.0.0/0", key: target, "State": "active"}] if target else []
            return {"VpcId": vpc, "Associations": [association], "Routes": routes}

        if not self.has_route_tables:
            return []
        own = [table({"SubnetId": name, "Main": False}, target) for name, target in self.route_targets.items()]
        return [*own, table({"Main": True}, "igw-1")]


@pytest.fixture
def region() -> Iterator[Region]:
    clients = create_clients()
    with stub_client(clients.ec2) as ec2, stub_client(clients.ssm) as ssm:
        yield Region(clients, ec2, ssm)


def write_file(region: Region, path: Path, **options: Any) -> list[str]:
    settings = SETTINGS.model_copy(update=options.pop("constants", {}))
    fleet_file_options = FleetFileOptions(path, CONFIG, **options)
    summary = write_fleet_file(region.clients, settings, ACCOUNT, fleet_file_options, FakeTime().sleep)
    return format_fleet_file_summary(summary)


def read_specification(path: Path) -> dict[str, Any]:
    (specification,) = json.loads(path.read_text())["LaunchSpecifications"]
    assert isinstance(specification, dict)
    return specification


def read_interface(path: Path) -> dict[str, Any]:
    (interface,) = read_specification(path)["NetworkInterfaces"]
    assert isinstance(interface, dict)
    return interface


def test_the_file_has_the_expected_content(region: Region, tmp_path: Path) -> None:
    region.stub_responses()

    write_file(region, tmp_path / "fleet.json", constants={"SSH_KEY_NAME": "lab.pem"})

    assert json.loads((tmp_path / "fleet.json").read_text()) == {
        "Type": "maintain",
        "AllocationStrategy": "priceCapacityOptimized",
        "TerminateInstancesWithExpiration": True,
        "IamFleetRole": "arn:aws:iam::111122223333:role/aws-ec2-spot-fleet-tagging-role",
        "LaunchSpecifications": [
            {
                "ImageId": IMAGE,
                "IamInstanceProfile": {"Arn": "arn:aws:iam::111122223333:instance-profile/ecsInstanceRole"},
                "BlockDeviceMappings": [
                    {"DeviceName": "/dev/xvda", "Ebs": {"VolumeType": "gp3", "DeleteOnTermination": True}}
                ],
                "NetworkInterfaces": [
                    {
                        "DeviceIndex": 0,
                        "DeleteOnTermination": True,
                        "SubnetId": "subnet-a,subnet-b",
                        "Groups": [GROUP],
                    }
                ],
                "KeyName": "lab",
            }
        ],
    }


def test_start_cluster_accepts_the_file(region: Region, tmp_path: Path) -> None:
    region.stub_responses()
    path = tmp_path / "fleet.json"

    write_file(region, path)

    check_fleet_file(region.clients.ec2, SETTINGS, load_fleet_file(path), path)
    assert "KeyName" not in read_specification(path)


def test_the_summary_lists_all_choices(region: Region, tmp_path: Path) -> None:
    region.architectures["c5.large"] = ["x86_64"]
    region.zones["c5.large"] = ["us-east-1b"]
    region.stub_responses()

    summary = write_file(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": ["m5.large", "c5.large"]})

    assert summary == [
        f"image           {IMAGE} (ECS-optimized Amazon Linux 2023, x86_64)",
        "subnets         subnet-a (us-east-1a), subnet-b (us-east-1b)",
        "note: us-east-1a does not offer c5.large",
        f"security group  {GROUP} (no inbound traffic)",
        "key pair        none: you cannot log in to the machines",
        f"fleet file      {tmp_path / 'fleet.json'}",
    ]


def test_arm_machines_get_the_arm_image(region: Region, tmp_path: Path) -> None:
    region.architectures, region.parameter = {"m7g.large": ["arm64"]}, ARM
    region.zones = {"m7g.large": ["us-east-1b"]}
    region.stub_responses()

    write_file(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": ["m7g.large"]})

    assert read_interface(tmp_path / "fleet.json")["SubnetId"] == "subnet-b"


def test_types_with_different_processors_are_rejected_before_anything_is_created(
    region: Region, tmp_path: Path
) -> None:
    region.architectures["m7g.large"] = ["arm64"]
    region.stub_responses(until="get_parameter")

    with pytest.raises(InputError, match=r"config.py: MACHINE_TYPE: .*m5.large is x86_64, m7g.large is arm64"):
        write_file(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": ["m5.large", "m7g.large"]})
    assert not (tmp_path / "fleet.json").exists()


def test_an_unknown_type_is_reported(region: Region, tmp_path: Path) -> None:
    response = {"InstanceTypes": [build_type_response("m5.large", ["x86_64"])]}
    region.ec2.add_response("describe_instance_types", response)

    with pytest.raises(InputError, match=r"no such machine type in this region: m5.larg; correct MACHINE_TYPE"):
        write_file(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": ["m5.large", "m5.larg"]})


def test_without_the_permission_to_look_up_types_no_file_is_written(region: Region, tmp_path: Path) -> None:
    region.ec2.add_client_error("describe_instance_types", "UnauthorizedOperation")

    with pytest.raises(CloudError, match="while looking up MACHINE_TYPE: UnauthorizedOperation"):
        write_file(region, tmp_path / "fleet.json")


def test_the_subnet_with_the_most_free_addresses_in_each_zone_is_used(region: Region, tmp_path: Path) -> None:
    region.subnets.append(("subnet-large", "us-east-1a", 4000))
    region.stub_responses()

    write_file(region, tmp_path / "fleet.json")

    assert read_interface(tmp_path / "fleet.json")["SubnetId"] == "subnet-large,subnet-b"


@pytest.mark.parametrize(
    ("assign_ip", "route_targets", "expected", "note"),
    [
        ("True", {"subnet-large": None}, "subnet-a,subnet-b", ""),
        ("True", {"subnet-large": "nat-1"}, "subnet-large,subnet-b", ""),
        ("False", {"subnet-large": "nat-1", "subnet-b": "nat-1"}, "subnet-large,subnet-b", ""),
        (
            "False",
            {"subnet-a": "nat-1"},
            "subnet-a",
            "note: us-east-1b is not used: no subnet there reaches the internet",
        ),
        (
            "False",
            {},
            "subnet-large,subnet-b",
            "note: no subnet reaches the internet with this ASSIGN_IP: machines need VPC",
        ),
    ],
)
def test_a_subnet_from_which_machines_can_reach_aws_is_preferred_to_a_larger_subnet(
    region: Region, tmp_path: Path, assign_ip: str, route_targets: dict[str, str | None], expected: str, note: str
) -> None:
    """A public address works with any gateway. Without a public address, an internet gateway is useless."""
    region.subnets.append(("subnet-large", "us-east-1a", 4000))
    region.route_targets = route_targets
    region.stub_responses()

    summary = write_file(region, tmp_path / "fleet.json", constants={"ASSIGN_IP": assign_ip == "True"})

    assert read_interface(tmp_path / "fleet.json")["SubnetId"] == expected
    assert [line.startswith(note) for line in summary if line.startswith("note:")] == ([True] if note else [])


def test_another_vpc_can_be_chosen(region: Region, tmp_path: Path) -> None:
    region.stub_responses(vpc="vpc-other")

    write_file(region, tmp_path / "fleet.json", vpc="vpc-other")


def test_a_region_without_a_default_vpc_requires_the_vpc_option(region: Region, tmp_path: Path) -> None:
    region.vpcs = []
    region.stub_responses(until="describe_instance_type_offerings")

    with pytest.raises(InputError, match="no default VPC; add --vpc"):
        write_file(region, tmp_path / "fleet.json")


def test_types_that_the_vpcs_zones_do_not_offer_are_rejected(region: Region, tmp_path: Path) -> None:
    region.zones = {"m5.large": ["us-east-1f"]}
    region.stub_responses(until="describe_security_groups")

    with pytest.raises(
        InputError, match=r"vpc-1 has no subnet in a zone that offers these machine types \(us-east-1f\)"
    ):
        write_file(region, tmp_path / "fleet.json")


def test_many_types_are_looked_up_in_several_calls(region: Region, tmp_path: Path) -> None:
    types = [f"m5.{n}xlarge" for n in range(100, 250)]
    for batch in (types[:100], types[100:]):
        response = {"InstanceTypes": [build_type_response(name, ["x86_64"]) for name in batch]}
        request = {"Filters": [{"Name": "instance-type", "Values": batch}]}
        region.ec2.add_response("describe_instance_types", response, request)
    region.ssm.add_client_error("get_parameter", "ParameterNotFound")

    with pytest.raises(CloudError, match="looking up the newest ECS-optimized image: ParameterNotFound"):
        write_file(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": types})


# The security group


def test_a_missing_security_group_is_created_without_inbound_rules(region: Region, tmp_path: Path) -> None:
    region.groups = []
    region.stub_responses()
    request = {
        "GroupName": "distributed-something",
        "Description": "Machines of Distributed-Something: no inbound traffic",
        "VpcId": "vpc-1",
        "TagSpecifications": [
            {"ResourceType": "security-group",
             "Tags": [OUR_TAG, {"Key": "Name", "Value": "distributed-something"}]}
        ],
    }  # fmt: skip
    region.ec2.add_response("create_security_group", {"GroupId": GROUP}, request)
    region.ec2.add_client_error("describe_security_groups", "InvalidGroup.NotFound")
    region.ec2.add_response("describe_security_groups", {"SecurityGroups": [OWN_GROUP]}, {"GroupIds": [GROUP]})

    write_file(region, tmp_path / "fleet.json")

    assert read_interface(tmp_path / "fleet.json")["Groups"] == [GROUP]


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        (
            OWN_GROUP | {"IpPermissions": [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}]},
            "allows inbound traffic — remove its inbound rules",
        ),
        (OWN_GROUP | {"Tags": []}, "fleetFile did not create it — rename the group, or add the tag"),
    ],
)
def test_a_security_group_that_is_open_or_was_created_by_someone_else_is_rejected(
    region: Region, tmp_path: Path, group: dict[str, Any], reason: str
) -> None:
    region.groups = [group]
    region.stub_responses()

    with pytest.raises(CloudError, match=reason):
        write_file(region, tmp_path / "fleet.json")
    assert not (tmp_path / "fleet.json").exists()


# SSH


def build_ssh_rule(**ranges: Any) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **ranges}


SSH_GROUP = OWN_GROUP | {"IpPermissions": [build_ssh_rule(IpRanges=[{"CidrIp": "198.51.100.1/32"}])]}


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("203.0.113.7", build_ssh_rule(IpRanges=[{"CidrIp": "203.0.113.7/32"}])),
        ("203.0.113.7/24", build_ssh_rule(IpRanges=[{"CidrIp": "203.0.113.0/24"}])),
        ("2001:db8::7", build_ssh_rule(Ipv6Ranges=[{"CidrIpv6": "2001:db8::7/128"}])),
    ],
)
def test_an_address_may_log_in_over_ssh_and_no_earlier_one_and_through_no_other_port(
    region: Region, tmp_path: Path, address: str, rule: dict[str, Any]
) -> None:
    region.group_name, region.groups = SSH_GROUP_NAME, [SSH_GROUP]
    region.stub_responses()
    request = {"GroupId": GROUP, "IpPermissions": [rule]}
    region.ec2.add_response("authorize_security_group_ingress", {"Return": True}, request)
    request = {"GroupId": GROUP, "IpPermissions": SSH_GROUP["IpPermissions"]}
    region.ec2.add_response("revoke_security_group_ingress", {"Return": True}, request)

    summary = write_file(region, tmp_path / "fleet.json", constants={"SSH_KEY_NAME": "lab"}, ssh_from=address)

    (ranges,) = [value for name, value in rule.items() if name.endswith("Ranges")]
    (source,) = ranges[0].values()
    assert f"security group  {GROUP} (SSH from {source}, no other inbound traffic)" in summary
    assert "key pair        lab" in summary
    assert read_interface(tmp_path / "fleet.json")["Groups"] == [GROUP]


def test_a_missing_group_for_ssh_is_created_beside_the_one_that_admits_nothing(region: Region, tmp_path: Path) -> None:
    region.group_name, region.groups = SSH_GROUP_NAME, []
    region.stub_responses()
    tags = [OUR_TAG, {"Key": "Name", "Value": SSH_GROUP_NAME}]
    request = {
        "GroupName": SSH_GROUP_NAME, "Description": "Machines of Distributed-Something: SSH from given addresses",
        "VpcId": "vpc-1", "TagSpecifications": [{"ResourceType": "security-group", "Tags": tags}],
    }  # fmt: skip
    region.ec2.add_response("create_security_group", {"GroupId": GROUP}, request)
    region.ec2.add_response("describe_security_groups", {"SecurityGroups": [OWN_GROUP]}, {"GroupIds": [GROUP]})
    rule = build_ssh_rule(IpRanges=[{"CidrIp": "203.0.113.7/32"}])
    request = {"GroupId": GROUP, "IpPermissions": [rule]}
    region.ec2.add_response("authorize_security_group_ingress", {"Return": True}, request)

    write_file(region, tmp_path / "fleet.json", constants={"SSH_KEY_NAME": "lab"}, ssh_from="203.0.113.7")


def test_an_address_that_may_connect_already_is_not_added_again(region: Region, tmp_path: Path) -> None:
    region.group_name, region.groups = SSH_GROUP_NAME, [SSH_GROUP]
    region.stub_responses()

    write_file(region, tmp_path / "fleet.json", constants={"SSH_KEY_NAME": "lab"}, ssh_from="198.51.100.1")


def test_of_several_addresses_in_one_rule_the_given_one_stays(region: Region, tmp_path: Path) -> None:
    rule = build_ssh_rule(
        IpRanges=[{"CidrIp": "198.51.100.1/32", "Description": "Ada"}, {"CidrIp": "203.0.113.0/24"}],
        Ipv6Ranges=[{"CidrIpv6": "2001:db8::7/128"}], PrefixListIds=[], UserIdGroupPairs=[],
    )  # fmt: skip
    region.group_name, region.groups = SSH_GROUP_NAME, [OWN_GROUP | {"IpPermissions": [rule]}]
    region.stub_responses()
    removed = build_ssh_rule(IpRanges=[{"CidrIp": "203.0.113.0/24"}], Ipv6Ranges=[{"CidrIpv6": "2001:db8::7/128"}])
    request = {"GroupId": GROUP, "IpPermissions": [removed]}
    region.ec2.add_response("revoke_security_group_ingress", {"Return": True}, request)

    write_file(region, tmp_path / "fleet.json", constants={"SSH_KEY_NAME": "lab"}, ssh_from="198.51.100.1")


def test_a_group_for_ssh_that_admits_anything_else_is_rejected(region: Region, tmp_path: Path) -> None:
    rules = [*SSH_GROUP["IpPermissions"], {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
    region.group_name, region.groups = SSH_GROUP_NAME, [OWN_GROUP | {"IpPermissions": rules}]
    region.stub_responses()

    with pytest.raises(CloudError, match="allows inbound traffic other than SSH"):
        write_file(region, tmp_path / "fleet.json", constants={"SSH_KEY_NAME": "lab"}, ssh_from="203.0.113.7")


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("0.0.0.0/0", "0.0.0.0/0 would let the whole internet"),
        ("128.0.0.0/1", "128.0.0.0/1 would let the whole internet"),
        ("::/0", "::/0 would let the whole internet"),
        ("203.0.113", "'203.0.113' is neither an IP address nor a network"),
        ("my-laptop", "'my-laptop' is neither an IP address nor a network"),
        ("203.0.113.7/33", "'203.0.113.7/33' is neither an IP address nor a network"),
        ("", "'' is neither an IP address nor a network"),
    ],
)
def test_an_address_that_is_wrong_or_means_everybody_is_refused_before_anything_is_created(
    region: Region, tmp_path: Path, address: str, problem: str
) -> None:
    with pytest.raises(InputError, match=f"--ssh-from: {problem}".replace(".", r"\.")):
        write_file(region, tmp_path / "fleet.json", constants={"SSH_KEY_NAME": "lab"}, ssh_from=address)
    assert not (tmp_path / "fleet.json").exists()


def test_ssh_needs_a_key_pair(region: Region, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SSH_KEY_NAME: --ssh-from needs a key pair"):
        write_file(region, tmp_path / "fleet.json", ssh_from="203.0.113.7")


def test_without_an_address_the_summary_says_that_the_key_pair_opens_nothing(region: Region, tmp_path: Path) -> None:
    region.stub_responses()
    summary = write_file(region, tmp_path / "fleet.json", constants={"SSH_KEY_NAME": "lab"})
    assert "key pair        lab (of no use until somebody may connect: add --ssh-from ADDRESS)" in summary


# GPUs


@pytest.mark.parametrize("gpus", [0, 1])
def test_machines_with_gpus_get_the_image_with_nvidias_driver(region: Region, tmp_path: Path, gpus: int) -> None:
    region.architectures, region.parameter = {"g4dn.xlarge": ["x86_64"]}, GPU
    region.zones = {"g4dn.xlarge": ["us-east-1b"]}
    region.stub_responses()

    summary = write_file(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": ["g4dn.xlarge"], "GPUS": gpus})

    assert summary[0] == f"image           {IMAGE} (ECS-optimized Amazon Linux 2023, x86_64, with GPU support)"
    assert read_specification(tmp_path / "fleet.json")["ImageId"] == IMAGE


@pytest.mark.parametrize(
    ("architectures", "gpus", "problem"),
    [
        ({"g4dn.xlarge": "x86_64", "m5.large": "x86_64"}, 1, "have no NVIDIA GPU: m5.large"),
        ({"g4ad.xlarge": "x86_64"}, 1, "have no NVIDIA GPU: g4ad.xlarge"),
        ({"g5g.xlarge": "arm64"}, 1, "no ECS-optimized image with GPU support for Arm"),
        ({"g5g.xlarge": "arm64"}, 0, "no ECS-optimized image with GPU support for Arm"),
    ],
)
def test_types_whose_gpus_containers_could_not_use_are_refused_before_anything_is_created(
    region: Region, tmp_path: Path, architectures: dict[str, str], gpus: int, problem: str
) -> None:
    region.architectures = {name: [architecture] for name, architecture in architectures.items()}
    region.stub_responses(until="get_parameter")

    with pytest.raises(InputError, match=f"config.py: MACHINE_TYPE: .*{problem}"):
        write_file(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": list(architectures), "GPUS": gpus})


def test_if_only_some_types_have_gpus_the_machines_get_the_ordinary_image(region: Region, tmp_path: Path) -> None:
    region.architectures["g4dn.xlarge"] = ["x86_64"]
    region.stub_responses()

    write_file(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": ["m5.large", "g4dn.xlarge"]})


# A network that another account shares


def test_the_subnets_of_a_network_that_another_account_shares_are_used(region: Region, tmp_path: Path) -> None:
    region.owner = "999988887777"
    region.stub_responses(vpc="vpc-shared")

    summary = write_file(region, tmp_path / "fleet.json", vpc="vpc-shared")

    assert "note: vpc-shared is shared by the account 999988887777" in summary
    assert read_interface(tmp_path / "fleet.json")["SubnetId"] == "subnet-a,subnet-b"


def test_subnets_whose_route_table_is_hidden_are_used_too(region: Region, tmp_path: Path) -> None:
    region.owner, region.has_route_tables = "999988887777", False
    region.stub_responses(vpc="vpc-shared")

    summary = write_file(region, tmp_path / "fleet.json", vpc="vpc-shared", constants={"ASSIGN_IP": False})

    assert [line for line in summary if "reaches the internet" in line] == []


# The file


def test_an_existing_file_is_overwritten_only_with_force(region: Region, tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    path.write_text("old")

    message = "this file already exists; choose another path with --output, or add --force to overwrite it"
    with pytest.raises(InputError, match=message):
        write_file(region, path)
    assert path.read_text() == "old"

    region.stub_responses()
    write_file(region, path, force=True)
    assert read_specification(path)["ImageId"] == IMAGE


def test_all_files_for_an_account_use_the_same_security_group(tmp_path: Path) -> None:
    with mock_aws():
        clients = create_clients()
        for number in range(2):
            path = tmp_path / f"fleet-{number}.json"
            account = AwsAccount("123456789012", "us-east-1")  # moto's
            write_fleet_file(clients, SETTINGS, account, FleetFileOptions(path, CONFIG), FakeTime().sleep)
            check_fleet_file(clients.ec2, SETTINGS, load_fleet_file(path), path)
        groups = clients.ec2.describe_security_groups(Filters=build_group_filters()[:1])["SecurityGroups"]  # type: ignore[arg-type]

    assert [(group["IpPermissions"], read_interface(path)["Groups"]) for group in groups] == [
        ([], [groups[0]["GroupId"]])
    ]
    assert len(read_interface(path)["SubnetId"].split(",")) > 1
