"""The request built from a Fleet file and a config: types and subnets, launch templates, limits, tags, and problems."""

from __future__ import annotations

import base64
import copy
import json
import re
import subprocess
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
from distributed_something.core.monitor_file import parse_run_start
from distributed_something.core.tags import build_tags
from distributed_something.fleet.fleet_file import check_fleet_file, load_fleet_file
from distributed_something.fleet.launch_plan import LaunchPlan, build_launch_plan
from distributed_something.fleet.launch_specs import build_launch_specs
from distributed_something.fleet.launch_template import create_run_template, find_template_fault, load_template_data
from distributed_something.fleet.request import build_fleet_request
from distributed_something.fleet.user_data import (
    MAX_USER_DATA_BYTES,
    UserDataError,
    build_ecs_config_lines,
    build_user_data,
    extend_user_data,
)
from tests.support.fakes import FakeTime
from tests.support.offline import CONFIG, block_requests, run_command, write_project

NOW = datetime(2026, 11, 23, 10, 45, tzinfo=UTC)
RUN = "20261123T104500Z"
PATH = Path("fleet.json")
ROLE = "arn:aws:iam::111122223333:role/aws-ec2-spot-fleet-tagging-role"
TYPES = ["m5.large", "m5a.large"]
RUN_TAGS = {"app": "Tryout", "run": RUN, "owner": "alice"}
TAG_LIST = [{"Key": key, "Value": value} for key, value in RUN_TAGS.items()]
MACHINE_TAGS = [{"Key": "Name", "Value": "TryoutWorker"}, *TAG_LIST]


def build_settings(**constants: object) -> Settings:
    return Settings.model_validate(CONFIG | constants)


def build_client(service: str = "ec2") -> Any:
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.client(service, region_name="us-east-1", **keys)  # type: ignore[call-overload]


@cache
def cached_client() -> Any:
    """Return a client that is used only for botocore's model of EC2."""
    return build_client()


def build_file(*specifications: object, **keys: Any) -> dict[str, Any]:
    return {"IamFleetRole": ROLE, "LaunchSpecifications": list(specifications), **keys}


def build_template_file(*overrides: dict[str, Any], **specification: str) -> dict[str, Any]:
    template = specification or {"LaunchTemplateName": "lab"}
    return {
        "IamFleetRole": ROLE,
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": template, "Overrides": list(overrides)}],
    }


def build_specification(subnets: str) -> dict[str, Any]:
    return {"ImageId": "ami-1", "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": subnets, "Groups": ["sg-1"]}]}


def build_plan(content: dict[str, Any], template: dict[str, Any] | None = None, **constants: object) -> LaunchPlan:
    return build_launch_plan(cached_client(), build_settings(**constants), content, RUN_TAGS, template)


def build_request(content: dict[str, Any], **constants: object) -> dict[str, Any]:
    return build_fleet_request(build_settings(**constants), content, build_plan(content, **constants), NOW)


def check_content(content: dict[str, Any], tmp_path: Path, **constants: object) -> None:
    """Write a Fleet file with this content, and load and check it as startCluster does. No request is sent."""
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(content))
    settings = build_settings(**constants)
    with block_requests():
        check_fleet_file(build_client(), settings, load_fleet_file(path, settings=settings), path)


def build_contents(content: dict[str, Any], **constants: object) -> list[dict[str, Any]]:
    """Return the LaunchTemplateData of each version of the run's launch template."""
    return [version.data for version in build_plan(content, **constants).versions]


def list_pools(request: dict[str, Any]) -> list[tuple[str, str]]:
    overrides = [override for config in request["LaunchTemplateConfigs"] for override in config["Overrides"]]
    return [(override["InstanceType"], override.get("SubnetId", "")) for override in overrides]


def encode_script(script: str) -> str:
    return base64.b64encode(script.encode()).decode()


# Types and subnets


def test_one_specification_is_combined_with_every_type_and_every_subnet(tmp_path: Path) -> None:
    content = build_file(build_specification("subnet-a, subnet-b"))
    check_content(content, tmp_path, MACHINE_TYPE=TYPES)
    expected = [(name, subnet) for name in TYPES for subnet in ("subnet-a", "subnet-b")]
    assert list_pools(build_request(content, MACHINE_TYPE=TYPES)) == expected


def test_as_many_specifications_as_types_are_paired_as_in_the_published_system(tmp_path: Path) -> None:
    content = build_file(build_specification("subnet-a"), build_specification("subnet-b,subnet-c"))
    check_content(content, tmp_path, MACHINE_TYPE=TYPES)
    expected = [("m5.large", "subnet-a"), ("m5a.large", "subnet-b"), ("m5a.large", "subnet-c")]
    assert list_pools(build_request(content, MACHINE_TYPE=TYPES)) == expected


@pytest.mark.parametrize(("count", "types"), [(2, 1), (2, 3), (3, 2)])
def test_any_other_number_of_specifications_is_rejected(tmp_path: Path, count: int, types: int) -> None:
    content = build_file(*[build_specification("subnet-a")] * count)
    with pytest.raises(
        InputError, match=f"{count} launch specifications do not match {types} MACHINE_TYPE in the config; write"
    ):
        check_content(content, tmp_path, MACHINE_TYPE=["m5.large", "m5a.large", "m6i.large"][:types])


def test_a_type_or_subnet_that_is_listed_twice_is_requested_once() -> None:
    """EC2 rejects a request with the same pool twice."""
    content = build_file(build_specification("subnet-a,subnet-a"))
    assert list_pools(build_request(content, MACHINE_TYPE=["m5.large", "m5.large"])) == [("m5.large", "subnet-a")]


