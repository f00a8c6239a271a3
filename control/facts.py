"""What the checks look up in AWS. Each thing is asked once, when a check first wants it; a refusal is kept as well.

So the number of calls is small and fixed: about twenty, one more for each hundred machine types and for each page of
prices. Nothing here judges, and nothing is changed in AWS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from botocore.exceptions import ClientError

from control import asked, cluster, launchtemplate, machines, prices, queue, quotas
from control.asked import Specification
from control.clients import Clients
from control.errors import AWSError, code_of
from control.kinds import TEMPLATES, kinds_of
from control.machines import MachineType
from control.prices import Report
from control.queue import Counts
from control.quotas import Quota

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from control.settings import Settings

T = TypeVar("T")
_ABSENT = {"404", "NoSuchBucket", "NoSuchEntity", "NoSuchBucketPolicy"}


class once(Generic[T]):
    """A property that is looked up once; what AWS refused is raised again without another call."""

    def __init__(self, look: Callable[[Any], T]) -> None:
        self._look, self.__doc__ = look, look.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, facts: None, owner: type) -> once[T]: ...
    @overload
    def __get__(self, facts: Facts, owner: type) -> T: ...
    def __get__(self, facts: Facts | None, owner: type) -> once[T] | T:
        if facts is None:
            return self
        if self._name not in facts.kept:
            facts.kept[self._name] = _outcome(lambda: self._look(facts))
        value, error = facts.kept[self._name]
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]


def _outcome(look: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return look(), None
    except AWSError as error:
        return None, error


@dataclass(frozen=True)
class QueueFacts:
    """A queue: its counts, its tags, and the dead-letter queue that it feeds (a name, '' without)."""

    counts: Counts
    tags: dict[str, str]
    feeds: str


@dataclass
class Facts:
    """All look-ups of one check. `fleet`: the content of a Fleet file that is right; None without one.

    Every property raises botocore's errors for what AWS refuses; what is not there is None or missing in the answer.
    """

    settings: Settings
    clients: Clients
    now: datetime
    fleet: dict[str, Any] | None = None
    kept: dict[str, tuple[Any, BaseException | None]] = field(default_factory=dict, repr=False)

    @property
    def specifications(self) -> list[Specification]:
        """What the fleet asks for; without a fleet file just the config's types."""
        if self.fleet is None:
            return [Specification(name) for name in self.settings.MACHINE_TYPE]
        try:
            theirs = self.template
        except AWSError:  # told by the check of the template
            theirs = None
        return asked.specifications(kinds_of(self.fleet, self.settings, theirs))

    @property
    def spot_machines(self) -> int:
        """How many of the machines are asked for as spot machines."""
        return self.settings.CLUSTER_MACHINES - self.settings.ON_DEMAND_MACHINES

    @property
    def type_names(self) -> list[str]:
        return sorted({one.machine_type for one in self.specifications if one.machine_type})

    @property
    def zones(self) -> set[str]:
        """The zones of the fleet's subnets; empty where it names none."""
        return {subnet["AvailabilityZone"] for subnet in self.subnets.values()}

    @once
    def identity(self) -> Any:
        """Who calls: account, ARN."""
        return self.clients.sts.get_caller_identity()

    @once
    def bucket_region(self) -> str | None:
        """Where the bucket is; None where there is none, '' where S3 does not say."""
        try:
            answer: Any = self.clients.s3.head_bucket(Bucket=self.settings.AWS_BUCKET)
        except ClientError as error:
            if code_of(error) in _ABSENT:
                return None
            raise
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return str(answer.get("BucketRegion") or headers.get("x-amz-bucket-region") or "")

    @property
    def no_bucket(self) -> bool:
        """Whether it is known that there is none."""
        try:
            return self.bucket_region is None
        except AWSError:
            return False

    @once
    def bucket_policy(self) -> dict[str, Any]:
        """The bucket's policy; empty where there is none."""
        try:
            found = self.clients.s3.get_bucket_policy(Bucket=self.settings.AWS_BUCKET)["Policy"]
        except ClientError as error:
            if code_of(error) in _ABSENT:
                return {}
            raise
        policy = json.loads(found or "{}")
        return policy if isinstance(policy, dict) else {}

    def try_to_write(self) -> None:
        """Raises ClientError where nothing may be written to the bucket. Leaves nothing behind: it begins an upload
        in parts, which needs the right to write, and ends it without a part."""
        place = {"Bucket": self.settings.AWS_BUCKET, "Key": f"runs/{self.settings.APP_NAME}/check"}
        begun = self.clients.s3.create_multipart_upload(**place)["UploadId"]  # type: ignore[arg-type]
        self.clients.s3.abort_multipart_upload(**place, UploadId=begun)  # type: ignore[arg-type]

    @once
    def fleet_role(self) -> Any | None:
        """The fleet's role; None where there is no such one."""
        name = asked.name_of_profile(str((self.fleet or {}).get("IamFleetRole", "")))
        return self._of_iam(lambda: self.clients.iam.get_role(RoleName=name)["Role"])

    @once
    def profiles(self) -> dict[str, Any | None]:
        """The instance profiles that the fleet names, each None where there is no such one."""
        wanted = sorted({asked.name_of_profile(one.profile) for one in self.specifications if one.profile})
        return {name: self._profile(name) for name in wanted}

    @once
    def job_queue(self) -> QueueFacts | None:
        return _queue(self.clients.sqs, self.settings.SQS_QUEUE_NAME)

    @once
    def dead_queue(self) -> QueueFacts | None:
        return _queue(self.clients.sqs, self.settings.SQS_DEAD_LETTER_QUEUE)

    @once
    def cluster(self) -> Any | None:
        return cluster.describe(self.clients.ecs, self.settings.ECS_CLUSTER)

    @once
    def service(self) -> Any | None:
        """The app's service with its tags."""
        name = {"cluster": self.settings.ECS_CLUSTER, "services": [self.settings.service_name]}
        try:
            found: Any = self.clients.ecs.describe_services(**name, include=["TAGS"])["services"]  # type: ignore[arg-type]
        except ClientError as error:
            if code_of(error) == "ClusterNotFoundException":
                return None
            raise
        return next((one for one in found if one["status"] == "ACTIVE"), None)

    @once
    def template(self) -> dict[str, Any] | None:
        """The content of the launch template that the Fleet file names; None where it names none that is there."""
        if self.fleet is None or TEMPLATES not in self.fleet:
            return None
        return launchtemplate.look_up(self.fleet, self.clients.ec2)

    @once
    def subnets(self) -> dict[str, Any]:
        wanted = {subnet for one in self.specifications for subnet in one.subnets}
        return self._found("describe_subnets", "subnet-id", wanted, "Subnets", "SubnetId")

    @once
    def routes(self) -> list[Any]:
        """The route tables of the subnets' networks."""
        networks = {subnet["VpcId"] for subnet in self.subnets.values()}
        return list(self._found("describe_route_tables", "vpc-id", networks, "RouteTables", "RouteTableId").values())

    @once
    def groups(self) -> dict[str, Any]:
        wanted = {group for one in self.specifications for group in one.groups}
        return self._found("describe_security_groups", "group-id", wanted, "SecurityGroups", "GroupId")

    @once
    def keys(self) -> dict[str, Any]:
        wanted = {one.key for one in self.specifications if one.key}
        return self._found("describe_key_pairs", "key-name", wanted, "KeyPairs", "KeyName")

    @once
    def images(self) -> dict[str, Any]:
        wanted = {one.image for one in self.specifications if one.image}
        return self._found("describe_images", "image-id", wanted, "Images", "ImageId", IncludeDeprecated=True)

    @once
    def snapshots(self) -> dict[str, Any]:
        """The snapshots that the fleet file itself names."""
        wanted = {snapshot for one in self.specifications for _, _, snapshot in one.volumes if snapshot}
        return self._found("describe_snapshots", "snapshot-id", wanted, "Snapshots", "SnapshotId")

    @once
    def types(self) -> dict[str, MachineType]:
        return machines.look_up(self.clients.ec2, self.type_names)

    @once
    def offered(self) -> set[tuple[str, str]]:
        return machines.offered(self.clients.ec2, self.type_names)

    @once
    def quotas(self) -> dict[Quota, float]:
        """Virtual CPUs for each class of the fleet's types."""
        classes = {quotas.class_of(name) for name in self.type_names} - {None}
        ordered = sorted(classes, key=lambda quota: quota.code if quota else "")
        return {quota: quotas.value(self.clients.service_quotas, quota) for quota in ordered if quota}

    @once
    def prices(self) -> list[Report]:
        try:
            zones = self.zones
        except AWSError:  # then the whole region's
            zones = set()
        return prices.look_up(self.clients.ec2, self.type_names, zones, self.now)

    def _found(self, call: str, by: str, wanted: set[str], listed: str, key: str, **more: Any) -> dict[str, Any]:
        """What EC2 knows of `wanted`, by id; no call where nothing is wanted."""
        if not wanted:
            return {}
        filters = [{"Name": by, "Values": sorted(wanted)}]
        answer = getattr(self.clients.ec2, call)(Filters=filters, **more)
        return {one[key]: one for one in answer[listed]}

    def _profile(self, name: str) -> Any | None:
        return self._of_iam(lambda: self.clients.iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"])

    @staticmethod
    def _of_iam(look: Callable[[], Any]) -> Any | None:
        try:
            return look()
        except ClientError as error:
            if code_of(error) in _ABSENT:
                return None
            raise


def _queue(sqs: SQSClient, name: str) -> QueueFacts | None:
    url = queue.find(sqs, name)
    if url is None:
        return None
    answer: Any = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    tags = sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
    visible, held, delayed = (
        int(answer.get(f"ApproximateNumberOfMessages{kind}", 0)) for kind in ("", "NotVisible", "Delayed")
    )
    policy = json.loads(answer.get("RedrivePolicy", "{}"))
    feeds = str(policy.get("deadLetterTargetArn", "")).rsplit(":", 1)[-1]
    return QueueFacts(Counts(visible + delayed, held), dict(tags), feeds)
