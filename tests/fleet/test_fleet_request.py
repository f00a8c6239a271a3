"""What a Fleet file and a config ask of EC2 together: types and subnets combined, launch templates, limits, tags."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.stub import ANY, Stubber
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.aws.sts import resolve_owner
from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import CloudError, InputError
from distributed_something.core.tags import build_tags
from distributed_something.fleet.fleet_file import check_fleet_file, load_fleet_file
from distributed_something.fleet.launch_plan import LaunchPlan, build_launch_plan
from distributed_something.fleet.launch_specs import build_launch_specs
from distributed_something.fleet.launch_template import create_run_template, load_template_data
from distributed_something.fleet.request import build_fleet_request
from distributed_something.fleet.user_data import (
    UserDataError,
    build_ecs_config_lines,
    build_user_data,
    extend_user_data,
)
from tests.support.fakes import FakeTime
from tests.support.offline import CONFIG, no_way_out

NOW = datetime(2026, 11, 23, 10, 45, tzinfo=UTC)
RUN = "20261123T104500Z"
PATH = Path("fleet.json")
ROLE = "arn:aws:iam::111122223333:role/aws-ec2-spot-fleet-tagging-role"
TYPES = ["m5.large", "m5a.large"]
MARKS = {"app": "Tryout", "run": RUN, "owner": "alice"}
TAG_LIST = [{"Key": key, "Value": value} for key, value in MARKS.items()]
TAGGED = [{"Key": "Name", "Value": "TryoutWorker"}, *TAG_LIST]


def of(**constants: object) -> Settings:
    return Settings.model_validate(CONFIG | constants)


def client(service: str = "ec2") -> Any:
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.client(service, region_name="us-east-1", **keys)  # type: ignore[call-overload]


@cache
def unstubbed() -> Any:
    """A client that is asked for its model alone."""
    return client()


def written(*specifications: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"IamFleetRole": ROLE, "LaunchSpecifications": list(specifications), **more}


def templated(*overrides: dict[str, Any], **specification: str) -> dict[str, Any]:
    named = specification or {"LaunchTemplateName": "lab"}
    return {
        "IamFleetRole": ROLE,
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": named, "Overrides": list(overrides)}],
    }


def network(subnets: str) -> dict[str, Any]:
    return {"ImageId": "ami-1", "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": subnets, "Groups": ["sg-1"]}]}


def plan_of(content: dict[str, Any], theirs: dict[str, Any] | None = None, **constants: object) -> LaunchPlan:
    return build_launch_plan(content, of(**constants), MARKS, unstubbed(), theirs)


def request_of(content: dict[str, Any], **constants: object) -> dict[str, Any]:
    return build_fleet_request(content, of(**constants), plan_of(content, **constants), NOW)


def check(content: dict[str, Any], tmp_path: Path, **constants: object) -> None:
    """The file written, read and checked as startCluster does; nothing reaches AWS."""
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(content))
    with no_way_out():
        check_fleet_file(load_fleet_file(path), path, of(**constants), client())


def contents(content: dict[str, Any], **constants: object) -> list[dict[str, Any]]:
    """The LaunchTemplateData of each version of the run's launch template."""
    return [version.data for version in plan_of(content, **constants).versions]


def pools(request: dict[str, Any]) -> list[tuple[str, str]]:
    found = [one for config in request["LaunchTemplateConfigs"] for one in config["Overrides"]]
    return [(one["InstanceType"], one.get("SubnetId", "")) for one in found]


def shell(script: str) -> str:
    return base64.b64encode(script.encode()).decode()


# types and subnets


def test_one_specification_is_combined_with_every_type_and_every_subnet(tmp_path: Path) -> None:
    content = written(network("subnet-a, subnet-b"))
    check(content, tmp_path, MACHINE_TYPE=TYPES)
    wanted = [(kind, subnet) for kind in TYPES for subnet in ("subnet-a", "subnet-b")]
    assert pools(request_of(content, MACHINE_TYPE=TYPES)) == wanted


def test_as_many_specifications_as_types_are_paired_as_published(tmp_path: Path) -> None:
    content = written(network("subnet-a"), network("subnet-b,subnet-c"))
    check(content, tmp_path, MACHINE_TYPE=TYPES)
    wanted = [("m5.large", "subnet-a"), ("m5a.large", "subnet-b"), ("m5a.large", "subnet-c")]
    assert pools(request_of(content, MACHINE_TYPE=TYPES)) == wanted


