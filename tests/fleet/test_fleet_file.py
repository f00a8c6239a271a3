"""The request built from a Fleet file and a config: each of its keys, and a check against botocore's model."""

from __future__ import annotations

import base64
import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from distributed_something.aws.ec2_fleet import create_fleet
from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import CloudError, InputError
from distributed_something.fleet.fleet_file import check_fleet_file, load_fleet_file
from distributed_something.fleet.launch_plan import build_launch_plan
from distributed_something.fleet.request import build_fleet_request
from distributed_something.project.config_file import load_settings
from tests.support.fakes import FakeTime
from tests.support.offline import CONFIG, FLEET, block_requests
from tests.support.paths import ROOT

RUN_TAGS = {"app": "DistributedSomething", "run": "20261123T104500Z", "owner": "alice"}
NOW = datetime(2026, 11, 23, 10, 45, 0, 123_456, tzinfo=UTC)
TAGS = [{"Key": key, "Value": value} for key, value in RUN_TAGS.items()]
TWO_TYPES: dict[str, Any] = {"MACHINE_TYPE": ["m5.large", "m5a.large"]}
JOIN_SCRIPT = (
    "#!/bin/bash\n"
    "cat >> /etc/ecs/ecs.config <<'EOF'\n"
    "ECS_CLUSTER=default\n"
    'ECS_INSTANCE_ATTRIBUTES={"app":"DistributedSomething"}\n'
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true\n"
    "ECS_CONTAINER_STOP_TIMEOUT=110s\n"
    "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=10m\n"
    "EOF\n"
)


def build_settings(**constants: object) -> Settings:
    return Settings.model_validate(CONFIG | constants)


def build_client() -> Any:
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.client("ec2", region_name="us-east-1", **keys)


def fill_in_example() -> dict[str, Any]:
    """Return the shipped Fleet file with the placeholders replaced by an account's values."""
    text = (ROOT / "files" / "exampleFleet.json").read_text()
    for placeholder, value in (
        ("FILL_IN_ACCOUNT_ID", "111122223333"),
        ("FILL_IN_KEY_PAIR_NAME", "my-key"),
        ("-FILL_IN", "-0123456789abcdef0"),
    ):
        text = text.replace(placeholder, value)
    content: dict[str, Any] = json.loads(text)
    return content


def build_templates(content: dict[str, Any], **constants: object) -> list[dict[str, Any]]:
    """Return the content of each version of the run's launch template."""
    return [
        version.data
        for version in build_launch_plan(build_client(), build_settings(**constants), content, RUN_TAGS).versions
    ]


def build_request(content: dict[str, Any], **constants: object) -> dict[str, Any]:
    settings = build_settings(**constants)
    return build_fleet_request(settings, content, build_launch_plan(build_client(), settings, content, RUN_TAGS), NOW)


def build_two_specifications() -> dict[str, Any]:
    """Return a Fleet file with two launch specifications, each with two network interfaces and two disks."""
    specification = {
        "InstanceType": "from.file",
        "UserData": "ZnJvbSBmaWxl",
        "NetworkInterfaces": [{"DeviceIndex": 0, "AssociatePublicIpAddress": "from file"}, {"DeviceIndex": 1}],
        "BlockDeviceMappings": [{"Ebs": {"VolumeSize": 8}}, {"Ebs": {"VolumeSize": 9}}, {"VirtualName": "ephemeral0"}],
    }
    both = [copy.deepcopy(specification) | {"ImageId": image} for image in ("ami-1", "ami-2")]
    return {"IamFleetRole": "arn:role", "LaunchSpecifications": both}


