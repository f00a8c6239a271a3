"""Replaces a fleet file's AWS IDs with IDs that exist in the emulated account.

This makes the example fleet file work in the local cloud without editing. IDs that already exist in the emulated
account are not replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError

ECS_IMAGE_PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
FLEET_ROLE_NAME = "aws-ec2-spot-fleet-tagging-role"
MACHINE_ROLE_NAME = "ecsInstanceRole"
KEY_PAIR_NAME = "local"
LAUNCH_TEMPLATE_NAME = "local"
DISK_GIB = 30  # disk size of the ECS-optimized image on AWS; moto's image has a smaller disk


def ensure_buckets(s3: Any, region: str, names: Iterable[str]) -> None:
    """Create the buckets that do not exist yet."""
    existing = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for name in dict.fromkeys(names):
        if name not in existing:
            with accept_existing("BucketAlreadyOwnedByYou"):
                s3.create_bucket(Bucket=name, **build_bucket_location(region))


@contextmanager
def accept_existing(code: str) -> Iterator[None]:
    """Ignore the error with this code: a command that started at the same time has created the same resource."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] != code:
            raise


def build_bucket_location(region: str) -> dict[str, Any]:
    """Return CreateBucket's location parameter, which must be omitted for us-east-1."""
    return {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}