@pytest.mark.parametrize(("blocks", "types"), [(2, 1), (2, 3), (3, 2)])
def test_any_other_number_of_specifications_is_refused(tmp_path: Path, blocks: int, types: int) -> None:
    content = written(*[network("subnet-a")] * blocks)
    with pytest.raises(InputError, match=f"there are {blocks} for {types} MACHINE_TYPE in the config; give one, for"):
        check(content, tmp_path, MACHINE_TYPE=["m5.large", "m5a.large", "m6i.large"][:types])


def test_a_type_or_a_subnet_that_is_named_twice_makes_one_pool() -> None:
    """EC2 refuses a request with the same pool twice."""
    content = written(network("subnet-a,subnet-a"))
    assert pools(request_of(content, MACHINE_TYPE=["m5.large", "m5.large"])) == [("m5.large", "subnet-a")]


def test_no_subnet_leaves_the_choice_to_ec2() -> None:
    assert pools(request_of(written({"ImageId": "ami-1"}))) == [("m5.large", "")]


def test_zones_are_combined_as_subnets_are_where_no_subnet_is_named() -> None:
    content = written({"Placement": {"AvailabilityZone": "us-east-1a, us-east-1b", "Tenancy": "dedicated"}})
    (config,) = request_of(content)["LaunchTemplateConfigs"]
    places = [{"InstanceType": "m5.large", "AvailabilityZone": f"us-east-1{end}"} for end in "ab"]
    assert config["Overrides"] == places
    assert contents(content)[0]["Placement"] == {"Tenancy": "dedicated"}


def test_a_second_interface_in_another_subnet_stays_there_and_one_in_the_same_goes_along() -> None:
    interfaces = [{"DeviceIndex": n, "SubnetId": f"subnet-{end}"} for n, end in enumerate("aab")]
    (one,) = contents(written({"NetworkInterfaces": interfaces}))
    assert [interface.get("SubnetId") for interface in one["NetworkInterfaces"]] == [None, None, "subnet-b"]


def test_more_pools_than_ec2_takes_are_refused(tmp_path: Path) -> None:
    subnets = ",".join(f"subnet-{number}" for number in range(101))
    for content in (written(network(subnets)), templated({"SubnetId": subnets})):
        check(content, tmp_path, MACHINE_TYPE=TYPES)
        with pytest.raises(InputError, match=r"MACHINE_TYPE: 303 combinations .* than EC2 takes \(300\)"):
            check(content, tmp_path, MACHINE_TYPE=[*TYPES, "m6i.large"])


@pytest.mark.parametrize("public", [True, False])
def test_a_subnet_without_an_interface_gets_one_that_says_whether_it_is_public(tmp_path: Path, public: bool) -> None:
    content = written({"ImageId": "ami-1", "SubnetId": "subnet-a,subnet-b", "SecurityGroups": [{"GroupId": "sg-1"}]})
    check(content, tmp_path)
    assert pools(request_of(content)) == [("m5.large", "subnet-a"), ("m5.large", "subnet-b")]
    (one,) = contents(content, ASSIGN_IP=str(public))
    assert one.keys().isdisjoint({"SubnetId", "SecurityGroups", "SecurityGroupIds"})  # EC2: not beside an interface
    assert one["NetworkInterfaces"] == [
        {"DeviceIndex": 0, "DeleteOnTermination": True, "Groups": ["sg-1"], "AssociatePublicIpAddress": public}
    ]


def test_several_interfaces_are_taken_where_no_public_address_is_asked_for(tmp_path: Path) -> None:
    check(written({"NetworkInterfaces": [{"DeviceIndex": 0}, {"DeviceIndex": 1}]}), tmp_path, ASSIGN_IP="False")


# several specifications


def test_specifications_of_equal_content_are_one_version_of_the_template() -> None:
    content = written(network("subnet-a"), network("subnet-b"), network("subnet-a"))
    (config,) = request_of(content, MACHINE_TYPE=[*TYPES, "m5.large"])["LaunchTemplateConfigs"]
    pools = [("m5.large", "subnet-a"), ("m5a.large", "subnet-b")]  # EC2 takes each but once
    assert config["Overrides"] == [{"InstanceType": kind, "SubnetId": subnet} for kind, subnet in pools]


