"""fleetFile: the file that it writes is one that startCluster takes, and each choice in it is looked up."""

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
from tests.support.account import OUR_TAG, new_clients, stubbed
from tests.support.fakes import SETTINGS, FakeTime

CONFIG = Path("config.py")
PLACE = AwsAccount("111122223333", "us-east-1")
IMAGE = "ami-0123456789abcdef0"
GROUP = "sg-0123456789abcdef0"
X86, ARM = (
    f"/aws/service/ecs/optimized-ami/amazon-linux-2023/{path}image_id"
    for path in ("recommended/", "arm64/recommended/")
)
OURS = {"GroupId": GROUP, "Tags": [OUR_TAG], "IpPermissions": []}
GROUP_FILTERS = [{"Name": "group-name", "Values": ["distributed-something"]}, {"Name": "vpc-id", "Values": ["vpc-1"]}]


def described(name: str, architectures: list[str]) -> dict[str, Any]:
    """A type as EC2 describes it."""
    return {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": 2},
        "MemoryInfo": {"SizeInMiB": 8192},
        "ProcessorInfo": {"SupportedArchitectures": architectures},
    }


class Region:
    """A region whose answers a test changes before the command asks for them; the order is the command's."""

    def __init__(self, clients: Clients, ec2: Stubber, ssm: Stubber) -> None:
        self.clients, self.ec2, self.ssm = clients, ec2, ssm
        self.architectures: dict[str, list[str]] = {"m5.large": ["x86_64"]}
        self.zones: dict[str, list[str]] = {"m5.large": ["us-east-1a", "us-east-1b"]}
        self.subnets = [("subnet-a", "us-east-1a", 10), ("subnet-b", "us-east-1b", 10), ("subnet-c", "us-east-1c", 10)]
        self.ways: dict[str, str | None] = {}  # of subnets with a route table of their own: what it leads to
        self.vpcs = ["vpc-1"]
        self.groups: list[dict[str, Any]] = [OURS]
        self.parameter = X86

    def answer(self, *, vpc: str = "", until: str = "") -> None:
        """Sets up the answers, up to and without the call `until`."""
        types = [described(name, found) for name, found in self.architectures.items()]
        offered = [
            {"InstanceType": name, "LocationType": "availability-zone", "Location": zone}
            for name, zones in self.zones.items()
            for zone in zones
        ]
        subnets = [
            {"SubnetId": name, "AvailabilityZone": zone, "AvailableIpAddressCount": free}
            for name, zone, free in self.subnets
        ]
        used = vpc or "vpc-1"
        wanted = [{"Name": "vpc-id", "Values": [used]}, {"Name": "state", "Values": ["available"]}]
        groups = [GROUP_FILTERS[0], {"Name": "vpc-id", "Values": [used]}]
        named = [{"Name": "instance-type", "Values": sorted(self.architectures)}]
        calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
            ("describe_instance_types", {"InstanceTypes": types}, {"Filters": named}),
            ("get_parameter", {"Parameter": {"Name": self.parameter, "Value": IMAGE}}, {"Name": self.parameter}),
            ("describe_vpcs", {"Vpcs": [{"VpcId": one} for one in self.vpcs]},
             {"Filters": [{"Name": "is-default", "Values": ["true"]}]}),
            ("describe_instance_type_offerings", {"InstanceTypeOfferings": offered},
             {"LocationType": "availability-zone", "Filters": named}),
            ("describe_subnets", {"Subnets": subnets[:1], "NextToken": "more"}, {"Filters": wanted}),
            ("describe_subnets", {"Subnets": subnets[1:]}, {"Filters": wanted, "NextToken": "more"}),
            ("describe_route_tables", {"RouteTables": self.tables(used)[:1], "NextToken": "more"},
             {"Filters": wanted[:1]}),
            ("describe_route_tables", {"RouteTables": self.tables(used)[1:]},
             {"Filters": wanted[:1], "NextToken": "more"}),
            ("describe_security_groups", {"SecurityGroups": self.groups}, {"Filters": groups}),
        ]  # fmt: skip
        for call, response, parameters in calls:
            if call == until:
                return
            if call == "describe_vpcs" and vpc:
                continue
            (self.ssm if call == "get_parameter" else self.ec2).add_response(call, response, parameters)

    def tables(self, vpc: str) -> list[dict[str, Any]]:
        """The main one leads to the internet; subnets in `ways` have one of their own."""

        def table(association: dict[str, Any], way: str | None) -> dict[str, Any]:
            key = "NatGatewayId" if way and way.startswith("nat-") else "GatewayId"
            routes = [{"DestinationCidrBlock": "172.31.0.0/16", "GatewayId": "local", "State": "active"}]
            routes += [{"DestinationCidrBlock": "0.0.0.0/0", key: way, "State": "active"}] if way else []
            return {"VpcId": vpc, "Associations": [association], "Routes": routes}

        own = [table({"SubnetId": name, "Main": False}, way) for name, way in self.ways.items()]
        return [*own, table({"Main": True}, "igw-1")]


