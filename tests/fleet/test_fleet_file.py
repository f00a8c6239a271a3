"""The request that a Fleet file and a config become, key by key, and held against botocore's model of the call."""

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
from distributed_something.core.config_settings import Settings, load_settings
from distributed_something.core.errors import CloudError, InputError
from distributed_something.fleet.fleet_file import check_fleet_file, load_fleet_file
from distributed_something.fleet.launch_plan import build_launch_plan
from distributed_something.fleet.request import build_fleet_request
from tests.support.fakes import FakeTime
from tests.support.offline import CONFIG, FLEET, no_way_out
from tests.support.paths import ROOT

MARKS = {"app": "DistributedSomething", "run": "20261123T104500Z", "owner": "alice"}
NOW = datetime(2026, 11, 23, 10, 45, 0, 123_456, tzinfo=UTC)
TAGS = [{"Key": key, "Value": value} for key, value in MARKS.items()]
TWO: dict[str, Any] = {"MACHINE_TYPE": ["m5.large", "m5a.large"]}
JOINING = (
    "#!/bin/bash\n"
    "cat >> /etc/ecs/ecs.config <<'EOF'\n"
    "ECS_CLUSTER=default\n"
    'ECS_INSTANCE_ATTRIBUTES={"app":"DistributedSomething"}\n'
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true\n"
    "ECS_CONTAINER_STOP_TIMEOUT=110s\n"
    "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=10m\n"
    "EOF\n"
)


def of(**constants: object) -> Settings:
    return Settings.model_validate(CONFIG | constants)


def client() -> Any:
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.client("ec2", region_name="us-east-1", **keys)


def filled_in() -> dict[str, Any]:
    """The shipped Fleet file after a user has put her account's own into it."""
    text = (ROOT / "files" / "exampleFleet.json").read_text()
    for placeholder, own in (
        ("FILL_IN_ACCOUNT_ID", "111122223333"),
        ("FILL_IN_KEY_PAIR_NAME", "my-key"),
        ("-FILL_IN", "-0123456789abcdef0"),
    ):
        text = text.replace(placeholder, own)
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def templates_of(content: dict[str, Any], **constants: object) -> list[dict[str, Any]]:
    """The content of each version of the run's launch template."""
    return [version.data for version in build_launch_plan(content, of(**constants), MARKS, client()).versions]


def request_of(content: dict[str, Any], **constants: object) -> dict[str, Any]:
    settings = of(**constants)
    return build_fleet_request(content, settings, build_launch_plan(content, settings, MARKS, client()), NOW)


def two_kinds() -> dict[str, Any]:
    """A Fleet file of two launch specifications, each with two network interfaces and two disks."""
    one = {
        "InstanceType": "left.over",
        "UserData": "bGVmdCBvdmVy",
        "NetworkInterfaces": [{"DeviceIndex": 0, "AssociatePublicIpAddress": "left over"}, {"DeviceIndex": 1}],
        "BlockDeviceMappings": [{"Ebs": {"VolumeSize": 8}}, {"Ebs": {"VolumeSize": 9}}, {"VirtualName": "ephemeral0"}],
    }
    both = [copy.deepcopy(one) | {"ImageId": image} for image in ("ami-1", "ami-2")]
    return {"IamFleetRole": "arn:role", "LaunchSpecifications": both}


def test_the_shipped_file_becomes_just_this_launch_template() -> None:
    shipped = load_settings(ROOT / "config.py")
    named = [{"Key": "Name", "Value": "DistributedSomethingWorker"}, *TAGS]
    disk = {"VolumeType": "gp3", "DeleteOnTermination": True, "VolumeSize": 30}
    interface = {
        "DeviceIndex": 0,
        "DeleteOnTermination": True,
        "Groups": ["sg-0123456789abcdef0"],
        "AssociatePublicIpAddress": True,
    }
    (version,) = build_launch_plan(filled_in(), shipped, MARKS, client()).versions
    assert version.data == {
        "ImageId": "ami-0123456789abcdef0",
        "KeyName": "my-key",
        "IamInstanceProfile": {"Arn": "arn:aws:iam::111122223333:instance-profile/ecsInstanceRole"},
        "UserData": base64.b64encode(JOINING.encode()).decode(),
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": disk}],
        "NetworkInterfaces": [interface],
        "TagSpecifications": [{"ResourceType": kind, "Tags": named} for kind in ("instance", "volume")],
    }


def test_the_shipped_file_becomes_just_this_request() -> None:
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
    plan = build_launch_plan(filled_in(), shipped, MARKS, client())
    assert build_fleet_request(filled_in(), shipped, plan, NOW) == expected


def test_botocore_takes_the_request_of_the_shipped_file() -> None:
    ec2 = client()
    made = request_of(filled_in())
    with Stubber(ec2) as stub:
        answer = {"SpotFleetRequestId": "sfr-4c12f856-8eb2-44f2-9b1c-4c12f8568eb2"}
        stub.add_response("request_spot_fleet", answer, {"SpotFleetRequestConfig": made})
        assert create_fleet(ec2, made, FakeTime().sleep) == answer["SpotFleetRequestId"]