def test_the_shipped_file_produces_the_expected_launch_template() -> None:
    shipped = load_settings(ROOT / "config.py")
    machine_tags = [{"Key": "Name", "Value": "DistributedSomethingWorker"}, *TAGS]
    disk = {"VolumeType": "gp3", "DeleteOnTermination": True, "VolumeSize": 30}
    interface = {
        "DeviceIndex": 0,
        "DeleteOnTermination": True,
        "Groups": ["sg-0123456789abcdef0"],
        "AssociatePublicIpAddress": True,
    }
    (version,) = build_launch_plan(build_client(), shipped, fill_in_example(), RUN_TAGS).versions
    assert version.data == {
        "ImageId": "ami-0123456789abcdef0",
        "KeyName": "my-key",
        "IamInstanceProfile": {"Arn": "arn:aws:iam::111122223333:instance-profile/ecsInstanceRole"},
        "UserData": base64.b64encode(JOIN_SCRIPT.encode()).decode(),
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": disk}],
        "NetworkInterfaces": [interface],
        "TagSpecifications": [{"ResourceType": kind, "Tags": machine_tags} for kind in ("instance", "volume")],
    }


def test_the_shipped_file_produces_the_expected_request() -> None:
    shipped = load_settings(ROOT / "config.py")
    expected = {
        "Type": "maintain",
        "AllocationStrategy": "priceCapacityOptimized",
        "TerminateInstancesWithExpiration": True,
        "IamFleetRole": "arn:aws:iam::111122223333:role/aws-ec2-spot-fleet-tagging-role",
        "TargetCapacity": 2,
        "SpotPrice": "0.1",
        "ValidUntil": datetime(2026, 11, 30, 10, 45, tzinfo=UTC),
        "ClientToken": "DistributedSomething-20261123T104500Z",
        "TagSpecifications": [{"ResourceType": "spot-fleet-request", "Tags": TAGS}],
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateName": "DistributedSomething-20261123T104500Z",
                    "Version": "1",
                },
                "Overrides": [{"InstanceType": "m5.large", "SubnetId": "subnet-0123456789abcdef0"}],
            }
        ],
    }
    plan = build_launch_plan(build_client(), shipped, fill_in_example(), RUN_TAGS)
    assert build_fleet_request(shipped, fill_in_example(), plan, NOW) == expected


def test_botocore_accepts_the_request_for_the_shipped_file() -> None:
    ec2 = build_client()
    request = build_request(fill_in_example())
    with Stubber(ec2) as stub:
        response = {"SpotFleetRequestId": "sfr-4c12f856-8eb2-44f2-9b1c-4c12f8568eb2"}
        stub.add_response("request_spot_fleet", response, {"SpotFleetRequestConfig": request})
        assert create_fleet(ec2, request, FakeTime().sleep) == response["SpotFleetRequestId"]


def test_checking_a_fleet_file_does_not_send_requests() -> None:
    with block_requests():
        check_fleet_file(build_client(), build_settings(), fill_in_example(), Path("fleet.json"))


def test_the_shipped_file_with_its_placeholders_is_rejected_on_aws() -> None:
    path = ROOT / "files" / "exampleFleet.json"
    with pytest.raises(InputError) as caught:
        check_fleet_file(build_client(), build_settings(), load_fleet_file(path), path)
    lines = str(caught.value).removeprefix(f"{path}: ").splitlines()
    assert [line.removeprefix(f"{path}: ").split(": ")[0] for line in lines] == [
        "IamFleetRole",
        "LaunchSpecifications[0].ImageId",
        "LaunchSpecifications[0].KeyName",
        "LaunchSpecifications[0].IamInstanceProfile.Arn",
        "LaunchSpecifications[0].NetworkInterfaces[0].SubnetId",
        "LaunchSpecifications[0].NetworkInterfaces[0].Groups[0]",
    ]
    assert all(line.endswith("is a placeholder; replace it with your account's own value") for line in lines)


def test_every_machine_joins_the_cluster_in_the_config() -> None:
    for template in build_templates(build_two_specifications(), **TWO_TYPES, ECS_CLUSTER="other"):
        script = base64.b64decode(template["UserData"]).decode()
        assert script == JOIN_SCRIPT.replace("=default", "=other").replace("DistributedSomething", "Tryout")