@pytest.fixture
def region() -> Iterator[Region]:
    clients = new_clients()
    with stubbed(clients.ec2) as ec2, stubbed(clients.ssm) as ssm:
        yield Region(clients, ec2, ssm)


def write(region: Region, path: Path, **more: Any) -> list[str]:
    settings = SETTINGS.model_copy(update=more.pop("constants", {}))
    options = FleetFileOptions(path, CONFIG, **more)
    return format_fleet_file_summary(write_fleet_file(region.clients, PLACE, settings, options, FakeTime().sleep))


def specification(path: Path) -> dict[str, Any]:
    (one,) = json.loads(path.read_text())["LaunchSpecifications"]
    assert isinstance(one, dict)
    return one


def interface(path: Path) -> dict[str, Any]:
    (one,) = specification(path)["NetworkInterfaces"]
    assert isinstance(one, dict)
    return one


def test_the_file_is_just_this(region: Region, tmp_path: Path) -> None:
    region.answer()

    write(region, tmp_path / "fleet.json", constants={"SSH_KEY_NAME": "lab.pem"})

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


def test_start_cluster_takes_the_file_as_it_is(region: Region, tmp_path: Path) -> None:
    region.answer()
    path = tmp_path / "fleet.json"

    write(region, path)

    check_fleet_file(load_fleet_file(path), path, SETTINGS, region.clients.ec2)
    assert "KeyName" not in specification(path)