def test_checking_sends_nothing() -> None:
    with no_way_out():
        check_fleet_file(filled_in(), Path("fleet.json"), of(), client())


def test_the_shipped_file_as_it_stands_is_refused_for_aws() -> None:
    path = ROOT / "files" / "exampleFleet.json"
    with pytest.raises(InputError, match=r"IamFleetRole: .*FILL_IN_ACCOUNT_ID.* is a placeholder"):
        check_fleet_file(load_fleet_file(path), path, of(), client())


def test_every_machine_joins_the_configs_cluster() -> None:
    for one in templates_of(two_kinds(), **TWO, ECS_CLUSTER="ours"):
        script = base64.b64decode(one["UserData"]).decode()
        assert script == JOINING.replace("=default", "=ours").replace("DistributedSomething", "Tryout")


@pytest.mark.parametrize(("said", "asked"), [("True", True), ("False", False)])
def test_every_specification_gets_a_public_address_as_the_config_says(said: str, asked: bool) -> None:
    content = two_kinds()
    for specification in content["LaunchSpecifications"]:
        specification["NetworkInterfaces"].pop()
    for one in templates_of(content, **TWO, ASSIGN_IP=said):
        (interface,) = one["NetworkInterfaces"]
        assert interface["AssociatePublicIpAddress"] is asked


def test_beside_several_interfaces_ec2_takes_no_word_of_a_public_address() -> None:
    for one in templates_of(two_kinds(), **TWO, ASSIGN_IP="False"):
        assert one["NetworkInterfaces"] == [{"DeviceIndex": 0}, {"DeviceIndex": 1}]


def test_an_interface_without_a_place_on_the_machine_gets_its_own() -> None:
    """The EC2 console's templates have it; a file that was written by hand may not."""
    content = two_kinds()
    for specification in content["LaunchSpecifications"]:
        specification["NetworkInterfaces"] = [{"Groups": ["sg-1"]}, {"Groups": ["sg-2"]}]
    for one in templates_of(content, **TWO, ASSIGN_IP="False"):
        assert [interface["DeviceIndex"] for interface in one["NetworkInterfaces"]] == [0, 1]


def test_the_last_disk_is_the_containers_and_has_the_configs_size() -> None:
    for one in templates_of(two_kinds(), **TWO, EBS_VOL_SIZE=100):
        root, containers, _ = one["BlockDeviceMappings"]
        assert (root["Ebs"]["VolumeSize"], containers["Ebs"]["VolumeSize"]) == (8, 100)


@pytest.mark.parametrize(
    ("price", "asked"), [(0.1, "0.1"), (1, "1.0"), (0.00001, "0.00001"), (12.345, "12.345"), (1e3, "1000.0")]
)
def test_the_price_is_asked_as_it_is_written_and_never_with_an_exponent(price: float, asked: str) -> None:
    assert request_of(filled_in(), MACHINE_PRICE=price)["SpotPrice"] == asked


def test_the_fleet_ends_by_itself_after_seven_days_in_utc() -> None:
    until = request_of(filled_in())["ValidUntil"]
    assert until == NOW.replace(microsecond=0) + timedelta(days=7)
    assert until.utcoffset() == timedelta(0)


def test_what_the_config_decides_is_not_taken_from_the_file() -> None:
    published = {"SpotPrice": "9.99", "TargetCapacity": 99, "ValidFrom": "2016-01-01T00:00:00Z", "ValidUntil": "2017"}
    made = request_of(filled_in() | published, CLUSTER_MACHINES=3)
    assert (made["TargetCapacity"], made["SpotPrice"]) == (3, "0.1")
    assert made["ValidUntil"].year == 2026
    assert "ValidFrom" not in made


def test_what_the_file_decides_is_taken_from_it() -> None:
    made = request_of(filled_in() | {"AllocationStrategy": "lowestPrice"})
    assert (made["AllocationStrategy"], made["Type"]) == ("lowestPrice", "maintain")


def test_the_file_itself_is_left_as_it_was() -> None:
    content = two_kinds()
    before = json.dumps(content)
    request_of(content, **TWO)
    templates_of(content, **TWO)
    assert json.dumps(content) == before


def test_a_fleet_that_ec2_refuses_says_what_was_done_and_what_to_try() -> None:
    ec2 = client()
    made = request_of(dict(FLEET))
    with Stubber(ec2) as stub:
        stub.add_client_error("request_spot_fleet", "SpotMaxPriceTooLow", "too low")
        with pytest.raises(CloudError, match=r"the spot fleet: SpotMaxPriceTooLow: too low — raise MACHINE_PRICE"):
            create_fleet(ec2, made, FakeTime().sleep)