@pytest.mark.parametrize(("assign_ip", "is_public"), [("True", True), ("False", False)])
def test_every_specification_gets_a_public_address_if_the_config_asks_for_it(assign_ip: str, is_public: bool) -> None:
    content = build_two_specifications()
    for specification in content["LaunchSpecifications"]:
        specification["NetworkInterfaces"].pop()
    for template in build_templates(content, **TWO_TYPES, ASSIGN_IP=assign_ip):
        (interface,) = template["NetworkInterfaces"]
        assert interface["AssociatePublicIpAddress"] is is_public


def test_the_public_address_key_is_not_set_for_several_interfaces() -> None:
    for template in build_templates(build_two_specifications(), **TWO_TYPES, ASSIGN_IP="False"):
        assert template["NetworkInterfaces"] == [{"DeviceIndex": 0}, {"DeviceIndex": 1}]


def test_an_interface_without_a_device_index_gets_one() -> None:
    """Templates created in the EC2 console have an index, but a handwritten file may not."""
    content = build_two_specifications()
    for specification in content["LaunchSpecifications"]:
        specification["NetworkInterfaces"] = [{"Groups": ["sg-1"]}, {"Groups": ["sg-2"]}]
    for template in build_templates(content, **TWO_TYPES, ASSIGN_IP="False"):
        assert [interface["DeviceIndex"] for interface in template["NetworkInterfaces"]] == [0, 1]


def test_the_last_disk_stores_containers_and_has_the_size_in_the_config() -> None:
    for template in build_templates(build_two_specifications(), **TWO_TYPES, EBS_VOL_SIZE=100):
        root, containers, _ = template["BlockDeviceMappings"]
        assert (root["Ebs"]["VolumeSize"], containers["Ebs"]["VolumeSize"]) == (8, 100)


@pytest.mark.parametrize(
    ("price", "expected"), [(0.1, "0.1"), (1, "1.0"), (0.00001, "0.00001"), (12.345, "12.345"), (1e3, "1000.0")]
)
def test_the_price_is_requested_exactly_and_without_an_exponent(price: float, expected: str) -> None:
    assert build_request(fill_in_example(), MACHINE_PRICE=price)["SpotPrice"] == expected


def test_the_fleet_expires_after_seven_days() -> None:
    until = build_request(fill_in_example())["ValidUntil"]
    assert until == NOW.replace(microsecond=0) + timedelta(days=7)
    assert until.utcoffset() == timedelta(0)


def test_the_configs_values_replace_the_files_values() -> None:
    published = {"SpotPrice": "9.99", "TargetCapacity": 99, "ValidFrom": "2016-01-01T00:00:00Z", "ValidUntil": "2017"}
    request = build_request(fill_in_example() | published, CLUSTER_MACHINES=3)
    assert (request["TargetCapacity"], request["SpotPrice"]) == (3, "0.1")
    assert request["ValidUntil"].year == 2026
    assert "ValidFrom" not in request


def test_all_other_values_in_the_file_are_requested() -> None:
    request = build_request(fill_in_example() | {"AllocationStrategy": "lowestPrice"})
    assert (request["AllocationStrategy"], request["Type"]) == ("lowestPrice", "maintain")


def test_the_files_content_stays_unchanged() -> None:
    content = build_two_specifications()
    before = json.dumps(content)
    build_request(content, **TWO_TYPES)
    build_templates(content, **TWO_TYPES)
    assert json.dumps(content) == before


def test_the_error_for_a_rejected_fleet_request_has_the_action_and_the_remedy() -> None:
    ec2 = build_client()
    request = build_request(dict(FLEET))
    with Stubber(ec2) as stub:
        stub.add_client_error("request_spot_fleet", "SpotMaxPriceTooLow", "too low")
        with pytest.raises(CloudError, match=r"the spot fleet: SpotMaxPriceTooLow: too low — raise MACHINE_PRICE"):
            create_fleet(ec2, request, FakeTime().sleep)
