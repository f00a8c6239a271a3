"""A published fleet file, filled in with what the emulated account has."""

from __future__ import annotations

from distributed_something.localcloud.client.fill_in import EmulatedAccount
from tests.support.local_lab import Lab


def test_what_the_account_lacks_is_filled_in_and_what_it_has_is_kept(lab: Lab) -> None:
    fleet = {
        "IamFleetRole": "arn:aws:iam::999999999999:role/x",
        "LaunchSpecifications": [{"ImageId": "ami-1", "SubnetId": "subnet-1", "InstanceType": "m5.large"}],
    }
    filled = lab.cloud.adapt_fleet_file(fleet)
    account = EmulatedAccount(lab.cloud.build_client)
    assert filled["LaunchSpecifications"][0]["SubnetId"] == account.own_subnet
    assert filled["LaunchSpecifications"][0]["InstanceType"] == "m5.large"
    assert fleet["IamFleetRole"].endswith("role/x")
    assert lab.cloud.adapt_fleet_file(filled) == filled


def test_a_published_files_disks_hold_the_image_that_stands_for_its_own(lab: Lab) -> None:
    """Else a rehearsal would be refused for disks that fit the image of the file."""
    disks = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8, "SnapshotId": "snap-0123456789abcdef0"}},
        {"DeviceName": "/dev/xvdcz", "Ebs": {"VolumeSize": 100, "VolumeType": "gp2"}},
    ]
    filled = lab.cloud.adapt_fleet_file({"LaunchSpecifications": [{"ImageId": "ami-1", "BlockDeviceMappings": disks}]})
    root, other = (one["Ebs"] for one in filled["LaunchSpecifications"][0]["BlockDeviceMappings"])
    (image,) = lab.ec2.describe_images(ImageIds=[EmulatedAccount(lab.cloud.build_client).own_image])["Images"]
    (snapshot,) = lab.ec2.describe_snapshots(SnapshotIds=[root["SnapshotId"]])["Snapshots"]
    assert root["VolumeSize"] >= max(image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"], snapshot["VolumeSize"])
    assert other["VolumeSize"] == 100


def test_a_template_that_the_account_lacks_is_filled_in_and_one_it_has_is_kept(lab: Lab) -> None:
    asked = {"LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {"LaunchTemplateId": "lt-0123456789abcdef0"}}]}
    filled = lab.cloud.adapt_fleet_file(asked)
    assert filled["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"] == {"LaunchTemplateName": "local"}
    assert lab.cloud.adapt_fleet_file(filled) == filled