def test_specifications_that_differ_are_a_version_each_with_their_own_overrides(tmp_path: Path) -> None:
    content = written(network("subnet-a"), network("subnet-a") | {"ImageId": "ami-2"}, network("subnet-b"))
    types = [*TYPES, "m6i.large"]
    check(content, tmp_path, MACHINE_TYPE=types)
    configs = request_of(content, MACHINE_TYPE=types)["LaunchTemplateConfigs"]
    assert [one["LaunchTemplateSpecification"] for one in configs] == [
        {"LaunchTemplateName": f"Tryout-{RUN}", "Version": version} for version in "12"
    ]
    assert [[one["InstanceType"] for one in config["Overrides"]] for config in configs] == [
        ["m5.large", "m6i.large"], ["m5a.large"],
    ]  # fmt: skip
    assert [one["ImageId"] for one in contents(content, MACHINE_TYPE=types)] == ["ami-1", "ami-2"]


@given(st.lists(st.tuples(*(st.sampled_from(some) for some in (["a", "b"], TYPES, ["s,t", "t", ""]))), min_size=1))
def test_each_specification_has_its_own_content_for_its_own_type_in_its_own_subnets(rows: list[Any]) -> None:
    specifications = [{"ImageId": image, "SubnetId": subnets} for image, _, subnets in rows]
    types = [kind for _, kind, _ in rows]
    kinds = build_launch_specs(written(*specifications), of(MACHINE_TYPE=types))
    asked = [(kind.content or {}, one) for kind in kinds for one in kind.overrides]
    pools = [(content["ImageId"], one["InstanceType"], one.get("SubnetId", "")) for content, one in asked]
    assert len(pools) == len(set(pools))
    assert set(pools) == {(image, kind, one) for image, kind, subnets in rows for one in subnets.split(",")}
    assert len({content["ImageId"] for content, _ in asked}) == len(kinds)


def test_more_versions_than_ec2_takes_are_refused(tmp_path: Path) -> None:
    content = written(*({"ImageId": f"ami-{number}"} for number in range(51)))
    types = [f"m5.{number}xlarge" for number in range(51)]
    with pytest.raises(InputError, match=r"LaunchSpecifications: 51 that differ .* than EC2 takes \(50\)"):
        check(content, tmp_path, MACHINE_TYPE=types)


# nothing of a specification is lost

ALL_OF_ONE: dict[str, Any] = {
    "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"Iops": 3000}}, {"DeviceName": "b", "NoDevice": ""}],
    "EbsOptimized": True,
    "IamInstanceProfile": {"Arn": "arn:aws:iam::111122223333:instance-profile/ecsInstanceRole"},
    "ImageId": "ami-1",
    "KernelId": "aki-1",
    "KeyName": "my-key",
    "Monitoring": {"Enabled": True},
    "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-1"], "Description": "mine"}],
    "Placement": {"Tenancy": "dedicated", "GroupName": "near"},
    "RamdiskId": "ari-1",
}
IN_OVERRIDES: dict[str, Any] = {"InstanceType": "m5.large", "SubnetId": "subnet-a"}
DECIDED_BY_CONFIG = {
    "InstanceType": "x1.large",
    "SpotPrice": "9.99",
    "UserData": shell("left over"),
    "WeightedCapacity": 1,
}
# the rest of what EC2 takes in a specification, each with a test of its own here
ELSEWHERE = {"AddressingType", "InstanceRequirements", "SecurityGroups", "TagSpecifications"}


def test_every_key_of_a_specification_has_a_test_of_where_it_goes() -> None:
    shape = client().meta.service_model.shape_for("SpotFleetLaunchSpecification")
    assert shape.members.keys() == ALL_OF_ONE.keys() | IN_OVERRIDES.keys() | DECIDED_BY_CONFIG.keys() | ELSEWHERE


