"""The emulated account's own things, put where a published fleet file holds an example's.

So the shipped fleet file works unedited here. What the account does have is left alone: a fleet file that names this
account's own subnet keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError

ECS_IMAGE_PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
FLEET_ROLE_NAME = "aws-ec2-spot-fleet-tagging-role"
MACHINE_ROLE_NAME = "ecsInstanceRole"
KEY_PAIR_NAME = "local"
LAUNCH_TEMPLATE_NAME = "local"
DISK_GIB = 30  # the image of ECS_IMAGE has 30 in AWS, in moto fewer


def ensure_buckets(s3: Any, region: str, names: Iterable[str]) -> None:
    """Makes the buckets that do not exist yet, in the cloud's region."""
    existing = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for name in dict.fromkeys(names):
        if name not in existing:
            s3.create_bucket(Bucket=name, **build_bucket_location(region))


def build_bucket_location(region: str) -> dict[str, Any]:
    """us-east-1 is the one region that must not be named."""
    return {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}


def adapt_fleet_file(build_client: Callable[[str], Any], fleet: dict[str, Any]) -> dict[str, Any]:
    """A copy of a fleet file in which everything that the emulated account lacks is replaced by what it has."""
    account = EmulatedAccount(build_client)
    replacers: dict[str, Callable[[Any], Any]] = {
        "IamFleetRole": account.adapt_fleet_role,
        "IamInstanceProfile": account.adapt_instance_profile,
        "ImageId": account.adapt_image,
        "SnapshotId": account.adapt_snapshot,
        "VolumeSize": account.adapt_volume_size,
        "SubnetId": account.adapt_subnets,
        "KeyName": account.adapt_key_pair,
        "GroupId": account.adapt_security_group,
        "Groups": account.adapt_security_groups,
        "LaunchTemplateSpecification": account.adapt_launch_template,
    }
    filled: dict[str, Any] = replace_values(fleet, replacers)
    return filled