def test_what_was_chosen_is_told(region: Region, tmp_path: Path) -> None:
    region.architectures["c5.large"] = ["x86_64"]
    region.zones["c5.large"] = ["us-east-1b"]
    region.answer()

    told = write(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": ["m5.large", "c5.large"]})

    assert told == [
        f"image           {IMAGE} (ECS-optimised Amazon Linux 2023, x86_64)",
        "subnets         subnet-a (us-east-1a), subnet-b (us-east-1b)",
        "note: us-east-1a does not offer c5.large",
        f"security group  {GROUP} (nothing may come in)",
        "key pair        none: nobody can log in to the machines",
        f"fleet file      {tmp_path / 'fleet.json'}",
    ]


def test_arm_machines_get_the_arm_image(region: Region, tmp_path: Path) -> None:
    region.architectures, region.parameter = {"m7g.large": ["arm64"]}, ARM
    region.zones = {"m7g.large": ["us-east-1b"]}
    region.answer()

    write(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": ["m7g.large"]})

    assert interface(tmp_path / "fleet.json")["SubnetId"] == "subnet-b"


def test_machines_of_different_processors_are_refused_before_anything_is_made(region: Region, tmp_path: Path) -> None:
    region.architectures["m7g.large"] = ["arm64"]
    region.answer(until="get_parameter")

    with pytest.raises(InputError, match=r"config.py: MACHINE_TYPE: .*m5.large is x86_64, m7g.large is arm64"):
        write(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": ["m5.large", "m7g.large"]})
    assert not (tmp_path / "fleet.json").exists()


def test_an_unknown_type_is_named(region: Region, tmp_path: Path) -> None:
    answer = {"InstanceTypes": [described("m5.large", ["x86_64"])]}
    region.ec2.add_response("describe_instance_types", answer)

    with pytest.raises(InputError, match=r"no such machine type in this region: m5.larg; correct MACHINE_TYPE"):
        write(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": ["m5.large", "m5.larg"]})


def test_without_the_right_to_look_types_up_no_file_is_written(region: Region, tmp_path: Path) -> None:
    region.ec2.add_client_error("describe_instance_types", "UnauthorizedOperation")

    with pytest.raises(CloudError, match="while looking up MACHINE_TYPE: UnauthorizedOperation"):
        write(region, tmp_path / "fleet.json")


def test_of_several_subnets_in_a_zone_the_roomiest_is_taken(region: Region, tmp_path: Path) -> None:
    region.subnets.append(("subnet-large", "us-east-1a", 4000))
    region.answer()

    write(region, tmp_path / "fleet.json")

    assert interface(tmp_path / "fleet.json")["SubnetId"] == "subnet-large,subnet-b"


@pytest.mark.parametrize(
    ("public", "ways", "chosen", "note"),
    [
        ("True", {"subnet-large": None}, "subnet-a,subnet-b", ""),
        ("True", {"subnet-large": "nat-1"}, "subnet-large,subnet-b", ""),
        ("False", {"subnet-large": "nat-1", "subnet-b": "nat-1"}, "subnet-large,subnet-b", ""),
        ("False", {"subnet-a": "nat-1"}, "subnet-a", "note: us-east-1b is left out: no subnet there has a way to"),
        ("False", {}, "subnet-large,subnet-b", "note: no subnet has a way to the internet, as ASSIGN_IP is: without"),
    ],
)
def test_a_subnet_from_which_machines_reach_aws_comes_before_a_roomier_one(
    region: Region, tmp_path: Path, public: str, ways: dict[str, str | None], chosen: str, note: str
) -> None:
    """With a public address by any gateway; without one an internet gateway is none."""
    region.subnets.append(("subnet-large", "us-east-1a", 4000))
    region.ways = ways
    region.answer()

    told = write(region, tmp_path / "fleet.json", constants={"ASSIGN_IP": public == "True"})

    assert interface(tmp_path / "fleet.json")["SubnetId"] == chosen
    assert [line.startswith(note) for line in told if line.startswith("note:")] == ([True] if note else [])


def test_another_vpc_may_be_chosen(region: Region, tmp_path: Path) -> None:
    region.answer(vpc="vpc-mine")

    write(region, tmp_path / "fleet.json", vpc="vpc-mine")


def test_a_region_without_a_default_vpc_asks_for_one(region: Region, tmp_path: Path) -> None:
    region.vpcs = []
    region.answer(until="describe_instance_type_offerings")

    with pytest.raises(InputError, match="no default VPC; add --vpc"):
        write(region, tmp_path / "fleet.json")


def test_types_that_no_zone_of_the_vpc_offers_are_refused_with_the_zones_that_do(
    region: Region, tmp_path: Path
) -> None:
    region.zones = {"m5.large": ["us-east-1f"]}
    region.answer(until="describe_security_groups")

    with pytest.raises(InputError, match=r"no subnet of vpc-1 lies where these machines are offered \(us-east-1f\)"):
        write(region, tmp_path / "fleet.json")


def test_more_types_than_one_call_takes_are_asked_in_several(region: Region, tmp_path: Path) -> None:
    types = [f"m5.{n}xlarge" for n in range(100, 250)]
    for some in (types[:100], types[100:]):
        answer = {"InstanceTypes": [described(name, ["x86_64"]) for name in some]}
        asked = {"Filters": [{"Name": "instance-type", "Values": some}]}
        region.ec2.add_response("describe_instance_types", answer, asked)
    region.ssm.add_client_error("get_parameter", "ParameterNotFound")

    with pytest.raises(CloudError, match="looking up the newest ECS-optimised image: ParameterNotFound"):
        write(region, tmp_path / "fleet.json", constants={"MACHINE_TYPE": types})


# The security group


def test_a_missing_security_group_is_made_without_inbound_rules_and_waited_for(region: Region, tmp_path: Path) -> None:
    region.groups = []
    region.answer()
    made = {
        "GroupName": "distributed-something",
        "Description": "Machines of Distributed-Something: nothing may come in",
        "VpcId": "vpc-1",
        "TagSpecifications": [
            {"ResourceType": "security-group",
             "Tags": [OUR_TAG, {"Key": "Name", "Value": "distributed-something"}]}
        ],
    }  # fmt: skip
    region.ec2.add_response("create_security_group", {"GroupId": GROUP}, made)
    region.ec2.add_client_error("describe_security_groups", "InvalidGroup.NotFound")
    region.ec2.add_response("describe_security_groups", {"SecurityGroups": [OURS]}, {"GroupIds": [GROUP]})

    write(region, tmp_path / "fleet.json")

    assert interface(tmp_path / "fleet.json")["Groups"] == [GROUP]


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        (OURS | {"IpPermissions": [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}]}, "lets something in"),
        (OURS | {"Tags": []}, "fleetFile did not make it"),
    ],
)
def test_a_security_group_that_is_open_or_somebody_elses_is_not_used(
    region: Region, tmp_path: Path, group: dict[str, Any], reason: str
) -> None:
    region.groups = [group]
    region.answer()

    with pytest.raises(CloudError, match=reason):
        write(region, tmp_path / "fleet.json")
    assert not (tmp_path / "fleet.json").exists()


# The file


def test_a_file_that_is_there_is_not_overwritten_unasked(region: Region, tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    path.write_text("mine")

    with pytest.raises(
        InputError, match="this file exists; choose another with --output, or overwrite it with --force"
    ):
        write(region, path)
    assert path.read_text() == "mine"

    region.answer()
    write(region, path, force=True)
    assert specification(path)["ImageId"] == IMAGE


def test_on_a_fresh_account_one_security_group_serves_every_file(tmp_path: Path) -> None:
    with mock_aws():
        clients = new_clients()
        for number in range(2):
            path = tmp_path / f"fleet-{number}.json"
            write_fleet_file(clients, PLACE, SETTINGS, FleetFileOptions(path, CONFIG), FakeTime().sleep)
            check_fleet_file(load_fleet_file(path), path, SETTINGS, clients.ec2)
        groups = clients.ec2.describe_security_groups(Filters=GROUP_FILTERS[:1])["SecurityGroups"]

    assert [(group["IpPermissions"], interface(path)["Groups"]) for group in groups] == [([], [groups[0]["GroupId"]])]
    assert len(interface(path)["SubnetId"].split(",")) > 1