def test_without_a_subnet_in_the_file_ec2_chooses_one() -> None:
    assert list_pools(build_request(build_file({"ImageId": "ami-1"}))) == [("m5.large", "")]


def test_zones_are_combined_like_subnets_if_no_subnet_is_listed() -> None:
    content = build_file({"Placement": {"AvailabilityZone": "us-east-1a, us-east-1b", "Tenancy": "dedicated"}})
    (config,) = build_request(content)["LaunchTemplateConfigs"]
    places = [{"InstanceType": "m5.large", "AvailabilityZone": f"us-east-1{end}"} for end in "ab"]
    assert config["Overrides"] == places
    assert build_contents(content)[0]["Placement"] == {"Tenancy": "dedicated"}


def test_only_interfaces_in_another_subnet_keep_their_subnet() -> None:
    interfaces = [{"DeviceIndex": n, "SubnetId": f"subnet-{end}"} for n, end in enumerate("aab")]
    (template,) = build_contents(build_file({"NetworkInterfaces": interfaces}))
    assert [interface.get("SubnetId") for interface in template["NetworkInterfaces"]] == [None, None, "subnet-b"]


def test_more_pools_than_ec2_accepts_are_rejected(tmp_path: Path) -> None:
    subnets = ",".join(f"subnet-{number}" for number in range(101))
    for content in (build_file(build_specification(subnets)), build_template_file({"SubnetId": subnets})):
        check_content(content, tmp_path, MACHINE_TYPE=TYPES)
        with pytest.raises(InputError, match=r"MACHINE_TYPE: 303 combinations .* exceed EC2's limit \(300\)"):
            check_content(content, tmp_path, MACHINE_TYPE=[*TYPES, "m6i.large"])


@pytest.mark.parametrize("public", [True, False])
def test_a_subnet_without_an_interface_gets_one_with_or_without_a_public_address(tmp_path: Path, public: bool) -> None:
    content = build_file({"ImageId": "ami-1", "SubnetId": "subnet-a,subnet-b", "SecurityGroups": [{"GroupId": "sg-1"}]})
    check_content(content, tmp_path)
    assert list_pools(build_request(content)) == [("m5.large", "subnet-a"), ("m5.large", "subnet-b")]
    (template,) = build_contents(content, ASSIGN_IP=str(public))
    # EC2 rejects these keys together with an interface.
    assert template.keys().isdisjoint({"SubnetId", "SecurityGroups", "SecurityGroupIds"})
    assert template["NetworkInterfaces"] == [
        {"DeviceIndex": 0, "DeleteOnTermination": True, "Groups": ["sg-1"], "AssociatePublicIpAddress": public}
    ]


def test_several_interfaces_are_accepted_without_a_public_address(tmp_path: Path) -> None:
    check_content(
        build_file({"NetworkInterfaces": [{"DeviceIndex": 0}, {"DeviceIndex": 1}]}), tmp_path, ASSIGN_IP="False"
    )


# Several specifications


def test_specifications_with_equal_content_share_one_version_of_the_template() -> None:
    content = build_file(
        build_specification("subnet-a"), build_specification("subnet-b"), build_specification("subnet-a")
    )
    (config,) = build_request(content, MACHINE_TYPE=[*TYPES, "m5.large"])["LaunchTemplateConfigs"]
    pools = [("m5.large", "subnet-a"), ("m5a.large", "subnet-b")]  # EC2 rejects duplicates
    assert config["Overrides"] == [{"InstanceType": name, "SubnetId": subnet} for name, subnet in pools]


def test_each_different_specification_gets_a_version_with_its_own_overrides(tmp_path: Path) -> None:
    content = build_file(
        build_specification("subnet-a"),
        build_specification("subnet-a") | {"ImageId": "ami-2"},
        build_specification("subnet-b"),
    )
    types = [*TYPES, "m6i.large"]
    check_content(content, tmp_path, MACHINE_TYPE=types)
    configs = build_request(content, MACHINE_TYPE=types)["LaunchTemplateConfigs"]
    assert [config["LaunchTemplateSpecification"] for config in configs] == [
        {"LaunchTemplateName": f"Tryout-{RUN}", "Version": version} for version in "12"
    ]
    assert [[override["InstanceType"] for override in config["Overrides"]] for config in configs] == [
        ["m5.large", "m6i.large"], ["m5a.large"],
    ]  # fmt: skip
    assert [template["ImageId"] for template in build_contents(content, MACHINE_TYPE=types)] == ["ami-1", "ami-2"]


@given(st.lists(st.tuples(*(st.sampled_from(values) for values in (["a", "b"], TYPES, ["s,t", "t", ""]))), min_size=1))
def test_each_specification_is_used_for_its_own_type_and_subnets(rows: list[Any]) -> None:
    specifications = [{"ImageId": image, "SubnetId": subnets} for image, _, subnets in rows]
    types = [name for _, name, _ in rows]
    specs = build_launch_specs(build_settings(MACHINE_TYPE=types), build_file(*specifications))
    pairs = [(spec.content or {}, override) for spec in specs for override in spec.overrides]
    pools = [
        (content["ImageId"], override["InstanceType"], override.get("SubnetId", "")) for content, override in pairs
    ]
    assert len(pools) == len(set(pools))
    assert set(pools) == {(image, name, subnet) for image, name, subnets in rows for subnet in subnets.split(",")}
    assert len({content["ImageId"] for content, _ in pairs}) == len(specs)


