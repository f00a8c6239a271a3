"""Adapting a fleet file to the emulated account."""

from __future__ import annotations

from typing import Any

import pytest

from distributed_something.localcloud.client.connection import build_client
from distributed_something.localcloud.client.fill_in import EmulatedAccount, ensure_buckets
from tests.support.local_lab import Lab


def test_unknown_ids_are_replaced_and_existing_ones_are_kept(lab: Lab) -> None:
    fleet = {
        "IamFleetRole": "arn:aws:iam::999999999999:role/x",
        "LaunchSpecifications": [{"ImageId": "ami-1", "SubnetId": "subnet-1", "InstanceType": "m5.large"}],
    }
    adapted = lab.cloud.adapt_fleet_file(fleet)
    account = EmulatedAccount(lab.cloud.build_client)
    assert adapted["LaunchSpecifications"][0]["SubnetId"] == account.own_subnet
    assert adapted["LaunchSpecifications"][0]["InstanceType"] == "m5.large"
    assert fleet["IamFleetRole"].endswith("role/x")
    assert lab.cloud.adapt_fleet_file(adapted) == adapted


def test_disks_are_made_large_enough_for_the_replacement_image(lab: Lab) -> None:
    """A fleet file's disks may be large enough for its own image but too small for the replacement."""
    disks = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8, "SnapshotId": "snap-0123456789abcdef0"}},
        {"DeviceName": "/dev/xvdcz", "Ebs": {"VolumeSize": 100, "VolumeType": "gp2"}},
    ]
    adapted = lab.cloud.adapt_fleet_file({"LaunchSpecifications": [{"ImageId": "ami-1", "BlockDeviceMappings": disks}]})
    root, other = (mapping["Ebs"] for mapping in adapted["LaunchSpecifications"][0]["BlockDeviceMappings"])
    (image,) = lab.ec2.describe_images(ImageIds=[EmulatedAccount(lab.cloud.build_client).own_image])["Images"]
    (snapshot,) = lab.ec2.describe_snapshots(SnapshotIds=[root["SnapshotId"]])["Snapshots"]
    assert root["VolumeSize"] >= max(image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"], snapshot["VolumeSize"])
    assert other["VolumeSize"] == 100


def test_an_unknown_launch_template_is_replaced_and_an_existing_one_is_kept(lab: Lab) -> None:
    fleet = {"LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {"LaunchTemplateId": "lt-0123456789abcdef0"}}]}
    adapted = lab.cloud.adapt_fleet_file(fleet)
    assert adapted["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"] == {"LaunchTemplateName": "local"}
    assert lab.cloud.adapt_fleet_file(adapted) == adapted


def hide_results(client: Any, operation: str, key: str) -> None:
    """Make the client list nothing, as if another command created everything right after this one had looked."""

    def clear(parsed: dict[str, Any], **_: object) -> None:
        parsed[key] = []

    client.meta.events.register(f"after-call.{client.meta.service_model.service_name}.{operation}", clear)


def test_a_command_accepts_the_key_pair_that_another_one_creates_at_the_same_time(lab: Lab) -> None:
    first, second = (EmulatedAccount(lab.cloud.build_client) for _ in range(2))
    hide_results(second.ec2, "DescribeKeyPairs", "KeyPairs")
    assert first.adapt_key_pair("mine") == second.adapt_key_pair("mine") == "local"


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_a_command_accepts_the_bucket_that_another_one_creates_at_the_same_time(lab: Lab, region: str) -> None:
    first, second = (build_client(lab.cloud.state, region, "s3") for _ in range(2))
    hide_results(second, "ListBuckets", "Buckets")
    ensure_buckets(first, region, [f"shared-{region}"])
    ensure_buckets(second, region, [f"shared-{region}"])
    assert f"shared-{region}" in lab.cloud.list_bucket_names()