def test_all_that_a_specification_says_arrives_in_the_template_or_in_its_overrides(tmp_path: Path) -> None:
    content = written(ALL_OF_ONE | IN_OVERRIDES | DECIDED_BY_CONFIG | {"SubnetId": ""})
    content["LaunchSpecifications"][0]["NetworkInterfaces"] = [
        ALL_OF_ONE["NetworkInterfaces"][0] | {"SubnetId": "subnet-a"}
    ]
    check(content, tmp_path)
    disk = {"Iops": 3000, "DeleteOnTermination": True, "VolumeSize": 30}
    (one,) = contents(content)
    assert request_of(content)["LaunchTemplateConfigs"][0]["Overrides"] == [IN_OVERRIDES]
    assert {key: value for key, value in one.items() if key not in ("MetadataOptions", "TagSpecifications")} == {
        **{key: value for key, value in ALL_OF_ONE.items() if key != "RamdiskId"},
        "RamDiskId": "ari-1",
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": disk}, ALL_OF_ONE["BlockDeviceMappings"][1]],
        "NetworkInterfaces": [ALL_OF_ONE["NetworkInterfaces"][0] | {"AssociatePublicIpAddress": True}],
        "UserData": build_user_data(of()),
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("AddressingType", "public"),
        ("BlockDeviceMappings[0].Ebs.OutpostArn", "arn:outpost"),
        ("NetworkInterfaces[0].Ipv6Addresses[0].IsPrimaryIpv6", True),
    ],
)
def test_what_a_launch_template_cannot_say_is_refused(tmp_path: Path, key: str, value: object) -> None:
    said: Any = value
    for name in reversed(key.split(".")):
        said = {name.removesuffix("[0]"): [said] if name.endswith("[0]") else said}
    with pytest.raises(InputError, match="has no such key; take it out") as caught:
        check(written(said), tmp_path)
    assert f": LaunchSpecifications[0].{key}: " in str(caught.value)


# what every machine gets


def test_a_file_without_disks_gets_the_images_own_in_the_configs_size() -> None:
    (one,) = contents(written({"ImageId": "ami-1"}), EBS_VOL_SIZE=77)
    disk = {"VolumeType": "gp3", "DeleteOnTermination": True, "VolumeSize": 77}
    assert one["BlockDeviceMappings"] == [{"DeviceName": "/dev/xvda", "Ebs": disk}]


def test_no_disk_outlives_its_machine_unless_the_file_says_so() -> None:
    disks = [{"Ebs": {}}, {"Ebs": {"DeleteOnTermination": False}}, {"Ebs": {}}]
    (one,) = contents(written({"BlockDeviceMappings": disks}))
    assert [disk["Ebs"]["DeleteOnTermination"] for disk in one["BlockDeviceMappings"]] == [True, False, True]


@pytest.mark.parametrize("ends", [True, False])
def test_the_volumes_of_a_machine_with_a_disk_that_outlives_it_say_so_to_clean_up(ends: bool) -> None:
    disks = [{"DeviceName": "/dev/xvda", "Ebs": {}}, {"DeviceName": "/dev/xvdb", "Ebs": {"DeleteOnTermination": ends}}]
    (one,) = contents(written({"BlockDeviceMappings": disks}))
    tagged = {found["ResourceType"]: found["Tags"] for found in one["TagSpecifications"]}
    kept = [{"Key": "keep", "Value": "DeleteOnTermination is false"}]
    assert tagged["volume"] == TAGGED + ([] if ends else kept)
    assert tagged["instance"] == TAGGED


def test_machines_volumes_and_the_fleet_carry_app_run_and_owner_beside_the_files_own_tags(tmp_path: Path) -> None:
    own = {"Key": "grant", "Value": "R01"}
    machine = {"TagSpecifications": [{"ResourceType": "instance", "Tags": [own, {"Key": "app", "Value": "x"}]}]}
    fleet = [{"ResourceType": "spot-fleet-request", "Tags": [own]}]
    content = written(machine, TagSpecifications=fleet)
    check(content, tmp_path)
    request = request_of(content)
    assert request["TagSpecifications"] == [{"ResourceType": "spot-fleet-request", "Tags": [own, *TAG_LIST]}]
    (one,) = contents(content)
    tagged = {found["ResourceType"]: found["Tags"] for found in one["TagSpecifications"]}
    named = MARKS | {"Name": "TryoutWorker"}
    assert {tag["Key"]: tag["Value"] for tag in tagged["instance"]} == named | {"grant": "R01"}
    assert {tag["Key"]: tag["Value"] for tag in tagged["volume"]} == named