def test_more_versions_than_ec2_accepts_are_rejected(tmp_path: Path) -> None:
    content = build_file(*({"ImageId": f"ami-{number}"} for number in range(51)))
    types = [f"m5.{number}xlarge" for number in range(51)]
    with pytest.raises(InputError, match=r"LaunchSpecifications: 51 that differ .* exceed EC2's limit \(50\)"):
        check_content(content, tmp_path, MACHINE_TYPE=types)


# Every key in a specification is used

TEMPLATE_KEYS: dict[str, Any] = {
    "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"Iops": 3000}}, {"DeviceName": "b", "NoDevice": ""}],
    "EbsOptimized": True,
    "IamInstanceProfile": {"Arn": "arn:aws:iam::111122223333:instance-profile/ecsInstanceRole"},
    "ImageId": "ami-1",
    "KernelId": "aki-1",
    "KeyName": "my-key",
    "Monitoring": {"Enabled": True},
    "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-1"], "Description": "lab"}],
    "Placement": {"Tenancy": "dedicated", "GroupName": "near"},
    "RamdiskId": "ari-1",
}
OVERRIDE_KEYS: dict[str, Any] = {"InstanceType": "m5.large", "SubnetId": "subnet-a"}
CONFIG_KEYS = {
    "InstanceType": "x1.large",
    "SpotPrice": "9.99",
    "UserData": encode_script("from file"),
    "WeightedCapacity": 1,
}
# The other keys that EC2 accepts in a specification. Each is tested separately below.
OTHER_KEYS = {"AddressingType", "InstanceRequirements", "SecurityGroups", "TagSpecifications"}


def test_every_key_in_a_specification_is_tested() -> None:
    shape = build_client().meta.service_model.shape_for("SpotFleetLaunchSpecification")
    assert shape.members.keys() == TEMPLATE_KEYS.keys() | OVERRIDE_KEYS.keys() | CONFIG_KEYS.keys() | OTHER_KEYS


def test_all_keys_in_a_specification_are_copied_to_the_template_or_its_overrides(tmp_path: Path) -> None:
    content = build_file(TEMPLATE_KEYS | OVERRIDE_KEYS | CONFIG_KEYS | {"SubnetId": ""})
    content["LaunchSpecifications"][0]["NetworkInterfaces"] = [
        TEMPLATE_KEYS["NetworkInterfaces"][0] | {"SubnetId": "subnet-a"}
    ]
    check_content(content, tmp_path)
    disk = {"Iops": 3000, "DeleteOnTermination": True, "VolumeSize": 30}
    (template,) = build_contents(content)
    assert build_request(content)["LaunchTemplateConfigs"][0]["Overrides"] == [OVERRIDE_KEYS]
    assert {key: value for key, value in template.items() if key not in ("MetadataOptions", "TagSpecifications")} == {
        **{key: value for key, value in TEMPLATE_KEYS.items() if key != "RamdiskId"},
        "RamDiskId": "ari-1",
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": disk}, TEMPLATE_KEYS["BlockDeviceMappings"][1]],
        "NetworkInterfaces": [TEMPLATE_KEYS["NetworkInterfaces"][0] | {"AssociatePublicIpAddress": True}],
        "UserData": build_user_data(build_settings()),
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("AddressingType", "public"),
        ("BlockDeviceMappings[0].Ebs.OutpostArn", "arn:outpost"),
        ("NetworkInterfaces[0].Ipv6Addresses[0].IsPrimaryIpv6", True),
    ],
)
def test_a_key_that_launch_templates_do_not_have_is_rejected(tmp_path: Path, key: str, value: object) -> None:
    content: Any = value
    for name in reversed(key.split(".")):
        content = {name.removesuffix("[0]"): [content] if name.endswith("[0]") else content}
    with pytest.raises(InputError, match="launch templates do not have this key; remove it") as caught:
        check_content(build_file(content), tmp_path)
    assert f": LaunchSpecifications[0].{key}: " in str(caught.value)


# Settings for every machine


def test_without_disks_in_the_file_the_images_disk_gets_the_size_in_the_config() -> None:
    (template,) = build_contents(build_file({"ImageId": "ami-1"}), EBS_VOL_SIZE=77)
    disk = {"VolumeType": "gp3", "DeleteOnTermination": True, "VolumeSize": 77}
    assert template["BlockDeviceMappings"] == [{"DeviceName": "/dev/xvda", "Ebs": disk}]


def test_disks_are_deleted_with_their_machine_unless_the_file_says_otherwise() -> None:
    disks = [{"Ebs": {}}, {"Ebs": {"DeleteOnTermination": False}}, {"Ebs": {}}]
    (template,) = build_contents(build_file({"BlockDeviceMappings": disks}))
    assert [disk["Ebs"]["DeleteOnTermination"] for disk in template["BlockDeviceMappings"]] == [True, False, True]


@pytest.mark.parametrize("is_deleted", [True, False])
def test_if_a_disk_is_kept_the_machines_volumes_get_a_tag_for_cleanup(is_deleted: bool) -> None:
    disks = [
        {"DeviceName": "/dev/xvda", "Ebs": {}},
        {"DeviceName": "/dev/xvdb", "Ebs": {"DeleteOnTermination": is_deleted}},
    ]
    (template,) = build_contents(build_file({"BlockDeviceMappings": disks}))
    tags = {item["ResourceType"]: item["Tags"] for item in template["TagSpecifications"]}
    keep_tag = [{"Key": "keep", "Value": "DeleteOnTermination is false"}]
    assert tags["volume"] == MACHINE_TAGS + ([] if is_deleted else keep_tag)
    assert tags["instance"] == MACHINE_TAGS