def replace_values(value: Any, replacers: dict[str, Callable[[Any], Any]]) -> Any:
    """A deep copy of `value` with each named key's value passed through its replacer."""
    if isinstance(value, dict):
        return {
            key: replacers[key](item) if key in replacers else replace_values(item, replacers)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [replace_values(item, replacers) for item in value]
    return value


class EmulatedAccount:
    """What the emulated account has. Each method answers a value of a fleet file with itself or with a replacement."""

    def __init__(self, build_client: Callable[[str], Any]) -> None:
        self.ec2 = build_client("ec2")
        self.iam = build_client("iam")
        self.ssm = build_client("ssm")

    def adapt_fleet_role(self, arn: Any) -> str:
        return str(arn) if self._has_role(arn) else self._ensure_role(FLEET_ROLE_NAME, "spotfleet.amazonaws.com")

    def adapt_instance_profile(self, profile: Any) -> dict[str, str]:
        wanted = profile if isinstance(profile, dict) else {}
        for known in self.iam.list_instance_profiles()["InstanceProfiles"]:
            if wanted.get("Arn") == known["Arn"] or wanted.get("Name") == known["InstanceProfileName"]:
                return dict(wanted)
        return {"Arn": self._ensure_instance_profile()}

    def adapt_image(self, image_id: Any) -> str:
        return self._keep_if_known(image_id, self.ec2.describe_images, "ImageIds", "Images") or self.own_image

    def adapt_snapshot(self, snapshot_id: Any) -> str:
        return (
            self._keep_if_known(snapshot_id, self.ec2.describe_snapshots, "SnapshotIds", "Snapshots")
            or self.own_snapshot
        )

    @staticmethod
    def adapt_volume_size(gib: Any) -> Any:
        """Of a disk: this account's image and snapshot may be larger than those of the file."""
        return max(gib, DISK_GIB) if isinstance(gib, int) else gib

    def adapt_subnets(self, ids: Any) -> str:
        """One id, or several with commas between them, as a spot fleet takes them."""
        describe = self.ec2.describe_subnets
        wanted = [subnet.strip() for subnet in str(ids).split(",")]
        kept = [subnet for subnet in wanted if self._keep_if_known(subnet, describe, "SubnetIds", "Subnets")]
        return ",".join(kept) or self.own_subnet

    def adapt_security_group(self, group_id: Any) -> str:
        found = self._keep_if_known(group_id, self.ec2.describe_security_groups, "GroupIds", "SecurityGroups")
        return found or self.own_security_group

    def adapt_security_groups(self, ids: Any) -> list[str]:
        wanted = ids if isinstance(ids, list) else [ids]
        return list(dict.fromkeys(self.adapt_security_group(group) for group in wanted))

    def adapt_key_pair(self, name: Any) -> str:
        known = {pair["KeyName"] for pair in self.ec2.describe_key_pairs()["KeyPairs"]}
        if name in known:
            return str(name)
        if KEY_PAIR_NAME not in known:
            self.ec2.create_key_pair(KeyName=KEY_PAIR_NAME)
        return KEY_PAIR_NAME

    def adapt_launch_template(self, wanted: Any) -> dict[str, Any]:
        """The template that the file names, or one with this account's image."""
        named = {key: text for key, text in dict(wanted).items() if key != "Version"}
        try:
            self.ec2.describe_launch_template_versions(**named, Versions=[wanted.get("Version", "$Default")])
        except ClientError:
            return {"LaunchTemplateName": self._ensure_launch_template()}
        return dict(wanted)

    @staticmethod
    def _keep_if_known(wanted: Any, describe: Callable[..., dict[str, Any]], argument: str, found: str) -> str | None:
        """`wanted` itself where EC2 can describe it; None where it refuses the id as unknown or malformed."""
        try:
            return str(wanted) if describe(**{argument: [str(wanted)]})[found] else None
        except ClientError:
            return None

    def _has_role(self, arn: Any) -> bool:
        try:
            return bool(self.iam.get_role(RoleName=str(arn).rpartition("/")[2])["Role"]["Arn"] == arn)
        except ClientError:
            return False

    def _ensure_role(self, name: str, service: str) -> str:
        """The ARN of the role `name`, made for `service` if there is none."""
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        try:
            return str(self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"])
        except self.iam.exceptions.EntityAlreadyExistsException:
            return str(self.iam.get_role(RoleName=name)["Role"]["Arn"])

    def _ensure_instance_profile(self) -> str:
        self._ensure_role(MACHINE_ROLE_NAME, "ec2.amazonaws.com")
        try:
            made = self.iam.create_instance_profile(InstanceProfileName=MACHINE_ROLE_NAME)
            self.iam.add_role_to_instance_profile(InstanceProfileName=MACHINE_ROLE_NAME, RoleName=MACHINE_ROLE_NAME)
        except self.iam.exceptions.EntityAlreadyExistsException:
            made = self.iam.get_instance_profile(InstanceProfileName=MACHINE_ROLE_NAME)
        return str(made["InstanceProfile"]["Arn"])

    def _ensure_launch_template(self) -> str:
        data = {"ImageId": self.own_image, "IamInstanceProfile": {"Arn": self._ensure_instance_profile()}}
        with suppress(ClientError):  # a start before this one made it
            self.ec2.create_launch_template(LaunchTemplateName=LAUNCH_TEMPLATE_NAME, LaunchTemplateData=data)
        return LAUNCH_TEMPLATE_NAME

    @cached_property
    def own_image(self) -> str:
        return str(self.ssm.get_parameter(Name=ECS_IMAGE_PARAMETER)["Parameter"]["Value"])

    @cached_property
    def own_snapshot(self) -> str:
        mine = self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        if mine:
            return str(mine[0]["SnapshotId"])
        zone = self.ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
        volume = self.ec2.create_volume(AvailabilityZone=zone, Size=DISK_GIB)["VolumeId"]
        return str(self.ec2.create_snapshot(VolumeId=volume)["SnapshotId"])

    @cached_property
    def own_subnet(self) -> str:
        default = [{"Name": "default-for-az", "Values": ["true"]}]
        return str(self.ec2.describe_subnets(Filters=default)["Subnets"][0]["SubnetId"])

    @cached_property
    def own_security_group(self) -> str:
        default = [{"Name": "group-name", "Values": ["default"]}]
        return str(self.ec2.describe_security_groups(Filters=default)["SecurityGroups"][0]["GroupId"])