def test_a_price_of_the_file_cannot_pass_the_configs() -> None:
    request = request_of(written({"SpotPrice": "9.99"}), MACHINE_PRICE=0.123456)
    assert request["SpotPrice"] == "0.123456"
    assert "SpotPrice" not in request["LaunchTemplateConfigs"][0]["Overrides"][0]


def test_the_fleet_ends_with_its_machines_after_the_configs_hours_whatever_the_file_says() -> None:
    request = request_of(written({}, TerminateInstancesWithExpiration=False), MAX_RUN_HOURS=1.5)
    assert request["ValidUntil"] == NOW + timedelta(minutes=90)
    assert request["TerminateInstancesWithExpiration"] is True


# what EC2 would refuse is refused here, in one line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            written({}, AllocationStrategy="cheapest"),
            r"AllocationStrategy: 'cheapest' is none .*; write one of lowestP",
        ),
        (written({}, Type="maintained"), r"Type: 'maintained' is none of AWS's; write one of request, maintain"),
        (written({}, Type="instant"), "Type: the monitor could not scale such a fleet"),
        (written({}, Type="request"), "Type: the monitor could not scale such a fleet; write 'maintain'"),
        (written({}, InstanceInterruptionBehavior="end"), "InstanceInterruptionBehavior: 'end' is none of AWS's"),
        (
            written({"BlockDeviceMappings": [{"Ebs": {"VolumeType": "gp9"}}]}),
            r"LaunchSpecifications\[0\]\.BlockDeviceMappings\[0\]\.Ebs\.VolumeType: 'gp9' is none of AWS's; write one",
        ),
        (written({}, TagSpecifications=[{"ResourceType": "volume"}]), "EC2 tags no other kind of thing here"),
        (written({"TagSpecifications": [{"ResourceType": "vpc"}]}), "no other kind .* write 'instance' or 'volume'"),
        (
            written({"InstanceRequirements": {"VCpuCount": {"Min": 2}, "MemoryMiB": {"Min": 1}}}),
            r"LaunchSpecifications\[0\]\.InstanceRequirements: MACHINE_TYPE of the config decides this; take it out",
        ),
        (written(network("subnet-a") | {"SubnetId": "subnet-b"}), "EC2 takes none beside NetworkInterfaces"),
        (written({"SecurityGroups": [{"GroupName": "lab"}]}), "a group has no GroupId"),
        (written({}) | templated(), "EC2 takes no LaunchTemplateConfigs beside them"),
        (
            written({"WeightedCapacity": 4.0}),
            r"LaunchSpecifications\[0\]\.WeightedCapacity: CLUSTER_MACHINES counts machines, .*; take it out",
        ),
        (
            written({"NetworkInterfaces": [{"DeviceIndex": 0}, {"DeviceIndex": 1}]}),
            r"LaunchSpecifications\[0\]\.NetworkInterfaces: .* \(ASSIGN_IP\) .* several .*; leave one, or set",
        ),
        (
            written({"NetworkInterfaces": [{"DeviceIndex": 0, "NetworkInterfaceId": "eni-1"}]}),
            r"NetworkInterfaces: a network interface that exists serves one machine.*; take NetworkInterfaceId out",
        ),
        (templated({"WeightedCapacity": 2}), r"Overrides\[0\]\.WeightedCapacity: the config decides this; take it out"),
        (templated(LaunchTemplateId="lt-1", LaunchTemplateName="lab"), "EC2 takes its id or its name"),
        (templated(Version="3"), "EC2 takes its id or its name"),
        (templated(LaunchTemplateName="FILL_IN"), "is a placeholder"),
    ],
)
def test_what_ec2_would_refuse_is_said_in_one_line(content: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as caught:
        check(content, tmp_path)
    assert "\n" not in str(caught.value)


# launch templates


def test_a_template_gets_every_type_in_every_subnet_as_overrides(tmp_path: Path) -> None:
    content = templated({"SubnetId": "subnet-a"}, {"SubnetId": "subnet-b,subnet-a", "InstanceType": "x1.large"})
    check(content, tmp_path, MACHINE_TYPE=TYPES)
    (config,) = request_of(content, MACHINE_TYPE=TYPES)["LaunchTemplateConfigs"]
    assert config == {
        "LaunchTemplateSpecification": {"LaunchTemplateName": f"Tryout-{RUN}", "Version": "1"},
        "Overrides": [{"InstanceType": kind, "SubnetId": f"subnet-{end}"} for kind in TYPES for end in "ab"],
    }


@pytest.mark.parametrize("content", [templated(), written({})], ids=["template", "specification"])
def test_on_demand_machines_are_a_part_of_all_machines(tmp_path: Path, content: dict[str, Any]) -> None:
    check(content, tmp_path, ON_DEMAND_MACHINES=2)
    request = request_of(content, ON_DEMAND_MACHINES=2)
    assert (request["TargetCapacity"], request["OnDemandTargetCapacity"]) == (2, 2)
    assert "OnDemandTargetCapacity" not in request_of(content)
    with pytest.raises(InputError, match=r"ON_DEMAND_MACHINES: 3 are more than CLUSTER_MACHINES \(2\)"):
        check(content, tmp_path, ON_DEMAND_MACHINES=3)


TEMPLATE: dict[str, Any] = {
    "ImageId": "ami-1",
    "InstanceType": "t3.micro",
    "InstanceMarketOptions": {"MarketType": "spot"},
    "DisableApiTermination": True,
    "DisableApiStop": True,
    "SecurityGroupIds": ["sg-1"],
    "UserData": shell("#!/bin/bash\nyum -y install htop"),
    "MetadataOptions": {"State": "applied", "HttpTokens": "optional"},
    "TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "grant", "Value": "R01"}]}],
    "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 200, "VolumeType": "gp3"}}],
    "LicenseSpecifications": [],
}


def test_the_runs_template_keeps_that_of_the_file_and_joins_the_cluster() -> None:
    script = "#!/bin/bash\nyum -y install htop\n" + build_ecs_config_lines(of())
    data = {
        "ImageId": "ami-1",
        "UserData": shell(script),
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "TagSpecifications": [
            {"ResourceType": "volume", "Tags": [{"Key": "grant", "Value": "R01"}, *TAGGED]},
            {"ResourceType": "instance", "Tags": TAGGED},
        ],
        "BlockDeviceMappings": TEMPLATE["BlockDeviceMappings"],
        "NetworkInterfaces": [
            {"DeviceIndex": 0, "DeleteOnTermination": True, "Groups": ["sg-1"], "AssociatePublicIpAddress": True}
        ],
    }
    with template_of(data) as ec2:
        make(ec2, plan_of(templated({"SubnetId": "subnet-a"}), copy.deepcopy(TEMPLATE)))


@contextmanager
def template_of(data: Any = ANY) -> Iterator[Any]:
    """An EC2 that is asked for the run's template with this content, and makes it."""
    ec2, name = client(), f"Tryout-{RUN}"
    with Stubber(ec2) as stub:
        marks = [{"ResourceType": "launch-template", "Tags": TAG_LIST}]
        wanted = {
            "LaunchTemplateName": name,
            "ClientToken": name,
            "LaunchTemplateData": data,
            "TagSpecifications": marks,
        }
        stub.add_response("create_launch_template", {"LaunchTemplate": {"LaunchTemplateId": "lt-run"}}, wanted)
        ec2.stub = stub
        yield ec2
        stub.assert_no_pending_responses()


def make(ec2: Any, plan: LaunchPlan, error: Exception | None = None, time: FakeTime | None = None) -> None:
    """Makes the run's template; `error`: of what the fleet's request comes to."""
    with create_run_template(plan, ec2, (time or FakeTime()).sleep):
        if error is not None:
            raise error


BOTH = plan_of(written({"ImageId": "ami-1"}, {"ImageId": "ami-2"}), MACHINE_TYPE=TYPES)
VERSION = {"LaunchTemplateId": "lt-run", "ClientToken": f"Tryout-{RUN}-2", "LaunchTemplateData": ANY}
NOT_FOUND = ("create_launch_template_version", "InvalidLaunchTemplateId.NotFound")


def test_further_kinds_become_versions_as_soon_as_ec2_knows_the_template() -> None:
    time = FakeTime()
    with template_of() as ec2:
        ec2.stub.add_client_error(*NOT_FOUND, expected_params=VERSION)
        ec2.stub.add_response("create_launch_template_version", {"LaunchTemplateVersion": {}}, VERSION)
        make(ec2, BOTH, time=time)
    assert time.slept == [1.0]


ROWS = st.lists(st.tuples(*map(st.sampled_from, ("abc", "xyz", "12"))), min_size=1, max_size=6)


@given(ROWS)
def test_each_version_that_the_request_names_is_created_with_the_content_of_its_own_specification(
    rows: list[tuple[str, str, str]],
) -> None:
    specifications = [{"ImageId": f"ami-{image}", "KeyName": key, "SubnetId": subnet} for image, key, subnet in rows]
    types = [f"m5.{number}xlarge" for number in range(len(rows))]  # each is of one specification
    content = written(*specifications)
    plan = plan_of(content, MACHINE_TYPE=types)
    created = created_versions(plan)
    for config in build_fleet_request(content, of(MACHINE_TYPE=types), plan, NOW)["LaunchTemplateConfigs"]:
        data = created[config["LaunchTemplateSpecification"]["Version"]]
        for override in config["Overrides"]:
            own = specifications[types.index(override["InstanceType"])]
            assert (data["ImageId"], data["KeyName"], override["SubnetId"]) == tuple(own.values())


def created_versions(plan: LaunchPlan) -> dict[str, Any]:
    """What EC2 has of the run's template after it was created, by the numbers that EC2 gives."""
    created: list[Any] = []

    class Ec2:
        def create_launch_template(self, **asked: Any) -> Any:
            created.append(asked["LaunchTemplateData"])
            return {"LaunchTemplate": {"LaunchTemplateId": "lt-run"}}

        def create_launch_template_version(self, **asked: Any) -> None:
            created.append(asked["LaunchTemplateData"])

    ec2: Any = Ec2()
    make(ec2, plan)
    return {str(number): data for number, data in enumerate(created, 1)}


def test_a_version_that_ec2_refuses_leaves_no_template() -> None:
    with template_of() as ec2:
        ec2.stub.add_client_error("create_launch_template_version", "VcpuLimitExceeded", expected_params=VERSION)
        ec2.stub.add_response("delete_launch_template", {}, {"LaunchTemplateId": "lt-run"})
        with pytest.raises(CloudError, match=f"making version 2 of the launch template Tryout-{RUN}: VcpuLimitExc"):
            make(ec2, BOTH)


def test_where_the_answer_to_the_request_is_lost_the_template_stays_as_the_fleet_may_be_there() -> None:
    lost = CloudError("while requesting the spot fleet: ReadTimeoutError")
    lost.__cause__ = ReadTimeoutError(endpoint_url="https://ec2")
    with template_of() as ec2, pytest.raises(CloudError):
        make(ec2, plan_of(written({"ImageId": "ami-1"})), lost)


def test_a_templates_subnet_gives_way_to_the_files() -> None:
    content = {"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-t"}]}
    types_alone = [{"InstanceType": "m5.large"}, {"InstanceType": "m5a.large"}]
    stays = {"SubnetId": "subnet-t"}
    for overrides, left in (([{"SubnetId": "subnet-a"}], {}), ([], stays), (types_alone, stays)):
        (kind,) = build_launch_specs(templated(*overrides), of(), content)
        assert kind.content == {"NetworkInterfaces": [{"DeviceIndex": 0, **left}]}