def test_machines_volumes_and_the_fleet_get_app_run_and_owner_tags_in_addition_to_the_files_tags(
    tmp_path: Path,
) -> None:
    own = {"Key": "grant", "Value": "R01"}
    machine = {"TagSpecifications": [{"ResourceType": "instance", "Tags": [own, {"Key": "app", "Value": "x"}]}]}
    fleet = [{"ResourceType": "spot-fleet-request", "Tags": [own]}]
    content = build_file(machine, TagSpecifications=fleet)
    check_content(content, tmp_path)
    request = build_request(content)
    assert request["TagSpecifications"] == [{"ResourceType": "spot-fleet-request", "Tags": [own, *TAG_LIST]}]
    (template,) = build_contents(content)
    tags = {item["ResourceType"]: item["Tags"] for item in template["TagSpecifications"]}
    expected = RUN_TAGS | {"Name": "TryoutWorker"}
    assert {tag["Key"]: tag["Value"] for tag in tags["instance"]} == expected | {"grant": "R01"}
    assert {tag["Key"]: tag["Value"] for tag in tags["volume"]} == expected


def test_the_price_in_the_config_replaces_the_price_in_the_file() -> None:
    request = build_request(build_file({"SpotPrice": "9.99"}), MACHINE_PRICE=0.123456)
    assert request["SpotPrice"] == "0.123456"
    assert "SpotPrice" not in request["LaunchTemplateConfigs"][0]["Overrides"][0]


def test_the_fleet_and_its_machines_end_after_the_hours_in_the_config() -> None:
    request = build_request(build_file({}, TerminateInstancesWithExpiration=False), MAX_RUN_HOURS=1.5)
    assert request["ValidUntil"] == NOW + timedelta(minutes=90)
    assert request["TerminateInstancesWithExpiration"] is True