def adapt_fleet_file(build_client: Callable[[str], Any], fleet: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a fleet file in which all IDs and names exist in the emulated account."""
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
    adapted_fleet: dict[str, Any] = replace_values(fleet, replacers)
    return adapted_fleet


def replace_values(value: Any, replacers: dict[str, Callable[[Any], Any]]) -> Any:
    """Return a deep copy of `value` with each replacer applied to the values of its key."""
    if isinstance(value, dict):
        return {
            key: replacers[key](item) if key in replacers else replace_values(item, replacers)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [replace_values(item, replacers) for item in value]
    return value


class EmulatedAccount:
    """The emulated account's resources.

    Each `adapt_…` method takes a value from a fleet file. If the value exists in this account, the method returns it
    unchanged; otherwise, it returns an existing replacement.
    """

    def __init__(self, build_client: Callable[[str], Any]) -> None:
        self.ec2 = build_client("ec2")
        self.iam = build_client("iam")
        self.ssm = build_client("ssm")

    def adapt_fleet_role(self, arn: Any) -> str:
        return str(arn) if self._has_role(arn) else self._ensure_role(FLEET_ROLE_NAME, "spotfleet.amazonaws.com")

    def adapt_instance_profile(self, profile: Any) -> dict[str, str]:
        requested = profile if isinstance(profile, dict) else {}
        for existing in self.iam.list_instance_profiles()["InstanceProfiles"]:
            if requested.get("Arn") == existing["Arn"] or requested.get("Name") == existing["InstanceProfileName"]:
                return dict(requested)
        return {"Arn": self._ensure_instance_profile()}

    def adapt_image(self, image_id: Any) -> str:
        return self._find_existing_id(image_id, self.ec2.describe_images, "ImageIds", "Images") or self.own_image

    def adapt_snapshot(self, snapshot_id: Any) -> str:
        return (
            self._find_existing_id(snapshot_id, self.ec2.describe_snapshots, "SnapshotIds", "Snapshots")
            or self.own_snapshot
        )

    @staticmethod
    def adapt_volume_size(gib: Any) -> Any:
        """Return a disk size in GiB that is large enough for this account's image and snapshot."""
        return max(gib, DISK_GIB) if isinstance(gib, int) else gib

    def adapt_subnets(self, ids: Any) -> str:
        """Adapt one or more subnet IDs, separated by commas as in spot fleet requests."""
        describe = self.ec2.describe_subnets
        requested = [subnet.strip() for subnet in str(ids).split(",")]
        existing = [subnet for subnet in requested if self._find_existing_id(subnet, describe, "SubnetIds", "Subnets")]
        return ",".join(existing) or self.own_subnet

    def adapt_security_group(self, group_id: Any) -> str:
        describe = self.ec2.describe_security_groups
        return self._find_existing_id(group_id, describe, "GroupIds", "SecurityGroups") or self.own_security_group

    def adapt_security_groups(self, ids: Any) -> list[str]:
        requested = ids if isinstance(ids, list) else [ids]
        return list(dict.fromkeys(self.adapt_security_group(group) for group in requested))

    def adapt_key_pair(self, name: Any) -> str:
        existing = {pair["KeyName"] for pair in self.ec2.describe_key_pairs()["KeyPairs"]}
        if name in existing:
            return str(name)
        if KEY_PAIR_NAME not in existing:
            with accept_existing("InvalidKeyPair.Duplicate"):
                self.ec2.create_key_pair(KeyName=KEY_PAIR_NAME)
        return KEY_PAIR_NAME

    def adapt_launch_template(self, specification: Any) -> dict[str, Any]:
        """Return the specification if its template exists, or else one for a template with this account's image."""
        name = {key: text for key, text in dict(specification).items() if key != "Version"}
        try:
            self.ec2.describe_launch_template_versions(**name, Versions=[specification.get("Version", "$Default")])
        except ClientError:
            return {"LaunchTemplateName": self._ensure_launch_template()}
        return dict(specification)

    @staticmethod
    def _find_existing_id(
        resource_id: Any, describe: Callable[..., dict[str, Any]], argument: str, result_key: str
    ) -> str | None:
        """Return the ID if EC2 can describe it, or None if EC2 rejects it as unknown or malformed."""
        try:
            return str(resource_id) if describe(**{argument: [str(resource_id)]})[result_key] else None
        except ClientError:
            return None

    def _has_role(self, arn: Any) -> bool:
        try:
            return bool(self.iam.get_role(RoleName=str(arn).rpartition("/")[2])["Role"]["Arn"] == arn)
        except ClientError:
            return False

    def _ensure_role(self, name: str, service: str) -> str:
        """Return the ARN of the role `name`; if it does not exist, create it with `service` as its principal."""
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        try:
            return str(self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"])
        except self.iam.exceptions.EntityAlreadyExistsException:
            return str(self.iam.get_role(RoleName=name)["Role"]["Arn"])

    def _ensure_instance_profile(self) -> str:
        self._ensure_role(MACHINE_ROLE_NAME, "ec2.amazonaws.com")
        try:
            profile = self.iam.create_instance_profile(InstanceProfileName=MACHINE_ROLE_NAME)
            self.iam.add_role_to_instance_profile(InstanceProfileName=MACHINE_ROLE_NAME, RoleName=MACHINE_ROLE_NAME)
        except self.iam.exceptions.EntityAlreadyExistsException:
            profile = self.iam.get_instance_profile(InstanceProfileName=MACHINE_ROLE_NAME)
        return str(profile["InstanceProfile"]["Arn"])

    def _ensure_launch_template(self) -> str:
        data = {"ImageId": self.own_image, "IamInstanceProfile": {"Arn": self._ensure_instance_profile()}}
        with suppress(ClientError):  # an earlier start may have created the template
            self.ec2.create_launch_template(LaunchTemplateName=LAUNCH_TEMPLATE_NAME, LaunchTemplateData=data)
        return LAUNCH_TEMPLATE_NAME

    @cached_property
    def own_image(self) -> str:
        return str(self.ssm.get_parameter(Name=ECS_IMAGE_PARAMETER)["Parameter"]["Value"])

    @cached_property
    def own_snapshot(self) -> str:
        snapshots = self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        if snapshots:
            return str(snapshots[0]["SnapshotId"])
        zone = self.ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
        volume = self.ec2.create_volume(AvailabilityZone=zone, Size=DISK_GIB)["VolumeId"]
        return str(self.ec2.create_snapshot(VolumeId=volume)["SnapshotId"])

    @cached_property
    def own_subnet(self) -> str:
        filters = [{"Name": "default-for-az", "Values": ["true"]}]
        return str(self.ec2.describe_subnets(Filters=filters)["Subnets"][0]["SubnetId"])

    @cached_property
    def own_security_group(self) -> str:
        filters = [{"Name": "group-name", "Values": ["default"]}]
        return str(self.ec2.describe_security_groups(Filters=filters)["SecurityGroups"][0]["GroupId"])