def read(*versions: dict[str, Any]) -> dict[str, Any] | None:
    ec2 = client()
    with Stubber(ec2) as stub:
        found = [{"LaunchTemplateData": one} for one in versions]
        wanted = {"LaunchTemplateName": "lab", "Versions": ["7"]}
        stub.add_response("describe_launch_template_versions", {"LaunchTemplateVersions": found}, wanted)
        return load_template_data(templated(LaunchTemplateName="lab", Version="7"), PATH, of(), ec2)


def test_the_version_that_the_file_names_is_read() -> None:
    assert read({"ImageId": "ami-7"}) == {"ImageId": "ami-7"}


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ([], "there is no launch template lab version 7; name another"),
        ([{"UserData": shell("MIME-Version: 1.0\n")}], "its user data is no shell script; begin it with #!/bin/bash"),
        ([{"UserData": "~"}], "its user data is no text; use a script"),
        ([{"UserData": shell("#!/bin/sh\n" + "x" * 16_300)}], "its user data is too long; shorten it to 16"),
        ([{"NetworkInterfaces": [{"NetworkInterfaceId": "eni-1"}]}], "lab version 7: .* take NetworkInterfaceId out"),
        ([{"NetworkInterfaces": [{"DeviceIndex": 0}, {"DeviceIndex": 1}]}], "lab version 7: .*; leave one, or set"),
        ([{"SecurityGroups": ["lab"]}], "names security groups by name, .*; name them by id there"),
    ],
)
def test_a_template_that_cannot_be_used_is_wrong_input(versions: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(*versions)


def test_a_file_without_a_template_reads_none() -> None:
    assert load_template_data(written({}), PATH, of(), client()) is None


# the machine's script


def test_a_machine_joins_its_cluster_by_its_script_alone_and_says_whose_it_is() -> None:
    script = base64.b64decode(build_user_data(of(ECS_CLUSTER="ours"))).decode()
    assert script.splitlines() == [
        "#!/bin/bash",
        "cat >> /etc/ecs/ecs.config <<'EOF'",
        "ECS_CLUSTER=ours",
        'ECS_INSTANCE_ATTRIBUTES={"app":"Tryout"}',
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true",
        "ECS_CONTAINER_STOP_TIMEOUT=110s",
        "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=10m",
        "EOF",
    ]


@pytest.mark.parametrize(
    ("theirs", "problem", "remedy"),
    [
        (shell("#cloud-config\n"), "its user data is no shell script", "begin it with #!/bin/bash, or leave it out"),
        ("%", "its user data is no text", "use a script that begins with #!/bin/bash"),
        (shell("#!/bin/sh\n" + "x" * 17_000), "its user data is too long", "shorten it to 16"),
    ],
)
def test_user_data_that_cannot_be_extended_says_what_to_do(theirs: str, problem: str, remedy: str) -> None:
    with pytest.raises(UserDataError) as caught:
        extend_user_data(theirs, of())
    assert caught.value.problem == problem
    assert caught.value.remedy.startswith(remedy)


def test_the_runs_cluster_counts_before_one_that_the_template_names() -> None:
    theirs = shell("#!/bin/bash\necho ECS_CLUSTER=theirs >> /etc/ecs/ecs.config")
    script = base64.b64decode(extend_user_data(theirs, of(ECS_CLUSTER="ours"))).decode()
    assert script.index("ECS_CLUSTER=theirs") < script.index("ECS_CLUSTER=ours")  # the agent takes the last


# whose it is


@pytest.mark.parametrize(
    ("arn", "owner"),
    [
        ("arn:aws:iam::111122223333:user/lab/alice", "alice"),
        ("arn:aws:sts::111122223333:assumed-role/Scientist/bob@lab.org", "bob@lab.org"),
        ("arn:aws:iam::111122223333:root", "root"),
        ("arn:aws:sts::111122223333:federated-user/carol,dave", "carol-dave"),
    ],
)
def test_the_owner_is_who_is_logged_in(arn: str, owner: str) -> None:
    sts = client("sts")
    with Stubber(sts) as stub:
        stub.add_response("get_caller_identity", {"Arn": arn}, {})
        assert resolve_owner(of(), sts) == owner


def test_an_owner_in_the_config_needs_no_look() -> None:
    with no_way_out():
        assert resolve_owner(of(OWNER="Imaging core"), client("sts")) == "Imaging core"


def test_who_cannot_be_looked_up_is_told_what_spares_it() -> None:
    sts = client("sts")
    with Stubber(sts) as stub:
        stub.add_client_error("get_caller_identity", "ExpiredToken", "expired")
        with pytest.raises(
            CloudError, match=r"looking up your user name \(not needed if the config sets OWNER\): ExpiredToken"
        ):
            resolve_owner(of(), sts)


def test_what_has_no_run_or_owner_has_no_such_tag() -> None:
    assert build_tags(of()) == {"app": "Tryout"}
    assert len(build_tags(of(), owner="x" * 300)["owner"]) == 256  # AWS: characters of a tag's value