# Values that EC2 would reject are rejected before anything is sent


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            build_file({}, AllocationStrategy="cheapest"),
            r"AllocationStrategy: AWS does not accept 'cheapest'; write one of lowestP",
        ),
        (build_file({}, Type="maintained"), r"Type: AWS does not accept 'maintained'; write one of request, maintain"),
        (build_file({}, Type="instant"), "Type: the monitor cannot scale a fleet of type 'instant'"),
        (build_file({}, Type="request"), "cannot scale a fleet of type 'request'; write 'maintain', or remove"),
        (build_file({}, InstanceInterruptionBehavior="end"), "InstanceInterruptionBehavior: AWS does not accept 'end'"),
        (
            build_file({"BlockDeviceMappings": [{"Ebs": {"VolumeType": "gp9"}}]}),
            r"LaunchSpecifications\[0\]\.BlockDeviceMappings\[0\]\.Ebs\.VolumeType: AWS does not accept 'gp9'; write",
        ),
        (
            build_file({}, TagSpecifications=[{"ResourceType": "volume"}]),
            r" TagSpecifications\[0\]\.ResourceType: EC2 does not tag 'volume' here; write 'spot-fleet-request'",
        ),
        (
            build_file({"TagSpecifications": [{"ResourceType": "vpc"}]}),
            r"LaunchSpecifications\[0\]\.TagSpecifications\[0\]\.ResourceType: EC2 .* 'vpc' .* 'instance' or 'volume'",
        ),
        (
            build_file({"TagSpecifications": [{}]}),
            r"LaunchSpecifications\[0\]\.TagSpecifications\[0\]\.ResourceType: this key is missing; write 'instance'",
        ),
        (
            build_file({"InstanceRequirements": {"VCpuCount": {"Min": 2}, "MemoryMiB": {"Min": 1}}}),
            r"LaunchSpecifications\[0\]\.InstanceRequirements: MACHINE_TYPE in the config determines this; remove this",
        ),
        (
            build_file(build_specification("subnet-a") | {"SubnetId": "subnet-b"}),
            r"LaunchSpecifications\[0\]\.SubnetId: EC2 does not accept it together with NetworkInterfaces; move it",
        ),
        (
            build_file({"SecurityGroups": [{"GroupName": "lab"}]}),
            r"LaunchSpecifications\[0\]\.SecurityGroups\[0\]: the group has no GroupId; write",
        ),
        (
            build_file({}) | build_template_file(),
            "LaunchSpecifications: EC2 does not accept it together with LaunchTemplateConfigs; remove one",
        ),
        (
            build_file({"WeightedCapacity": 4.0}),
            r"LaunchSpecifications\[0\]\.WeightedCapacity: 4.0 is not 1, but CLUSTER_MACHINES counts .*; remove",
        ),
        (
            build_file({"NetworkInterfaces": [{"DeviceIndex": 0}, {"DeviceIndex": 1}]}),
            r"LaunchSpecifications\[0\]\.NetworkInterfaces: .* \(ASSIGN_IP\) .* several .*; keep one, or set",
        ),
        (
            build_file({"NetworkInterfaces": [{"DeviceIndex": 0, "NetworkInterfaceId": "eni-1"}]}),
            r"NetworkInterfaces: an existing network interface works for only one .*; remove NetworkInterfaceId",
        ),
        (
            build_template_file({"WeightedCapacity": 2}),
            r"Overrides\[0\]\.WeightedCapacity: 2 is not 1, but CLUSTER_MACHINES counts .*; remove this key",
        ),
        (
            build_template_file(LaunchTemplateId="lt-1", LaunchTemplateName="lab"),
            "EC2 needs either the template's ID or its name, but not both; write either",
        ),
        (
            build_template_file(Version="3"),
            "EC2 needs either the template's ID or its name, but not both; write either",
        ),
        (build_template_file(LaunchTemplateName="FILL_IN"), "'FILL_IN' is a placeholder; replace it"),
    ],
)
def test_one_problem_is_reported_in_one_line(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    (line,) = find_problems(content, tmp_path)
    assert re.search(message, line)


def find_problems(content: dict[str, Any], tmp_path: Path, **constants: object) -> list[str]:
    """Return the lines of startCluster's error for a Fleet file with this content."""
    with pytest.raises(InputError) as caught:
        check_content(content, tmp_path, **constants)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_all_problems_in_a_file_with_an_invalid_structure_are_reported_together(tmp_path: Path) -> None:
    content = build_file(
        "ami-1",
        build_specification("subnet-FILL_IN") | {"SubnetId": 7, "NetworkInterfaces": "eni-1", "Color": "red"},
        {"BlockDeviceMappings": [{"Ebs": 30}], "SecurityGroups": [{}], "TagSpecifications": [{"Tags": "x"}]},
        {"ImageId": "ami-XXXXXXXX", "KeyName": 5},
        IamFleetRole=None,
        Type="forever",
    )
    lines = find_problems(content, tmp_path, ON_DEMAND_MACHINES=3)
    assert [line.removeprefix("fleet.json: ").partition("; ")[0] for line in lines] == [
        "LaunchSpecifications[0]: 'ami-1' is not an object",
        "LaunchSpecifications[1].NetworkInterfaces: 'eni-1' is not a list of objects",
        "LaunchSpecifications[1].SubnetId: 7 is not a string",
        "LaunchSpecifications[2].BlockDeviceMappings[0].Ebs: 30 is not an object",
        "LaunchSpecifications[2].TagSpecifications[0].Tags: 'x' is not a list of objects",
        "LaunchSpecifications[2].SecurityGroups[0]: the group has no GroupId",
        "IamFleetRole: this key is missing",
        "LaunchSpecifications[3].ImageId: 'ami-XXXXXXXX' is a placeholder",
        "LaunchSpecifications: 4 launch specifications do not match 1 MACHINE_TYPE in the config",
        "ON_DEMAND_MACHINES: 3 is more than CLUSTER_MACHINES (2), which includes on-demand machines",
        "LaunchSpecifications[1].Color: AWS does not recognize this key",
        "LaunchSpecifications[3].KeyName: 5 is not a string",
        "Type: AWS does not accept 'forever'",
    ]


def test_all_problems_in_a_file_with_a_valid_structure_are_reported_together(tmp_path: Path) -> None:
    content = build_file(
        {"ImageId": "ami-FILL_IN", "WeightedCapacity": 2, "AddressingType": "public"},
        {
            "KeyName": "your-key",
            "TagSpecifications": [{"ResourceType": "vpc"}],
            "InstanceRequirements": {"VCpuCount": {"Min": 2}},
        },
        Type="instant",
        TagSpecifications=[{"ResourceType": "spot-fleet-request"}, {"ResourceType": "volume"}],
    )
    lines = find_problems(content, tmp_path, ON_DEMAND_MACHINES=3)
    assert [line.removeprefix("fleet.json: ").split(": ")[0] for line in lines] == [
        "LaunchSpecifications[0].ImageId",
        "LaunchSpecifications[1].KeyName",
        "LaunchSpecifications",
        "ON_DEMAND_MACHINES",
        "Type",
        "TagSpecifications[1].ResourceType",
        "LaunchSpecifications[0].WeightedCapacity",
        "LaunchSpecifications[0].AddressingType",
        "LaunchSpecifications[1].TagSpecifications[0].ResourceType",
        "LaunchSpecifications[1].InstanceRequirements",
    ]


def test_all_problems_in_a_launch_template_are_reported_together(tmp_path: Path) -> None:
    content = build_template_file({"WeightedCapacity": 2, "SubnetId": 7}, {"Priority": 1}, Version="3")
    lines = find_problems(content, tmp_path)
    assert [line.removeprefix("fleet.json: LaunchTemplateConfigs[0].").split(": ")[0] for line in lines] == [
        "LaunchTemplateSpecification",
        "Overrides[0].WeightedCapacity",
        "Overrides[0].SubnetId",
        "Overrides[1].Priority",
    ]


def test_placeholders_are_not_reported_if_the_local_cloud_replaces_them(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(build_file({"ImageId": "ami-FILL_IN"}, 7)))
    with pytest.raises(InputError) as caught:
        load_fleet_file(path, settings=build_settings(MACHINE_TYPE=TYPES), is_local=True)
    assert [problem.key for problem in caught.value.problems] == ["LaunchSpecifications[1]"]


def test_the_local_cloud_refuses_a_value_of_a_wrong_type_although_it_would_replace_it(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(build_file({"ImageId": 5}, {"ImageId": "ami-FILL_IN"})))
    with pytest.raises(InputError) as caught:
        load_fleet_file(path, settings=build_settings(MACHINE_TYPE=TYPES), is_local=True)
    assert [(problem.key, problem.problem) for problem in caught.value.problems] == [
        ("LaunchSpecifications[0].ImageId", "5 is not a string")
    ]


def test_start_cluster_reports_all_problems_with_one_line_each_and_exit_code_2(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project")
    path = folder / "files" / "fleet.json"
    path.write_text(json.dumps(build_file({"ImageId": "ami-FILL_IN", "Color": 1}, IamFleetRole="FILL_IN")))
    with block_requests():
        outcome = run_command("--project", str(folder), "startCluster", str(path))
    assert (outcome.code, outcome.out) == (2, "")
    assert [line.split(": ")[2] for line in outcome.err.splitlines()] == [
        "IamFleetRole",
        "LaunchSpecifications[0].ImageId",
        "LaunchSpecifications[0].Color",
    ]


# Launch templates


def test_a_template_gets_every_type_in_every_subnet_as_overrides(tmp_path: Path) -> None:
    content = build_template_file(
        {"SubnetId": "subnet-a"}, {"SubnetId": "subnet-b,subnet-a", "InstanceType": "x1.large"}
    )
    check_content(content, tmp_path, MACHINE_TYPE=TYPES)
    (config,) = build_request(content, MACHINE_TYPE=TYPES)["LaunchTemplateConfigs"]
    assert config == {
        "LaunchTemplateSpecification": {"LaunchTemplateName": f"Tryout-{RUN}", "Version": "1"},
        "Overrides": [{"InstanceType": name, "SubnetId": f"subnet-{end}"} for name in TYPES for end in "ab"],
    }


@pytest.mark.parametrize("content", [build_template_file(), build_file({})], ids=["template", "specification"])
def test_on_demand_machines_count_toward_all_machines(tmp_path: Path, content: dict[str, Any]) -> None:
    check_content(content, tmp_path, ON_DEMAND_MACHINES=2)
    request = build_request(content, ON_DEMAND_MACHINES=2)
    assert (request["TargetCapacity"], request["OnDemandTargetCapacity"]) == (2, 2)
    assert "OnDemandTargetCapacity" not in build_request(content)
    with pytest.raises(InputError, match=r"ON_DEMAND_MACHINES: 3 is more than CLUSTER_MACHINES \(2\)"):
        check_content(content, tmp_path, ON_DEMAND_MACHINES=3)


TEMPLATE: dict[str, Any] = {
    "ImageId": "ami-1",
    "InstanceType": "t3.micro",
    "InstanceMarketOptions": {"MarketType": "spot"},
    "DisableApiTermination": True,
    "DisableApiStop": True,
    "SecurityGroupIds": ["sg-1"],
    "UserData": encode_script("#!/bin/bash\nyum -y install htop"),
    "MetadataOptions": {"State": "applied", "HttpTokens": "optional"},
    "TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "grant", "Value": "R01"}]}],
    "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 200, "VolumeType": "gp3"}}],
    "LicenseSpecifications": [],
}


def test_the_runs_template_keeps_the_content_of_the_files_template_and_makes_machines_join_the_cluster() -> None:
    script = "#!/bin/bash\nyum -y install htop\n" + build_ecs_config_lines(build_settings())
    data = {
        "ImageId": "ami-1",
        "UserData": encode_script(script),
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "TagSpecifications": [
            {"ResourceType": "volume", "Tags": [{"Key": "grant", "Value": "R01"}, *MACHINE_TAGS]},
            {"ResourceType": "instance", "Tags": MACHINE_TAGS},
        ],
        "BlockDeviceMappings": TEMPLATE["BlockDeviceMappings"],
        "NetworkInterfaces": [
            {"DeviceIndex": 0, "DeleteOnTermination": True, "Groups": ["sg-1"], "AssociatePublicIpAddress": True}
        ],
    }
    with stub_template(data) as ec2:
        create_template(ec2, build_plan(build_template_file({"SubnetId": "subnet-a"}), copy.deepcopy(TEMPLATE)))


@contextmanager
def stub_template(data: Any = ANY) -> Iterator[Any]:
    """Yield an EC2 client that expects and accepts one request to create the run's template with this content."""
    ec2, name = build_client(), f"Tryout-{RUN}"
    with Stubber(ec2) as stub:
        tags = [{"ResourceType": "launch-template", "Tags": TAG_LIST}]
        expected = {
            "LaunchTemplateName": name,
            "ClientToken": name,
            "LaunchTemplateData": data,
            "TagSpecifications": tags,
        }
        stub.add_response("create_launch_template", {"LaunchTemplate": {"LaunchTemplateId": "lt-run"}}, expected)
        ec2.stub = stub
        yield ec2
        stub.assert_no_pending_responses()


def create_template(ec2: Any, plan: LaunchPlan, error: Exception | None = None, time: FakeTime | None = None) -> None:
    """Create the run's template. `error`: the error that the subsequent fleet request raises."""
    with create_run_template(ec2, plan, (time or FakeTime()).sleep):
        if error is not None:
            raise error


TWO_VERSIONS = build_plan(build_file({"ImageId": "ami-1"}, {"ImageId": "ami-2"}), MACHINE_TYPE=TYPES)
VERSION = {"LaunchTemplateId": "lt-run", "ClientToken": f"Tryout-{RUN}-2", "LaunchTemplateData": ANY}
NOT_FOUND = ("create_launch_template_version", "InvalidLaunchTemplateId.NotFound")


def test_more_versions_are_created_once_the_template_is_visible_in_ec2() -> None:
    time = FakeTime()
    with stub_template() as ec2:
        ec2.stub.add_client_error(*NOT_FOUND, expected_params=VERSION)
        ec2.stub.add_response("create_launch_template_version", {"LaunchTemplateVersion": {}}, VERSION)
        create_template(ec2, TWO_VERSIONS, time=time)
    assert time.slept == [1.0]


ROWS = st.lists(st.tuples(*map(st.sampled_from, ("abc", "xyz", "12"))), min_size=1, max_size=6)


@given(ROWS)
def test_each_version_in_the_request_is_created_from_its_own_specification(
    rows: list[tuple[str, str, str]],
) -> None:
    specifications = [{"ImageId": f"ami-{image}", "KeyName": key, "SubnetId": subnet} for image, key, subnet in rows]
    types = [f"m5.{number}xlarge" for number in range(len(rows))]  # each type belongs to one specification
    content = build_file(*specifications)
    plan = build_plan(content, MACHINE_TYPE=types)
    created = create_versions(plan)
    for config in build_fleet_request(build_settings(MACHINE_TYPE=types), content, plan, NOW)["LaunchTemplateConfigs"]:
        data = created[config["LaunchTemplateSpecification"]["Version"]]
        for override in config["Overrides"]:
            specification = specifications[types.index(override["InstanceType"])]
            assert (data["ImageId"], data["KeyName"], override["SubnetId"]) == tuple(specification.values())


def create_versions(plan: LaunchPlan) -> dict[str, Any]:
    """Create the plan's template, and return the content of each version, keyed by the number that EC2 assigns."""
    created: list[Any] = []

    class FakeEc2:
        def create_launch_template(self, **request: Any) -> Any:
            created.append(request["LaunchTemplateData"])
            return {"LaunchTemplate": {"LaunchTemplateId": "lt-run"}}

        def create_launch_template_version(self, **request: Any) -> None:
            created.append(request["LaunchTemplateData"])

    ec2: Any = FakeEc2()
    create_template(ec2, plan)
    return {str(number): data for number, data in enumerate(created, 1)}


def test_the_template_is_deleted_if_a_version_is_rejected() -> None:
    with stub_template() as ec2:
        ec2.stub.add_client_error("create_launch_template_version", "VcpuLimitExceeded", expected_params=VERSION)
        ec2.stub.add_response("delete_launch_template", {}, {"LaunchTemplateId": "lt-run"})
        with pytest.raises(CloudError, match=f"creating version 2 of the launch template Tryout-{RUN}: VcpuLimitExc"):
            create_template(ec2, TWO_VERSIONS)


def test_the_template_is_kept_if_the_response_to_the_fleet_request_is_lost() -> None:
    lost = CloudError("while requesting the spot fleet: ReadTimeoutError")
    lost.__cause__ = ReadTimeoutError(endpoint_url="https://ec2")
    with stub_template() as ec2, pytest.raises(CloudError):
        create_template(ec2, build_plan(build_file({"ImageId": "ami-1"})), lost)


def test_the_subnets_in_the_file_replace_the_subnet_in_the_template() -> None:
    content = {"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-t"}]}
    only_types = [{"InstanceType": "m5.large"}, {"InstanceType": "m5a.large"}]
    subnet = {"SubnetId": "subnet-t"}
    for overrides, expected in (([{"SubnetId": "subnet-a"}], {}), ([], subnet), (only_types, subnet)):
        (spec,) = build_launch_specs(build_settings(), build_template_file(*overrides), content)
        assert spec.content == {"NetworkInterfaces": [{"DeviceIndex": 0, **expected}]}


