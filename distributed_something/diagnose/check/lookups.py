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

from distributed_something.aws.clients import Clients
from distributed_something.aws.ecs import describe_cluster
from distributed_something.aws.instance_types import (
    MachineType,
    QuotaClass,
    find_quota_class,
    list_machine_types,
    list_type_offerings,
    read_quota_value,
)
from distributed_something.aws.spot_prices import PriceReport, list_price_reports
from distributed_something.aws.sqs import find_queue
from distributed_something.core.errors import AWSError, get_error_code
from distributed_something.fleet.launch_specs import (
    LAUNCH_TEMPLATE_CONFIGS_KEY,
    LaunchSpecification,
    build_launch_specifications,
    build_launch_specs,
    parse_arn_name,
)
from distributed_something.fleet.launch_template import find_template_data
from distributed_something.observe.queue import QueueCounts
from distributed_something.worker import RUNS_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from distributed_something.core.config_settings import Settings


T = TypeVar("T")
_MISSING_CODES = {"404", "NoSuchBucket", "NoSuchEntity", "NoSuchBucketPolicy"}


class CachedLookup(Generic[T]):
    """A property that is looked up once; what AWS refused is raised again without another call."""

    def __init__(self, look: Callable[[Any], T]) -> None:
        self._look, self.__doc__ = look, look.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, facts: None, owner: type) -> CachedLookup[T]: ...
    @overload
    def __get__(self, facts: Lookups, owner: type) -> T: ...
    def __get__(self, facts: Lookups | None, owner: type) -> CachedLookup[T] | T:
        if facts is None:
            return self
        if self._name not in facts.kept:
            facts.kept[self._name] = _run_lookup(lambda: self._look(facts))
        value, error = facts.kept[self._name]
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]


