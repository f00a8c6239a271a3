"""Fleet files that users of the published system have, and those that EC2's console writes, work as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import InputError
from distributed_something.fleet.fleet_file import check_fleet_file, load_fleet_file
from distributed_something.fleet.launch_plan import build_launch_plan
from tests.support.offline import CONFIG

ROLE = "arn:aws:iam::111122223333:role/aws-ec2-spot-fleet-tagging-role"
RUN_TAGS = {"app": "Tryout", "run": "20261123T104500Z", "owner": "alice"}
SPECIFICATION = {
    "ImageId": "ami-0123456789abcdef0",
    "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-0a1b2c3d", "Groups": ["sg-0a1b2c3d"]}],
}
TEMPLATE = {"LaunchTemplateSpecification": {"LaunchTemplateName": "lab"}}


def build_ec2() -> Any:
    return boto3.client("ec2", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")


def load(folder: Path, content: dict[str, Any], **constants: object) -> dict[str, Any]:
    """Return the content of this Fleet file, loaded and checked as startCluster does."""
    path = folder / "fleet.json"
    path.write_text(json.dumps({"IamFleetRole": ROLE} | content))
    settings = Settings.model_validate(CONFIG | constants)
    fleet = load_fleet_file(path, settings=settings)
    check_fleet_file(build_ec2(), settings, fleet, path)
    return fleet


def list_problem_keys(folder: Path, content: dict[str, Any], settings: Settings | None = None) -> list[str]:
    path = folder / "fleet.json"
    path.write_text(json.dumps({"IamFleetRole": ROLE} | content))
    settings = settings or Settings.model_validate(CONFIG)
    with pytest.raises(InputError) as caught:
        check_fleet_file(build_ec2(), settings, load_fleet_file(path, settings=settings), path)
    return [problem.key for problem in caught.value.problems]


def build_interfaces(folder: Path, interfaces: list[dict[str, Any]], **constants: object) -> list[dict[str, Any]]:
    """Return the network interfaces that EC2 is asked for."""
    fleet = load(folder, {"LaunchSpecifications": [{"NetworkInterfaces": interfaces}]}, **constants)
    settings = Settings.model_validate(CONFIG | constants)
    (version,) = build_launch_plan(build_ec2(), settings, fleet, RUN_TAGS).versions
    interfaces_of_version: list[dict[str, Any]] = version.data["NetworkInterfaces"]
    return interfaces_of_version


@pytest.mark.parametrize(
    "empty",
    [
        {"LaunchSpecifications": [], "SpotPrice": None, "LaunchTemplateConfigs": [TEMPLATE]},
        {"LaunchSpecifications": None, "LoadBalancersConfig": {}, "LaunchTemplateConfigs": [TEMPLATE]},
        {"LaunchTemplateConfigs": [], "SpotPrice": "", "LaunchSpecifications": [SPECIFICATION]},
        {"LaunchTemplateConfigs": None, "ValidUntil": None, "LaunchSpecifications": [SPECIFICATION | {"KeyName": ""}]},
        {"TagSpecifications": [], "LaunchSpecifications": [SPECIFICATION | {"SecurityGroups": [], "Placement": None}]},
        {"LaunchSpecifications": [SPECIFICATION | {"Monitoring": {}, "BlockDeviceMappings": []}]},
        {"LaunchSpecifications": [SPECIFICATION | {"SubnetId": "", "UserData": None, "IamInstanceProfile": {}}]},
    ],
)
def test_empty_values_mean_the_same_as_missing_keys(tmp_path: Path, empty: dict[str, Any]) -> None:
    fleet = load(tmp_path, empty)
    assert ("LaunchSpecifications" in fleet) != ("LaunchTemplateConfigs" in fleet)
    assert None not in fleet.values()


def test_empty_values_that_mean_something_stay(tmp_path: Path) -> None:
    disks = [{"DeviceName": "/dev/xvdb", "NoDevice": ""}, {"DeviceName": "/dev/xvda", "Ebs": {}}]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "project", "Value": ""}]}]
    specification = {"BlockDeviceMappings": disks, "TagSpecifications": tags}
    assert load(tmp_path, {"LaunchSpecifications": [specification]})["LaunchSpecifications"] == [specification]


def test_a_file_in_which_everything_is_empty_lacks_its_machines(tmp_path: Path) -> None:
    content = {"LaunchSpecifications": [], "LaunchTemplateConfigs": []}
    assert list_problem_keys(tmp_path, content) == ["LaunchSpecifications"]


def test_comments_are_ignored_at_any_depth(tmp_path: Path) -> None:
    content = {"_comment": "ours", "LaunchSpecifications": [SPECIFICATION | {"_comment2": ["the", "lab's"]}]}
    assert load(tmp_path, content) == {"IamFleetRole": ROLE, "LaunchSpecifications": [SPECIFICATION]}


@pytest.mark.parametrize("override", [{"WeightedCapacity": 1}, {"WeightedCapacity": 1.0, "SpotPrice": None}, {}])
def test_a_weight_of_one_in_an_override_is_accepted(tmp_path: Path, override: dict[str, Any]) -> None:
    place = {"InstanceType": "m5.large", "SubnetId": "subnet-0a1b2c3d"}
    load(tmp_path, {"LaunchTemplateConfigs": [TEMPLATE | {"Overrides": [place | override]}]})


@pytest.mark.parametrize(
    ("constants", "in_file", "expected"),
    [
        ({}, False, False),
        ({}, True, True),
        ({}, None, True),
        ({"ASSIGN_IP": "True"}, False, True),
        ({"ASSIGN_IP": "False"}, True, False),
    ],
)
def test_the_file_decides_about_public_addresses_if_the_config_does_not(
    tmp_path: Path, constants: dict[str, str], in_file: bool | None, expected: bool
) -> None:
    interface = {"DeviceIndex": 0, "AssociatePublicIpAddress": in_file}
    assert build_interfaces(tmp_path, [interface], **constants)[0]["AssociatePublicIpAddress"] is expected


def test_several_interfaces_are_accepted_if_the_file_declines_a_public_address(tmp_path: Path) -> None:
    interfaces = [{"DeviceIndex": 0, "AssociatePublicIpAddress": False}, {"DeviceIndex": 1}]
    assert build_interfaces(tmp_path, interfaces) == [{"DeviceIndex": 0}, {"DeviceIndex": 1}]


PLACEHOLDERS = {
    "IamFleetRole": "arn:aws:iam::XXXXXXXXXXXXX:role/aws-ec2-spot-fleet-role",
    "LaunchSpecifications": [
        {
            "ImageId": "ami-0123456789abcdef0",
            "KeyName": "your_key_file_name",
            "IamInstanceProfile": {"Arn": "arn:aws:iam::<ACCOUNT>:instance-profile/ecsInstanceRole"},
            "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-WWWWWWWW", "Groups": ["sg-ZZZZZZZZZ"]}],
        }
    ],
}
PLACEHOLDER_KEYS = [
    "IamFleetRole",
    "LaunchSpecifications[0].KeyName",
    "LaunchSpecifications[0].IamInstanceProfile.Arn",
    "LaunchSpecifications[0].NetworkInterfaces[0].SubnetId",
    "LaunchSpecifications[0].NetworkInterfaces[0].Groups[0]",
]


def test_all_published_placeholders_are_named_in_one_answer(tmp_path: Path) -> None:
    assert list_problem_keys(tmp_path, PLACEHOLDERS) == PLACEHOLDER_KEYS


def test_placeholders_are_also_named_if_the_config_is_invalid(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(PLACEHOLDERS))
    with pytest.raises(InputError) as caught:
        load_fleet_file(path, settings=None)
    assert [problem.key for problem in caught.value.problems] == PLACEHOLDER_KEYS


def test_user_data_and_ordinary_names_are_not_placeholders(tmp_path: Path) -> None:
    names = {"KeyName": "yours-truly", "UserData": "ZXhwb3J0IFg9XXXXWWWW"}
    load(tmp_path, {"LaunchSpecifications": [SPECIFICATION | names]})