def load_template(*versions: dict[str, Any]) -> dict[str, Any] | None:
    ec2 = build_client()
    with Stubber(ec2) as stub:
        response = {"LaunchTemplateVersions": [{"LaunchTemplateData": content} for content in versions]}
        expected = {"LaunchTemplateName": "lab", "Versions": ["7"]}
        stub.add_response("describe_launch_template_versions", response, expected)
        return load_template_data(
            ec2, build_settings(), build_template_file(LaunchTemplateName="lab", Version="7"), PATH
        )


def test_the_template_version_that_the_file_specifies_is_read() -> None:
    assert load_template({"ImageId": "ami-7"}) == {"ImageId": "ami-7"}


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ([], "there is no launch template lab version 7; specify one that exists in this region"),
        (
            [{"UserData": encode_script("MIME-Version: 1.0\n")}],
            "its user data is not a shell script; begin it with #!/",
        ),
        ([{"UserData": "~"}], "its user data is not base64 of UTF-8 text; use a script"),
        (
            [{"UserData": encode_script("#!/bin/sh\n" + "x" * 16_300)}],
            "its user data has 16,310 bytes; shorten it to 16,",
        ),
        ([{"NetworkInterfaces": [{"NetworkInterfaceId": "eni-1"}]}], "lab version 7: .* remove NetworkInterfaceId"),
        ([{"NetworkInterfaces": [{"DeviceIndex": 0}, {"DeviceIndex": 1}]}], "lab version 7: .*; keep one, or set"),
        ([{"SecurityGroups": ["lab"]}], "lists security groups by name, .*; list them by ID in the template"),
    ],
)
def test_a_template_that_cannot_be_used_is_rejected(versions: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_template(*versions)


def test_no_template_is_read_if_the_file_names_none() -> None:
    assert load_template_data(build_client(), build_settings(), build_file({}), PATH) is None


# A machine's user data


def test_the_user_data_makes_a_machine_join_its_cluster_with_the_app_as_attribute() -> None:
    script = base64.b64decode(build_user_data(build_settings(ECS_CLUSTER="other"))).decode()
    assert script.splitlines() == [
        "#!/bin/bash",
        "cat >> /etc/ecs/ecs.config <<'EOF'",
        "ECS_CLUSTER=other",
        'ECS_INSTANCE_ATTRIBUTES={"app":"Tryout"}',
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true",
        "ECS_CONTAINER_STOP_TIMEOUT=110s",
        "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=10m",
        "EOF",
    ]


def test_the_agent_of_a_machine_supports_gpus_only_if_containers_use_them() -> None:
    line = "ECS_ENABLE_GPU_SUPPORT=true"
    for gpus in (0, 1):
        script = base64.b64decode(build_user_data(build_settings(GPUS=gpus))).decode()
        assert (line in script.splitlines()) is (gpus > 0)


@pytest.mark.parametrize(
    ("user_data", "problem", "remedy"),
    [
        (
            encode_script("#cloud-config\n"),
            "its user data is not a shell script",
            "begin it with #!/bin/bash, or remove it",
        ),
        ("%", "its user data is not base64 of UTF-8 text", "use a script that begins with #!/bin/bash"),
        (encode_script("#!/bin/sh\n" + "x" * 17_000), "its user data has 17,010 bytes", "shorten it to 16,"),
    ],
)
def test_user_data_that_cannot_be_extended_is_rejected(user_data: str, problem: str, remedy: str) -> None:
    with pytest.raises(UserDataError) as caught:
        extend_user_data(build_settings(), user_data)
    assert caught.value.problem == problem
    assert caught.value.remedy.startswith(remedy)


def test_the_runs_cluster_overrides_the_templates_cluster() -> None:
    user_data = encode_script("#!/bin/bash\necho ECS_CLUSTER=lab >> /etc/ecs/ecs.config")
    script = base64.b64decode(extend_user_data(build_settings(ECS_CLUSTER="other"), user_data)).decode()
    assert script.index("ECS_CLUSTER=lab") < script.index("ECS_CLUSTER=other")  # the last line takes effect


# The owner tag


@pytest.mark.parametrize(
    ("arn", "owner"),
    [
        ("arn:aws:iam::111122223333:user/lab/alice", "alice"),
        ("arn:aws:sts::111122223333:assumed-role/Scientist/bob@lab.org", "bob@lab.org"),
        ("arn:aws:iam::111122223333:root", "root"),
        ("arn:aws:sts::111122223333:federated-user/carol,dave", "carol-dave"),
    ],
)
def test_the_owner_is_the_logged_in_user(arn: str, owner: str) -> None:
    sts = build_client("sts")
    with Stubber(sts) as stub:
        stub.add_response("get_caller_identity", {"Arn": arn}, {})
        assert resolve_owner(sts, build_settings()) == owner


def test_an_owner_in_the_config_is_not_looked_up() -> None:
    with block_requests():
        assert resolve_owner(build_client("sts"), build_settings(OWNER="Imaging core")) == "Imaging core"


def test_if_the_owner_lookup_fails_the_error_mentions_the_config_key_that_makes_it_unnecessary() -> None:
    sts = build_client("sts")
    with Stubber(sts) as stub:
        stub.add_client_error("get_caller_identity", "ExpiredToken", "expired")
        with pytest.raises(
            CloudError, match=r"looking up your user name \(not needed if the config sets OWNER\): ExpiredToken"
        ):
            resolve_owner(sts, build_settings())


def test_the_run_and_owner_tags_are_optional() -> None:
    assert build_tags(build_settings()) == {"app": "Tryout"}
    # AWS: a tag's value can have at most 256 characters.
    assert len(build_tags(build_settings(), owner="x" * 300)["owner"]) == 256


# The end of on-demand machines


def read_script(data: dict[str, Any]) -> list[str]:
    return base64.b64decode(data["UserData"]).decode().splitlines()


def test_machines_of_a_fleet_with_on_demand_machines_shut_down_and_terminate_at_the_end_of_the_run() -> None:
    """EC2 promises only for spot machines that they end with the fleet."""
    (data,) = build_contents(build_file(build_specification("subnet-1")), ON_DEMAND_MACHINES=1, MAX_RUN_HOURS=12)
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    start = parse_run_start(RUN_TAGS["run"])
    assert start is not None
    assert read_script(data)[1] == (
        f"minutes=$(( ({start + 12 * 3600:.0f} - $(date +%s)) / 60 )); shutdown -P +$(( minutes > 1 ? minutes : 1 )) &"
    )


def test_spot_machines_have_no_timer() -> None:
    (data,) = build_contents(build_file(build_specification("subnet-1")))
    assert "InstanceInitiatedShutdownBehavior" not in data
    assert "shutdown" not in "\n".join(read_script(data))


@pytest.mark.parametrize(("seconds", "minutes"), [(3600, "60"), (61, "1"), (-86_400, "1")])
def test_the_timer_is_set_before_the_templates_own_script_runs(tmp_path: Path, seconds: int, minutes: str) -> None:
    user_data = encode_script("#!/bin/sh\nsleep infinity\n")
    script = base64.b64decode(extend_user_data(build_settings(), user_data, 1_800_000_000.0 + seconds)).decode()
    assert script.splitlines()[2] == "sleep infinity"
    (tmp_path / "date").write_text("#!/bin/sh\necho 1800000000\n")
    (tmp_path / "shutdown").write_text('#!/bin/sh\necho "$@"\n')
    for name in ("date", "shutdown"):
        (tmp_path / name).chmod(0o755)
    command = "".join(f"{line}\n" for line in script.splitlines()[:2]) + "wait\n"
    ran = subprocess.run(
        ["sh", "-c", command], env={"PATH": f"{tmp_path}:/bin:/usr/bin"}, capture_output=True, text=True
    )
    assert ran.stdout == f"-P +{minutes}\n"


def test_user_data_that_leaves_no_room_for_the_timer_is_rejected_before_anything_is_created() -> None:
    free = MAX_USER_DATA_BYTES - len(build_ecs_config_lines(build_settings()))
    content = {"UserData": encode_script("#!/bin/sh\n" + "x" * (free - 20))}
    assert find_template_fault(build_settings(), content) is None
    assert find_template_fault(build_settings(ON_DEMAND_MACHINES=1), content) is not None