def _run_lookup(look: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return look(), None
    except AWSError as error:
        return None, error


@dataclass(frozen=True)
class QueueFacts:
    """A queue: its counts, its tags, and the dead-letter queue that it feeds (a name, '' without)."""

    counts: QueueCounts
    tags: dict[str, str]
    feeds: str


@dataclass
class Lookups:
    """All look-ups of one check. `fleet`: the content of a Fleet file that is right; None without one.

    Every property raises botocore's errors for what AWS refuses; what is not there is None or missing in the answer.
    """

    settings: Settings
    clients: Clients
    now: datetime
    fleet: dict[str, Any] | None = None
    kept: dict[str, tuple[Any, BaseException | None]] = field(default_factory=dict, repr=False)

    @property
    def specifications(self) -> list[LaunchSpecification]:
        """What the fleet asks for; without a fleet file just the config's types."""
        if self.fleet is None:
            return [LaunchSpecification(name) for name in self.settings.MACHINE_TYPE]
        try:
            theirs = self.template
        except AWSError:  # told by the check of the template
            theirs = None
        return build_launch_specifications(build_launch_specs(self.fleet, self.settings, theirs))

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

    @CachedLookup
    def identity(self) -> Any:
        """Who calls: account, ARN."""
        return self.clients.sts.get_caller_identity()

    @CachedLookup
    def bucket_region(self) -> str | None:
        """Where the bucket is; None where there is none, '' where S3 does not say."""
        try:
            answer: Any = self.clients.s3.head_bucket(Bucket=self.settings.AWS_BUCKET)
        except ClientError as error:
            if get_error_code(error) in _MISSING_CODES:
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

    @CachedLookup
    def bucket_policy(self) -> dict[str, Any]:
        """The bucket's policy; empty where there is none."""
        try:
            found = self.clients.s3.get_bucket_policy(Bucket=self.settings.AWS_BUCKET)["Policy"]
        except ClientError as error:
            if get_error_code(error) in _MISSING_CODES:
                return {}
            raise
        policy = json.loads(found or "{}")
        return policy if isinstance(policy, dict) else {}

    def check_bucket_write(self) -> None:
        """Raises ClientError where nothing may be written to the bucket. Leaves nothing behind: it begins an upload
        in parts, which needs the right to write, and ends it without a part."""
        place = {"Bucket": self.settings.AWS_BUCKET, "Key": f"{RUNS_PREFIX}/{self.settings.APP_NAME}/check"}
        begun = self.clients.s3.create_multipart_upload(**place)["UploadId"]  # type: ignore[arg-type]
        self.clients.s3.abort_multipart_upload(**place, UploadId=begun)  # type: ignore[arg-type]

    @CachedLookup
    def fleet_role(self) -> Any | None:
        """The fleet's role; None where there is no such one."""
        name = parse_arn_name(str((self.fleet or {}).get("IamFleetRole", "")))
        return self._none_if_missing(lambda: self.clients.iam.get_role(RoleName=name)["Role"])

    @CachedLookup
    def profiles(self) -> dict[str, Any | None]:
        """The instance profiles that the fleet names, each None where there is no such one."""
        wanted = sorted({parse_arn_name(one.profile) for one in self.specifications if one.profile})
        return {name: self._profile(name) for name in wanted}

    @CachedLookup
    def job_queue(self) -> QueueFacts | None:
        return _observe_queue(self.clients.sqs, self.settings.SQS_QUEUE_NAME)

    @CachedLookup
    def dead_queue(self) -> QueueFacts | None:
        return _observe_queue(self.clients.sqs, self.settings.SQS_DEAD_LETTER_QUEUE)

    @CachedLookup
    def cluster(self) -> Any | None:
        return describe_cluster(self.clients.ecs, self.settings.ECS_CLUSTER)

    @CachedLookup
    def service(self) -> Any | None:
        """The app's service with its tags."""
        name = {"cluster": self.settings.ECS_CLUSTER, "services": [self.settings.names.service]}
        try:
            found: Any = self.clients.ecs.describe_services(**name, include=["TAGS"])["services"]  # type: ignore[arg-type]
        except ClientError as error:
            if get_error_code(error) == "ClusterNotFoundException":
                return None
            raise
        return next((one for one in found if one["status"] == "ACTIVE"), None)

    @CachedLookup
    def template(self) -> dict[str, Any] | None:
        """The content of the launch template that the Fleet file names; None where it names none that is there."""
        if self.fleet is None or LAUNCH_TEMPLATE_CONFIGS_KEY not in self.fleet:
            return None
        return find_template_data(self.fleet, self.clients.ec2)

    @CachedLookup
    def subnets(self) -> dict[str, Any]:
        wanted = {subnet for one in self.specifications for subnet in one.subnets}
        return self._describe_by_filter("describe_subnets", "subnet-id", wanted, "Subnets", "SubnetId")

    @CachedLookup
    def routes(self) -> list[Any]:
        """The route tables of the subnets' networks."""
        networks = {subnet["VpcId"] for subnet in self.subnets.values()}
        return list(
            self._describe_by_filter(
                "describe_route_tables", "vpc-id", networks, "RouteTables", "RouteTableId"
            ).values()
        )

    @CachedLookup
    def groups(self) -> dict[str, Any]:
        wanted = {group for one in self.specifications for group in one.groups}
        return self._describe_by_filter("describe_security_groups", "group-id", wanted, "SecurityGroups", "GroupId")

    @CachedLookup
    def keys(self) -> dict[str, Any]:
        wanted = {one.key for one in self.specifications if one.key}
        return self._describe_by_filter("describe_key_pairs", "key-name", wanted, "KeyPairs", "KeyName")

    @CachedLookup
    def images(self) -> dict[str, Any]:
        wanted = {one.image for one in self.specifications if one.image}
        return self._describe_by_filter(
            "describe_images", "image-id", wanted, "Images", "ImageId", IncludeDeprecated=True
        )

    @CachedLookup
    def snapshots(self) -> dict[str, Any]:
        """The snapshots that the fleet file itself names."""
        wanted = {snapshot for one in self.specifications for _, _, snapshot in one.volumes if snapshot}
        return self._describe_by_filter("describe_snapshots", "snapshot-id", wanted, "Snapshots", "SnapshotId")

    @CachedLookup
    def types(self) -> dict[str, MachineType]:
        return list_machine_types(self.clients.ec2, self.type_names)

    @CachedLookup
    def offered(self) -> set[tuple[str, str]]:
        return list_type_offerings(self.clients.ec2, self.type_names)

    @CachedLookup
    def quotas(self) -> dict[QuotaClass, float]:
        """Virtual CPUs for each class of the fleet's types."""
        classes = {find_quota_class(name) for name in self.type_names} - {None}
        ordered = sorted(classes, key=lambda quota: quota.code if quota else "")
        return {quota: read_quota_value(self.clients.service_quotas, quota) for quota in ordered if quota}

    @CachedLookup
    def prices(self) -> list[PriceReport]:
        try:
            zones = self.zones
        except AWSError:  # then the whole region's
            zones = set()
        return list_price_reports(self.clients.ec2, self.type_names, zones, self.now)

    def _describe_by_filter(
        self, call: str, by: str, wanted: set[str], listed: str, key: str, **more: Any
    ) -> dict[str, Any]:
        """What EC2 knows of `wanted`, by id; no call where nothing is wanted."""
        if not wanted:
            return {}
        filters = [{"Name": by, "Values": sorted(wanted)}]
        answer = getattr(self.clients.ec2, call)(Filters=filters, **more)
        return {one[key]: one for one in answer[listed]}

    def _profile(self, name: str) -> Any | None:
        return self._none_if_missing(
            lambda: self.clients.iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        )

    @staticmethod
    def _none_if_missing(look: Callable[[], Any]) -> Any | None:
        try:
            return look()
        except ClientError as error:
            if get_error_code(error) in _MISSING_CODES:
                return None
            raise


def _observe_queue(sqs: SQSClient, name: str) -> QueueFacts | None:
    url = find_queue(sqs, name)
    if url is None:
        return None
    answer: Any = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    tags = sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
    visible, held, delayed = (
        int(answer.get(f"ApproximateNumberOfMessages{kind}", 0)) for kind in ("", "NotVisible", "Delayed")
    )
    policy = json.loads(answer.get("RedrivePolicy", "{}"))
    feeds = str(policy.get("deadLetterTargetArn", "")).rsplit(":", 1)[-1]
    return QueueFacts(QueueCounts(visible + delayed, held), dict(tags), feeds)
